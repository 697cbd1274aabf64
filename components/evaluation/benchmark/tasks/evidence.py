"""Answers that must rest on documents."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.metrics.words import clauses
from components.evaluation.benchmark.scoring import PLAIN, Scoring


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Split the answer into claims and have each judged against the documents; without a claim nothing is wrong."""
    documents, made = listed(document, "documents"), clauses(answers[0])
    held = sum(scoring.opened.judge.supports(claim, document["question"], documents) for claim in made)
    return {
        "supported": held / len(made) if made else 1.0,
        "hallucinated": float(held < len(made)),
        "claims": float(len(made)),
    }
