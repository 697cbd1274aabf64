"""The questions that search and models are measured on."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from components.common.documents import read_table
from components.data.excerpt import may_quote
from components.data.reasons import Reason

_COLUMNS = ("id", "language", "messages", "metadata", "parents", "confidentiality", "pii")


class LeftOut(Reason):
    """Why a document is not asked."""

    NOT_ONE_TURN = "not_one_turn", "It is not one question with its answer."
    UNANSWERABLE = "unanswerable", "None of the documents it was made from is in the dataset version."


@dataclass(frozen=True)
class Item:
    """A question, the expected answer, and the documents it was made from.

    Attributes:
        id: Of the document that holds it.
        question: As it is asked.
        answer: What is expected.
        language: BCP-47.
        kind: The kind of fact; empty if nobody says.
        parents: Ids of the documents it was made from.
        quotable: Whether a report may show it.
    """

    id: str
    question: str
    answer: str
    language: str
    kind: str
    parents: tuple[str, ...]
    quotable: bool


def read_items(path: Path) -> tuple[list[Item], int]:
    """Read the questions that can be asked, in order.

    Args:
        path: Documents with messages.

    Returns:
        The questions, and how many documents hold none.
    """
    rows = read_table(path, _COLUMNS).to_pylist()
    found = [
        Item(
            row["id"],
            row["messages"][0]["content"],
            row["messages"][1]["content"],
            row["language"],
            dict(row["metadata"]).get("fact", ""),
            tuple(row["parents"]),
            may_quote(row),
        )
        for row in rows
        if [message["role"] for message in row["messages"]] == ["user", "assistant"]
    ]
    return found, len(rows) - len(found)


def spread(items: Sequence[Item], limit: int) -> list[Item]:
    """Take at most so many questions, of every kind and language in turn; 0 takes all.

    Returns:
        Them in the order they came in.
    """
    if not limit or len(items) <= limit:
        return list(items)
    strata: dict[tuple[str, str], list[Item]] = defaultdict(list)
    for item in items:
        strata[item.kind, item.language].append(item)
    turns = [item for turn in zip_longest(*strata.values()) for item in turn if item is not None]
    chosen = {item.id for item in turns[:limit]}
    return [item for item in items if item.id in chosen]
