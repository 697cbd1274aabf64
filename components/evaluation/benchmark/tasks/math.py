"""Problems whose answer is a number."""

from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.metrics.arithmetic import final_number
from components.evaluation.benchmark.scoring import PLAIN, Scoring


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Compare final numbers exactly; those of GSM8K stand behind `####` in the expected answer too."""
    expected = [final_number(one) for one in listed(document, "answers") or [document["answer"]]]
    given = final_number(answers[0])
    return {"exact_number": float(given is not None and given in expected)}
