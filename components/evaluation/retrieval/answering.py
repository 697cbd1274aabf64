"""Have a model answer prompts, greedily: many at a time for what it says, one at a time for how long it takes."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.model.precision import PRECISIONS


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
    """A chat model that answers.

    Args:
        model: Model directory.
        precision: `bf16` or `fp32`.
        longest: Most tokens of an answer.
    """

    def __init__(self, model: Path, precision: str, longest: int) -> None:
        transformers.utils.logging.disable_progress_bar()
        self._tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=PRECISIONS[precision])
        self._network = loaded.to(device).eval()
        self._longest = longest

    def answer(
        self, prompts: Sequence[str], batch_size: int, progress: Callable[[int], None] = lambda done: None
    ) -> list[Reply]:
        """Answer every prompt, those of like length together.

        Args:
            prompts: What a user says.
            batch_size: How many are answered at a time.
            progress: Called with the number answered.
        """
        encoded = [self._encode(prompt) for prompt in prompts]
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        replies: dict[int, Reply] = {}
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            replies |= zip(numbers, self._generate([encoded[number] for number in numbers]), strict=True)
            progress(len(replies))
        return [replies[number] for number in range(len(prompts))]

    def time(self, prompt: str) -> tuple[Reply, float]:
        """Answer one prompt alone, and say how many seconds that took."""
        began = time.perf_counter()
        reply = self._generate([self._encode(prompt)])[0]
        return reply, time.perf_counter() - began

    def _encode(self, prompt: str) -> list[int]:
        messages = [{"role": "user", "content": prompt}]
        return list(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False))

    def _generate(self, encoded: Sequence[list[int]]) -> list[Reply]:
        padded = self._tokenizer.pad({"input_ids": list(encoded)}, return_tensors="pt").to(self._network.device)
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
            replies.append(Reply(text.strip(), len(prompt), length))
        return replies
