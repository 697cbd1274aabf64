"""The Document: one record schema from ingestion to training, as a directory of Parquet parts.

An artifact of documents is a directory that holds `part-00000.parquet`, `part-00001.parquet`, … (zstd). Everything that
handles documents works on Arrow columns in batches; memory is bounded by a part, not by the corpus.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.common.errors import HeadraceError

SCHEMA_VERSION = "1"

KINDS = ("prose", "code", "table", "math", "dialogue", "ticket", "log")
CONFIDENTIALITY = ("public", "internal", "confidential", "restricted")
PII = ("none", "masked", "present")

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("messages", pa.list_(_MESSAGE), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("confidentiality", pa.string(), nullable=False),
        pa.field("pii", pa.string(), nullable=False),
        pa.field("subjects", pa.list_(pa.string()), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("retrieved_at", pa.timestamp("s", tz="UTC"), nullable=False),
        pa.field("valid_until", pa.timestamp("s", tz="UTC")),
        pa.field("parents", pa.list_(pa.string()), nullable=False),
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
    ],
    metadata={"headrace.schema": SCHEMA_VERSION},
)
"""Arrow schema of a document; the meaning of each column is in the project's design, the names are its contract."""

ROWS_PER_PART = 50_000
BYTES_PER_PART = 256 * 2**20
"""Arrow bytes after which a part ends before it has all its rows: what a step may have to hold at once."""
BATCH_ROWS = 4_096
BATCH_BYTES = 64 * 2**20
"""Arrow bytes that a row group holds at most, unless a single document is larger."""
_DEFAULTS: dict[str, Any] = {
    "messages": [],
    "kind": "prose",
    "domain": "",
    "language": "und",
    "license": "",
    "confidentiality": "internal",
    "pii": "present",
    "subjects": [],
    "parents": [],
    "metadata": {},
    "valid_until": None,
}


def document_id(source: str, url: str, text: str) -> str:
    """Name a document by what was first ingested: SHA-256 over source, url and text, kept for life."""
    digest = hashlib.sha256()
    for part in (source, url, text):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()


def text_revision(text: str) -> str:
    """Name the current text of a document: its SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_document(*, source: str, url: str, text: str, retrieved_at: datetime, **fields: Any) -> dict[str, Any]:
    """Make a document row; what is not given is the cautious default (internal, personal data present).

    Args:
        source: Id of the declared source.
        url: Where the document came from, or its path in the source.
        text: The text as ingested.
        retrieved_at: When it was retrieved; taken from the source, never from the clock, so that a rerun gives the
            same bytes.
        **fields: Any other column of `SCHEMA`.

    Raises:
        HeadraceError: A field is not a column, or holds a value the schema does not know.
    """
    row = {
        "id": document_id(source, url, text),
        "revision": text_revision(text),
        "text": text,
        "source": source,
        "url": url,
        "retrieved_at": retrieved_at.astimezone(UTC),
        **_DEFAULTS,
        **fields,
    }
    unknown = sorted(set(row) - set(SCHEMA.names))
    if unknown:
        raise HeadraceError(f"{url}: {', '.join(unknown)} is no document field; put it in metadata")
    for name, allowed in (("kind", KINDS), ("confidentiality", CONFIDENTIALITY), ("pii", PII)):
        if row[name] not in allowed:
            raise HeadraceError(f"{url}: {name} is {row[name]!r}; it must be one of {', '.join(allowed)}")
    return row


def with_text(table: pa.Table, text: Sequence[str] | pa.Array | pa.ChunkedArray) -> pa.Table:
    """Replace the text column and refresh `revision` where the text changed; ids stay."""
    column = text if isinstance(text, (pa.Array, pa.ChunkedArray)) else pa.array(text, pa.large_string())
    revisions = pa.array([text_revision(value) for value in column.to_pylist()], pa.string())
    table = table.set_column(table.schema.get_field_index("text"), SCHEMA.field("text"), column)
    return table.set_column(table.schema.get_field_index("revision"), SCHEMA.field("revision"), revisions)


def with_metadata(table: pa.Table, name: str, values: Sequence[str | None]) -> pa.Table:
    """Set a key of the metadata, keys staying in order; a document whose value is None has none."""
    column = table["metadata"].combine_chunks()
    bounds = column.offsets.to_numpy()
    pairs = slice(bounds[0], bounds[-1])
    rows = np.repeat(np.arange(len(column)), np.diff(bounds))
    other = np.asarray(pc.not_equal(column.keys[pairs], name).to_numpy(zero_copy_only=False), bool)
    given = np.array([value is not None for value in values], bool)
    added = np.flatnonzero(given)
    merged = pa.table(
        {
            "row": np.r_[rows[other], added],
            "key": pa.concat_arrays(
                [column.keys[pairs].filter(pa.array(other)), pa.array([name] * len(added), pa.string())]
            ),
            "value": pa.concat_arrays(
                [column.items[pairs].filter(pa.array(other)), pa.array(values, pa.string()).filter(pa.array(given))]
            ),
        }
    ).sort_by([("row", "ascending"), ("key", "ascending")])
    counts = np.bincount(merged["row"].to_numpy(), minlength=len(column))
    offsets = pa.array(np.r_[0, np.cumsum(counts)], pa.int32())
    arrays = (merged[part].combine_chunks() for part in ("key", "value"))
    field = SCHEMA.field("metadata")
    return table.set_column(
        table.schema.get_field_index(field.name), field, pa.MapArray.from_arrays(offsets, *arrays).cast(field.type)
    )


def part_files(path: Path) -> list[Path]:
    """List the parts of an artifact of documents in order, or of the artifacts that a step's shards wrote into it.

    Raises:
        HeadraceError: There are none.
    """
    parts = sorted(path.glob("part-*.parquet")) or sorted(path.glob("*/part-*.parquet"))
    if not parts:
        raise HeadraceError(f"{path} holds no documents (no part-*.parquet); run the step that makes it first")
    return parts


def read_batches(path: Path, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Stream an artifact of documents.

    Args:
        path: Directory of parts.
        columns: Columns to read; all of them when None.
        rows: Most rows in a batch.

    Raises:
        HeadraceError: A part cannot be read or has another schema version.
    """
    for part in part_files(path):
        yield from read_part(part, columns, rows)


