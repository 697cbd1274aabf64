"""The validation set, and what its losses say: pure functions."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

_SALT = b"validation\0"
"""Keeps the draw apart from others that go by the hash of an id."""


def draw(records: Sequence[str], share: float, most: int) -> set[str]:
    """Choose the records that a model is validated on, and so not trained on.

    A record is chosen for what it is called, so a larger data set keeps the choice.

    Args:
        records: Ids.
        share: Share that is chosen, on average.
        most: Most that are chosen; those of the lowest hash are.

    Returns:
        The chosen ids; none when all would be.
    """
    below = sorted((rank, record) for record in set(records) if (rank := _rank(record)) < share)
    chosen = {record for _, record in below[:most]}
    return set() if len(chosen) == len(set(records)) else chosen


def _rank(record: str) -> float:
    return int.from_bytes(hashlib.sha256(_SALT + record.encode()).digest()[:8]) / 2**64


@dataclass(frozen=True)
class Verdict:
    """What the losses of the validation set say.

    Attributes:
        best: Step with the lowest loss; 0 when there is none yet.
        stop: Whether to stop: the last ones were all higher.
    """

    best: int
    stop: bool


def judge(history: Sequence[tuple[int, float]], patience: int) -> Verdict:
    """Judge whether a model has begun to overfit (Prechelt, "Early stopping – but when?", 1998).

    Args:
        history: Step and loss of each validation, in order.
        patience: Validations in a row without a new best after which to stop; 0: never.
    """
    if not history:
        return Verdict(0, False)
    best = min(range(len(history)), key=lambda number: history[number][1])
    return Verdict(history[best][0], bool(patience) and len(history) - 1 - best >= patience)
