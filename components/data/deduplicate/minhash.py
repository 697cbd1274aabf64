"""Find and remove duplicates: exact by hash, near by MinHash and locality-sensitive hashing with exact verification."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.data.deduplicate import stages
from components.data.deduplicate.corpus import Corpus
from components.data.deduplicate.options import Deduplicate, Shard
from components.data.deduplicate.stages import Clusters, Duplicate, Job, bands_and_rows
from components.data.excerpt import COLUMNS, excerpt


def run(documents: Path, unique: Path, options: Deduplicate, context: Context) -> Outcome:
    """Keep one document of each cluster of duplicates.

    Args:
        documents: Documents to clean.
        unique: The documents kept.
        options: How alike two documents must be.
        context: The run.
    """
    with _job(documents, options, context) as job:
        return _keep(job, _find(job), unique)


def cluster(documents: Path, options: Deduplicate, context: Context) -> Clusters:
    """Find the clusters of exact and near duplicates among documents, and those of earlier versions before them."""
    with _job(documents, options, context) as job:
        return _find(job)


def sign(documents: Path, signatures: Path, options: Shard, context: Context) -> Outcome:
    """Stage 1: sign the documents of a shard.

    Args:
        documents: All documents to clean.
        signatures: The shard's signatures.
        options: How alike two documents must be, and which shard this is.
        context: The run.
    """
    with _job(documents, options, context) as job:
        stages.sign(job, signatures, options.shard, options.shards)
        first, end = stages.share(job.corpus.total, options.shard, options.shards)
        return _staged("Signatures", options, end - first, end - first)


def bucket(signatures: Sequence[Path], buckets: Path, options: Shard, context: Context) -> Outcome:
    """Stage 2: find which documents share a key of a shard's range.

    Args:
        signatures: The signatures of all shards.
        buckets: The shard's groups.
        options: Which shard this is.
        context: The run.
    """
    stages.bucket(signatures, buckets, options.shard, options.shards)
    return _staged("Buckets", options, 0, 0)


def connect(
    documents: Path,
    signatures: Sequence[Path],
    buckets: Sequence[Path],
    clusters: Path,
    options: Shard,
    context: Context,
) -> Outcome:
    """Stage 3: compare the candidates of a shard and choose which document of each cluster stays.

    Args:
        documents: All documents to clean.
        signatures: The signatures of all shards.
        buckets: The groups of all shards.
        clusters: The shard's clusters.
        options: How alike two documents must be, and which shard this is.
        context: The run.
    """
    with _job(documents, options, context) as job:
        stages.cluster(job, signatures, buckets, clusters, options.shard, options.shards)
    return _staged("Clusters", options, 0, 0)


def keep(documents: Path, clusters: Sequence[Path], unique: Path, options: Shard, context: Context) -> Outcome:
    """Stage 4: write the documents of a shard that stay; what goes is reported of all of them only.

    Args:
        documents: All documents to clean.
        clusters: The clusters of all shards.
        unique: The documents kept of this shard.
        options: How alike two documents must be, and which shard this is.
        context: The run.
    """
    with _job(documents, options, context) as job:
        found = stages.read_clusters(job, clusters)
        if options.shards == 1:
            return _keep(job, found, unique)
        dropped = stages.keep(job, found, unique, options.shard, options.shards)
        first, end = stages.share(job.corpus.total - job.corpus.earlier, options.shard, options.shards)
        return _staged("Documents kept", options, end - first, end - first - sum(dropped.values()), dropped)


@contextmanager
def _job(documents: Path, options: Deduplicate, context: Context) -> Iterator[Job]:
    with TemporaryDirectory() as folder:
        store = store_of(context.environment)
        yield Job(Corpus.of(documents, options.earlier, store, Path(folder)), options, context)


def _find(job: Job) -> Clusters:
    """All stages up to the clusters, unsharded."""
    with TemporaryDirectory() as folder:
        work = Path(folder)
        stages.sign(job, work)
        stages.bucket([work], work)
        stages.cluster(job, [work], [work], work)
        return stages.read_clusters(job, [work])


def _keep(job: Job, clusters: Clusters, unique: Path) -> Outcome:
    """Write all documents that stay, and say what went."""
    dropped = stages.keep(job, clusters, unique)
    own = job.corpus.total - job.corpus.earlier
    kept = own - sum(dropped.values())
    stands, sizes = np.unique(clusters.kept, return_counts=True)
    return Outcome(
        counts_in=own,
        counts_out=kept,
        dropped=dropped,
        metrics={
            "duplicate_rate": 1 - kept / own if own else 0.0,
            "clusters": float((sizes > 1).sum()),
            "comparisons": float(clusters.comparisons),
        },
        report=_report(job, clusters, stands[sizes > 1], sizes[sizes > 1], dropped),
    )


def _staged(stage: str, options: Shard, rows: int, written: int, dropped: dict[str, int] | None = None) -> Outcome:
    report = Report(stage, f"Shard {options.shard} of {options.shards}")
    report.metrics({"documents": rows, **(dropped or {})})
    return Outcome(counts_in=rows, counts_out=written, dropped=dropped or {}, report=report)


def _report(job: Job, clusters: Clusters, stands: np.ndarray, sizes: np.ndarray, dropped: dict[str, int]) -> Report:
    options, own = job.options, job.corpus.total - job.corpus.earlier
    bands, rows = bands_and_rows(options)
    report = Report("Duplicates", f"{sum(dropped.values()):,} of {own:,} documents removed")
    tiles = {
        "documents": own,
        "kept": own - sum(dropped.values()),
        "exact duplicates": dropped[Duplicate.EXACT],
        "near duplicates": dropped[Duplicate.NEAR],
        "clusters of two or more": len(stands),
    }
    if options.earlier:
        tiles |= {
            "documents of earlier versions": job.corpus.earlier,
            "gone because seen before": dropped[Duplicate.SEEN],
        }
    report.metrics(tiles)
    report.text(
        f"Near duplicates share at least {options.threshold:.0%} of their {options.shingle}-word shingles (Jaccard). "
        f"Candidates come from {bands} bands of {rows} hash values; each of {clusters.comparisons:,} candidate pairs "
        "was compared on its full shingle sets. A cluster is what such pairs connect. Of each cluster the document "
        f"stays that is best by {', then '.join(options.prefer) or 'its id'}."
    )
    if not len(stands):
        return report
    edges = [2, 3, 4, 6, 11, 101, int(sizes.max()) + 1]
    report.bars(
        {
            (f"{low} documents" if high == low + 1 else f"{low} to {high - 1} documents"): int(count)
            for low, high in pairwise(edges)
            if low < high and (count := ((sizes >= low) & (sizes < high)).sum())
        },
        "Clusters by size",
    )
    biggest = stands[np.lexsort((stands, -sizes))][:10]
    report.table(_examples(job.corpus, clusters, biggest), "The biggest clusters: what stays, and some of what went")
    return report


def _examples(corpus: Corpus, clusters: Clusters, biggest: np.ndarray) -> list[dict[str, object]]:
    shown: dict[int, tuple[int, int, int]] = {}
    for place, stands in enumerate(biggest):
        members = np.flatnonzero(clusters.kept == stands)
        others = members[members != stands][:3]
        shown.update({int(row): (place, order, len(members)) for order, row in enumerate([stands, *others])})
    found = []
    for at, batch in corpus.read(["source", "url", "license", *COLUMNS]):
        for row in (row for row in shown if at <= row < at + batch.num_rows):
            values = {name: batch.column(name)[row - at].as_py() for name in batch.schema.names}
            place, order, size = shown[row]
            went = "earlier version" if row < corpus.earlier else "exact" if clusters.exact[row] else "near"
            line = {
                "cluster": place + 1,
                "documents": size,
                "document": "kept" if order == 0 and row >= corpus.earlier else went,
                "source": values["source"],
                "license": values["license"],
                "url": values["url"],
                "begins": excerpt(values),
            }
            found.append((place, order, line))
    return [line for _, _, line in sorted(found, key=lambda entry: entry[:2])]
