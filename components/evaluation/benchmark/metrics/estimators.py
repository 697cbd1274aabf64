"""Estimates from several answers to the same question."""

import math


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Chance that at least one of `k` answers passes, without bias (Chen et al. 2021, 2107.03374, equation 1).

    Args:
        samples: Answers that were drawn.
        passed: How many of them passed.
        k: How many a person would look at; at most `samples`.

    Raises:
        ValueError: More would be looked at than were drawn.
    """
    if not 1 <= k <= samples or not 0 <= passed <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {passed} passed: k must be between 1 and the samples")
    return 1 - math.comb(samples - passed, k) / math.comb(samples, k)
