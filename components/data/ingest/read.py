"""Reads declared sources into documents."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter
from components.common.errors import HeadraceError, UsageError
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.ingest.folder import Folder, Imported, folder_of
from components.data.ingest.items import Reader, Skipped, Unread
from components.data.ingest.options import Ingest
from components.data.ingest.packages import SCHEME, Packages
from components.data.sources import Source

ROWS = 1_000


def run(documents: Path, options: Ingest, context: Context) -> Outcome:
    """Read every declared source in order.

    Args:
        documents: Folder for the documents.
        options: Sources and bounds.
        context: Where the run takes place.

    Returns:
        What was read and what was not, by reason.

    Raises:
        UsageError: No source is declared, or a declaration does not fit what is there.
        HeadraceError: Nothing could be read, or a file could not and the options say to stop.
    """
    if not options.sources:
        raise UsageError("no source is declared; add one to the recipe under data.ingest.sources")
    readers = [(source, open_reader(source, options)) for source in options.sources]
    total = sum(len(reader) for _, reader in readers)
    tally = _Tally()
    done = 0
    with DocumentWriter(documents) as writer:
        pending: list[dict[str, Any]] = []
        for source, reader in readers:
            for items in reader.read():
                pending += tally.count(items, source, options.stop_on_unreadable)
                if len(pending) >= ROWS:
                    writer.write(pending)
                    pending = []
                done += 1
                if done % 25 == 0 or done == total:
                    context.progress(done, total, source.id)
        writer.write(pending)
    if not writer.rows:
        places = ", ".join(source.location for source in options.sources)
        found = "; ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items())) or "it is empty"
        raise HeadraceError(f"nothing to read in {places} ({found}); name a source that holds text")
    return Outcome(
        counts_in=writer.rows + len(tally.skipped),
        counts_out=writer.rows,
        dropped={reason.value: count for reason, count in sorted(tally.reasons.items())},
        metrics={"sources": len(tally.sources), "megabytes": round(tally.characters / 1e6, 2)},
        report=tally.report(),
    )


def open_reader(source: Source, options: Ingest) -> Reader:
    """Choose the reader for a source by its location.

    Raises:
        UsageError: Nothing reads such a location.
    """
    if source.location.startswith(SCHEME):
        return Packages(source, options)
    if any(folder_of(source).glob("part-*.parquet")):
        return Imported(source)
    return Folder(source, options)


def fingerprint(sources: Sequence[Source]) -> str:
    """Digest the state of sources (names, versions, sizes, times), so that a cached ingest notices a change.

    Raises:
        UsageError: A declaration does not fit what is there.
    """
    digest = hashlib.sha256()
    for source in sources:
        for line in (source.id, *open_reader(source, Ingest()).state()):
            digest.update(f"{line}\n".encode())
    return digest.hexdigest()


class _Tally:
    """Counts what was read and what was not."""

    def __init__(self) -> None:
        self.skipped: list[Skipped] = []
        self.reasons: Counter[Unread] = Counter()
        self.kinds: Counter[str] = Counter()
        self.sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.declarations: dict[str, tuple[str, str, str]] = {}
        self.characters = 0
        self._seen: set[str] = set()

    def count(self, items: Sequence[dict[str, Any] | Skipped], source: Source, stop: bool) -> list[dict[str, Any]]:
        """Account for what a reader yielded, and give back the documents in it."""
        documents = []
        for item in items:
            if not isinstance(item, Skipped) and item["id"] in self._seen:
                item = Skipped(Unread.REPEATED, item["url"])
            if isinstance(item, Skipped):
                if stop and item.reason in (Unread.UNREADABLE, Unread.UNDECODABLE, Unread.MALFORMED):
                    detail = f" ({item.detail})" if item.detail else ""
                    raise HeadraceError(f"source {source.id}: {item.where}: {item.reason.sentence}{detail}")
                self.skipped.append(item)
                self.reasons[item.reason] += 1
                continue
            self._seen.add(item["id"])
            self.kinds[item["kind"]] += 1
            self.sources[item["source"]][item["kind"]] += 1
            self.declarations[item["source"]] = (source.class_, item["license"], item["confidentiality"])
            self.characters += len(item["text"])
            documents.append(item)
        return documents

    def report(self) -> Report:
        """Show the corpus by numbers; its texts are not masked yet, so none is shown."""
        total = sum(self.kinds.values())
        report = Report("Ingest", f"{total:,} documents from {len(self.sources):,} sources.")
        report.metrics(
            {
                "documents": total,
                "sources": len(self.sources),
                "million characters": self.characters / 1e6,
                "not read": len(self.skipped),
            }
        )
        report.bars(dict(self.kinds.most_common()), "Documents by kind")
        if self.skipped:
            report.bars(
                {f"{reason}: {reason.sentence}": count for reason, count in self.reasons.most_common()},
                "Not read, by reason",
            )
            report.table(
                [{"what": item.where, "reason": item.reason.value, "detail": item.detail} for item in self.skipped],
                "Not read",
            )
        largest = sorted(self.sources.items(), key=lambda entry: (-entry[1].total(), entry[0]))
        report.table(
            [
                {
                    "source": name,
                    "class": self.declarations[name][0],
                    "licence": self.declarations[name][1] or "unknown",
                    "confidentiality": self.declarations[name][2],
                    **{kind: kinds[kind] for kind in sorted(self.kinds)},
                }
                for name, kinds in largest
            ],
            "Sources",
        )
        return report
