"""Membership inference: how well what was trained on can be told from what was not.

The attacker has a score for each text, higher where the model finds it more familiar: the mean log-likelihood of the
answer (Yeom et al. 2018), or that of its least likely tokens only (min-k %, Shi et al. 2023). The area under the ROC
curve is the chance that a trained text scores above another: 0.5 is guessing.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from components.evaluation.evidence import Metric
from components.evaluation.intervals import Interval


def familiarity(tokens: np.ndarray) -> float:
    """Mean log-likelihood of an answer's tokens."""
    return float(np.mean(tokens))


def min_k(tokens: np.ndarray, share: float) -> float:
    """Mean log-likelihood of the least likely tokens, at least one."""
    least = max(1, round(share * len(tokens)))
    return float(np.mean(np.sort(tokens)[:least]))


def placements(members: Sequence[float], outsiders: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """For each text, in which share of the comparisons with the other side it stands where the attacker hopes.

    The mean of either is the area under the ROC curve; their covariances are DeLong's.
    """
    above = np.subtract.outer(np.asarray(members, float), np.asarray(outsiders, float))
    wins = (above > 0) + 0.5 * (above == 0)
    return wins.mean(axis=1), wins.mean(axis=0)


def area(members: Sequence[float], outsiders: Sequence[float], confidence: float) -> tuple[float, Interval]:
    """Area under the ROC curve with an interval that does not collapse at 0 or 1.

    Newcombe 2006, method 5: Hanley and McNeil's variance, solved for the areas that the measured one is compatible
    with, as Wilson's interval does for a share.
    """
    value = float(placements(members, outsiders)[0].mean())
    ends = tuple(_compatible(value, len(members), len(outsiders), confidence, side) for side in (-1, 1))
    return value, (ends[0], ends[1])


def weigh_membership(
    name: str,
    candidate: tuple[Sequence[float], Sequence[float]],
    base: tuple[Sequence[float], Sequence[float]],
    confidence: float,
) -> Metric:
    """Compare how much candidate and base give away about the same texts.

    The base model was not trained on either, so that its area shows how unlike the two sides are by themselves.

    Args:
        name: Of the metric.
        candidate: The candidate's scores of what was trained on, and of what was not.
        base: The base model's, of the same texts.
        confidence: Level of the intervals. The gain's combines both (square-and-add) with DeLong's correlation.
    """
    (value, interval), (old, old_interval) = area(*candidate, confidence), area(*base, confidence)
    correlation = _correlation(candidate, base)
    low = _combined(value - interval[0], old_interval[1] - old, correlation)
    high = _combined(interval[1] - value, old - old_interval[0], correlation)
    gain = value - old
    return Metric(
        name=name,
        task="membership",
        n=len(candidate[0]) + len(candidate[1]),
        value=_rounded(value),
        interval=(_rounded(interval[0]), _rounded(interval[1])),
        base_value=_rounded(old),
        base_interval=(_rounded(old_interval[0]), _rounded(old_interval[1])),
        gain=_rounded(gain),
        gain_interval=(_rounded(gain - low), _rounded(gain + high)),
        higher_is_better=False,
    )


def _compatible(value: float, members: int, outsiders: int, confidence: float, side: int) -> float:
    """The area furthest on one side (-1 below, 1 above) of which the measured one is still likely, by bisection."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    near, far = value, float(side > 0)
    for _ in range(60):
        middle = (near + far) / 2
        if abs(middle - value) <= z * math.sqrt(_variance(middle, members, outsiders)):
            near = middle
        else:
            far = middle
    return near


def _variance(value: float, members: int, outsiders: int) -> float:
    evenly = (members + outsiders) / 2 - 1
    spread = evenly * (1 - value) / (2 - value) + evenly * value / (1 + value)
    return value * (1 - value) * (1 + spread) / (members * outsiders)


def _correlation(
    first: tuple[Sequence[float], Sequence[float]], second: tuple[Sequence[float], Sequence[float]]
) -> float:
    sides = list(zip(placements(*first), placements(*second), strict=True))
    if min(len(side[0]) for side in sides) < 2:
        return 0.0
    covered = np.sum([np.cov(np.stack(side)) / len(side[0]) for side in sides], axis=0)
    scale = math.sqrt(covered[0, 0] * covered[1, 1])
    return float(covered[0, 1] / scale) if scale else 0.0


def _combined(first: float, second: float, correlation: float) -> float:
    return math.sqrt(max(0.0, first**2 - 2 * correlation * first * second + second**2))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
