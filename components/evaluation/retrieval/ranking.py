"""Rank chunks for a question: by meaning, by words, by both, for variety, and again by a closer look."""

from collections.abc import Sequence
from dataclasses import dataclass

import bm25s
import numpy as np
from numpy.typing import NDArray

from components.evaluation.retrieval.words import words

STEPS = 127
"""Steps of a token vector's length 1; what is kept of it is whole steps."""


@dataclass(frozen=True)
class Embedded:
    """A text as vectors.

    Attributes:
        whole: Of the text, of length 1; float16, [size].
        tokens: Of each of its tokens, of length `STEPS`; int8, [tokens, size].
    """

    whole: NDArray[np.float16]
    tokens: NDArray[np.int8]


class Words:
    """Sparse retrieval: Okapi BM25 in Lucene's variant (Robertson and Zaragoza 2009; bm25s, Lù 2024).

    Args:
        texts: What is searched.
        k1: How soon a word's repetition stops counting.
        b: How much a text's length counts.
    """

    def __init__(self, texts: Sequence[str], k1: float, b: float) -> None:
        self._index = bm25s.BM25(k1=k1, b=b, method="lucene")
        self._index.index([words(text) for text in texts], show_progress=False)

    def scores(self, question: str) -> np.ndarray:
        """Score every text, 0 where it has no word of the question."""
        known = self._index.get_tokens_ids(words(question))
        if not len(known):
            return np.zeros(self._index.scores["num_docs"], np.float32)
        return self._index.get_scores_from_ids(known)


def best(scores: np.ndarray) -> np.ndarray:
    """Rank by score, the first of equals first."""
    return np.argsort(-scores, kind="stable")


def fuse(rankings: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009): the sum of 1 / (k + rank) decides."""
    total = np.zeros(len(rankings[0]))
    for ranking in rankings:
        total[ranking] += 1 / (k + np.arange(1, len(ranking) + 1))
    return best(total)


def diversify(
    ranking: np.ndarray, question: np.ndarray, vectors: np.ndarray, weight: float, candidates: int
) -> np.ndarray:
    """Maximal marginal relevance (Carbonell and Goldstein 1998) over the first candidates of a ranking.

    Args:
        ranking: What to choose from; what lies beyond the candidates stays as it is.
        question: Vector of the question, of length 1.
        vectors: Vectors of all chunks, of length 1.
        weight: Share of relevance; the rest is being unlike what was chosen before.
        candidates: How many to put in another order.
    """
    pool = ranking[:candidates]
    relevance = vectors[pool] @ question
    alike = vectors[pool] @ vectors[pool].T
    nearest = np.zeros(len(pool))
    left = np.ones(len(pool), bool)
    order = []
    for _ in pool:
        value = weight * relevance - (1 - weight) * nearest
        chosen = int(np.argmax(np.where(left, value, -np.inf)))
        left[chosen] = False
        order.append(chosen)
        nearest = np.maximum(nearest, alike[chosen]) if len(order) > 1 else alike[chosen]
    return np.concatenate([pool[order], ranking[candidates:]])


def late_interaction(question: NDArray[np.int8], chunk: NDArray[np.int8]) -> float:
    """Mean over the question's tokens of the likeness of the chunk's most like one (MaxSim, Khattab and Zaharia 2020).

    Args:
        question: Vectors of its tokens, [tokens, size].
        chunk: Those of a chunk.
    """
    if not len(question) or not len(chunk):
        return 0.0
    alike = question.astype(np.float32) @ chunk.astype(np.float32).T
    return float(alike.max(axis=1).mean()) / STEPS**2
