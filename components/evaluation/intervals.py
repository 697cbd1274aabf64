"""Confidence intervals and paired comparison of per-item scores."""

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

Interval = tuple[float, float]


def wilson(successes: int, trials: int, confidence: float) -> Interval:
    """Wilson score interval of a proportion; stays within 0 and 1, also near them."""
    if not trials:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, denominator = successes / trials, 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / denominator
    half = z / denominator * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(
    scores: Sequence[float] | np.ndarray,
    confidence: float,
    resamples: int,
    seed: int,
    statistic: Callable[[np.ndarray], float] = np.mean,
) -> Interval:
    """Percentile bootstrap interval; that of a mean difference when the scores are paired differences.

    Args:
        scores: One score an item, or one row an item.
        confidence: Level of the interval.
        resamples: How often as many items are drawn, with replacement.
        seed: Seed of the draws.
        statistic: What is computed of the drawn scores or rows.
    """
    values = np.asarray(scores, float)
    generator = np.random.default_rng(seed)
    drawn = [statistic(generator.choice(values, len(values))) for _ in range(resamples)]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def order_statistics(scores: Sequence[float], quantile: float, confidence: float) -> Interval:
    """Interval of a quantile between two of the scores themselves, whatever their distribution.

    How many scores lie below the quantile is binomial (Conover 1999, 3.2): the ends are the scores between whose ranks
    it falls with at least the confidence. Where there are too few scores for that (72 for the quantile 0.95 at
    95 %), the smallest or largest is the end, and the interval is too short.

    Args:
        scores: One score an item.
        quantile: Such as 0.95.
        confidence: Level of the interval.
    """
    ordered = np.sort(np.asarray(scores, float))
    count, tail = len(ordered), (1 - confidence) / 2
    chance = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(quantile)
        + (count - k) * math.log1p(-quantile)
        for k in range(count + 1)
    ]
    below = np.cumsum(np.exp(chance))
    low = int(np.searchsorted(below, tail, side="right"))
    high = int(np.searchsorted(below, 1 - tail, side="left"))
    return float(ordered[max(low - 1, 0)]), float(ordered[min(high, count - 1)])


def newcombe(gained: int, lost: int, both: int, neither: int, confidence: float) -> Interval:
    """Interval of the difference of two paired proportions (Newcombe 1998, method 10).

    Unlike a bootstrap it does not collapse when every pair agrees or every pair differs.

    Args:
        gained: Questions that only the second got right.
        lost: Questions that only the first got right.
        both: Questions that both got right.
        neither: Questions that neither got right.
        confidence: Level of the interval.
    """
    trials = gained + lost + both + neither
    if not trials:
        return -1.0, 1.0
    new, old = (both + gained) / trials, (both + lost) / trials
    new_low, new_high = wilson(both + gained, trials, confidence)
    old_low, old_high = wilson(both + lost, trials, confidence)
    margins = (both + gained) * (lost + neither) * (both + lost) * (gained + neither)
    agreement: float = both * neither - gained * lost
    if agreement > 0:
        agreement = max(agreement - trials / 2, 0)
    correlation = agreement / math.sqrt(margins) if margins else 0.0
    below, above = (new - new_low, old_high - old), (new_high - new, old - old_low)
    difference = new - old
    return difference - _combined(*below, correlation), difference + _combined(*above, correlation)


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p-value that gains and losses are equally likely."""
    changed = gained + lost
    tail = sum(math.comb(changed, count) for count in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**changed)


def _combined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))
