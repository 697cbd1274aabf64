"""Answers that must call functions."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.scoring import PLAIN, Scoring
from components.model.json_answers import call_violation, read_calls, same_calls


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Compare the calls with the expected ones: the functions, and their arguments by value in any order."""
    given, expected = answers[0], listed(document, "answers") or [document["answer"]]
    return {
        "valid_call": float(not call_violation(given, document["tools"])),
        "right_function": float(any(_names(given) == _names(one) != [] for one in expected)),
        "right_arguments": float(any(same_calls(given, one) for one in expected)),
    }


def _names(text: str) -> list[str]:
    try:
        return sorted(call["name"] for call in read_calls(text))
    except (ValueError, RecursionError):
        return []
