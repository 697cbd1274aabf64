"""Records as documents: each has at least `text`; here those of JSON Lines, one object a line."""

import datetime
import difflib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from components.common.documents import BATCH_ROWS, CONFIDENTIALITY, KINDS, PII, DocumentWriter, new_document
from components.common.errors import HeadraceError, UsageError
from components.data.feedback import REJECTED, FeedbackError, as_dialogue, is_feedback
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


ROLES = ("system", "user", "assistant", "tool", REJECTED)
"""Who may speak in a dialogue; an answer that was rejected stands last."""
RECORD_BYTES = 16 * 2**20
"""Longest record that is read, in bytes, unless a recipe says otherwise."""


class LineError(HeadraceError):
    """A record that is not a document; the message names file, line and field, and quotes nothing.

    Attributes:
        confidentiality: What the record says of itself, if that can be told: of some records not even that is shown.
    """

    confidentiality: str = ""


class LineTooLong(LineError):
    """A record longer than is read."""


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


def read_jsonl(file: Path, source: Source, most: int = RECORD_BYTES) -> Iterator[dict[str, Any]]:
    """Read documents from a JSON Lines file; blank lines are allowed.

    Raises:
        UsageError: The file cannot be opened.
        LineError: A line is wrong.
    """
    for found in scan_jsonl(file, source, most):
        if isinstance(found, LineError):
            raise found
        yield found


def scan_jsonl(file: Path, source: Source, most: int = RECORD_BYTES) -> Iterator[dict[str, Any] | LineError]:
    """Read documents from a JSON Lines file, a wrong line as the error it is.

    Args:
        file: JSON Lines, UTF-8.
        source: The declaration the documents belong to.
        most: Bytes of the longest line; the rest of a longer one is skipped without being held.

    Raises:
        UsageError: The file cannot be opened.
    """
    try:
        modified = datetime.datetime.fromtimestamp(int(file.stat().st_mtime), datetime.UTC)
        stream = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file}: cannot be read ({error.strerror})") from error
    with stream:
        for number, line in enumerate(bounded_lines(stream, most), 1):
            where = f"{file}, line {number}"
            if line is None:
                yield LineTooLong(f"{where}: is longer than {most:,} bytes; split it")
            elif line.strip():
                try:
                    yield as_document(_object(line, where), where, f"line-{number}", modified, source)
                except LineError as error:
                    yield error


def bounded_lines(stream: IO[bytes], most: int) -> Iterator[bytes | None]:
    """Yield lines with their ends, None for a line longer than `most` bytes: never more than that is in memory."""
    while line := stream.readline(most + 1):
        if len(line) <= most:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(most + 1)
        yield None


def file_record(row: dict[str, Any], name: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Name a document that a record gave by its file, unless it gave an address of its own; it gets a new id."""
    own_address = row["url"].startswith(("line-", "row-"))
    fields = {field: row[field] for field in row if field not in ("id", "revision")}
    fields["url"] = f"{name}#{row['url']}" if own_address else row["url"]
    return new_document(**{**fields, "metadata": {**tags, **row["metadata"]}})


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


def as_document(
    row: dict[str, Any], where: str, address: str, modified: datetime.datetime, source: Source
) -> dict[str, Any]:
    """Make a document of a record.

    Args:
        row: Values by field, see `FIELDS`, or feedback in a layout of `components.data.feedback`.
        where: What to call the record in messages.
        address: Its address in the source if it gives no `url`.
        modified: When it was retrieved if it does not say.
        source: The declaration it belongs to.

    Raises:
        LineError: A field is missing, unknown or wrong.
    """

    def wrong(field: str, problem: str) -> LineError:
        error = LineError(f"{where}: {field}: {problem}")
        error.confidentiality = stated if (stated := row.get("confidentiality")) in CONFIDENTIALITY else ""
        return error

    if is_feedback(row):
        try:
            row = as_dialogue(row)
        except FeedbackError as error:
            raise wrong(error.field, error.problem) from error
    for field, value in row.items():
        if field not in FIELDS:
            near = difflib.get_close_matches(field, FIELDS, 1)
            fix = f"did you mean {near[0]}?" if near else "is no field of a document; put it in metadata"
            raise wrong(_printable(field), fix)
        if field in _CHOICES and value not in _CHOICES[field]:
            raise wrong(field, f"is none of {', '.join(_CHOICES[field])}")
        if field not in ("messages", "metadata") and not isinstance(value, str):
            raise wrong(field, f"is {_JSON_TYPES.get(type(value), type(value).__name__)}, not a string")
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise wrong(field, "holds half of a surrogate pair, which no text does") from error
        except (TypeError, ValueError, RecursionError) as error:
            raise wrong(field, "holds what JSON cannot say") from error
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
    if any(message["role"] not in ROLES for message in messages):
        raise wrong("messages", f"a role is none of {', '.join(ROLES)}")
    if any(message["role"] == REJECTED for message in messages[:-1]):
        raise wrong("messages", "an answer that was rejected stands last, after the question or the answer preferred")
    confidentiality = row.get("confidentiality", source.confidentiality)
    if CONFIDENTIALITY.index(confidentiality) < CONFIDENTIALITY.index(source.confidentiality):
        raise wrong("confidentiality", f"is {confidentiality}, below the {source.confidentiality} its source declares")
    stated = row.get("license", declared_license(source))
    title = {"title": row["title"]} if "title" in row else {}
    return new_document(
        source=source.id,
        url=row.get("url") or address,
        text=one_newline(row["text"]),
        retrieved_at=_instant(row["retrieved_at"], wrong) if "retrieved_at" in row else modified,
        kind=row.get("kind") or (source.kind if source.kind != "auto" else "dialogue" if messages else "prose"),
        domain=row.get("domain", ""),
        language=row.get("language", "und"),
        license=to_spdx(stated),
        confidentiality=confidentiality,
        pii=row.get("pii", source.pii),
        messages=messages,
        metadata={
            "format": "text",
            **metadata,
            **title,
            **source.tags,
            "license_stated": stated.strip().partition("\n")[0][:200],
        },
    )


_JSON_TYPES = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "a list",
    dict: "an object",
}


def one_newline(text: str) -> str:
    """Write every line end, of whatever system, as one newline."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _printable(field: str) -> str:
    return field.encode("utf-8", "backslashreplace").decode()[:40]


def _instant(value: str, wrong: Callable[[str, str], LineError]) -> datetime.datetime:
    try:
        instant = datetime.datetime.fromisoformat(value)
        return (instant if instant.tzinfo else instant.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise wrong("retrieved_at", "is no ISO 8601 time") from error
