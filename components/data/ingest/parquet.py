"""Reads Parquet in a process of its own: a few kilobytes of it may unpack to more memory than the step has.

The process may hold `MEMORY` of data; what needs more costs only its file. Records are made of rows (`as_document`),
parts that Headrace wrote are taken as they are if they keep to their declaration.
"""

import atexit
import datetime
import re
import resource
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.common.documents import CONFIDENTIALITY, KINDS, PII, SCHEMA, SCHEMA_VERSION
from components.common.errors import UsageError
from components.data.child import Child, Died, Line, begin
from components.data.feedback import LAYOUT, is_feedback
from components.data.ingest.files import File, Skipped, Unread, skipped_record
from components.data.ingest.options import Ingest
from components.data.jsonl import FIELDS, LineError, LineTooLong, as_document, file_record
from components.data.sources import Source

MEMORY = 512 * 2**20
"""Bytes of data that the process may hold: thirty of the longest records."""
BATCH_BYTES = 8 * 2**20
BATCH_ROWS = 1_024
"""What is decoded at once, as far as the file's footer tells."""
ROWS_PER_BYTE = 100
"""Rows above which a file says the same thing over and over: a million rows in ten kilobytes."""
_TIMES = [field.name for field in SCHEMA if pa.types.is_timestamp(field.type)]
_UNREAD = {reason.value: reason for reason in Unread}
_ID = re.compile(r"[0-9a-f]{64}")


def read_parquet(file: File, source: Source, options: Ingest) -> Iterator[dict[str, Any] | Skipped]:
    """Yield the documents of a Parquet file, and what in it is none.

    Raises:
        UsageError: It holds documents of another source.
    """
    child = _child()
    finished = False
    try:
        child.ask(
            {
                "file": {**vars(file), "path": str(file.path), "modified": file.modified.isoformat()},
                "source": source.model_dump(mode="json", by_alias=True),
                "options": options.model_dump(mode="json", by_alias=True),
            }
        )
        while isinstance(answer := child.hear(), list):
            yield from map(_heard, answer)
        if answer is not None:
            raise UsageError(answer)
        finished = True
    except Died as death:
        finished = True
        yield Skipped(Unread.MALFORMED, file.name, f"its reader died of it ({death.code})")
    finally:
        if not finished:
            child.stop()


def _heard(item: dict[str, Any]) -> dict[str, Any] | Skipped:
    """Make of what came down the line what was sent."""
    if "id" not in item:
        return Skipped(**{**item, "reason": _UNREAD[item["reason"]]})
    return {**item, **_times(item, datetime.datetime.fromisoformat)}


