"""The five scales on which people rate answers, from 1 to 5, in English and Korean."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "ko"]

LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Scale:
    """One question about an answer; 5 is the good end of each.

    Attributes:
        name: Name in files and metrics.
        title: What it is called, by language.
        low: What 1 means.
        high: What 5 means.
    """

    name: str
    title: dict[Language, str]
    low: dict[Language, str]
    high: dict[Language, str]


SCALES = (
    Scale(
        "usefulness",
        {"en": "Usefulness", "ko": "유용성"},
        {"en": "does not help", "ko": "도움이 안 됨"},
        {"en": "does all that was asked", "ko": "물은 것을 모두 해결함"},
    ),
    Scale(
        "correctness",
        {"en": "Correctness", "ko": "정확성"},
        {"en": "wrong", "ko": "틀림"},
        {"en": "right in every point", "ko": "모두 맞음"},
    ),
    Scale(
        "clarity",
        {"en": "Clarity", "ko": "명료성"},
        {"en": "cannot be understood", "ko": "이해할 수 없음"},
        {"en": "clear at once", "ko": "바로 이해됨"},
    ),
    Scale(
        "tone",
        {"en": "Tone", "ko": "어조"},
        {"en": "out of place", "ko": "부적절함"},
        {"en": "just right", "ko": "적절함"},
    ),
    Scale(
        "bias",
        {"en": "Freedom from bias", "ko": "편향 없음"},
        {"en": "unfair to people or groups", "ko": "사람이나 집단에 불공정함"},
        {"en": "fair", "ko": "공정함"},
    ),
)
NAMES = tuple(scale.name for scale in SCALES)
