"""Make a dataset version: immutable, described, named by its content, and published whole or not at all."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from components.common.documents import SCHEMA_VERSION, part_files
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import Ledger, canonical, entry_of, file_digest, open_ledger, sha256
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.common.store import Store, upload_tree
from components.data.card.describe import card, croissant
from components.data.card.facts import take_facts
from components.data.card.history import steps_before
from components.data.card.options import Card
from components.data.card.page import page
from components.data.card.sections import novelty_of
from components.data.card.sketch import Sketch
from components.data.card.summary import summarise
from components.data.decontaminate.options import DECONTAMINATION
from components.data.mix.epochs import MIXTURE

MANIFEST = "manifest.json"
"""Written last: a version is there when its manifest is. The version's name is the SHA-256 of this file."""
SKETCH = "ngrams.npy"
"""The smallest hashes of the version's n-grams, which later versions are compared with."""


def run(documents: Path, dataset: Path, options: Card, context: Context) -> Outcome:
    """Make a dataset version of documents and put it into the store.

    Args:
        documents: Documents of the version.
        dataset: The version: parts, card, Croissant metadata, n-gram sketch and manifest.
        options: What the version says about itself.
        context: The run.

    Raises:
        UsageError: The version to compare with is not in the store.
        HeadraceError: There are no documents to make a version of.
    """
    store = store_of(context.environment)
    if options.previous and not store.exists(f"{options.previous}/{MANIFEST}"):
        raise UsageError(f"card.previous: {store.uri} has no {options.previous}; see its datasets folder")
    for number, part in enumerate(part_files(documents)):
        shutil.copyfile(part, dataset / f"part-{number:05d}.parquet")
    for told in (MIXTURE, DECONTAMINATION):
        if (documents / told).is_file():
            shutil.copyfile(documents / told, dataset / told)
    version, manifest = describe(dataset, options, [], entry_of(documents), store, context.progress)
    total = manifest["documents"]
    context.progress(total, total, "publishing")
    uri = upload_tree(store, dataset, version, last=MANIFEST)
    summary = json.loads((dataset / "card.json").read_bytes())
    report, novelty = _report(dataset, version, options, summary, manifest, context)
    return Outcome(
        counts_in=total,
        counts_out=total,
        metrics={
            "text_megabytes": manifest["text_bytes"] / 1e6,
            "tokens": float(summary["tokens"]),
            "sources": float(len(manifest["counts"]["source"])),
            "unique_word_share": summary["words"]["different"] / max(1, summary["words"]["all"]),
            **novelty,
        },
        report=report,
        head=version,
        copies={"dataset": uri},
    )


def describe(
    dataset: Path,
    options: Card,
    parents: list[str],
    made_from: str,
    store: Store,
    progress: Callable[[float, float, str], None],
) -> tuple[str, dict[str, Any]]:
    """Make the parts in a folder a version: write all that describes them, and the manifest, beside them.

    Args:
        dataset: Folder with the parts, and what data/decontaminate and data/mix wrote down where they made them.
        options: What the version says about itself.
        parents: Versions that it takes the place of.
        made_from: Ledger entry that made the documents.
        store: Where the ledger and the version to compare with are.
        progress: Told how far the counting is.

    Returns:
        The version's key in the store, and its manifest.

    Raises:
        HeadraceError: There are no documents to make a version of.
    """
    facts = take_facts(dataset, options.sources, progress)
    if not facts.documents:
        raise HeadraceError(
            "no documents are left for a dataset version; the reports of the steps before say what dropped them"
        )
    mixture, decontamination = (
        json.loads((dataset / told).read_bytes()) if (dataset / told).is_file() else {}
        for told in (MIXTURE, DECONTAMINATION)
    )
    earlier = load_sketch(store, options.previous) if options.previous else None
    steps = steps_before(store, made_from)
    summary = summarise(facts, steps, mixture, decontamination, options.previous, earlier)
    parts = {name: file for name, file in _files(dataset).items() if name.endswith(".parquet")}
    (dataset / "croissant.json").write_text(croissant(options, summary, parts, sha256(canonical(parts))), "utf-8")
    (dataset / "card.md").write_text(card(options, summary), "utf-8")
    (dataset / "card.html").write_text(page(options, summary).html(), "utf-8")
    (dataset / "card.json").write_bytes(canonical(summary))
    facts.ngrams.sketch.save(dataset / SKETCH)
    manifest = {
        "schema": SCHEMA_VERSION,
        "name": options.name,
        "documents": facts.documents,
        "text_bytes": facts.size,
        "files": _files(dataset),
        "counts": {
            name: {value: amount.documents for value, amount in values.items()} for name, values in facts.counts.items()
        },
        "about": options.model_dump(mode="json", by_alias=True),
        "parents": parents,
        "ledger": made_from,
    }
    content = canonical(manifest)
    (dataset / MANIFEST).write_bytes(content)
    return f"datasets/{options.name}/{sha256(content)}", manifest


def read_name(dataset: Path) -> tuple[str, int]:
    """Read what a version is called, as NAME/HASH, and how many documents it has.

    Raises:
        UsageError: It is no dataset version.
    """
    if not (dataset / MANIFEST).is_file():
        raise UsageError(f"{dataset.name} is no dataset version: it has no {MANIFEST}; data/card makes one")
    content = (dataset / MANIFEST).read_bytes()
    manifest = json.loads(content)
    return f"{manifest['name']}/{sha256(content)}", manifest["documents"]


def load_sketch(store: Store, version: str) -> Sketch | None:
    """Read the n-gram sketch of a version; None if it has none, or is gone."""
    key = f"{version}/{SKETCH}"
    return Sketch(np.load(io.BytesIO(store.read(key)), allow_pickle=False)) if store.exists(key) else None


def newest_other(ledger: Ledger, version: str) -> str:
    """Name the version of the same dataset that was signed last, this one aside; '' for none."""
    family = version.rpartition("/")[0]
    signed = [head for head in ledger.heads() if head["head"].rpartition("/")[0] == family and head["head"] != version]
    return max(signed, key=lambda head: (head["signed_at"], head["head"]), default={"head": ""})["head"]


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        file.name: {"sha256": file_digest(file), "bytes": file.stat().st_size}
        for file in sorted(folder.iterdir())
        if file.is_file()
    }


def _report(
    dataset: Path, version: str, options: Card, summary: dict[str, Any], manifest: dict[str, Any], context: Context
) -> tuple[Report, dict[str, float]]:
    """The version's page, with what is not part of it: its name, its files, and the version before it."""
    store = store_of(context.environment)
    report = Report("Dataset version", version)
    metrics: dict[str, float] = {}
    previous = options.previous or newest_other(open_ledger(context.environment), version)
    earlier = load_sketch(store, previous) if previous else None
    if earlier is not None:
        mine = Sketch(np.load(dataset / SKETCH, allow_pickle=False))
        share = mine.not_in(earlier)
        metrics["novelty"] = share.value
        novelty = {
            "previous": previous,
            "new": share.value,
            "interval": [share.low, share.high],
            "sample": share.sample,
        }
        report.text(novelty_of(novelty, summary["ngrams"]["words"]))
    report.section(page(options, summary), folded=False)
    report.table([{"file": name, **file} for name, file in manifest["files"].items()], "Files", limit=20)
    return report, metrics
