"""What the server asks of an engine: push the text of one completion, piece by piece."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from components.common.errors import HeadraceError, UsageError

DEFAULT_CONTEXT = 2048

Message = dict[str, str]
"""One turn of a conversation: `role` and `content`."""

Emit = Callable[[str], bool]
"""Receives each piece of text as it comes; returns False once nobody wants more."""


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt.

    Attributes:
        max_tokens: Most tokens to produce; 0 leaves it to the context length.
        temperature: 0 is greedy, hence deterministic.
        top_p: Probability mass to sample from.
        stop: Texts that end the completion and are not part of it.
        seed: Makes sampling repeatable; None draws a new one.
        response_format: OpenAI's `json_object` or `json_schema` object; empty for free text.
    """

    max_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    response_format: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """How a completion ended, and what it cost."""

    finish_reason: Literal["stop", "length", "cancelled"]
    prompt_tokens: int
    completion_tokens: int


class RequestRefused(Exception):
    """The request is at fault: too long for the context, or something this engine cannot do."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        """Name the request's field at fault and OpenAI's code for it."""
        super().__init__(message)
        self.param = param
        self.code = code


def too_long(prompt: str | Sequence[Message], tokens: int, context: int) -> RequestRefused:
    """Refuse a prompt that leaves no room for an answer."""
    return RequestRefused(
        f"The prompt has {tokens} tokens; the model's context holds {context}.",
        param="prompt" if isinstance(prompt, str) else "messages",
        code="context_length_exceeded",
    )


class Engine(Protocol):
    """A loaded model. `generate` is called from up to `slots` threads at once."""

    slots: int

    def generate(self, prompt: str | Sequence[Message], sampling: Sampling, emit: Emit) -> Completion:
        """Continue a text, or answer a conversation, pushing the pieces to `emit`.

        Raises:
            RequestRefused: The request is at fault.
        """

    def close(self) -> None:
        """Free the model."""


def settled(text: str, stop: Sequence[str]) -> tuple[int, bool]:
    """How much of a growing text may be shown.

    Args:
        text: The text so far.
        stop: Texts that end it.

    Returns:
        The number of characters that precede a stop text, or that cannot become part of one, and whether a stop
        text was found.
    """
    found = [place for place in (text.find(ending) for ending in stop) if place >= 0]
    if found:
        return min(found), True
    held = (size for ending in stop for size in range(len(ending) - 1, 0, -1) if text.endswith(ending[:size]))
    return len(text) - max(held, default=0), False


def require_files(directory: Path, *wanted: str) -> None:
    """Check that a model version has what an engine reads.

    Args:
        directory: The model version.
        *wanted: File names or patterns, each of which at least one file must match.

    Raises:
        HeadraceError: Names what is missing.
    """
    if not directory.is_dir():
        raise HeadraceError(f"{directory}: no such model directory; give --model_dir a model version")
    missing = [pattern for pattern in wanted if not any(directory.glob(pattern))]
    if missing:
        raise HeadraceError(f"{directory}: not a complete model version, missing {', '.join(missing)}; make it again")


def context_length(directory: Path, asked: int) -> int:
    """Decide the context length to serve.

    Args:
        directory: The model version.
        asked: What the operator wants; 0 for `DEFAULT_CONTEXT`, or less if the model was trained for less.

    Raises:
        HeadraceError: The model has no readable config.json.
        UsageError: The model was not trained for that much.
    """
    require_files(directory, "config.json")
    try:
        config = json.loads((directory / "config.json").read_text())
        trained = int(config["max_position_embeddings"])
        positions = config.get("rope_parameters") or {}
        if positions.get("rope_type") == "linear":  # the length that is named is the one before it was stretched
            trained = int(trained * positions["factor"])
    except (ValueError, KeyError, TypeError) as error:
        raise HeadraceError(f"{directory / 'config.json'}: no max_position_embeddings in it; make it again") from error
    if asked > trained:
        raise UsageError(f"--max_model_len {asked}: the model was trained for {trained} tokens; ask for at most that")
    return asked or min(DEFAULT_CONTEXT, trained)
