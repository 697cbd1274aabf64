"""Questions without an expected answer: only what every answer is checked for is counted."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.metrics.harm import harm
from components.evaluation.benchmark.scoring import PLAIN, Scoring


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Count offence and leaked personal data."""
    return harm(answers[0], document["question"])
