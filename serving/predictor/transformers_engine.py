"""Hugging Face transformers on the version's safetensors: the reference that other engines are compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteria, StoppingCriteriaList

from serving.predictor.engine import (
    Completion,
    Emit,
    Message,
    RequestRefused,
    Sampling,
    require_files,
    settled,
    too_long,
)


class Transformers:
    """A model in float32, one request at a time."""

    slots = 1

    def __init__(self, directory: Path, threads: int, max_model_len: int) -> None:
        """Load the model.

        Args:
            directory: The model version.
            threads: CPU threads.
            max_model_len: Context length, in tokens.

        Raises:
            HeadraceError: A file is missing.
        """
        require_files(directory, "config.json", "tokenizer*", "*.safetensors")
        torch.set_num_threads(threads)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, local_files_only=True
        ).eval()
        self._max_model_len = max_model_len

    def generate(self, prompt: str | Sequence[Message], sampling: Sampling, emit: Emit) -> Completion:
        """See `Engine.generate`."""
        if sampling.response_format:
            message = "The transformers engine cannot constrain its output; serve with --engine llama.cpp."
            raise RequestRefused(message, "response_format", "unsupported_parameter")
        ids = self._encode(prompt)
        room = self._max_model_len - ids.shape[1]
        if room < 1:
            raise too_long(prompt, ids.shape[1], self._max_model_len)
        reading = _Reading(self._tokenizer, ids.shape[1], sampling.stop, emit)
        with torch.inference_mode():
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            output = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(sampling.max_tokens or room, room),
                stopping_criteria=StoppingCriteriaList([reading]),
                pad_token_id=self._tokenizer.pad_token_id or self._tokenizer.eos_token_id,
                repetition_penalty=1.0,
                **_decoding(sampling),
            )
        produced = output[0, ids.shape[1] :]
        reading.close()
        return Completion(
            finish_reason=reading.finish_reason(ended=produced[-1].item() in self._end_tokens()),
            prompt_tokens=ids.shape[1],
            completion_tokens=len(produced),
        )

    def close(self) -> None:
        """See `Engine.close`."""
        del self._model

    def _encode(self, prompt: str | Sequence[Message]) -> torch.Tensor:
        if isinstance(prompt, str):
            return self._tokenizer(prompt, return_tensors="pt").input_ids
        text = self._tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
        return self._tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids

    def _end_tokens(self) -> list[int]:
        ends = self._model.generation_config.eos_token_id
        return ends if isinstance(ends, list) else [ends]


def _decoding(sampling: Sampling) -> dict[str, Any]:
    if not sampling.temperature:
        return {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    return {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}


class _Reading(StoppingCriteria):
    """Looks at the text after every token: pushes what is settled, ends at a stop text or when nobody listens."""

    def __init__(self, tokenizer: Any, prompt_length: int, stop: tuple[str, ...], emit: Emit) -> None:
        self._tokenizer = tokenizer
        self._prompt_length = prompt_length
        self._stop = stop
        self._emit = emit
        self._text = ""
        self._sent = 0
        self._stopped = self._left = False

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        text = self._tokenizer.decode(input_ids[0, self._prompt_length :], skip_special_tokens=True)
        cut, self._stopped = settled(text, self._stop)
        self._text = text[:cut] if self._stopped else text
        # An unfinished character decodes to U+FFFD until its last byte is there.
        self._push(len(text[:cut].rstrip("\ufffd")))
        return torch.tensor([self._stopped or self._left])

    def close(self) -> None:
        """Push what was held back in case it became a stop text."""
        self._push(len(self._text))

    def finish_reason(self, ended: bool) -> Any:
        """Why the text is over."""
        if self._left:
            return "cancelled"
        return "stop" if self._stopped or ended else "length"

    def _push(self, upto: int) -> None:
        piece = self._text[self._sent : upto]
        self._sent = max(self._sent, upto)
        self._left = not self._emit(piece) or self._left
