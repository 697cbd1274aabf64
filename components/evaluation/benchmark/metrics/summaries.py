"""How near a summary is to reference summaries: ROUGE (Lin 2004), and BERTScore's matching of token embeddings."""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from components.evaluation.benchmark.metrics.words import words

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

ROUGES = ("rouge1", "rouge2", "rougeL")


class _Words:
    """Hands the scorer the words of English and Korean text."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


def rouge(summary: str, references: Sequence[str]) -> dict[str, float]:
    """F-measures of ROUGE-1, ROUGE-2 and ROUGE-L, each against the reference that it is nearest to.

    Counted by the library rouge-score over this project's words: case folded, no stemming, particles split from Korean
    nouns. The library's own tokeniser drops every letter that is not Latin and gives Korean 0.
    """
    scores = _scorer().score_multi(list(references), summary)
    return {name: float(scores[name].fmeasure) for name in ROUGES}


def matching_f1(summary: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    """BERTScore's F1 (Zhang et al. 2020): each token with its most similar one of the other text.

    Neither weighted by rarity nor rescaled to a baseline.

    Args:
        summary: Unit vectors, a row for each token.
        reference: The same of the reference.
    """
    if not len(summary) or not len(reference):
        return float(len(summary) == len(reference))
    similar = summary @ reference.T
    precision, recall = float(similar.max(axis=1).mean()), float(similar.max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


@cache
def _scorer() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(ROUGES), tokenizer=_Words())
