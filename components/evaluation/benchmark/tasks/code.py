"""Programs, run against their tests in the sandbox."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.benchmark.items import listed
from components.evaluation.benchmark.metrics.estimators import pass_at_k
from components.evaluation.benchmark.sandbox import run_program
from components.evaluation.benchmark.scoring import PLAIN, Scoring

_FENCE = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_AFTER = re.compile(r"\n(?=class |def |#|if |print|@|```)")
"""Where a continuation of a function ends, as in HumanEval."""


def score(document: Mapping[str, Any], answers: Sequence[str], scoring: Scoring = PLAIN) -> dict[str, float]:
    """Run every answer with the tests and estimate pass@k."""
    programs = [program(document, answer) for answer in answers]
    passed = sum(run_program(one, scoring.options.sandbox).passed for one in programs)
    return {f"pass_at_{k}": pass_at_k(len(answers), passed, k) for k in scoring.passes}


def program(document: Mapping[str, Any], answer: str) -> str:
    """Put question, answer and tests together.

    The answer is the first code block, or all of it. If it does not define the function that is tested, it continues
    the question.
    """
    question, entry = document["question"], document["entry_point"]
    block = _FENCE.search(answer)
    code = block[1] if block else answer
    defines = re.search(rf"^(?:async )?def {re.escape(entry)}\b", code, re.MULTILINE)
    start = re.search(rf"^(?:async )?def {re.escape(entry)}\b", question, re.MULTILINE)
    if defines:
        before = question[: start.start()] if start else ""
        solution = f"{before}\n{code}"
    else:
        body = _AFTER.split(code)[0]
        first, *rest = body.split("\n")
        solution = "\n".join([question + ("" if first.startswith((" ", "\t")) or not start else "    ") + first, *rest])
    tests = "\n".join(listed(document, "tests"))
    called = f"\ncheck({entry})\n" if re.search(r"^def check\b", tests, re.MULTILINE) else ""
    return f"{solution}\n\n{tests}\n{called}"
