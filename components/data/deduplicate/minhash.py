"""Find and remove duplicates: exact by hash, near by MinHash and locality-sensitive hashing with exact verification."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.documents import DocumentWriter, count_documents, read_batches, read_table
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.deduplicate import kernel
from components.data.deduplicate.options import Deduplicate
from components.data.excerpt import COLUMNS, excerpt
from components.data.reasons import Reason

WINDOW = 256
"""Documents under one key that a document is compared with: keeps huge buckets linear, and chains them all the same."""


class Duplicate(Reason):
    """Why a document is not kept."""

    EXACT = "exact_duplicate", "Its text is that of another document, byte for byte."
    NEAR = "near_duplicate", "It shares most of its word shingles with others of its cluster, and one of those is kept."


@dataclass(frozen=True)
class Clusters:
    """Which documents are duplicates of which.

    Attributes:
        kept: Row of the document that stands for each row; its own where it is kept.
        exact: Rows dropped because an identical text is kept or stands nearer to the one kept.
        comparisons: Pairs whose shingle sets were compared.
    """

    kept: np.ndarray
    exact: np.ndarray
    comparisons: int


def run(documents: Path, unique: Path, options: Deduplicate, context: Context) -> Outcome:
    """Keep one document of each cluster of duplicates.

    Args:
        documents: Documents to clean.
        unique: The documents kept.
        options: How alike two documents must be.
        context: The run.
    """
    clusters = cluster(documents, options, context)
    rows = np.arange(len(clusters.kept))
    keep = clusters.kept == rows
    done = 0
    with DocumentWriter(unique) as writer:
        for batch in read_batches(documents):
            writer.write(batch.filter(pa.array(keep[done : done + batch.num_rows])))
            done += batch.num_rows
            context.progress(2 * len(rows) + done, 3 * len(rows), "writing")
    dropped: dict[str, int] = {
        Duplicate.EXACT: int(clusters.exact.sum()),
        Duplicate.NEAR: int((~keep & ~clusters.exact).sum()),
    }
    kept = int(keep.sum())
    return Outcome(
        counts_in=len(rows),
        counts_out=kept,
        dropped=dropped,
        metrics={
            "duplicate_rate": 1 - kept / len(rows) if len(rows) else 0.0,
            "clusters": float(len(np.unique(clusters.kept[~keep]))),
            "comparisons": float(clusters.comparisons),
        },
        report=_report(documents, clusters, dropped, options),
    )


def cluster(documents: Path, options: Deduplicate, context: Context) -> Clusters:
    """Find the clusters of exact and near duplicates.

    The document that stands for a cluster is its longest, then the one with the smallest id.

    Memory holds the names and band keys of the documents, about 300 bytes each; texts are streamed, and the shingles of
    the candidates wait in a temporary file.
    """
    total = count_documents(documents)
    names = read_table(documents, ["id", "revision"])
    rank = pc.rank(names["id"]).to_numpy().astype(np.int64)
    texts = names["revision"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    del names

    by_text = np.lexsort((rank, texts))
    first_of_text = np.ones(total, bool)
    first_of_text[1:] = texts[by_text[1:]] != texts[by_text[:-1]]
    distinct = np.sort(by_text[first_of_text])
    twin = by_text[first_of_text][np.cumsum(first_of_text) - 1]
    kept = np.empty(total, np.int64)
    kept[by_text] = twin
    exact = kept != np.arange(total)

    roots, lengths, comparisons = _near(documents, ~exact, options, context)
    order = np.lexsort((rank[distinct], -lengths, roots))
    first_of_root = np.ones(len(order), bool)
    first_of_root[1:] = roots[order[1:]] != roots[order[:-1]]
    best = np.empty(total, np.int64)
    best[distinct[order]] = distinct[order[first_of_root]][np.cumsum(first_of_root) - 1]
    return Clusters(kept=best[kept], exact=exact, comparisons=comparisons)


def bands_and_rows(options: Deduplicate) -> tuple[int, int]:
    """Split the signature so that a pair at the threshold is still found, with as few false candidates as that allows.

    A pair of similarity t shares a band of r values with probability t^r, and one of b bands with 1 - (1 - t^r)^b. More
    rows make fewer false candidates, so take the most rows that keep the recall asked for.
    """
    rows = 1
    for more in range(2, options.signature + 1):
        if 1 - (1 - options.threshold**more) ** (options.signature // more) >= options.recall:
            rows = more
    return options.signature // rows, rows


def _near(
    documents: Path, chosen: np.ndarray, options: Deduplicate, context: Context
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cluster the chosen documents; returns the root and the length in bytes of each, and the comparisons made."""
    bands, rows = bands_and_rows(options)
    total = int(chosen.sum())
    keys = np.zeros((total, bands), np.uint64)
    lengths = np.zeros(total, np.int64)
    done = 0
    for data, offsets in _texts(documents, chosen):
        end = done + len(offsets) - 1
        keys[done:end] = kernel.sign(data, offsets, options.shingle, bands, rows, options.seed)
        lengths[done:end] = np.diff(offsets)
        done = end
        context.progress(done, 3 * total, "signing")

    candidates = np.zeros(total, bool)
    for band in range(bands):
        order = np.argsort(keys[:, band], kind="stable")
        same = (keys[order[1:], band] == keys[order[:-1], band]) & (keys[order[1:], band] != 0)
        candidates[order[1:][same]] = True
        candidates[order[:-1][same]] = True

    parents = np.arange(total)
    if not candidates.any():
        return parents, lengths, 0
    comparisons = 0
    with tempfile.TemporaryFile() as file:
        selected = chosen.copy()
        selected[chosen] = candidates
        counts = []
        for data, offsets in _texts(documents, selected):
            shingles, sizes = kernel.shingle_sets(data, offsets, options.shingle, options.seed)
            shingles.tofile(file)
            counts.append(sizes)
            context.progress(total, 3 * total, "collecting candidates")
        file.flush()
        shingles = np.memmap(file, np.uint64, mode="r")
        sizes = np.zeros(total, np.int64)
        sizes[candidates] = np.concatenate(counts)
        starts = np.cumsum(sizes) - sizes
        for band in range(bands):
            key = np.where(candidates, keys[:, band], 0).astype(np.uint64)
            comparisons += kernel.link(key, shingles, starts, sizes, options.threshold, WINDOW, parents)
            context.progress(total + total * (band + 1) // bands, 3 * total, "comparing")
    while (parents != parents[parents]).any():
        parents = parents[parents]
    return parents, lengths, comparisons


def _texts(documents: Path, chosen: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Stream the bytes and offsets of the chosen rows' texts."""
    done = 0
    for batch in read_batches(documents, ["text"]):
        text = batch.column(0).filter(pa.array(chosen[done : done + batch.num_rows]))
        done += batch.num_rows
        if len(text):
            _, offsets, data = text.buffers()
            bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
            yield np.frombuffer(data if data is not None else b"", np.uint8), bounds


def _report(documents: Path, clusters: Clusters, dropped: dict[str, int], options: Deduplicate) -> Report:
    kept, sizes = np.unique(clusters.kept, return_counts=True)
    bands, rows = bands_and_rows(options)
    report = Report("Duplicates", f"{sum(dropped.values()):,} of {len(clusters.kept):,} documents removed")
    report.metrics(
        {
            "documents": len(clusters.kept),
            "kept": len(kept),
            "exact duplicates": dropped[Duplicate.EXACT],
            "near duplicates": dropped[Duplicate.NEAR],
            "clusters of two or more": int((sizes > 1).sum()),
        }
    )
    report.text(
        f"Near duplicates share at least {options.threshold:.0%} of their {options.shingle}-word shingles (Jaccard). "
        f"Candidates come from {bands} bands of {rows} hash values; each of {clusters.comparisons:,} candidate pairs "
        "was compared on its full shingle sets. A cluster is what such pairs connect, and its longest document stays."
    )
    several = sizes[sizes > 1]
    if not len(several):
        return report
    edges = [2, 3, 4, 6, 11, 101, int(several.max()) + 1]
    report.bars(
        {
            (f"{low} documents" if high == low + 1 else f"{low} to {high - 1} documents"): int(count)
            for low, high in pairwise(edges)
            if low < high and (count := ((several >= low) & (several < high)).sum())
        },
        "Clusters by size",
    )
    biggest = kept[np.lexsort((kept, -sizes))][: min(10, len(several))]
    report.table(_examples(documents, clusters, biggest), "The biggest clusters: what stays, and some of what went")
    return report


def _examples(documents: Path, clusters: Clusters, biggest: np.ndarray) -> list[dict[str, object]]:
    shown: dict[int, tuple[int, int]] = {}
    for place, stands in enumerate(biggest):
        members = np.flatnonzero(clusters.kept == stands)
        others = members[members != stands][:3]
        shown.update({int(row): (place, order) for order, row in enumerate([stands, *others])})
    found = []
    done = 0
    for batch in read_batches(documents, ["source", "url", *COLUMNS]):
        rows = [row for row in shown if done <= row < done + batch.num_rows]
        for row in rows:
            place, order = shown[row]
            values = {name: batch.column(name)[row - done].as_py() for name in batch.schema.names}
            size = int((clusters.kept == biggest[place]).sum())
            found.append((place, order, size, row, values))
        done += batch.num_rows
    return [
        {
            "cluster": place + 1,
            "documents": size,
            "document": "kept" if order == 0 else ("exact" if clusters.exact[row] else "near"),
            "source": values["source"],
            "url": values["url"],
            "begins": excerpt(values),
        }
        for place, order, size, row, values in sorted(found, key=lambda entry: entry[:2])
    ]
