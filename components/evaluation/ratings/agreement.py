"""How far raters agree: Kendall's τ-b and Krippendorff's α, with bootstrap intervals over the items.

A table of ratings has one row per answer and one column per rater, NaN where a rater did not rate. Items are what is
drawn anew, with all their answers, because the answers to one question resemble each other.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import kendalltau, theilslopes

from components.evaluation.intervals import Interval


@dataclass(frozen=True)
class Estimate:
    """A statistic with its interval; NaN where the ratings do not determine it."""

    value: float
    interval: Interval

    @property
    def known(self) -> bool:
        """Whether the ratings determine it."""
        return math.isfinite(self.value) and all(map(math.isfinite, self.interval))


def alpha(table: np.ndarray) -> float:
    """Krippendorff's α for ordinal data (Krippendorff 2004, ch. 11): 1 is agreement, 0 is chance.

    Args:
        table: Ratings, answers by raters, NaN where there is none.
    """
    pairable = table[np.count_nonzero(~np.isnan(table), axis=1) > 1]
    values = np.unique(pairable[~np.isnan(pairable)])
    if len(values) < 2:
        return math.nan
    counts = np.stack([np.count_nonzero(pairable == value, axis=1) for value in values], axis=1).astype(float)
    raters = counts.sum(axis=1, keepdims=True)
    pairs = np.einsum("ua,ub->ab", counts / (raters - 1), counts) - np.diag((counts / (raters - 1)).sum(axis=0))
    totals = pairs.sum(axis=1)
    ranks = np.cumsum(totals) - totals / 2
    apart = (ranks[:, None] - ranks[None, :]) ** 2
    expected = (np.outer(totals, totals) * apart).sum() / (totals.sum() - 1)
    return float(1 - (pairs * apart).sum() / expected) if expected else math.nan


def tau(table: np.ndarray) -> float:
    """Mean of Kendall's τ-b over all pairs of raters, each weighted by the answers that both rated."""
    total = weight = 0.0
    for first, second in combinations(range(table.shape[1]), 2):
        both = ~np.isnan(table[:, first]) & ~np.isnan(table[:, second])
        value = _tau(table[both, first], table[both, second])
        if not math.isnan(value):
            total, weight = total + value * both.sum(), weight + both.sum()
    return total / weight if weight else math.nan


def tau_with_others(table: np.ndarray, rater: int) -> float:
    """Kendall's τ-b of one rater with the mean of the others."""
    mine, others = table[:, rater], _others(table, rater)
    both = ~np.isnan(mine) & ~np.isnan(others)
    return _tau(mine[both], others[both])


def severity(table: np.ndarray, rater: int) -> float:
    """How much higher a rater rates than the others on the same answers, in points."""
    apart = table[:, rater] - _others(table, rater)
    return float(np.nanmean(apart)) if np.any(~np.isnan(apart)) else math.nan


def drift(table: np.ndarray, rater: int, positions: np.ndarray, confidence: float) -> Estimate:
    """How a rater's ratings move from the first answer to the last, in points (Theil–Sen).

    Where others rated the same answers, it is the distance from their mean that moves, so that hard answers that happen
    to come late do not count; otherwise the rating itself, whose order is by lot.

    Args:
        table: Ratings, answers by raters.
        rater: Column.
        positions: When the rater rated each answer, from 0 to 1; NaN where not.
        confidence: Level of the interval.
    """
    others = _others(table, rater)
    moved = np.where(np.isnan(others), table[:, rater] - np.nanmean(table[:, rater]), table[:, rater] - others)
    seen = ~np.isnan(moved) & ~np.isnan(positions)
    if np.unique(positions[seen]).size < 3:
        return Estimate(math.nan, (math.nan, math.nan))
    if np.ptp(moved[seen]) == 0:
        return Estimate(0.0, (0.0, 0.0))
    slope = theilslopes(moved[seen], positions[seen], confidence)
    return Estimate(float(slope.slope), (float(slope.low_slope), float(slope.high_slope)))


def estimate(
    table: np.ndarray,
    items: Sequence[str],
    statistic: Callable[[np.ndarray], float],
    confidence: float,
    resamples: int,
    seed: int,
) -> Estimate:
    """A statistic of a table with its percentile bootstrap interval over the items.

    Args:
        table: Ratings, answers by raters.
        items: Item of each row.
        statistic: What is computed of a table.
        confidence: Level of the interval.
        resamples: How often as many items are drawn.
        seed: Seed of the draws.
    """
    rows_of: dict[str, list[int]] = {}
    for row, item in enumerate(items):
        rows_of.setdefault(item, []).append(row)
    groups = [np.array(rows) for rows in rows_of.values()]
    generator = np.random.default_rng(seed)
    drawn = [
        statistic(table[np.concatenate([groups[number] for number in generator.integers(0, len(groups), len(groups))])])
        for _ in range(resamples)
    ]
    determined = [value for value in drawn if not math.isnan(value)]
    if not determined:
        return Estimate(statistic(table), (math.nan, math.nan))
    low, high = np.quantile(determined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(statistic(table), (float(low), float(high)))


def _others(table: np.ndarray, rater: int) -> np.ndarray:
    """Mean of the other raters of each answer, NaN where nobody else rated it."""
    rest = np.delete(table, rater, axis=1)
    rated = np.count_nonzero(~np.isnan(rest), axis=1)
    return np.where(rated > 0, np.nansum(rest, axis=1) / np.maximum(rated, 1), np.nan)


def _tau(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or np.all(first == first[0]) or np.all(second == second[0]):
        return math.nan
    return float(kendalltau(first, second).statistic)
