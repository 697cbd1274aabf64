"""Find a person's data: records by identifiers, what derives from them by lineage, and traces of both in any text."""

import io
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from components.common.audit import GRADES
from components.common.documents import text_revision
from components.common.errors import HeadraceError
from components.common.trace import downstream
from components.model.versions import PROVENANCE
from components.operations.erase.ground import STAGE, WEIGHTS, File, Ground, Kind, Place
from components.operations.erase.match import Matcher

_COLUMNS = frozenset(
    {"id", "revision", "text", "messages", "source", "confidentiality", "url", "subjects", "parents", "metadata"}
)
"""Columns by which a Parquet file is known to hold documents."""

_CHUNK, _OVERLAP = 2**24, 2**16
"""Characters of a text that are searched at once, and of the one before that are searched again with it."""
_PAGE = re.compile(r"crawls/(?P<source>.+)/pages/[0-9a-f]{64}\.json")
_CACHE_HIT = re.compile(r"\(key=([0-9a-f]+)\)")


@dataclass(frozen=True)
class Edge:
    """A record that derives from others."""

    child: str
    parents: tuple[str, ...]


@dataclass
class Found:
    """Where a person's data is.

    Attributes:
        documents: Ids of the records to erase, derived ones among them.
        texts: Revisions of the texts and of tracked values in which an identifier stands.
        sources: Records in which one stands, by declared source; a record counts once, however many artifacts hold it.
        read: Records that were read and whose reading is noted, by grade and by source.
        places: What holds them, with the most records in one of its artifacts; 0 where only a text tells of them.
        above: Ids of the records from which those were made in which the person was met; artifacts that hold one go.
        addresses: Sources and addresses of the records to erase.
        models: Heads of the model versions that were trained on them.
        revisions: Heads of the publications that served such a model.
    """

    documents: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    sources: Counter[str] = field(default_factory=Counter)
    read: dict[Place, tuple[Counter[str], Counter[str]]] = field(default_factory=dict)
    places: dict[Place, int] = field(default_factory=dict)
    above: set[str] = field(default_factory=set)
    addresses: set[tuple[str, str]] = field(default_factory=set)
    models: list[str] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)

    def add(self, place: Place, records: int) -> None:
        """Note that a place holds something."""
        self.places[place] = max(records, self.places.get(place, 0))


def search(ground: Ground, matcher: Matcher, progress: Callable[[str], None] = lambda note: None) -> Found:
    """Search everything that an environment keeps.

    Args:
        ground: The environment.
        matcher: What to look for.
        progress: Told what is being done.

    Raises:
        HeadraceError: Something cannot be read, so that nobody knows whether it holds the person's data.
    """
    found = Found()
    tables: list[File] = []
    texts: list[File] = []
    for file in ground.files():
        if Path(file.key).suffix not in WEIGHTS:
            (tables if file.key.endswith((".parquet", ".parquet.partial")) else texts).append(file)
    progress(f"{len(tables):,} tables and {len(texts):,} other files to read")
    _find_records(tables, matcher, found)
    whole = replace(matcher, documents=matcher.documents | found.documents)
    progress(f"{len(found.documents):,} records; looking for where they went")
    for file in tables:
        if count := _count(file, whole, found.above if file.place.kind == Kind.ARTIFACT else set()):
            found.add(file.place, count)
    for file in texts:
        if whole.is_in(file.key) or _is_text_with(file, whole):
            found.add(file.place, 0)
    _find_pages(ground, texts, found)
    if (database := ground.tracking) and database.is_file():
        for _, _, _, value in cells(database, whole):
            found.texts.add(text_revision(value))
            found.add(Place(Kind.TRACKING, f"file://{database}"), 0)
    _follow(ground, found)
    _find_tellers(ground, texts, found)
    return found


def _find_records(tables: Iterable[File], matcher: Matcher, found: Found) -> None:
    """Find records by identifier and by id, then what derives from them, however far."""
    edges: list[Edge] = []
    met: set[tuple[str, str]] = set()
    for file in tables:
        for row in _rows(file):
            if row["confidentiality"] in GRADES:
                grades, sources = found.read.setdefault(file.place, (Counter(), Counter()))
                grades[row["confidentiality"]] += 1
                sources[row["source"]] += 1
            told = matcher.is_told_in(row) or matcher.tombstones.has_text(row["revision"])
            person = told or matcher.is_named_by(row)
            if person or matcher.is_document(row["id"]):
                found.documents.add(row["id"])
                found.addresses.add((row["source"], row["url"]))
            if person:
                met.add((row["source"], row["id"]))
            if told:  # a masked text may be, word for word, what is left of somebody else's
                found.texts.add(row["revision"])
            if row["parents"]:
                edges.append(Edge(row["id"], tuple(row["parents"])))
    found.sources.update(source for source, _ in met)
    rising = set(found.documents)
    while rising := {parent for edge in edges if edge.child in rising for parent in edge.parents} - found.above:
        found.above |= rising
    while derived := {
        edge.child
        for edge in edges
        if edge.child not in found.documents
        and any(parent in found.documents or matcher.is_document(parent) for parent in edge.parents)
    }:
        found.documents |= derived


