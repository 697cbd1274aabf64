"""Problems that are reasoned out: the final answer, and whether the chain that leads to it holds."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.metrics.answers import exact_match
from components.evaluation.benchmark.metrics.arithmetic import final_number, read_chain, read_number
from components.evaluation.benchmark.scoring import PLAIN, Scoring

_TOLD = re.compile(r"####\s*([^\n]+)|(?:answer(?: is)?|정답[은는]?|답[은는]?)\s*[:：]?\s*([^\n]+)", re.IGNORECASE)


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Check the final answer and every equation of the chain.

    Numbers are compared exactly; an expected answer without a number is compared as text.
    """
    expected = listed(document, "answers") or [document["answer"]]
    chain = read_chain(answers[0])
    right = any(_right(answers[0], one) for one in expected)
    return {
        "final_answer": float(right),
        "sound": float(right and not chain.false_steps and not chain.contradicts_itself),
        "false_step": float(chain.false_steps > 0),
        "contradiction": float(chain.contradicts_itself),
        "equations": float(len(chain.statements)),
    }


def _right(answer: str, expected: str) -> bool:
    if read_number(expected) is not None:
        return final_number(answer) == final_number(expected)
    told = [one for pair in _TOLD.findall(answer) for one in pair if one]
    lines = told or answer.strip().splitlines()
    return bool(lines and exact_match(lines[-1], expected))
