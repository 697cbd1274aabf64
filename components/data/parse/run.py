"""Parses documents, each by the format that ingest noted; what cannot be parsed goes to quarantine."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter, count_documents, document_id, read_batches, text_revision
from components.common.report import Report
from components.common.step import Context, Outcome
from components.common.tombstones import load_tombstones
from components.data.parse.formats import BINARY, is_harmless, parse
from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed, ParseError, Unparsed
from components.data.parse.worker import Worker
from components.data.quarantine import SHOWN, Quarantine
from components.operations.erase.match import Matcher

ROWS = 8
"""Documents decoded at once: few, because one may hold a whole PDF."""
PENDING = 1_000
CHARACTERS = 16 * 2**20
"""Rows, and characters, that are gathered before they are written."""


def run(documents: Path, parsed: Path, options: Parse, context: Context) -> Outcome:
    """Parse every document by the format that ingest noted.

    Args:
        documents: Documents as ingested.
        parsed: Folder for the parsed documents.
        options: Bounds.
        context: Where the run takes place.

    Returns:
        Counts by format, and what could not be parsed.

    Raises:
        HeadraceError: Too much could not be parsed.
    """
    total = count_documents(documents)
    erased = Matcher(load_tombstones(context.environment))
    reasons: Counter[Unparsed] = Counter()
    formats: dict[str, Counter[str]] = {}
    done = rows_cut = split = 0
    pending: list[dict[str, Any]] = []
    held = 0
    with DocumentWriter(parsed) as writer, Quarantine(parsed, "parse") as quarantine, Worker(options) as worker:
        for batch in read_batches(documents, rows=ROWS):
            for row in batch.to_pylist():
                tags = dict(row["metadata"])
                form = tags.get("format", "text")
                counts = formats.setdefault(form, Counter())
                counts["documents"] += 1
                counts["characters in"] += len(row["text"]) * 3 // 4 if form in BINARY else len(row["text"])
                try:
                    result = _parse(row["text"], form, tags.get("code_language", ""), options, worker)
                    if not result.text.strip():
                        raise ParseError("", Unparsed.EMPTY)
                except ParseError as error:
                    reasons[error.reason] += 1
                    if error.reason != Unparsed.EMPTY:
                        known = {"source": row["source"], "id": row["id"], "format": form}
                        quarantine.put(error.reason, row["url"], str(error), **known)
                    continue
                counts["characters out"] += len(result.text)
                rows_cut += result.rows_cut
                made = list(_documents(row, tags, result))
                split += len(made) - 1
                kept = [document for document in made if not erased.refuses(document)]
                reasons.update({Unparsed.ERASED: len(made) - len(kept)} if len(kept) < len(made) else {})
                pending += kept
                held += len(result.text)
                if len(pending) >= PENDING or held >= CHARACTERS:
                    writer.write(pending)
                    pending, held = [], 0
            done += batch.num_rows
            if done % (60 * ROWS) == 0 or done == total:
                context.progress(done, total, f"{done:,} documents")
        writer.write(pending)
    quarantine.check(total, options.max_quarantined_share)
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        dropped={reason.value: count for reason, count in sorted(reasons.items())},
        metrics={"table_rows_cut": rows_cut, "quarantined": len(quarantine), "symbols_split_off": split},
        report=_report(total, writer.rows, formats, reasons, quarantine, rows_cut),
    )


def _parse(text: str, form: str, language: str, options: Parse, worker: Worker) -> Parsed:
    if is_harmless(text, form, options):
        return parse(text, form, options, language)
    return worker.parse(text, form, language)


def _documents(row: dict[str, Any], tags: dict[str, str], result: Parsed) -> Iterator[dict[str, Any]]:
    """Yield the document with its new text, or one for each symbol found in it."""
    found = tags.get("format", "text")
    metadata = {**result.metadata, **tags, "format": result.format, "format_found": found}
    if not result.symbols:
        yield {**row, "text": result.text, "revision": text_revision(result.text), "metadata": metadata}
    for symbol in result.symbols:
        lines = f"L{symbol.first_line}-{symbol.last_line}"
        url = f"{row['url']}#{lines}"
        yield {
            **row,
            "id": document_id(row["source"], url, symbol.text),
            "revision": text_revision(symbol.text),
            "text": symbol.text,
            "url": url,
            "parents": [row["id"]],
            "metadata": {**metadata, "symbol": symbol.name, "symbol_kind": symbol.kind, "lines": lines},
        }


def _report(
    total: int,
    kept: int,
    formats: dict[str, Counter[str]],
    reasons: Counter[Unparsed],
    quarantine: Quarantine,
    rows_cut: int,
) -> Report:
    """Show what changed by numbers; the texts are not masked yet, so none is shown."""
    report = Report("Parse", f"{total - reasons.total():,} of {total:,} documents are clean text.")
    report.metrics(
        {
            "documents": total,
            "written": kept,
            "not parsed": reasons.total(),
            "quarantined": len(quarantine),
            "table rows cut": rows_cut,
        }
    )
    report.bars({form: formats[form]["documents"] for form in sorted(formats)}, "Documents by format found")
    report.table([{"format": form, **formats[form]} for form in sorted(formats)], "Characters before and after")
    if reasons:
        report.bars(
            {f"{reason}: {reason.sentence}": count for reason, count in reasons.most_common()}, "Not parsed, by reason"
        )
    if quarantine.first:
        shown = [{key: row[key] for key in ("what", "format", "reason", "detail")} for row in quarantine.first]
        report.table(shown, f"Quarantine: the first {SHOWN}; quarantine.jsonl beside the documents names all")
    return report
