"""The four stages of deduplication: signatures → buckets → clusters → filter.

Each stage is a function over folders that can be split into shards, whatever the number of shards of the stage before.
A shard writes one file, whole or not at all, and is done already when that file is there; how many shards a stage has
changes which file says it and nothing of what is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from io import FileIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.documents import SCHEMA, DocumentWriter
from components.common.errors import HeadraceError
from components.common.ledger import canonical, sha256
from components.common.step import Context
from components.data.deduplicate import kernel
from components.data.deduplicate.corpus import Corpus, numbers
from components.data.deduplicate.options import Deduplicate
from components.data.deduplicate.shards import Shards, is_done, shard_file, write_shard
from components.data.licenses import objection
from components.data.reasons import Reason
from components.data.scatter import scatter
from components.data.screen.options import PERMISSIVE

WINDOW = 256
"""Documents under one key that a document is compared with: keeps huge buckets linear, and chains them all the same."""

PARTITION_BYTES = 32_000_000
"""Text of candidates whose shingles wait in one file; more only where more is connected."""

SHINGLES = 12_000_000
"""Shingles that are held in memory at once when candidates are compared."""

UNCONDITIONAL = frozenset({"0BSD", "CC0-1.0", "LicenseRef-in-house", "MIT-0", "Unlicense"})
"""Licences that ask nothing, not even to be named."""

_FACTS = {"high": "Q", "low": "Q", "name": "Q", "length": "q", "quality": "d", "license": "B"}
"""What later stages know of a document: its text and id as numbers, its bytes, and what `prefer` looks at."""


class Duplicate(Reason):
    """Why a document is not kept."""

    EXACT = "exact_duplicate", "Its text is that of another document, byte for byte."
    NEAR = "near_duplicate", "It shares most of its word shingles with others of its cluster, and one of those is kept."
    SEEN = "seen_before", "An earlier dataset version that the recipe names has it, or a near duplicate of it."


@dataclass(frozen=True)
class Job:
    """A piece of work that all stages share."""

    corpus: Corpus
    options: Deduplicate
    context: Context

    @cached_property
    def name(self) -> str:
        """Name what is compared, and how."""
        how = self.options.model_dump(mode="json", include=set(Deduplicate.model_fields))
        return sha256(canonical({"corpus": self.corpus.fingerprint(), "options": how}))


@dataclass(frozen=True)
class Clusters:
    """Which documents are duplicates of which, for every row.

    Attributes:
        kept: Row of the document that stands for this one; its own where it is kept.
        exact: Whether a document of the same text stands nearer to the one kept.
        seen: Row of an earlier version's document in the same cluster, or -1.
        comparisons: Pairs whose shingle sets were compared.
    """

    kept: np.ndarray
    exact: np.ndarray
    seen: np.ndarray
    comparisons: int


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


def sign(job: Job, out: Path, shard: int = 0, shards: int = 1) -> None:
    """Write the band keys of a shard's documents, and what later stages need to know of them.

    A text that the shard has signed already is not signed again: exact duplicates are found by their hash.
    """
    target = shard_file(out, "signatures", shard, shards)
    if is_done(target, job.name):
        return
    corpus, options = job.corpus, job.options
    bands, rows = bands_and_rows(options)
    first, end = share(corpus.total, shard, shards)
    facts = {name: np.zeros(end - first, kind) for name, kind in _FACTS.items()}
    for at, batch in corpus.read(["id", "revision", "license", "metadata"], first, end):
        place = slice(at - first, at - first + batch.num_rows)
        facts["high"][place], facts["low"][place] = numbers(batch["revision"], 0), numbers(batch["revision"], 1)
        facts["name"][place] = numbers(batch["id"], 0)
        quality = pc.map_lookup(batch["metadata"], "quality", "first").cast(pa.float64())
        facts["quality"][place] = np.round(pc.fill_null(quality, 1.0).to_numpy(), 1)
        facts["license"][place] = [license_conditions(license_) for license_ in batch["license"].to_pylist()]
    earliest = _first_of_text(facts["high"], facts["low"])
    keys = np.zeros((bands, end - first), np.uint64)
    for found, data, offsets in corpus.texts(earliest == np.arange(end - first), first):
        keys[:, found - first] = kernel.sign(data, offsets, options.shingle, bands, rows, options.seed).T
        facts["length"][found - first] = np.diff(offsets)
        job.context.progress(int(found[-1]) - first, 3 * (end - first), "signing")
    facts["length"] = facts["length"][earliest]
    write_shard(target, [facts | {f"band_{band}": keys[band] for band in range(bands)}], job.name)


def bucket(signatures: Sequence[Path], out: Path, shard: int = 0, shards: int = 1) -> None:
    """Write the groups of documents that share a band key, or all of their text, in this shard's range of keys.

    The first table of the file holds the groups of one text, the others those of one band each: `row`, and `opens`
    where a group begins. Of documents with one text only the first is in a band's groups.
    """
    found = Shards(signatures, "signatures")
    target = shard_file(out, "buckets", shard, shards)
    if is_done(target, found.work):
        return
    high, low = found.column("high"), found.column("low")

    def in_range(keys: np.ndarray) -> np.ndarray:
        return np.flatnonzero((keys >> np.uint64(32)) * np.uint64(shards) >> np.uint64(32) == np.uint64(shard))

    def tables() -> Iterator[Mapping[str, np.ndarray]]:
        rows = in_range(scatter(high))
        rows = rows[np.lexsort((rows, low[rows], high[rows]))]
        yield _groups(rows, high[rows], low[rows])
        for name in found.names:
            if not name.startswith("band_"):
                continue
            keys = found.column(name)
            rows = in_range(keys)
            rows = rows[keys[rows] != 0]
            rows = rows[np.argsort(keys[rows], kind="stable")]
            rows = _groups(rows, keys[rows])["row"]
            rows = rows[np.lexsort((rows, low[rows], high[rows], keys[rows]))]
            rows = rows[_changes(keys[rows], high[rows], low[rows])]
            rows = rows[np.lexsort((rows, keys[rows]))]
            yield _groups(rows, keys[rows])

    write_shard(target, tables(), found.work)


def cluster(
    job: Job, signatures: Sequence[Path], buckets: Sequence[Path], out: Path, shard: int = 0, shards: int = 1
) -> None:
    """Compare the candidates of this shard, connect those alike, and choose which document of each cluster stays.

    What the groups connect is one shard's whole, so no cluster crosses shards.
    """
    facts, groups = Shards(signatures, "signatures"), Shards(buckets, "buckets")
    target = shard_file(out, "clusters", shard, shards)
    if {facts.work, groups.work} != {job.name}:
        raise HeadraceError("signatures and buckets are of other documents or options; make both again")
    if is_done(target, job.name):
        return
    total = job.corpus.total
    connected = np.arange(total)
    for table in range(groups.tables):
        for rows, opens in groups.groups(table):
            kernel.join(rows, opens, connected)
    connected = kernel.flatten(connected)
    mine = scatter(connected.astype(np.uint64)) % np.uint64(shards) == np.uint64(shard)
    mine &= np.bincount(connected, minlength=total)[connected] > 1

    parents = np.arange(total)
    comparisons = _compare(job, groups, _partitions(connected, facts.column("length"), mine), parents)
    for rows, opens in groups.groups(0):
        kernel.join(rows[mine[rows]], opens[mine[rows]], parents)
    roots = kernel.flatten(parents)
    members = np.flatnonzero(mine & (np.bincount(roots, minlength=total)[roots] > 1))
    write_shard(target, [_choose(job, members, roots[members], facts)], job.name, comparisons)


def read_clusters(job: Job, clusters: Sequence[Path]) -> Clusters:
    """Read what all shards of the clusters stage found.

    Raises:
        HeadraceError: They are of another piece of work.
    """
    found = Shards(clusters, "clusters")
    if found.work != job.name:
        raise HeadraceError("clusters are of other documents or options; make them again")
    rows = found.column("row")
    kept, exact, seen = (
        np.arange(job.corpus.total),
        np.zeros(job.corpus.total, bool),
        np.full(job.corpus.total, -1),
    )
    kept[rows], exact[rows], seen[rows] = (found.column(name) for name in ("kept", "exact", "seen"))
    return Clusters(kept, exact, seen, found.comparisons)


def keep(job: Job, clusters: Clusters, out: Path, shard: int = 0, shards: int = 1) -> dict[str, int]:
    """Write the documents of this shard that stay; returns how many went, by reason."""
    corpus = job.corpus
    first, end = (corpus.earlier + bound for bound in share(corpus.total - corpus.earlier, shard, shards))
    stays = clusters.kept[first:end] == np.arange(first, end)
    exact, seen = clusters.exact[first:end], clusters.seen[first:end]
    with DocumentWriter(out) as writer:
        for at, batch in corpus.read(None, first, end):
            place = slice(at - first, at - first + batch.num_rows)
            table = pa.Table.from_batches([batch]).filter(pa.array(stays[place]))
            writer.write(_mark(table, seen[place][stays[place]], corpus))
            job.context.progress(2 * (end - first) + place.stop, 3 * (end - first), "writing")
    old = (seen >= 0) & (job.options.seen == "drop")
    return {
        Duplicate.EXACT: int((~stays & ~old & exact).sum()),
        Duplicate.NEAR: int((~stays & ~old & ~exact).sum()),
        Duplicate.SEEN: int((~stays & old).sum()),
    }


def share(total: int, shard: int, shards: int) -> tuple[int, int]:
    """Give the first row of a shard, and the first that is no longer its own."""
    return total * shard // shards, total * (shard + 1) // shards


@cache
def license_conditions(expression: str) -> int:
    """Rank a licence by what it asks: 0 nothing, 1 to be named, 2 more than that, 3 unknown."""
    if not expression:
        return 3
    if not objection(expression, UNCONDITIONAL):
        return 0
    return 2 if objection(expression, PERMISSIVE) else 1


def _partitions(connected: np.ndarray, lengths: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Number the partition in which each row is compared, -1 for none; what is connected stays together."""
    weights = np.bincount(connected, np.where(mine, lengths, 0), len(connected))
    numbered = ((np.cumsum(weights) - weights) // PARTITION_BYTES).astype(np.int64)
    return np.where(mine, numbered[connected], -1)


def _compare(job: Job, groups: Shards, partitions: np.ndarray, parents: np.ndarray) -> int:
    """Link the rows that share a band and are alike; returns the comparisons made.

    Shingles are computed once for each candidate and wait in temporary files, one for each partition.
    """
    corpus, options = job.corpus, job.options
    found = [
        (partitions[rows[chosen]], rows[chosen], opens[chosen])
        for table in range(1, groups.tables)
        for rows, opens in groups.groups(table)
        if (chosen := partitions[rows] >= 0).any()
    ]
    if not found:
        return 0
    where, rows, opens = (np.concatenate(column) for column in zip(*found, strict=True))
    del found
    order = np.argsort(where, kind="stable")
    where, rows, opens = where[order], rows[order], opens[order]
    bounds = np.searchsorted(where, np.arange(where[-1] + 2))
    wanted = np.zeros(corpus.total, bool)
    wanted[rows] = True
    starts, sizes = np.zeros(corpus.total, np.int64), np.zeros(corpus.total, np.int64)
    ends = np.zeros(len(bounds) - 1, np.int64)
    comparisons = 0
    with TemporaryDirectory() as folder:
        files = [Path(folder) / str(number) for number in range(len(ends))]
        for held, data, offsets in corpus.texts(wanted):
            shingles, sizes[held] = kernel.shingle_sets(data, offsets, options.shingle, options.seed)
            places = np.r_[0, np.cumsum(sizes[held])]
            for number in np.unique(partitions[held]):
                members = np.flatnonzero(partitions[held] == number)
                with files[number].open("ab") as file:
                    for member in members:
                        file.write(shingles[places[member] : places[member + 1]].data)
                lengths = sizes[held[members]]
                starts[held[members]] = ends[number] + np.cumsum(lengths) - lengths
                ends[number] += lengths.sum()
            job.context.progress(corpus.total, 3 * corpus.total, "collecting candidates")
        for number, file in enumerate(files):
            part = slice(bounds[number], bounds[number + 1])
            if part.start < part.stop:
                comparisons += _link(file, rows[part], opens[part], starts, sizes, options.threshold, parents)
                file.unlink()
            job.context.progress(corpus.total * (len(files) + number + 1) / len(files), 3 * corpus.total, "comparing")
    return comparisons


def _link(
    file: Path,
    rows: np.ndarray,
    opens: np.ndarray,
    starts: np.ndarray,
    sizes: np.ndarray,
    threshold: float,
    parents: np.ndarray,
) -> int:
    """Link the rows of one file's groups that are alike, with no more of its shingles in memory than fit.

    What is connected can be most of the corpus, where documents share passages. Its groups are then taken piece by
    piece, in their order, so that the same pairs are compared.
    """
    if file.stat().st_size <= SHINGLES * np.dtype(np.uint64).itemsize:
        shingles = np.fromfile(file, np.uint64)
        return kernel.link(rows, opens, 0, shingles, starts, sizes, threshold, WINDOW, parents)
    comparisons = 0
    piece = np.cumsum(sizes[rows]) // SHINGLES
    places = np.zeros(len(starts), np.int64)
    with file.open("rb", buffering=0) as source:
        for begin, end in pairwise([0, *(np.flatnonzero(np.diff(piece)) + 1), len(rows)]):
            known = max(begin - WINDOW, 0)
            wanted = np.unique(rows[known:end])
            places[wanted] = np.cumsum(sizes[wanted]) - sizes[wanted]
            shingles = _read_sets(source, starts[wanted], sizes[wanted])
            comparisons += kernel.link(
                rows[known:end], opens[known:end], begin - known, shingles, places, sizes, threshold, WINDOW, parents
            )
    return comparisons


def _read_sets(source: FileIO, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Read some of the shingle sets of a file, one after the other."""
    shingles = np.empty(sizes.sum(), np.uint64)
    room = shingles.data.cast("B")
    at = 0
    for start, size in zip((8 * starts).tolist(), (8 * sizes).tolist(), strict=True):
        source.seek(start)
        source.readinto(room[at : at + size])
        at += size
    return shingles


def _choose(job: Job, members: np.ndarray, roots: np.ndarray, facts: Shards) -> dict[str, np.ndarray]:
    """Choose who stands for each cluster, and say of the others why they go."""
    worth = {
        "license": facts.column("license")[members].astype(np.int64),
        "quality": -facts.column("quality")[members],
        "length": -facts.column("length")[members],
    }
    name = facts.column("name")[members]
    old = members < job.corpus.earlier
    ranked = np.lexsort((members, name, *(worth[name] for name in reversed(job.options.prefer)), old, roots))
    first = _changes(roots[ranked])
    number = np.empty(len(members), np.int64)
    number[ranked] = np.cumsum(first) - 1
    stands = members[ranked[first]]
    newest = np.full(len(stands), -1)
    np.maximum.at(newest, number[old], members[old])
    if job.options.seen == "drop":
        stands = np.where(newest >= 0, newest, stands)
    place = np.empty(len(members), np.int64)
    place[ranked] = np.arange(len(members))
    high, low = facts.column("high")[members], facts.column("low")[members]
    by_text = np.lexsort((place, low, high))
    exact = np.empty(len(members), bool)
    exact[by_text] = ~_changes(high[by_text], low[by_text])
    return {"row": members, "kept": stands[number], "exact": exact, "seen": newest[number]}


def _mark(table: pa.Table, seen: np.ndarray, corpus: Corpus) -> pa.Table:
    """Write down which earlier version has a document of the same cluster."""
    if not (seen >= 0).any():
        return table
    metadata = [
        sorted([*values, ("seen_in", corpus.version_of(row))]) if row >= 0 else values
        for values, row in zip(table["metadata"].to_pylist(), seen, strict=True)
    ]
    index = table.schema.get_field_index("metadata")
    return table.set_column(index, SCHEMA.field("metadata"), pa.array(metadata, SCHEMA.field("metadata").type))


def _first_of_text(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """For each row the first with the same text."""
    order = np.lexsort((low, high))
    changes = _changes(high[order], low[order])
    first = np.empty(len(high), np.int64)
    first[order] = order[changes][np.cumsum(changes) - 1]
    return first


def _changes(*keys: np.ndarray) -> np.ndarray:
    """Tell where ordered keys differ from the ones before."""
    changes = np.ones(len(keys[0]), bool)
    changes[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return changes


def _groups(rows: np.ndarray, *keys: np.ndarray) -> dict[str, np.ndarray]:
    """Keep the groups of two or more among rows ordered by keys."""
    opens = _changes(*keys)
    several = ~opens
    several[:-1] |= ~opens[1:]
    return {"row": rows[several].astype(np.uint32), "opens": opens[several]}
