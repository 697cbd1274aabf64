"""Preferences made of training pairs: the right answer, and one that is wrong in a way models are wrong."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from components.common.documents import new_document
from components.data.curate.survey import draw
from components.data.feedback import REJECTED
from components.data.prefer.options import Prefer
from components.data.prefer.provenance import inherit
from components.data.prefer.wordings import ask_in
from components.model.breaks import broken
from components.model.formats import Format, detect, violation

Row = dict[str, Any]
Stratum = tuple[str, str, str]
TURN = "turn"
_FIELD = re.compile(r"^(without|another type of) \w.*", re.DOTALL)
"""The name of a break that is about a field of JSON."""


def make(pairs: Sequence[Row], options: Prefer) -> list[tuple[bytes, Row]]:
    """Make preferences, in the order of the draw.

    Every fact is drawn in one of its wordings, so that facts with more wordings do not count for more.

    Args:
        pairs: Training pairs, as curate writes them.
        options: What to make.

    Returns:
        Place in the draw and document of each.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in pairs:
        if [message["role"] for message in row["messages"][-2:]] == ["user", "assistant"]:
            groups[_group(row)].append(row)
    answers = _answers(pairs)
    made = []
    for group, rows in sorted(groups.items()):
        for kind, parents, messages, metadata in _preferences(rows, answers, options):
            place = draw(options.seed, f"{group}\x1f{kind}")
            made.append((place, _document(parents, messages, {**metadata, "origin": kind, "group": group})))
    return sorted(made, key=lambda found: (found[0], found[1]["id"]))


def _preferences(
    rows: Sequence[Row], answers: dict[Stratum, list[Row]], options: Prefer
) -> Iterator[tuple[str, list[Row], list[dict[str, str]], dict[str, str]]]:
    """For one fact or turn: kind of preference, pairs it is made of, messages and metadata."""
    kinds = (["wrong answer"] if options.wrong_answers else []) + ["format", *options.formats]
    for kind in kinds:
        row = min(rows, key=lambda one: draw(options.seed, f"{kind}\x1f{one['id']}"))
        *prompt, said = row["messages"]
        answer, metadata = said["content"], dict(row["metadata"])
        judged = {name: metadata[name] for name in ("schema", "tools", "weight") if name in metadata}
        if kind == "wrong answer":
            if other := _another(row, answers, options.seed):
                yield kind, [row, other], _told(prompt, answer, _answer(other)), judged
        elif kind == "format":
            format, schema = format_of(answer, metadata)
            if format and (found := _break(answer, format, schema, row, options.seed)):
                told = {**judged, "answer_format": format}
                yield f"{format}: {found[0]}", [row], _told(prompt, answer, found[1]), told
        elif metadata.get("fact", TURN) != TURN and not format_of(answer, metadata)[0]:
            asked = ask_in(kind, row["language"], prompt[-1]["content"], answer, metadata.get("subject", ""))
            if found := _break(asked.answer, kind, asked.schema, row, options.seed):
                question = [*prompt[:-1], {"role": "user", "content": asked.question}]
                told = {"answer_format": kind, **({"schema": asked.schema} if asked.schema else {})}
                yield f"{kind}: {found[0]}", [row], _told(question, asked.answer, found[1]), told


def format_of(answer: str, metadata: dict[str, str]) -> tuple[str, str]:
    """The format that a right answer has, and the schema or tools that check it; '' where there is none."""
    if stated := metadata.get("answer_format", ""):
        return stated, metadata.get("tools" if stated == Format.CALL else "schema", "")
    if (tools := metadata.get("tools", "")) and not violation(answer, Format.CALL, tools):
        return Format.CALL, tools
    if schema := metadata.get("schema", ""):
        return Format.JSON, schema
    return detect(answer), ""


def _break(answer: str, format: str, schema: str, row: Row, seed: int) -> tuple[str, str] | None:
    found = broken(answer, format, schema)
    if not found:
        return None
    name = min(found, key=lambda one: draw(seed, f"{one}\x1f{row['id']}"))
    return _FIELD.sub(r"\1 a field", name), found[name]


def _another(row: Row, answers: dict[Stratum, list[Row]], seed: int) -> Row | None:
    """The pair of another question of the same kind, language and licence; None when all have the same answer."""
    said = _answer(row).strip().casefold()
    others = [other for other in answers[_stratum(row)] if _answer(other).strip().casefold() != said]
    return min(others, key=lambda other: draw(seed, f"{row['id']}\x1f{_answer(other)}"), default=None)


def _answers(pairs: Sequence[Row]) -> dict[Stratum, list[Row]]:
    """For each stratum the pairs with different answers; of those that say the same the one with the least id."""
    found: dict[Stratum, dict[str, Row]] = defaultdict(dict)
    for row in sorted(pairs, key=lambda one: one["id"]):
        if row["messages"] and row["messages"][-1]["role"] == "assistant":
            found[_stratum(row)].setdefault(_answer(row), row)
    return {stratum: list(said.values()) for stratum, said in found.items()}


def _answer(row: Row) -> str:
    return row["messages"][-1]["content"]


def _stratum(row: Row) -> Stratum:
    return dict(row["metadata"]).get("fact", ""), row["language"], row["license"]


def _group(row: Row) -> str:
    """Name what must not be split between training and measuring: a fact in all its wordings, or a turn."""
    metadata = dict(row["metadata"])
    parts = (*row["parents"], metadata.get("fact", ""), row["messages"][-1]["content"])
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def _told(prompt: list[dict[str, str]], good: str, bad: str) -> list[dict[str, str]]:
    return [*prompt, {"role": "assistant", "content": good}, {"role": REJECTED, "content": bad}]


def _document(pairs: Sequence[Row], messages: list[dict[str, str]], metadata: dict[str, str]) -> Row:
    return new_document(
        text="\n\n".join(message["content"] for message in messages),
        kind="dialogue",
        messages=messages,
        language=pairs[0]["language"],
        parents=list(dict.fromkeys(parent for row in pairs for parent in row["parents"])),
        metadata=metadata,
        **inherit(pairs),
    )
