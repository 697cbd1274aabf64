"""Rewards that are computed from an answer: each a pure function to a number from 0 to 1.

An answer that violates the format it was asked in is worth nothing, whatever else is right about it: a program that
reads it gets nothing either (DeepSeek-R1, arXiv 2501.12948, rewards accuracy and format by rules in the same way).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from components.evaluation.benchmark.metrics.answers import exact_match, token_f1
from components.model.formats import Format, violation
from components.model.json_answers import same_calls, same_json

_CITED = re.compile(r"\[(\d{1,3})\]")


@dataclass(frozen=True)
class Asked:
    """What an answer is judged by.

    Attributes:
        prompt: What was said before, as text.
        expected: The right answer.
        format: Format that was asked for, one of `formats.FORMATS`; '' for none.
        schema: JSON schema, or tools of a call, as JSON; '' for none.
    """

    prompt: str
    expected: str
    format: str = ""
    schema: str = ""


def violated(answer: str, asked: Asked) -> str:
    """Say how an answer violates the format asked for; '' when it does not, or none was asked for."""
    return violation(answer, asked.format, asked.schema) if asked.format else ""


def exact(answer: str, asked: Asked) -> float:
    """1 for the right answer: calls and JSON by value, words as evaluation compares them."""
    if asked.format == Format.CALL:
        return float(same_calls(answer, asked.expected))
    if asked.format == Format.JSON:
        return float(same_json(answer, asked.expected))
    return exact_match(answer, asked.expected)


def overlap(answer: str, asked: Asked) -> float:
    """F1 over the words of the answer and the right one."""
    return token_f1(answer, asked.expected)


def format(answer: str, asked: Asked) -> float:
    """1 when a format was asked for and is kept."""
    return float(bool(asked.format) and not violated(answer, asked))


def schema(answer: str, asked: Asked) -> float:
    """1 when a schema was asked for and the answer is JSON that meets it."""
    return float(asked.format == Format.JSON and bool(asked.schema) and not violated(answer, asked))


def citation(answer: str, asked: Asked) -> float:
    """1 when the answer cites, and cites only passages that the prompt numbers in the same form, if it numbers any."""
    cited, given = set(_CITED.findall(answer)), set(_CITED.findall(asked.prompt))
    return float(bool(cited) and (not given or cited <= given))


Reward = Callable[[str, Asked], float]

REWARDS: Mapping[str, Reward] = {
    "exact": exact,
    "overlap": overlap,
    "format": format,
    "schema": schema,
    "citation": citation,
}
"""The rewards by the names that recipes weigh them by."""


def gated(reward: Reward) -> Reward:
    """Make a reward zero for an answer that violates the format asked for."""
    return lambda answer, asked: 0.0 if violated(answer, asked) else reward(answer, asked)


def total(answer: str, asked: Asked, weights: Mapping[str, float]) -> float:
    """The weighted mean of the rewards, zero for an answer that violates the format asked for."""
    earned = sum(weight * gated(REWARDS[name])(answer, asked) for name, weight in weights.items() if weight)
    return earned / sum(weights.values())
