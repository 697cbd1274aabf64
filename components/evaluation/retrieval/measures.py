"""How well a ranking finds what a question needs.

A question needs one thing or several; each is met by any one of some chunks (an answer may stand in more than one
place). The first chunk that meets a need counts, the others are neither gain nor loss. With one chunk to a need these
are the textbook measures.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

Needs = Sequence[frozenset[int]]
"""For each thing that is needed the chunks that meet it."""

Measure = Callable[[Sequence[int], Needs], float]


def gains(ranking: Sequence[int], needs: Needs) -> list[int]:
    """How many needs each chunk of a ranking is the first to meet."""
    open_needs = set(range(len(needs)))
    found = []
    for chunk in ranking:
        met = {need for need in open_needs if chunk in needs[need]}
        open_needs -= met
        found.append(len(met))
    return found


def recall(ranking: Sequence[int], needs: Needs, cutoff: int) -> float:
    """Share of the needs that the first chunks meet."""
    return sum(gains(ranking[:cutoff], needs)) / len(needs)


def reciprocal_rank(ranking: Sequence[int], needs: Needs) -> float:
    """One over the rank of the first chunk that meets a need; 0 when none does."""
    return next((1 / rank for rank, met in enumerate(gains(ranking, needs), 1) if met), 0.0)


def ndcg(ranking: Sequence[int], needs: Needs, cutoff: int) -> float:
    """Normalised discounted cumulative gain (Järvelin and Kekäläinen 2002): found early counts for more."""
    found = sum(min(met, 1) / math.log2(rank + 1) for rank, met in enumerate(gains(ranking[:cutoff], needs), 1))
    return found / sum(1 / math.log2(rank + 1) for rank in range(1, min(cutoff, len(needs)) + 1))


def measures(cutoffs: Sequence[int]) -> dict[str, Measure]:
    """The measures by name: recall at each cutoff, the reciprocal rank, and nDCG at the cutoffs above 1."""
    found: dict[str, Measure] = {f"recall_at_{cutoff}": partial(recall, cutoff=cutoff) for cutoff in cutoffs}
    found["mrr"] = reciprocal_rank
    return found | {f"ndcg_at_{cutoff}": partial(ndcg, cutoff=cutoff) for cutoff in cutoffs if cutoff > 1}
