"""Summaries, compared with reference summaries."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.metrics.summaries import matching_f1, rouge
from components.evaluation.benchmark.scoring import PLAIN, Scoring


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Compare with the nearest reference, by words and by token embeddings."""
    given = answers[0].strip()
    references = listed(document, "answers") or [document["answer"]]
    said, *held = (
        one.tokens.astype(np.float32) for one in scoring.opened.embedder.embed([given, *references], "document")
    )
    similar = [matching_f1(_unit(said), _unit(one)) for one in held]
    return {**rouge(given, references), "embedding_f1": max(similar)}


def _unit(vectors: "np.ndarray") -> "np.ndarray":
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)
