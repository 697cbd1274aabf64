"""Gather preferences: feedback that people gave, and answers made wrong on purpose."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter, read_table
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.excerpt import may_quote
from components.data.feedback import REJECTED
from components.data.prefer.feedback import Unused, answers_of, gather, is_pair
from components.data.prefer.make import make
from components.data.prefer.options import Prefer

Row = dict[str, Any]


def run(dataset: Path, pairs: Path, questions: Path, preferences: Path, options: Prefer, context: Context) -> Outcome:
    """Write preferences; there may be none.

    Args:
        dataset: The dataset version; its feedback is taken.
        pairs: Training pairs; their answers are right.
        questions: Held-out questions, which no preference may ask.
        preferences: Dialogues that end with a good answer, a rejected one, or both.
        options: What to gather and to make.
        context: The run.
    """
    given, documents, dropped = gather(dataset, questions, options, context)
    context.progress(1, 2, f"{len(given):,} from feedback")
    makeable = make(read_table(pairs).to_pylist(), options)
    made = [row for _, row in makeable[: options.most - len(given)]]
    if beyond := len(makeable) - len(made):
        dropped[str(Unused.MADE_BEYOND_MOST)] = beyond
    rows = [*given, *made]
    with DocumentWriter(preferences) as writer:
        writer.write(rows)
    return Outcome(
        counts_in=documents + len(makeable),
        counts_out=len(rows),
        dropped=dropped,
        metrics={"feedback": float(len(given)), "made": float(len(made))},
        report=_report(given, made, documents, dropped),
    )


def _report(given: Sequence[Row], made: Sequence[Row], documents: int, dropped: dict[str, int]) -> Report:
    report = Report("Preferences", f"{len(given):,} from feedback, {len(made):,} made of right answers")
    rows = [*given, *made]
    paired = sum(is_pair(row["messages"]) for row in rows)
    good = sum(row["messages"][-1]["role"] != REJECTED for row in rows)
    report.metrics(
        {
            "preferences": len(rows),
            "pairs": paired,
            "good answers alone": good,
            "bad answers alone": len(rows) - paired - good,
        }
    )
    report.text(
        f"{documents:,} documents of the dataset are feedback: they end with a rejected answer, a rating or a label. "
        "Answers to one question are paired by their ratings, the best with each worse one. What is made pairs a right "
        "answer with the answer to another question of its kind, or with itself in a broken format."
    )
    kinds = Counter((dict(row["metadata"])["origin"], row["language"]) for row in rows)
    report.table(
        [
            {"origin": origin, "language": language, "preferences": count}
            for (origin, language), count in sorted(kinds.items())
        ],
        "Origins",
    )
    if dropped:
        report.bars(dropped, "Left out")
    shown: dict[str, Row] = {}
    for row in filter(may_quote, rows):
        shown.setdefault(dict(row["metadata"])["origin"], row)
    report.table([_example(row) for _, row in sorted(shown.items())], "Examples, one of each origin", limit=25)
    return report


def _example(row: Row) -> dict[str, str]:
    prompt, answers = answers_of(row["messages"])
    said = {message["role"]: message["content"] for message in answers}
    return {
        "origin": dict(row["metadata"])["origin"],
        "asked": prompt[-1]["content"],
        "chosen": said.get("assistant", ""),
        "rejected": said.get(REJECTED, ""),
    }
