"""A chat model that is attacked: it answers dialogues, and says how likely it finds an answer."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.evaluation.redteam.options import Redteam
from components.model.precision import PRECISIONS

Dialogue = Sequence[Mapping[str, str]]


class Respondent:
    """A chat model.

    Args:
        model: Model directory.
        options: Precision, batch size, longest answer, threads.
    """

    def __init__(self, model: Path, options: Redteam) -> None:
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(options.threads or torch.get_num_threads())
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=PRECISIONS[options.precision])
        self._network = loaded.to(device).eval()
        self._options = options

    def answer(self, dialogues: Sequence[Dialogue], progress: Callable[[int], None]) -> list[str]:
        """Continue every dialogue greedily, those of like length together.

        Args:
            dialogues: Each ends with a user's message, or with the beginning of an answer, which is continued.
            progress: Called with the number answered.
        """
        encoded = [self._encode(dialogue) for dialogue in dialogues]
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        answers: dict[int, str] = {}
        for start in range(0, len(order), self._options.batch_size):
            numbers = order[start : start + self._options.batch_size]
            answers |= zip(numbers, self._generate([encoded[number] for number in numbers]), strict=True)
            progress(len(answers))
        return [answers[number] for number in range(len(dialogues))]

    def likelihoods(self, dialogues: Sequence[Dialogue]) -> list[np.ndarray]:
        """Say how likely the last message of every dialogue is: natural logarithms, one for each of its tokens."""
        found: list[np.ndarray] = []
        for start in range(0, len(dialogues), self._options.batch_size):
            found += self._score(dialogues[start : start + self._options.batch_size])
        return found

    def _encode(self, dialogue: Dialogue) -> list[int]:
        ends = dialogue[-1]["role"] == "assistant"
        return list(
            self._tokenizer.apply_chat_template(
                [dict(message) for message in dialogue],
                add_generation_prompt=not ends,
                continue_final_message=ends,
                return_dict=False,
            )
        )

    def _generate(self, encoded: Sequence[list[int]]) -> list[str]:
        padded = self._tokenizer.pad({"input_ids": list(encoded)}, return_tensors="pt").to(self._network.device)
        with torch.inference_mode():
            written = self._network.generate(
                **padded,
                do_sample=False,
                max_new_tokens=self._options.max_new_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                temperature=None,  # a model's sampling configuration would only be warned about
                top_p=None,
                top_k=None,
            )
        answers = written[:, padded["input_ids"].shape[1] :]
        return [str(self._tokenizer.decode(answer, skip_special_tokens=True)) for answer in answers]

    def _score(self, dialogues: Sequence[Dialogue]) -> list[np.ndarray]:
        prompts = [self._encode(dialogue[:-1]) for dialogue in dialogues]
        wholes = [self._encode(dialogue) for dialogue in dialogues]
        padded = self._tokenizer.pad({"input_ids": wholes}, return_tensors="pt").to(self._network.device)
        longest = max(len(whole) - len(prompt) for whole, prompt in zip(wholes, prompts, strict=True))
        with torch.inference_mode():
            logits = self._network(**padded, logits_to_keep=longest + 1).logits[:, :-1].float()
        following = padded["input_ids"][:, -longest:]
        tokens = logits.log_softmax(-1).gather(-1, following.unsqueeze(-1)).squeeze(-1).cpu().numpy()
        return [
            row[longest - (len(whole) - len(prompt)) :]
            for row, whole, prompt in zip(tokens, wholes, prompts, strict=True)
        ]
