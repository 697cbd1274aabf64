"""JSON Lines as documents: one object a line, with at least `text`."""

import datetime
import difflib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from components.common.documents import BATCH_ROWS, CONFIDENTIALITY, KINDS, PII, DocumentWriter, new_document
from components.common.errors import HeadraceError, UsageError
from components.data.licenses import declared_license, to_spdx
from components.data.sources import Source

FIELDS = (
    "text",
    "url",
    "title",
    "kind",
    "domain",
    "language",
    "license",
    "confidentiality",
    "pii",
    "retrieved_at",
    "messages",
    "metadata",
)
_CHOICES = {"kind": KINDS, "confidentiality": CONFIDENTIALITY, "pii": PII}


class LineError(HeadraceError):
    """A line that is not a document; the message names file, line and field."""


def import_jsonl(file: Path, directory: Path, source: Source) -> int:
    """Turn a JSON Lines file into documents of a declared source.

    Args:
        file: JSON Lines, UTF-8; `FIELDS` may be given, `text` must be.
        directory: Folder to make; it appears when everything has been read, or not at all.
        source: The declaration the documents belong to.

    Returns:
        How many documents were written.

    Raises:
        UsageError: The file cannot be read, holds nothing, or the folder is in use.
        LineError: A line is wrong.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is in use; name a folder that does not exist yet")
    partial = directory.with_name(f"{directory.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with DocumentWriter(partial) as writer:
            rows: list[dict[str, Any]] = []
            for row in read_jsonl(file, source):
                rows.append(row)
                if len(rows) == BATCH_ROWS:
                    writer.write(rows)
                    rows = []
            writer.write(rows)
        if not writer.rows:
            raise UsageError(f"{file} holds no documents; put one JSON object with a text field on each line")
        if directory.exists():
            directory.rmdir()
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return writer.rows


def read_jsonl(file: Path, source: Source) -> Iterator[dict[str, Any]]:
    """Read documents from a JSON Lines file; blank lines are allowed.

    Raises:
        UsageError: The file cannot be opened.
        LineError: A line is wrong.
    """
    try:
        modified = datetime.datetime.fromtimestamp(int(file.stat().st_mtime), datetime.UTC)
        stream = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    with stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _document(
                    _object(line, f"{file}, line {number}"), f"{file}, line {number}", number, modified, source
                )


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise LineError(f"{where}: is not UTF-8; convert the file") from error
    except json.JSONDecodeError as error:
        raise LineError(f"{where}: is not JSON ({error.msg}, column {error.colno})") from error
    except ValueError as error:  # a number with thousands of digits
        raise LineError(f"{where}: holds a number that is too long; write it as a string") from error
    except RecursionError as error:
        raise LineError(f"{where}: is nested too deeply") from error
    if not isinstance(row, dict):
        raise LineError(f"{where}: is {type(row).__name__}, not an object with a text field")
    return row


def _document(
    row: dict[str, Any], where: str, number: int, modified: datetime.datetime, source: Source
) -> dict[str, Any]:
    def wrong(field: str, problem: str) -> LineError:
        return LineError(f"{where}: {field}: {problem}")

    for field, value in row.items():
        if field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, 1)
            raise wrong(field, f"did you mean {near[0]}?" if near else "is no field of a document; put it in metadata")
        if field in _CHOICES and value not in _CHOICES[field]:
            raise wrong(field, f"is {value!r}; use one of {', '.join(_CHOICES[field])}")
        if field not in ("messages", "metadata") and not isinstance(value, str):
            raise wrong(field, f"is {json.dumps(value)[:40]}, not a string")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise wrong(field, "holds half of a surrogate pair, which no text does") from error
    if not row.get("text", "").strip():
        raise wrong("text", "is missing" if "text" not in row else "is empty")

    metadata = row.get("metadata", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise wrong("metadata", "must be an object whose values are strings")
    messages = row.get("messages", [])
    if not isinstance(messages, list) or not all(
        isinstance(message, dict)
        and set(message) == {"role", "content"}
        and all(isinstance(value, str) for value in message.values())
        for message in messages
    ):
        raise wrong("messages", "must be a list of objects with role and content")
    confidentiality = row.get("confidentiality", source.confidentiality)
    if CONFIDENTIALITY.index(confidentiality) < CONFIDENTIALITY.index(source.confidentiality):
        raise wrong("confidentiality", f"is {confidentiality}, below the {source.confidentiality} its source declares")
    stated = row.get("license", declared_license(source))
    title = {"title": row["title"]} if "title" in row else {}
    return new_document(
        source=source.id,
        url=row.get("url") or f"line-{number}",
        text=row["text"],
        retrieved_at=_instant(row["retrieved_at"], wrong) if "retrieved_at" in row else modified,
        kind=row.get("kind") or (source.kind if source.kind != "auto" else "dialogue" if messages else "prose"),
        domain=row.get("domain", ""),
        language=row.get("language", "und"),
        license=to_spdx(stated),
        confidentiality=confidentiality,
        pii=row.get("pii", source.pii),
        messages=messages,
        metadata={"format": "text", **metadata, **title, **source.tags, "license_stated": stated},
    )


def _instant(value: str, wrong: Callable[[str, str], LineError]) -> datetime.datetime:
    try:
        instant = datetime.datetime.fromisoformat(value)
        return (instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise wrong("retrieved_at", f"is {value!r}, not an ISO 8601 time") from error
