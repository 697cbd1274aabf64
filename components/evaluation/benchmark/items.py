"""What is asked: held-out questions of a dataset, and the items of a recipe's tasks."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from components.common.documents import read_table
from components.common.errors import UsageError
from components.common.ledger import canonical, sha256
from components.data.decontaminate.items import field_of, read_rows
from components.data.excerpt import may_quote
from components.data.reasons import Reason
from components.evaluation.benchmark.options import Task

Found = TypeVar("Found")

_HANGUL = re.compile("[가-힣]")
_YES = frozenset({"true", "yes", "1", "refuse", "예", "네"})


class LeftOut(Reason):
    """Why a record is not asked."""

    NOT_ONE_TURN = "not_one_turn", "It is not one question with its answer."
    BEYOND_LIMIT = "beyond_limit", "There are more questions than `limit`."


@dataclass(frozen=True)
class Question:
    """Something to ask.

    Attributes:
        id: Unique in its task.
        language: BCP-47 tag.
        question: What is asked.
        answer: The expected answer; empty where there is none.
        kind: What the report groups it by.
        quotable: Whether a report may show it.
        fields: What else the task's kind looks at.
    """

    id: str
    language: str
    question: str
    answer: str
    kind: str = ""
    quotable: bool = True
    fields: Mapping[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, str | list[str]]:
        """The item as lm-eval reads it: text and lists of texts; whatever else has a structure is written as JSON."""
        plain = {"id": self.id, "language": self.language, "question": self.question, "answer": self.answer}
        return plain | {name: _plain(value) for name, value in self.fields.items()}


@dataclass(frozen=True)
class Asked:
    """The items of a task that are asked.

    Attributes:
        questions: The items.
        records: How many records there were.
        dropped: How many were left out, by reason.
        sha256: Digest of the files; empty for held-out questions, whose digest the ledger has.
    """

    questions: Sequence[Question]
    records: int
    dropped: Mapping[str, int]
    sha256: str = ""


def read_questions(path: Path, limit: int = 0) -> Asked:
    """Read the held-out questions that can be asked.

    Args:
        path: Documents with messages.
        limit: Most questions, spread evenly; 0 for all.
    """
    table = read_table(path, ["id", "language", "messages", "metadata", "confidentiality", "pii"])
    found = [
        Question(
            row["id"],
            row["language"],
            row["messages"][0]["content"],
            row["messages"][1]["content"],
            dict(row["metadata"]).get("fact", ""),
            may_quote(row),
        )
        for row in table.to_pylist()
        if [message["role"] for message in row["messages"]] == ["user", "assistant"]
    ]
    kept = evenly(found, limit)
    return Asked(kept, table.num_rows, left_out_of(table.num_rows - len(found), len(found) - len(kept)))


def read_items(task: Task) -> Asked:
    """Read the items of a recipe's task.

    Raises:
        UsageError: A file is missing, or a record lacks a field; the message names file, line, field and option.
    """
    where = f"evaluation.benchmark.tasks: {task.name}"
    rows, digest = read_rows(task.location, where)
    found = [_question(row, task, at) for at, row in rows]
    if not found:
        raise UsageError(f"{where}: {task.location} holds no items; name the file that has them")
    if task.id and len({one.id for one in found}) < len(found):
        raise UsageError(f"{where}: two items have the same {task.id}; name another field as id, or none")
    digests = content_ids({**one.row(), "id": ""} for one in found)
    found = [
        replace(one, id=f"{one.id}#{digest}" if one.id else digest) for one, digest in zip(found, digests, strict=True)
    ]
    kept = evenly(found, task.limit)
    return Asked(kept, len(found), left_out_of(beyond_limit=len(found) - len(kept)), digest)


def left_out_of(not_one_turn: int = 0, beyond_limit: int = 0) -> dict[str, int]:
    """How many records are not asked, by reason; no reason that none has."""
    counts = {LeftOut.NOT_ONE_TURN: not_one_turn, LeftOut.BEYOND_LIMIT: beyond_limit}
    return {str(reason): count for reason, count in counts.items() if count}


def evenly(found: Sequence[Found], limit: int) -> Sequence[Found]:
    """At most so many of what was found, evenly spaced; 0 takes all."""
    if not limit or len(found) <= limit:
        return found
    return [found[number * len(found) // limit] for number in range(limit)]


def listed(document: Mapping[str, Any], name: str) -> list[str]:
    """A field that holds several texts: a list, one as JSON, or one text; empty where it is missing."""
    value = document.get(name) or []
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.startswith("[") else [value]
        except ValueError:
            value = [value]
    return [str(one) for one in value]


def content_ids(contents: Iterable[Any]) -> list[str]:
    """Name items by what they hold, so that an id stands for the same item in every release.

    Args:
        contents: What each holds, as JSON has it; of several that are alike the second and later ones are numbered.
    """
    seen = Counter[str]()
    ids = []
    for content in contents:
        digest = sha256(canonical(content))[:16]
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}.{seen[digest]}")
    return ids


def _question(row: Mapping[str, Any], task: Task, at: str) -> Question:
    text = _text(field_of(row, task.question, at, "question"))
    answers: Any = field_of(row, task.answer, at, "answer") if _expected(row, task) else []
    answers = [_text(one) for one in (answers if isinstance(answers, list) else [answers])]
    fields = {name: field_of(row, getattr(task, option), at, option) for name, option in _FIELDS.get(task.kind, ())}
    if "refuse" in fields:
        fields["refuse"] = "yes" if str(fields["refuse"]).strip().lower() in _YES else "no"
    return Question(
        id=str(field_of(row, task.id, at, "id")) if task.id else "",
        language=str(field_of(row, task.language, at, "language"))
        if task.language
        else ("ko" if _HANGUL.search(text) else "en"),
        question=text,
        answer=answers[0] if answers else "",
        kind=str(field_of(row, task.group, at, "group")) if task.group else "",
        quotable=task.quote,
        fields={"answers": answers, **fields},
    )


_FIELDS: Mapping[str, Iterable[tuple[str, str]]] = {
    "code": [("tests", "tests"), ("entry_point", "entry_point")],
    "json_schema": [("schema", "schema_")],
    "function_call": [("tools", "tools")],
    "evidence": [("documents", "documents")],
    "refusal": [("refuse", "refuse")],
}
"""What a kind's items have beside question and answer: the field, and the option that names it."""
_UNANSWERED = ("code", "evidence", "json_schema", "open", "refusal")
"""Kinds whose items may do without an expected answer."""


def _expected(row: Mapping[str, Any], task: Task) -> bool:
    return bool(task.answer) and (task.kind not in _UNANSWERED or task.answer.partition(".")[0] in row)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _plain(value: Any) -> str | list[str]:
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else _text(value)
