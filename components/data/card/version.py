"""Make a dataset version: immutable, described, named by its content, and published whole or not at all."""

import shutil
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from components.common.documents import SCHEMA_VERSION, part_files, read_batches
from components.common.errors import HeadraceError
from components.common.ledger import canonical, entry_of, file_digest, sha256
from components.common.report import Report
from components.common.step import Context, Outcome
from components.common.store import open_store, upload_tree
from components.data.card.describe import card, croissant
from components.data.card.options import Card

MANIFEST = "manifest.json"
"""Written last: a version is there when its manifest is. The version's name is the SHA-256 of this file."""

DESCRIBED = ("source", "kind", "domain", "language", "license", "confidentiality", "pii")
"""Columns by whose values the documents are counted."""


def run(documents: Path, dataset: Path, options: Card, context: Context) -> Outcome:
    """Make a dataset version of documents and put it into the store.

    Args:
        documents: Documents of the version.
        dataset: The version: parts, `card.md`, `croissant.json` and `manifest.json`.
        options: What the version says about itself.
        context: The run.

    Raises:
        HeadraceError: There are no documents to make a version of.
    """
    counts, total, size, newest = _count(documents, context)
    if not total or newest is None:
        raise HeadraceError(
            "no documents are left for a dataset version; the reports of the steps before say what dropped them"
        )
    for part in part_files(documents):
        shutil.copyfile(part, dataset / part.name)
    parts = _files(dataset)
    digest = sha256(canonical(parts))
    described = croissant(options, list(counts["license"]), parts, digest, newest.date().isoformat())
    (dataset / "card.md").write_text(card(options, counts, total, size), "utf-8")
    (dataset / "croissant.json").write_text(described, "utf-8")
    manifest = {
        "schema": SCHEMA_VERSION,
        "name": options.name,
        "documents": total,
        "text_bytes": size,
        "files": _files(dataset),
        "counts": counts,
        "parents": [],
        "ledger": entry_of(documents),
    }
    content = canonical(manifest)
    (dataset / MANIFEST).write_bytes(content)
    version = f"datasets/{options.name}/{sha256(content)}"
    context.progress(total, total, "publishing")
    uri = upload_tree(open_store(context.environment.store), dataset, version, last=MANIFEST)
    return Outcome(
        counts_in=total,
        counts_out=total,
        metrics={"text_megabytes": size / 1e6, "sources": float(len(counts["source"]))},
        report=_report(options, version, manifest),
        head=version,
        copies={"dataset": uri},
    )


def _count(documents: Path, context: Context) -> tuple[dict[str, dict[str, int]], int, int, datetime | None]:
    """Count documents by each described column, most frequent first; also their number, bytes, and newest retrieval."""
    counters: dict[str, Counter[str]] = {name: Counter() for name in DESCRIBED}
    total = size = 0
    newest: datetime | None = None
    for batch in read_batches(documents, [*DESCRIBED, "text", "retrieved_at"]):
        for name, counter in counters.items():
            for entry in pc.value_counts(batch.column(name)).to_pylist():
                counter[entry["values"]] += entry["counts"]
        total += batch.num_rows
        size += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
        latest = pc.max(batch.column("retrieved_at")).as_py()
        newest = max(filter(None, (newest, latest)), default=None)
        context.progress(total, 0, "counting")
    ordered = {
        name: dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))) for name, counter in counters.items()
    }
    return ordered, total, size, newest


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.name: {"sha256": file_digest(file), "bytes": file.stat().st_size}
        for file in sorted(folder.iterdir())
        if file.is_file()
    }


def _report(options: Card, version: str, manifest: dict[str, Any]) -> Report:
    counts = manifest["counts"]
    report = Report("Dataset version", version)
    report.metrics(
        {
            "documents": manifest["documents"],
            "megabytes of text": manifest["text_bytes"] / 1e6,
            "sources": len(counts["source"]),
            "languages": len(counts["language"]),
            "licences": len(counts["license"]),
        }
    )
    report.text(f"{options.description}\n\nOwner: {options.owner}.")
    for name, values in counts.items():
        if name != "source" and set(values) != {""}:
            report.bars(
                {value or "(none)": count for value, count in list(values.items())[:12]}, f"Documents by {name}"
            )
    report.table(
        [{"source": name, "documents": count} for name, count in counts["source"].items()], "Sources", limit=30
    )
    report.table([{"file": name, **file} for name, file in manifest["files"].items()], "Files", limit=20)
    return report
