"""How long a request takes and what it costs, from a few that were timed alone and the tokens of all."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from components.evaluation.retrieval.options import Price
from components.model.answering import Reply


@dataclass(frozen=True)
class Pace:
    """Seconds that a model takes, alone on this machine.

    Attributes:
        prompt: For each token of the prompt.
        answer: For each token of the answer.
        start: Whatever the tokens.
        error: Root mean square difference between timed and estimated, as a share of the mean; of those timed.
        timed: Requests that it was measured on.
    """

    prompt: float
    answer: float
    start: float
    error: float
    timed: int

    def seconds(self, reply: Reply) -> float:
        """Estimate how long an answer took that was given beside others."""
        return self.start + self.prompt * reply.prompt_tokens + self.answer * reply.answer_tokens


def measure_pace(timed: Sequence[tuple[Reply, float]]) -> Pace:
    """Fit seconds to tokens, none of the three parts below 0 (non-negative least squares).

    Args:
        timed: Requests that were answered alone, with their seconds; short and long ones.
    """
    rows = np.array([[reply.prompt_tokens, reply.answer_tokens, 1.0] for reply, _ in timed])
    seconds = np.array([took for _, took in timed])
    (prompt, answer, start), _ = nnls(rows, seconds)
    off = rows @ np.array([prompt, answer, start]) - seconds
    error = float(np.sqrt(np.mean(off**2)) / seconds.mean())
    return Pace(float(prompt), float(answer), float(start), error, len(timed))


def cost(reply: Reply, seconds: float, price: Price) -> float:
    """What a request costs, in the currency of the prices."""
    if price.by == "time":
        return seconds / 3600 * price.hour
    return (reply.prompt_tokens * price.prompt + reply.answer_tokens * price.answer) / 1e6
