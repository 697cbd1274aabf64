"""A chat model that answers dialogues greedily, and says how likely it finds a given answer."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from components.model.precision import weight_type
from components.model.tune.render import Rendered, Renderer

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
        network: The model.
        tokenizer: Its tokenizer.
        longest: Most tokens of an answer.
    """

    def __init__(self, network: Any, tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
        self._network = network
        self._tokenizer: Any = tokenizer
        self._renderer = Renderer(tokenizer)
        self._filler = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._longest = longest

    @classmethod
    def load(cls, model: Path, precision: str, longest: int) -> Self:
        """Load a model directory.

        Args:
            model: Model directory.
            precision: `auto`, `bf16` or `fp32`.
            longest: Most tokens of an answer.
        """
        transformers.utils.logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=weight_type(precision))
        return cls(network.to(device).eval(), AutoTokenizer.from_pretrained(model), longest)

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
        """Say how likely the answer that ends each dialogue is, what ends it included, as tuning scores it.

        Args:
            dialogues: Each ends with an answer.
            batch_size: How many are scored at a time; those of like length together.

        Returns:
            For each dialogue natural logarithms, one for each token of its answer.
        """
        rendered = self._renderer.render(dialogues)
        order = sorted(range(len(rendered)), key=lambda number: len(rendered[number].tokens))
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            found |= zip(numbers, self._score([rendered[number] for number in numbers]), strict=True)
        return [found[number] for number in range(len(dialogues))]

    def _encode(self, dialogue: Dialogue) -> list[int]:
        begun = dialogue[-1]["role"] == "assistant"
        messages = [dict(message) for message in dialogue]
        return list(
            self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=not begun, continue_final_message=begun, return_dict=False
            )
        )

    def _pad(self, rows: Sequence[list[int]], side: str) -> dict[str, torch.Tensor]:
        """Rows of one length: filled up at the left where they go on, at the right where their positions count."""
        tokens = [torch.tensor(row) for row in rows]
        padded = {
            "input_ids": pad_sequence(tokens, True, self._filler, padding_side=side),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in tokens], True, 0, padding_side=side),
        }
        return {name: values.to(self._network.device) for name, values in padded.items()}

    def _generate(self, encoded: Sequence[list[int]]) -> list[Reply]:
        padded = self._pad(encoded, "left")
        with torch.inference_mode():
            written = self._network.generate(
                **padded,
                do_sample=False,
                max_new_tokens=self._longest,
                pad_token_id=self._filler,
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

    def _score(self, rendered: Sequence[Rendered]) -> list[np.ndarray]:
        padded = self._pad([one.tokens for one in rendered], "right")
        places = [range(one.answer - 1, len(one.tokens) - 1) for one in rendered]
        columns = sorted(set().union(*places))  # the vocabulary is large
        kept = torch.tensor(columns, device=self._network.device)
        with torch.inference_mode():
            logits = self._network(**padded, use_cache=False, logits_to_keep=kept).logits.float()
        following = padded["input_ids"][:, kept + 1].unsqueeze(-1)
        # In place of log_softmax: that would hold the logits twice.
        scored = (logits.gather(-1, following) - logits.logsumexp(-1, keepdim=True)).squeeze(-1).cpu().numpy()
        at = {column: number for number, column in enumerate(columns)}
        return [row[at[place.start] : at[place.start] + len(place)] for row, place in zip(scored, places, strict=True)]
