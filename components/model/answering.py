"""A chat model that answers dialogues greedily, and says how likely it finds a given answer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.model.precision import weight_type

Dialogue = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Reply:
    """What a model answered.

    Attributes:
        text: The answer.
        prompt_tokens: Tokens it read, the chat template's among them.
        answer_tokens: Tokens it wrote, the end among them.
    """

    text: str
    prompt_tokens: int
    answer_tokens: int


class Answerer:
    """A chat model.

    Args:
        model: Model directory.
        precision: `auto`, `bf16` or `fp32`.
        longest: Most tokens of an answer.
    """

    def __init__(self, model: Path, precision: str, longest: int) -> None:
        transformers.utils.logging.disable_progress_bar()
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=weight_type(precision))
        self._network = loaded.to(device).eval()
        self._longest = longest

    def answer(
        self, dialogues: Sequence[Dialogue], batch_size: int, progress: Callable[[int], None] = lambda done: None
    ) -> list[Reply]:
        """Continue every dialogue, those of like length together.

        Args:
            dialogues: Each ends with a user's message, or with the beginning of an answer, which is continued.
            batch_size: How many are answered at a time.
            progress: Called with the number answered.
        """
        encoded = [self._encode(dialogue) for dialogue in dialogues]
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        replies: dict[int, Reply] = {}
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            replies |= zip(numbers, self._generate([encoded[number] for number in numbers]), strict=True)
            progress(len(replies))
        return [replies[number] for number in range(len(dialogues))]

    def time(self, dialogue: Dialogue) -> tuple[Reply, float]:
        """Continue one dialogue alone, and say how many seconds that took."""
        began = time.perf_counter()
        reply = self._generate([self._encode(dialogue)])[0]
        return reply, time.perf_counter() - began

    def likelihoods(self, dialogues: Sequence[Dialogue], batch_size: int) -> list[np.ndarray]:
        """Say how likely the last message of every dialogue is: natural logarithms, one for each of its tokens."""
        found: list[np.ndarray] = []
        for start in range(0, len(dialogues), batch_size):
            found += self._score(dialogues[start : start + batch_size])
        return found

    def _encode(self, dialogue: Dialogue) -> list[int]:
        begun = dialogue[-1]["role"] == "assistant"
        messages = [dict(message) for message in dialogue]
        return list(
            self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=not begun, continue_final_message=begun, return_dict=False
            )
        )

    def _pad(self, encoded: Sequence[list[int]]) -> Any:
        return self._tokenizer.pad({"input_ids": list(encoded)}, return_tensors="pt").to(self._network.device)

    def _generate(self, encoded: Sequence[list[int]]) -> list[Reply]:
        padded = self._pad(encoded)
        with torch.inference_mode():
            written = self._network.generate(
                **padded,
                do_sample=False,
                max_new_tokens=self._longest,
                pad_token_id=self._tokenizer.pad_token_id,
                # what a sampling configuration of the model says would only be warned about
                temperature=None,
                top_p=None,
                top_k=None,
            )
        answers = written[:, padded["input_ids"].shape[1] :].tolist()
        ends = self._network.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        replies = []
        for prompt, answer in zip(encoded, answers, strict=True):
            length = next((at + 1 for at, token in enumerate(answer) if token in ends), len(answer))
            text = str(self._tokenizer.decode(answer[:length], skip_special_tokens=True))
            replies.append(Reply(text, len(prompt), length))
        return replies

    def _score(self, dialogues: Sequence[Dialogue]) -> list[np.ndarray]:
        wholes = [self._encode(dialogue) for dialogue in dialogues]
        lengths = [
            len(whole) - len(self._encode(dialogue[:-1])) for whole, dialogue in zip(wholes, dialogues, strict=True)
        ]
        longest = max(lengths)
        padded = self._pad(wholes)
        with torch.inference_mode():
            logits = self._network(**padded, logits_to_keep=longest + 1).logits[:, :-1].float()
        following = padded["input_ids"][:, -longest:]
        tokens = logits.log_softmax(-1).gather(-1, following.unsqueeze(-1)).squeeze(-1).cpu().numpy()
        return [row[longest - length :] for row, length in zip(tokens, lengths, strict=True)]
