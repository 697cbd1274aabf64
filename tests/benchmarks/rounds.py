"""The clock of comparisons: every side works once unmeasured, then as often as the others, and its best round counts.

It needs no more than Python itself, because peers run it in environments of their own.
"""

import time
from collections.abc import Callable
from typing import TypeVar

ROUNDS = 3
"""Rounds that are measured, after the one that warms up."""

T = TypeVar("T")


def best(work: Callable[[int], T]) -> tuple[float, float, T]:
    """Do work, told its round, in this process; answers with processor and wall seconds and what it found."""

    def once(number: int) -> tuple[float, float, T]:
        cpu, wall = time.process_time(), time.perf_counter()
        found = work(number)
        return time.process_time() - cpu, time.perf_counter() - wall, found

    work(0)
    return min((once(number) for number in range(1, ROUNDS + 1)), key=lambda measured: measured[0])
