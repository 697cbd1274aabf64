"""How answers went, beside what they say."""

from collections.abc import Callable
from dataclasses import dataclass

Progress = Callable[[int, int], None]
"""Called with the number of questions answered, and of all."""


@dataclass(frozen=True)
class Reply:
    """How one answer went.

    Attributes:
        task: What was asked.
        item: Number of the item in the task.
        seconds: Until the answer was there; in a batch, until the batch was.
        busy: Its share of the time in which the model was answering.
        prompt_tokens: Tokens of the question.
        completion_tokens: Tokens of the answer.
    """

    task: str
    item: int
    seconds: float
    busy: float
    prompt_tokens: int
    completion_tokens: int
