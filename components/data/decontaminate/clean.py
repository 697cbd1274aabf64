"""Removes from documents what evaluation sets ask: one pass to see which words are common phrases, one to remove."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.common.documents import (
    DocumentWriter,
    count_documents,
    part_files,
    read_batches,
    with_text,
)
from components.common.ledger import canonical
from components.common.step import Context, Outcome
from components.data.decontaminate.findings import Findings
from components.data.decontaminate.items import Questions, own_questions, read_set
from components.data.decontaminate.options import DECONTAMINATION, Decontaminate
from components.data.decontaminate.patterns import WAYS, Contaminated, Hits, Patterns

ROWS = 1_000
WHOLE = ("code", "table", "dialogue")
"""Kinds that a hole would spoil: of them, and of whatever has messages, the whole document goes."""


def run(documents: Path, clean: Path, options: Decontaminate, context: Context) -> Outcome:
    """Remove from documents what the recipe's evaluation sets ask.

    Args:
        documents: Documents to train on.
        clean: Folder for what stays, with `decontamination.json`.
        options: The sets, and how their words are found.
        context: The run.

    Raises:
        UsageError: A set cannot be read.
    """
    return _run(documents, clean, [read_set(wanted) for wanted in options.sets], options, context)


def run_pairs(pairs: Path, questions: Path, clean: Path, options: Decontaminate, context: Context) -> Outcome:
    """Leave out training pairs that give a held-out question or one of the recipe's evaluation sets away.

    Args:
        pairs: Pairs to train on.
        questions: The line's own held-out questions.
        clean: Folder for the pairs that stay, with `decontamination.json`.
        options: The sets, and how their words are found.
        context: The run.

    Raises:
        UsageError: A set cannot be read.
    """
    sets = [own_questions(questions), *map(read_set, options.sets)]
    return _run(pairs, clean, sets, options, context)


def _run(documents: Path, clean: Path, sets: Sequence[Questions], options: Decontaminate, context: Context) -> Outcome:
    total = count_documents(documents)
    patterns = Patterns(sets, options)
    findings = Findings(sets, patterns, options)
    kept = total
    if len(patterns):
        documents_with = _count(documents, patterns, total, context)
        common = (patterns.ways > 0) & (documents_with > options.max_documents)
        findings.saw_common(documents_with, common)
        kept = _remove(documents, clean, patterns, common, findings, options, total, context)
    else:
        for number, part in enumerate(part_files(documents)):
            shutil.copyfile(part, clean / f"part-{number:05d}.parquet")
    (clean / DECONTAMINATION).write_bytes(canonical(findings.summary()))
    return Outcome(
        counts_in=total,
        counts_out=kept,
        dropped={reason.value: count for reason, count in sorted(findings.dropped.items())},
        metrics=findings.metrics(),
        report=findings.report(total, kept),
    )


def _count(documents: Path, patterns: Patterns, total: int, context: Context) -> np.ndarray:
    """Count the documents that have each run of words."""
    counts = np.zeros(len(patterns), np.int64)
    done = 0
    for batch in read_batches(documents, ["id", "text"], ROWS):
        hits = patterns.find(batch.column("text"), batch.column("id").to_pylist())
        _, runs = np.unique(np.stack([hits.rows, hits.runs]), axis=1)
        np.add.at(counts, runs, 1)
        done += batch.num_rows
        context.progress(done, 2 * total, "looking")
    return counts


def _remove(
    documents: Path,
    clean: Path,
    patterns: Patterns,
    common: np.ndarray,
    findings: Findings,
    options: Decontaminate,
    total: int,
    context: Context,
) -> int:
    """Write the documents without what was found; returns how many there are."""
    done = 0
    with DocumentWriter(clean) as writer:
        for batch in read_batches(documents, rows=ROWS):
            table = pa.Table.from_batches([batch])
            hits = patterns.find(batch.column("text"), batch.column("id").to_pylist())
            findings.saw_phrases(table, hits.where(common[hits.runs]))
            hits = hits.where(~common[hits.runs])
            keep = np.ones(table.num_rows, bool)
            texts: dict[int, str] = {}
            for row in np.unique(hits.rows):
                found = hits.where(hits.rows == row)
                text = batch.column("text")[int(row)].as_py()
                spans = merge(found, options.window)
                whole = options.remove == "document" or batch.column("kind")[int(row)].as_py() in WHOLE
                whole = whole or len(batch.column("messages")[int(row)]) > 0
                left = "" if whole else cut(text, spans, options.window)
                reason = judge(patterns, found, spans, left, whole, options)
                findings.saw(table, int(row), found, spans, reason)
                if reason is None:
                    texts[int(row)] = left
                else:
                    keep[row] = False
            if texts:
                column = batch.column("text").to_pylist()
                table = with_text(table, [texts.get(row, text) for row, text in enumerate(column)])
            writer.write(table.filter(pa.array(keep)))
            done += table.num_rows
            context.progress(total + done, 2 * total, f"{writer.rows:,} kept")
    return writer.rows


def judge(
    patterns: Patterns,
    found: Hits,
    spans: Sequence[tuple[int, int]],
    left: str,
    whole: bool,
    options: Decontaminate,
) -> Contaminated | None:
    """Say why a document goes, None for one that stays without its passages.

    Args:
        patterns: What was looked for.
        found: What was found in the document.
        spans: Where, as bytes.
        left: Its text without the passages.
        whole: Whether it goes as a whole, whatever is left.
        options: Limits.
    """
    if whole:
        return WAYS[min(patterns.ways[found.runs])]
    if len(spans) > options.max_passages:
        return Contaminated.PASSAGES
    return None if left else Contaminated.REMAINDER


def merge(found: Hits, window: int) -> list[tuple[int, int]]:
    """Join what was found to passages, in bytes: what is nearer to each other than the window is one."""
    spans: list[tuple[int, int]] = []
    for at in np.argsort(found.first, kind="stable"):
        first, end = int(found.first[at]), int(found.end[at])
        if spans and first <= spans[-1][1] + window:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((first, end))
    return spans


def cut(text: str, spans: Sequence[tuple[int, int]], window: int) -> str:
    """Cut passages out of a text, each with the characters around it, up to the next white space.

    Args:
        text: The text.
        spans: The passages, in bytes and in order.
        window: Characters that go on each side. Pieces that are not longer go as well.

    Returns:
        The pieces that stay, with a blank line between them.
    """
    data = text.encode()
    pieces: list[str] = []
    at = 0
    for first, end in [*spans, (len(data) + 1, 0)]:
        last = first > len(data)
        stop = len(text) if last else max(at, len(data[:first].decode()) - window)
        if not last:
            while stop > at and not text[stop - 1].isspace():
                stop -= 1
        piece = text[at:stop].strip()
        if len(piece) > window:
            pieces.append(piece)
        at = max(at, len(data[:end].decode()) + window)
        while at < len(text) and not text[at].isspace():
            at += 1
    return "\n\n".join(pieces)
