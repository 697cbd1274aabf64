"""Reads declared sources into documents."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter, holds_documents
from components.common.errors import HeadraceError, UsageError
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.common.store import Store
from components.common.tombstones import load_tombstones
from components.data.ingest.evidence import Evidence, evidence_key, keep_terms, tags, write_list
from components.data.ingest.files import is_above
from components.data.ingest.folder import Folder, Imported, folder_of
from components.data.ingest.items import QUARANTINED, Found, Reader, Skipped, Unread
from components.data.ingest.options import Ingest
from components.data.ingest.packages import SCHEME, Packages
from components.data.licenses import declared_license
from components.data.quarantine import SHOWN, Quarantine
from components.data.sources import CLOUD, GIT, WEB, Source
from components.operations.erase.match import Matcher

REFUSALS = "refused.jsonl"
"""Name of the list of what sites refused, beside the documents."""
ROWS = 1_000
CHARACTERS = 16 * 2**20
"""Rows, and characters, that are gathered before they are written."""


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
    allowed = [source for source in options.sources if not is_above(source.confidentiality, options)]
    store = store_of(context.environment)
    began = datetime.now(UTC).replace(microsecond=0).isoformat()
    terms = {source.id: keep_terms(store, source) for source in allowed if source.terms}
    erased = Matcher(load_tombstones(context.environment))
    readers = [(source, open_reader(source, options, store, erased.refuses)) for source in allowed]
    total = sum(len(reader) for _, reader in readers)
    done = 0
    with DocumentWriter(documents) as writer, Quarantine(documents, "ingest") as quarantine:
        tally = _Tally(quarantine, options, erased)
        tally.evidence += terms.values()
        for source in options.sources:
            if source not in allowed:
                tally.skip(source, Skipped(Unread.CONFIDENTIAL, "the whole source"))
        pending: list[dict[str, Any]] = []
        held = 0
        for source, reader in readers:
            for found in reader.read():
                for document in tally.count(found, source):
                    if source.id in terms:
                        document["metadata"] |= tags([terms[source.id]])
                    pending.append(document)
                    held += len(document["text"])
                    if len(pending) >= ROWS or held >= CHARACTERS:
                        writer.write(pending)
                        pending, held = [], 0
                done += 1
                if done % 25 == 0 or done == total:
                    context.progress(done, total, source.id)
            tally.forget()
        writer.write(pending)
    write_list(store, documents, tally.evidence)
    if tally.refusals:
        write_refusals(documents, tally.refusals)
    changed = [item for item in tally.evidence if item.before and item.retrieved_at >= began]
    if not writer.rows:
        places = ", ".join(source.location for source in options.sources)
        found_ = "; ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items())) or "it is empty"
        raise HeadraceError(f"nothing to read in {places} ({found_}); name a source that holds text")
    quarantine.check(writer.rows + len(quarantine), options.max_quarantined_share)
    return Outcome(
        counts_in=writer.rows + tally.reasons.total(),
        counts_out=writer.rows,
        dropped={reason.value: count for reason, count in sorted(tally.reasons.items())},
        metrics={
            "sources": len(tally.sources),
            "megabytes": round(tally.characters / 1e6, 2),
            "quarantined": len(quarantine),
            "terms_changed": sum(item.what == "terms" for item in changed),
            "terms_not_kept": sum(not item.sha256 for item in terms.values()),
        },
        report=tally.report(changed),
    )


def write_refusals(folder: Path, refusals: Sequence[dict[str, str]]) -> None:
    """Write every refusal of a site beside the documents, with the rule that refused."""
    lines = (json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in refusals)
    (folder / REFUSALS).write_text("".join(lines), "utf-8")


def open_reader(
    source: Source,
    options: Ingest,
    store: Store | None = None,
    refuses: Callable[[Mapping[str, Any]], bool] = lambda row: False,
) -> Reader:
    """Choose the reader for a source by its location; a crawl needs a store to be read, and keeps nothing refused.

    Raises:
        UsageError: Nothing reads such a location, or its licence is none.
    """
    declared_license(source)
    if source.location.startswith(SCHEME):
        return Packages(source, options)
    if source.location.startswith(GIT):
        from components.data.ingest.git import Repository

        return Repository(source, options)
    if source.location.startswith(WEB):
        from components.data.ingest.crawl import Site

        return Site(source, options, store, refuses=refuses)
    if source.location.startswith(CLOUD):
        from components.data.ingest.cloud import Bucket

        return Bucket(source, options)
    if any(map(holds_documents, folder_of(source).glob("part-*.parquet"))):
        return Imported(source, options)
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

    def __init__(self, quarantine: Quarantine, options: Ingest, erased: Matcher) -> None:
        self.reasons: Counter[Unread] = Counter()
        self.kinds: Counter[str] = Counter()
        self.sources: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.declarations: dict[str, tuple[str, str, str]] = {}
        self.characters = 0
        self.shown: list[dict[str, str]] = []
        self.kept_out: Counter[str] = Counter()
        self.evidence: list[Evidence] = []
        self.refusals: list[dict[str, str]] = []
        self._quarantine = quarantine
        self._options = options
        self._erased = erased
        self._seen: set[int] = set()

    def count(self, found: Iterable[Found], source: Source) -> Iterator[dict[str, Any]]:
        """Account for what a reader found, and pass on the documents in it."""
        for item in found:
            if isinstance(item, Evidence):
                self.evidence += [item] * (item not in self.evidence)
            elif isinstance(item, Skipped):
                self.skip(source, item)
            elif is_above(item["confidentiality"], self._options):
                self.skip(source, Skipped(Unread.CONFIDENTIAL, "a record"))
            elif self._erased.refuses(item):
                self.skip(source, Skipped(Unread.ERASED, "(not shown)"))
            elif (name := int(item["id"][:32], 16)) in self._seen:
                self.skip(source, Skipped(Unread.REPEATED, item["url"]))
            else:
                self._seen.add(name)
                self.kinds[item["kind"]] += 1
                self.sources[item["source"]][item["kind"]] += 1
                self.declarations[item["source"]] = (source.class_, item["license"], item["confidentiality"])
                self.characters += len(item["text"])
                yield item

    def skip(self, source: Source, item: Skipped) -> None:
        """Account for something that became no document; of what is above the ceiling only the number is kept."""
        self.reasons[item.reason] += item.records
        if item.reason == Unread.CONFIDENTIAL:
            self.kept_out[source.id] += item.records
            return
        if item.reason in QUARANTINED:
            self._quarantine.put(item.reason, item.where, item.detail, item.records, source=source.id)
        if item.reason == Unread.REFUSED:
            self.refusals.append({"source": source.id, "url": item.where, "rule": item.detail})
        if len(self.shown) < SHOWN:
            self.shown.append({"what": item.where, "reason": item.reason.value, "detail": item.detail})

    def forget(self) -> None:
        """Begin another source: ids name the source, so none of an earlier one comes again."""
        self._seen.clear()

    def report(self, changed: Sequence[Evidence]) -> Report:
        """Show the corpus by numbers, and what changed of what allows its use; no text, for none is masked yet."""
        total = sum(self.kinds.values())
        report = Report("Ingest", f"{total:,} documents from {len(self.sources):,} sources.")
        report.metrics(
            {
                "documents": total,
                "sources": len(self.sources),
                "million characters": self.characters / 1e6,
                "not read": self.reasons.total(),
                "quarantined": len(self._quarantine),
            }
        )
        report.bars(dict(self.kinds.most_common()), "Documents by kind")
        if self.reasons:
            report.bars(
                {f"{reason}: {reason.sentence}": count for reason, count in self.reasons.most_common()},
                "Not read, by reason",
            )
        if self.shown:
            report.table(self.shown, f"Not read: the first {SHOWN}; quarantine.jsonl names all bad input")
        if self.kept_out:
            report.table(
                [{"source": name, "left where it is": count} for name, count in sorted(self.kept_out.items())],
                f"More confidential than {self._options.max_confidentiality}",
            )
        for item in changed:
            report.text(
                f"{item.source}: its {item.what} changed since the last run, from {evidence_key(item.before)} to "
                f"{evidence_key(item.sha256)} in the store; read them before its documents are used."
            )
        if self.evidence:
            report.table(
                [
                    {
                        "source": item.source,
                        "what": item.what,
                        "from": item.uri,
                        "kept as": evidence_key(item.sha256) if item.sha256 else "",
                        "first seen": item.retrieved_at,
                        "before": evidence_key(item.before) if item.before else "",
                        "problem": item.problem,
                    }
                    for item in self.evidence
                ],
                "What allows the use of sources, as it was",
            )
        if self.refusals:
            report.bars(dict(Counter(row["rule"] for row in self.refusals).most_common(20)), "Refused, by rule")
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