def _times(document: dict[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(document[name]) for name in _TIMES if document[name] is not None}


@cache
def _child() -> Child:
    child = Child(__name__, "", "give the machine more memory")
    atexit.register(child.stop)
    return child


def scan(file: File, source: Source, options: Ingest) -> Iterator[dict[str, Any] | Skipped]:
    """Yield the documents of a Parquet file in this process; see `read_parquet`."""
    number = total = 0
    try:
        with pq.ParquetFile(file.path, buffer_size=2**20) as opened:
            total, size = opened.metadata.num_rows, file.path.stat().st_size
            if total > ROWS_PER_BYTE * size:
                detail = f"{total:,} rows in {size:,} bytes"
                yield Skipped(Unread.TOO_LARGE, file.name, detail, total)
                return
            make = _maker(opened, file, source, options)
            if not total:
                yield Skipped(Unread.EMPTY, file.name)
            bytes_ = sum(opened.metadata.row_group(at).total_byte_size for at in range(opened.num_row_groups))
            rows = min(BATCH_ROWS, max(1, BATCH_BYTES * total // max(1, bytes_)))
            for batch in opened.iter_batches(batch_size=rows, use_threads=False):
                for row in _rows(batch):
                    number += 1
                    try:
                        yield make(row, number)
                    except LineError as error:
                        yield skipped_record(error, file, options)
    except LineError as error:
        yield skipped_record(error, file, options, max(1, total))
    except MemoryError:
        detail = f"a row needs more than {MEMORY >> 20} MiB{_after(number, total)}"
        yield Skipped(Unread.TOO_LARGE, file.name, detail, max(1, total - number))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        detail = f"is not readable Parquet{_after(number, total)} ({first})"
        yield Skipped(Unread.MALFORMED, file.name, detail, max(1, total - number))


def _after(number: int, total: int) -> str:
    return f" after row {number:,} of {total:,}" if number else ""


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | Exception]:
    """Give the rows of a batch, one that Python cannot hold as the error it raises."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield error


def _maker(opened: pq.ParquetFile, file: File, source: Source, options: Ingest) -> Any:
    """Choose how a row becomes a document: as Headrace wrote it, or from its columns.

    Raises:
        LineError: The file's columns are none of either.
    """
    names = opened.schema_arrow.names
    version = (opened.schema_arrow.metadata or {}).get(b"headrace.schema")
    if version is None:
        feedback = is_feedback(dict.fromkeys(names))
        if "text" not in names and not feedback:
            raise LineError(f"{file.path}: has no text column; name it so")
        if unknown := sorted(set(names) - set(FIELDS) - set(LAYOUT if feedback else ())):
            raise LineError(f"{file.path}: {unknown[0][:40]}: is no field of a document; put it in metadata")
    elif version.decode("utf-8", "replace") != SCHEMA_VERSION:
        raise LineError(f"{file.path}: has another document schema than {SCHEMA_VERSION}, which this version reads")
    elif not _has_columns(opened.schema_arrow):
        raise LineError(f"{file.path}: its columns are not those of documents")

    def make(row: dict[str, Any] | Exception, number: int) -> dict[str, Any]:
        where = f"{file.path}, row {number}"
        if isinstance(row, UnicodeDecodeError):
            raise LineError(f"{where}: holds text that is not UTF-8")
        if isinstance(row, Exception):
            raise LineError(f"{where}: holds a time or number out of range")
        try:
            return written(row, where, number)
        except LineError as error:
            error.confidentiality = level if (level := row.get("confidentiality")) in CONFIDENTIALITY else ""
            raise

    def written(row: dict[str, Any], where: str, number: int) -> dict[str, Any]:
        if _length(row) > options.max_record_bytes:
            raise LineTooLong(f"{where}: is longer than {options.max_record_bytes:,} bytes; split it")
        if version is not None:
            return _as_written(row, where, file, source)
        given = {field: _plain(value) for field, value in row.items() if value is not None}
        return file_record(as_document(given, where, f"row-{number}", file.modified, source), file.name, file.tags)

    return make


def _has_columns(found: pa.Schema) -> bool:
    """Whether a file has the columns of documents; Parquet keeps their seconds as milliseconds."""
    return found.names == SCHEMA.names and all(
        one == two or (pa.types.is_timestamp(one) and pa.types.is_timestamp(two))
        for one, two in zip(found.types, SCHEMA.types, strict=True)
    )


def _length(row: Mapping[str, Any]) -> int:
    return sum(len(value) for value in row.values() if isinstance(value, str | bytes))


def _plain(value: Any) -> Any:
    """Give a value as JSON would: times as text, maps as objects."""
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        return dict(value)
    return value


def _as_written(row: dict[str, Any], where: str, file: File, source: Source) -> dict[str, Any]:
    """Take a document as it is if it keeps to the schema and to its declaration.

    Raises:
        LineError: It does not.
        UsageError: It belongs to another source.
    """
    if row["source"] != source.id:
        raise UsageError(
            f"source {source.id}: {file.name} in {source.location} holds documents of source "
            f"{row['source']}; declare them under that id"
        )
    row = {**row, "metadata": dict(row["metadata"] or ())}
    for name, allowed in (("kind", KINDS), ("confidentiality", CONFIDENTIALITY), ("pii", PII)):
        if row[name] not in allowed:
            raise LineError(f"{where}: {name}: is none of {', '.join(allowed)}")
    if CONFIDENTIALITY.index(row["confidentiality"]) < CONFIDENTIALITY.index(source.confidentiality):
        floor = f"below the {source.confidentiality} its source declares"
        raise LineError(f"{where}: confidentiality: is {row['confidentiality']}, {floor}")
    if not _ID.fullmatch(row["id"] or "") or not (row["text"] or "").strip():
        raise LineError(f"{where}: is no document (id or text is missing)")
    absent = [field.name for field in SCHEMA if not field.nullable and row[field.name] is None]
    if absent:
        raise LineError(f"{where}: {absent[0]}: is missing")
    return row


def serve(line: Line) -> None:
    """Answer each file with lists of what is found in it, and None at its end, until the line closes."""
    pa.set_memory_pool(pa.system_memory_pool())
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            asked = line.receive()
        except (EOFError, ConnectionError):
            return
        named = asked["file"]
        modified = datetime.datetime.fromisoformat(named["modified"])
        file = File(**{**named, "path": Path(named["path"]), "modified": modified})
        source, options = Source.model_validate(asked["source"]), Ingest.model_validate(asked["options"])
        held: list[Any] = []
        size = 0
        try:
            for found in scan(file, source, options):
                held.append(
                    found if isinstance(found, Skipped) else {**found, **_times(found, datetime.datetime.isoformat)}
                )
                size += 200 if isinstance(found, Skipped) else len(found["text"])
                if size > BATCH_BYTES // 8 or len(held) >= BATCH_ROWS:
                    line.send(held)
                    held, size = [], 0
            line.send(held)
            line.send(None)
        except UsageError as error:
            line.send(held)
            line.send(str(error))


if __name__ == "__main__":
    serve(begin()[0])
