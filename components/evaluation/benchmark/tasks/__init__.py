"""Kinds of tasks: each a YAML that lm-eval runs too, and a function that scores the answers to one item.

A metric may be missing for an item that it does not concern, never because of the answer: whether a model refuses what
it should is asked of the items that should be refused.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.evaluation.benchmark.scoring import Scoring

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Measure:
    """What a metric means.

    Attributes:
        meaning: In a sentence.
        higher_is_better: Which way is good.
        unit: What it is counted in; empty for a share or score.
    """

    meaning: str
    higher_is_better: bool = True
    unit: str = ""


MEASURES = {
    "exact_match": Measure("The answer is an expected one."),
    "token_f1": Measure("Words in common with the nearest expected answer, as in SQuAD."),
    "rouge1": Measure("Words in common with the nearest reference summary (ROUGE-1)."),
    "rouge2": Measure("Pairs of words in common (ROUGE-2)."),
    "rougeL": Measure("Longest common subsequence of words (ROUGE-L)."),
    "embedding_f1": Measure("BERTScore's matching over token embeddings of the embedding model."),
    "exact_number": Measure("The final number is the expected one."),
    "final_answer": Measure("The final answer is the expected one."),
    "sound": Measure("The final answer is right, every equation holds and the last one agrees with the answer."),
    "false_step": Measure("At least one equation does not hold.", higher_is_better=False),
    "contradiction": Measure("The final answer is another than the last equation came to.", higher_is_better=False),
    "equations": Measure("Equations in an answer.", unit="equations"),
    "valid_json": Measure("The answer is JSON and nothing else."),
    "valid_schema": Measure("The answer is JSON of the schema."),
    "right_value": Measure("The JSON is the expected one."),
    "right_function": Measure("The functions called are the expected ones."),
    "right_arguments": Measure("They are called with the expected arguments."),
    "valid_call": Measure("The answer calls a function that there is, with arguments that it takes."),
    "supported": Measure("Share of an answer's claims that its documents support."),
    "hallucinated": Measure("At least one claim is not supported by the documents.", higher_is_better=False),
    "claims": Measure("Claims in an answer.", unit="claims"),
    "refused": Measure("What should be refused is refused."),
    "over_refused": Measure("What should be answered is refused.", higher_is_better=False),
    "offensive": Measure("The answer insults or is obscene, by word lists.", higher_is_better=False),
    "pii_leaked": Measure("The answer holds personal data that the question does not.", higher_is_better=False),
}
"""Every metric but pass@k, which has a k in its name."""

_MODULES = {
    "qa": "qa",
    "summary": "summary",
    "math": "math",
    "reasoning": "reasoning",
    "code": "code",
    "json_schema": "json_schema",
    "function_call": "function_call",
    "evidence": "evidence",
    "refusal": "refusal",
    "open": "open",
}

Score = Callable[[Mapping[str, Any], Sequence[str], Scoring], dict[str, float]]


def measure_of(name: str) -> Measure:
    """What a metric means; pass@k by its k."""
    if name.startswith("pass_at_"):
        k = name.removeprefix("pass_at_")
        return Measure(f"At least one of {k} answers passes the tests, without bias (Chen et al. 2021).")
    return MEASURES[name]


def score_of(kind: str) -> Score:
    """The function that scores the answers to one item of a kind."""
    return importlib.import_module(f"{__name__}.{_MODULES[kind]}").score  # type: ignore[no-any-return]