def read_part(part: Path, columns: Sequence[str] | None = None, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """Stream one part of an artifact of documents.

    Raises:
        HeadraceError: It cannot be read or has another schema version.
    """
    try:
        file = pq.ParquetFile(part)
    except (pa.ArrowInvalid, OSError) as error:
        raise HeadraceError(f"{part} is not readable Parquet ({error}); make it again or restore it") from error
    version = (file.schema_arrow.metadata or {}).get(b"headrace.schema", b"none").decode()
    if version != SCHEMA_VERSION:
        raise HeadraceError(f"{part} has document schema {version}, this version reads {SCHEMA_VERSION}")
    yield from file.iter_batches(batch_size=rows, columns=list(columns) if columns is not None else None)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a whole artifact of documents into memory; for small ones."""
    batches = list(read_batches(path, columns))
    if batches:
        return pa.Table.from_batches(batches)
    schema = SCHEMA if columns is None else pa.schema([SCHEMA.field(name) for name in columns])
    return schema.empty_table()


def count_documents(path: Path) -> int:
    """Count documents from the parts' footers, without reading them."""
    return sum(pq.read_metadata(part).num_rows for part in part_files(path))


def holds_documents(file: Path) -> bool:
    """Tell whether a Parquet file is a part of an artifact of documents, not just any."""
    try:
        return b"headrace.schema" in (pq.read_schema(file).metadata or {})
    except (pa.ArrowException, OSError):
        return False


class DocumentWriter:
    """Write documents in order into a directory of parts, each part complete or absent.

    Args:
        path: Directory to write; made if it is missing.
        rows_per_part: Rows after which a new part begins.

    An empty corpus still gets one part with no rows, so that what reads it sees the schema.
    """

    def __init__(self, path: Path, rows_per_part: int = ROWS_PER_PART) -> None:
        self.path = path
        self.rows = 0
        self._rows_per_part = rows_per_part
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._pending_bytes = 0
        self._parts = 0

    def write(self, documents: pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]]) -> None:
        """Append documents, given as Arrow data or as rows made by `new_document`."""
        table = self._conform(documents)
        if not table.num_rows:
            return
        self.rows += table.num_rows
        self._pending.append(table)
        self._pending_rows += table.num_rows
        self._pending_bytes += table.nbytes
        while self._pending_rows >= self._rows_per_part or self._pending_bytes >= BYTES_PER_PART:
            merged = pa.concat_tables(self._pending)
            self._write_part(merged.slice(0, self._rows_per_part))
            rest = merged.slice(self._rows_per_part)
            self._pending, self._pending_rows, self._pending_bytes = [rest], rest.num_rows, rest.nbytes

    def close(self) -> None:
        """Write what is pending."""
        rest = pa.concat_tables(self._pending) if self._pending else SCHEMA.empty_table()
        if rest.num_rows or not self._parts:
            self._write_part(rest)
        self._pending = []

    def __enter__(self) -> Self:
        """Begin writing."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the last part, unless an error interrupted the writing."""
        if kind is None:
            self.close()

    def _conform(self, documents: pa.Table | pa.RecordBatch | Iterable[Mapping[str, Any]]) -> pa.Table:
        if isinstance(documents, pa.RecordBatch):
            documents = pa.Table.from_batches([documents])
        elif not isinstance(documents, pa.Table):
            rows = [{**row, "metadata": sorted(row["metadata"].items())} for row in documents]
            return pa.Table.from_pylist(rows, schema=SCHEMA)
        return documents.select(SCHEMA.names).cast(SCHEMA)

    def _write_part(self, table: pa.Table) -> None:
        final = self.path / f"part-{self._parts:05d}.parquet"
        temporary = final.with_suffix(".partial")
        table = table.replace_schema_metadata(SCHEMA.metadata)
        fitting = table.num_rows * BATCH_BYTES // max(1, table.nbytes)
        pq.write_table(table, temporary, compression="zstd", row_group_size=max(1, min(BATCH_ROWS, fitting)))
        temporary.rename(final)
        self._parts += 1
