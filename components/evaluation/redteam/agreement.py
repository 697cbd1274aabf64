"""Cohen's kappa between two judges, with an interval."""

import math
from collections.abc import Sequence
from statistics import NormalDist

from components.evaluation.intervals import Interval


def kappa(first: Sequence[bool], second: Sequence[bool], confidence: float) -> tuple[float, Interval]:
    """Agreement of two judges on the same things beyond what chance gives (Cohen 1960).

    The interval is the large-sample one of Fleiss, Cohen and Everitt (1969).

    Args:
        first: Judgements of the one.
        second: Judgements of the other, in the same order.
        confidence: Level of the interval.

    Returns:
        Kappa, and its interval; 1 where they always agree though both only ever say the same.
    """
    total = len(first)
    share = {
        (a, b): sum(pair == (a, b) for pair in zip(first, second, strict=True)) / total
        for a in (False, True)
        for b in (False, True)
    }
    rows = {a: share[a, False] + share[a, True] for a in (False, True)}
    columns = {b: share[False, b] + share[True, b] for b in (False, True)}
    agreed = share[False, False] + share[True, True]
    chance = sum(rows[side] * columns[side] for side in (False, True))
    if chance == 1:
        return 1.0, (1.0, 1.0)
    value = (agreed - chance) / (1 - chance)
    diagonal = sum(share[side, side] * (1 - (rows[side] + columns[side]) * (1 - value)) ** 2 for side in (False, True))
    other = (1 - value) ** 2 * sum(share[a, not a] * (columns[a] + rows[not a]) ** 2 for a in (False, True))
    variance = (diagonal + other - (value - chance * (1 - value)) ** 2) / (total * (1 - chance) ** 2)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * math.sqrt(max(0.0, variance))
    return value, (max(-1.0, value - half), min(1.0, value + half))