def _follow(ground: Ground, found: Found) -> None:
    """Follow the ledger to what was made of the records, weights among it: working copies go, versions are listed."""
    copies, entries = ground.copies, dict(ground.ledger.entries())
    holding = {copies[uri][0] for uri in copies if ground.place_of(uri) in found.places}
    datasets = {place.uri.rpartition("/")[2] for place in found.places if place.kind == Kind.DATASET}
    heads = defaultdict(list)
    for head in ground.ledger.heads():
        heads[head["entry"]].append(head["head"])
        if head["head"].startswith("datasets/") and head["head"].rpartition("/")[2] in datasets:
            holding.add(head["entry"])
    holding |= _before(entries, holding)
    datasets |= {name.rpartition("/")[2] for entry in holding for name in heads[entry] if name.startswith("datasets/")}
    reached = downstream(entries, holding)
    signed = sorted(head for entry in reached for head in heads[entry])
    models = {head for head in signed if head.startswith("models/")}
    for key in ground.store.list("models/"):
        is_version = key.endswith(f"/{PROVENANCE}") and key.count("/") == 3
        if is_version and _json(ground.store.read(key), key).get("dataset") in datasets:
            models.add(key.rpartition("/")[0])
    found.models = sorted(models)
    found.revisions = [head for head in signed if head.startswith("publications/")]
    for uri, (entry, output) in copies.items():
        place = ground.place_of(uri)
        made = entries[entry]["outputs"][output]
        weights = made["files"] and "records" not in made and not heads[entry]
        if entry in reached and weights and place.kind == Kind.ARTIFACT and not ground.ledger.is_removed(entry, uri):
            found.add(place, 0)
    for place in list(found.places):
        for told in ground.beside(place):
            found.add(told, 0)


def _before(entries: Mapping[str, Mapping[str, Any]], holding: Iterable[str]) -> set[str]:
    """What successors took the place of: a model trained on that was trained on all that the successor holds."""
    older: set[str] = set()
    ahead = list(holding)
    while ahead:
        entry = entries[ahead.pop()]
        if entry["stage"] == STAGE:
            taken = {one["entry"] for one in entry["inputs"].values()} & entries.keys()
            ahead += taken - older
            older |= taken
    return older


def _find_pages(ground: Ground, texts: Iterable[File], found: Found) -> None:
    """Find the pages that records were crawled from: a note of each, and its body under its hash."""
    for file in texts:
        if page := _PAGE.fullmatch(file.key):
            with file.opened() as content:
                note = _json(content.read(), file.key)
            if not found.addresses.isdisjoint((page["source"], note[name]) for name in ("url", "canonical")):
                found.add(file.place, 0)
                body = f"crawls/{page['source']}/bodies/{note['sha256']}"
                if note["sha256"] and ground.store.exists(body):
                    found.add(ground.place_of(f"{ground.store.uri}/{body}"), 0)


def _find_tellers(ground: Ground, texts: Iterable[File], found: Found) -> None:
    """Find caches that lead to what goes, and reports of runs that made or reused it: they show excerpts."""
    going = [place.uri.removeprefix("file://") for place in found.places if place.kind == Kind.ARTIFACT]
    keys: set[str] = set()
    runs: list[tuple[File, str]] = []
    for file in texts:
        if file.place.kind in (Kind.CACHE, Kind.RUN):
            with file.opened() as content:
                text = content.read().decode("utf-8", "replace")
            if any(folder in text for folder in going):
                found.add(file.place, 0)
                if file.place.kind == Kind.CACHE:
                    keys.add(Path(file.key).stem)
            runs.append((file, text))
    for file, text in runs:
        if file.place.kind == Kind.RUN:
            reused = set(_CACHE_HIT.findall(text))
            if any(name.startswith(key) for name in keys for key in reused):
                found.add(file.place, 0)


def _rows(file: File) -> Iterator[dict[str, Any]]:
    """The records of a file of documents; nothing of any other table."""
    with file.opened() as content:
        table = _open(content, file)
        if set(table.schema_arrow.names) >= _COLUMNS:
            for batch in table.iter_batches(batch_size=1024, columns=sorted(_COLUMNS)):
                yield from batch.to_pylist()


def _count(file: File, matcher: Matcher, above: set[str]) -> int:
    """Records of a table that are to go: by id where it holds documents, by any cell elsewhere."""
    with file.opened() as content:
        table = _open(content, file)
        if set(table.schema_arrow.names) >= _COLUMNS:
            return sum(
                matcher.is_document(name) or name in above
                for batch in table.iter_batches(columns=["id"])
                for name in batch.column("id").to_pylist()
            )
        return sum(
            any(matcher.is_in(text) for text in _strings(row))
            for batch in table.iter_batches(batch_size=1024)
            for row in batch.to_pylist()
        )


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise HeadraceError(f"{where} is damaged, so nobody knows whom it concerns; restore it") from error


def _open(content: BinaryIO, file: File) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(content)
    except (pa.ArrowInvalid, OSError) as error:
        raise HeadraceError(
            f"{file.store.uri}/{file.key} is no readable Parquet, so nobody knows whom it holds; restore it, or remove "
            "it and run again"
        ) from error


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def _is_text_with(file: File, matcher: Matcher) -> bool:
    """Whether what is looked for stands in a file, read as text."""
    with suppress(FileNotFoundError), file.opened() as content:  # it may have gone since it was listed
        before, text = "", io.TextIOWrapper(content, "utf-8", "replace")
        while chunk := text.read(_CHUNK):
            if matcher.is_in(before + chunk):
                return True
            before = chunk[-_OVERLAP:]
    return False


def cells(database: Path, matcher: Matcher) -> Iterator[tuple[str, str, int, str]]:
    """Cells of an SQLite database in which what is looked for stands: table, column, row, value.

    Raises:
        HeadraceError: It is no database, or another process keeps it locked.
    """
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                columns = [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]
                for row in connection.execute(f'SELECT rowid, * FROM "{table}"'):
                    for column, value in zip(columns, row[1:], strict=True):
                        if isinstance(value, str) and (
                            matcher.is_in(value) or matcher.tombstones.has_text(text_revision(value))
                        ):
                            yield table, column, row[0], value
    except sqlite3.Error as error:
        raise HeadraceError(f"{database}: {error}; stop what uses it and run again") from error
