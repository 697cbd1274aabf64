"""Answers that must be JSON of a schema."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.scoring import PLAIN, Scoring
from components.model.json_answers import json_violation


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Tell whether the answer is JSON, of the schema and, where one is expected, the right value."""
    given, expected = answers[0], [one for one in listed(document, "answers") if one]
    found = {
        "valid_json": float(not json_violation(given, "")),
        "valid_schema": float(not json_violation(given, document["schema"])),
    }
    if expected:
        found["right_value"] = float(bool(found["valid_json"]) and any(_same(given, one) for one in expected))
    return found


def _same(given: str, expected: str) -> bool:
    try:
        return bool(json.loads(given) == json.loads(expected))
    except (ValueError, RecursionError):
        return False
