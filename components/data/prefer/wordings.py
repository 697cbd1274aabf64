"""How a fact is asked for in a format: the instruction, the answer, and the schema that checks it."""

import json
import re
from dataclasses import dataclass
from typing import Any

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"answer": {"type": "string"}},
    "required": ["answer"],
    "additionalProperties": False,
}
"""What a fact's answer in JSON must be."""

_INSTRUCTIONS = {
    ("json", "en"): 'Answer with a JSON object that has one field, "answer", and nothing else.',
    ("json", "ko"): '"answer" 필드 하나만 있는 JSON 객체로만 답하세요.',
    ("table", "en"): 'Answer with a Markdown table that has the columns "subject" and "answer" and one row.',
    ("table", "ko"): '"대상"과 "답" 두 열과 한 행으로 된 마크다운 표로 답하세요.',
}
_HEADS = {"en": ("subject", "answer"), "ko": ("대상", "답")}


@dataclass(frozen=True)
class Asked:
    """A question for an answer in a format.

    Attributes:
        question: The question with its instruction.
        answer: The right answer in the format.
        schema: JSON schema of the answer, as JSON; '' for none.
    """

    question: str
    answer: str
    schema: str = ""


def ask_in(format: str, language: str, question: str, answer: str, subject: str) -> Asked:
    """Ask a question for an answer in a format.

    Args:
        format: json or table.
        language: en or ko; another is asked in English.
        question: The question.
        answer: Its answer in words.
        subject: What it is about, for the first column of a table; the question where it is not known.
    """
    language = "ko" if language == "ko" else "en"
    instructed = f"{question}\n{_INSTRUCTIONS[format, language]}"
    if format == "json":
        return Asked(instructed, json.dumps({"answer": answer}, ensure_ascii=False), json.dumps(SCHEMA, sort_keys=True))
    rows = [_HEADS[language], ("---", "---"), (_cell(subject or question), _cell(answer))]
    return Asked(instructed, "\n".join(f"| {' | '.join(row)} |" for row in rows))


def _cell(text: str) -> str:
    return re.sub(r"\|", r"\\|", " ".join(text.split()))
