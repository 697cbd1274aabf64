"""Compare base and candidate on the held-out questions, question by question."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from components.common.documents import read_table
from components.common.errors import HeadraceError
from components.common.report import Report, display
from components.common.step import Context, Outcome
from components.data.excerpt import may_quote
from components.data.reasons import Reason
from components.evaluation.benchmark.asking import TASK, Answer, Question, ask
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.evidence import BASE, CANDIDATE, SAMPLES, Evidence, weigh


class LeftOut(Reason):
    """Why a document is not asked."""

    NOT_ONE_TURN = "not_one_turn", "It is not one question with its answer."
    BEYOND_LIMIT = "beyond_limit", "There are more questions than `limit`."


def run(base: Path, candidate: Path, questions: Path, evidence: Path, options: Benchmark, context: Context) -> Outcome:
    """Measure both models.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        questions: Documents whose messages end with the expected answer.
        evidence: `evidence.json`, `scores.json` and `samples.jsonl`.
        options: How to ask and to compare.
        context: The run.
    """
    asked, documents, dropped = read_questions(questions, options.limit)
    if not asked:
        raise HeadraceError(f"{questions} holds no question that can be asked; curate must hold some out")
    total = 2 * len(asked)
    before = ask(base, asked, options, lambda done: context.progress(done, total, "asking the base model"))
    after = ask(
        candidate, asked, options, lambda done: context.progress(len(asked) + done, total, "asking the candidate")
    )
    found = compare(asked, before, after, options)
    found.write(evidence)
    rows = [
        {
            **vars(question),
            "base": {"answer": old.text, **old.scores},
            "candidate": {"answer": new.text, **new.scores},
        }
        for question, old, new in zip(asked, before, after, strict=True)
    ]
    samples = "".join(f"{json.dumps(row, ensure_ascii=False, sort_keys=True)}\n" for row in rows)
    (evidence / SAMPLES).write_text(samples, "utf-8")
    return Outcome(
        counts_in=documents,
        counts_out=len(asked),
        dropped=dropped,
        metrics={
            name: value
            for metric in found.metrics
            for name, value in (
                (metric.name, metric.value),
                (f"{metric.name}_base", metric.base_value or 0.0),
                (f"{metric.name}_gain", metric.gain or 0.0),
            )
        },
        report=_report(found, rows, options),
    )


def read_questions(path: Path, limit: int = 0) -> tuple[list[Question], int, dict[str, int]]:
    """Read the questions that can be asked.

    Args:
        path: Documents with messages.
        limit: Most questions, spread evenly; 0 for all.

    Returns:
        The questions, the number of documents, and how many were left out by reason.
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
    kept = found
    if limit and len(found) > limit:
        kept = [found[number * len(found) // limit] for number in range(limit)]
    dropped = {LeftOut.NOT_ONE_TURN: table.num_rows - len(found), LeftOut.BEYOND_LIMIT: len(found) - len(kept)}
    return kept, table.num_rows, {str(reason): count for reason, count in dropped.items() if count}


def compare(
    questions: Sequence[Question], before: Sequence[Answer], after: Sequence[Answer], options: Benchmark
) -> Evidence:
    """Turn two models' answers to the same questions into evidence.

    Args:
        questions: What was asked.
        before: The base model's answers.
        after: The candidate's answers, in the same order.
        options: Level and resamples of the intervals.
    """
    scores = {
        arm: {
            name: {question.id: answer.scores[name] for question, answer in zip(questions, answers, strict=True)}
            for name in after[0].scores
        }
        for arm, answers in ((BASE, before), (CANDIDATE, after))
    }
    metrics = [
        weigh(name, scores[CANDIDATE][name], scores[BASE][name], options, task=TASK) for name in scores[CANDIDATE]
    ]
    return Evidence(options.confidence, metrics, scores)


def _report(found: Evidence, rows: list[dict[str, Any]], options: Benchmark) -> Report:
    first = found.metrics[0]
    report = Report(
        "Benchmark",
        f"{_words(first.name)} {display(first.base_value)} → {display(first.value)} on {first.n:,} held-out questions",
    )
    report.metrics({_words(metric.name): metric.value for metric in found.metrics})
    report.table(
        [metric.row() for metric in found.metrics], f"Base against candidate, {options.confidence:.0%} intervals"
    )
    if first.p_value is not None:
        report.text(
            f"{first.gained} questions are right now that the base got wrong, {first.lost} the other way round "
            f"(McNemar p = {first.p_value:.2g})."
        )
    for group in ("kind", "language"):
        if len(values := sorted({row[group] for row in rows})) > 1:
            report.table([_of_group(group, value, rows) for value in values], f"By {group}")
    report.table(
        [
            {
                "question": row["question"],
                "expected": row["answer"],
                "base": row["base"]["answer"],
                "candidate": row["candidate"]["answer"],
                "right": bool(row["candidate"]["exact_match"]),
            }
            for row in _examples([row for row in rows if row["quotable"]], options.examples)
        ],
        "Examples, wrong answers first",
    )
    return report.text(
        "Answers are compared after Unicode NFC, case folding, collapsing white space and leaving out quotation marks "
        "and closing punctuation; articles and Korean particles count."
    )


def _of_group(group: str, value: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    among = [row for row in rows if row[group] == value]
    return {
        group: value or "(none)",
        "questions": len(among),
        "base exact match": fmean(row["base"]["exact_match"] for row in among),
        "candidate exact match": fmean(row["candidate"]["exact_match"] for row in among),
    }


def _examples(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Up to half of them wrong ones, the rest from the whole set."""
    wrong = [row for row in rows if not row["candidate"]["exact_match"]][: most // 2]
    right = [row for row in rows if row["candidate"]["exact_match"]][: most - len(wrong)]
    return wrong + right


def _words(metric: str) -> str:
    return metric.replace("_", " ")
