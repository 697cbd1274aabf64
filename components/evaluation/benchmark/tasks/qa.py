"""Questions with one or several expected answers."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.metrics.answers import exact_match, token_f1
from components.evaluation.benchmark.scoring import PLAIN, Scoring


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Compare with the nearest expected answer."""
    given = answers[0].strip()
    expected = listed(document, "answers") or [document["answer"]]
    return {
        "exact_match": max(exact_match(given, one) for one in expected),
        "token_f1": max(token_f1(given, one) for one in expected),
    }
