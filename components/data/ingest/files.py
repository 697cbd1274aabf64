"""Reads one file, wherever it came from: text, code, tables, office documents, records."""

import base64
import datetime
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common.documents import CONFIDENTIALITY, new_document
from components.common.errors import UsageError
from components.data.ingest.items import Found, Skipped, Unread, read_bytes, read_text
from components.data.ingest.options import Ingest
from components.data.jsonl import LineError, LineTooLong, file_record, scan_jsonl
from components.data.licenses import declared_license, with_header
from components.data.sources import Source

FORMATS = {
    ".csv": ("table", "csv"),
    ".tsv": ("table", "tsv"),
    ".htm": ("prose", "html"),
    ".html": ("prose", "html"),
    ".xhtml": ("prose", "html"),
    ".ipynb": ("code", "notebook"),
    ".markdown": ("prose", "markdown"),
    ".md": ("prose", "markdown"),
    ".rst": ("prose", "rst"),
    ".tex": ("prose", "latex"),
    ".text": ("prose", "text"),
    ".txt": ("prose", "text"),
}
"""Kind and format of a text document by the file's extension; code has its own table."""

BINARY_FORMATS = {
    ".docx": ("prose", "docx"),
    ".pdf": ("prose", "pdf"),
    ".pptx": ("prose", "pptx"),
    ".xlsx": ("table", "xlsx"),
}
"""Kind and format of what is no text; its bytes travel to data/parse as base64."""

LANGUAGES = {
    ".bash": "shell",
    ".c": "c",
    ".cc": "c++",
    ".cpp": "c++",
    ".cs": "c#",
    ".css": "css",
    ".cu": "cuda",
    ".go": "go",
    ".h": "c",
    ".hpp": "c++",
    ".java": "java",
    ".js": "javascript",
    ".kt": "kotlin",
    ".lua": "lua",
    ".php": "php",
    ".pl": "perl",
    ".proto": "protobuf",
    ".py": "python",
    ".pyi": "python",
    ".r": "r",
    ".rb": "ruby",
    ".rs": "rust",
    ".scala": "scala",
    ".sh": "shell",
    ".sql": "sql",
    ".swift": "swift",
    ".toml": "toml",
    ".ts": "typescript",
    ".tsx": "typescript",
    ".yaml": "yaml",
    ".yml": "yaml",
}
_PLAIN_NAMES = {"readme", "license", "licence", "copying", "changelog", "notice", "authors", "contributing"}


@dataclass(frozen=True)
class File:
    """A file on this machine, perhaps a copy of one elsewhere.

    Attributes:
        path: Where it can be read.
        name: Its address in the source, which goes into the document's `url`.
        modified: When it was last changed.
        tags: What else its documents should carry in their metadata.
        form: Extension that tells its format; None where its name has it.
    """

    path: Path
    name: str
    modified: datetime.datetime
    tags: dict[str, str] = field(default_factory=dict)
    form: str | None = None

    @property
    def suffix(self) -> str:
        """The extension by which its format is told."""
        return self.form if self.form is not None else Path(self.name).suffix.lower()


def read_file(file: File, source: Source, options: Ingest) -> Iterator[Found]:
    """Yield the documents of a file, and what in it is none."""
    try:
        if not stat.S_ISREG(file.path.stat().st_mode):  # a pipe would never end
            yield Skipped(Unread.UNREADABLE, file.name, "not a regular file")
            return
        yield from _read(file, source, options)
    except OSError as error:
        yield Skipped(Unread.UNREADABLE, file.name, error.strerror or type(error).__name__)
    except UnicodeEncodeError:
        yield Skipped(Unread.UNDECODABLE, file.name, "holds half of a surrogate pair, which no text does")


def _read(file: File, source: Source, options: Ingest) -> Iterator[Found]:
    suffix = file.suffix
    special = _special_reader(suffix, source)
    if special is not None:
        yield from special(file, source, options)
        return
    if suffix in (".jsonl", ".ndjson"):
        yield from _read_records(file, source, options)
        return
    metadata: dict[str, str] = {}
    if suffix in BINARY_FORMATS:
        kind, form = BINARY_FORMATS[suffix]
    elif suffix in LANGUAGES:
        kind, form = "code", "code"
        metadata["code_language"] = LANGUAGES[suffix]
    elif suffix in FORMATS:
        kind, form = FORMATS[suffix]
    elif not suffix and file.name.rpartition("/")[2].lower() in _PLAIN_NAMES:
        kind, form = "prose", "text"
    else:
        yield Skipped(Unread.UNSUPPORTED, file.name, suffix or "no extension")
        return
    text: str | Skipped
    if suffix in BINARY_FORMATS:
        data = read_bytes(file.path, file.name, options.max_binary_bytes)
        text = data if isinstance(data, Skipped) else base64.b64encode(data).decode()
    else:
        text = read_text(file.path, file.name, options.max_file_bytes)
    yield text if isinstance(text, Skipped) else make_document(file, source, text, kind, form, metadata=metadata)


def _special_reader(suffix: str, source: Source) -> Callable[[File, Source, Ingest], Iterator[Found]] | None:
    """Choose the reader of a file whose documents are not the file: rows, mails, tickets, stretches of a log."""
    if suffix == ".parquet":
        from components.data.ingest.parquet import read_parquet

        return read_parquet
    if suffix == ".mbox":
        from components.data.ingest.mail import read_mbox

        return read_mbox
    if source.kind == "ticket" and suffix in (".csv", ".tsv", ".json", ".jsonl", ".ndjson"):
        from components.data.ingest.tickets import read_tickets

        return read_tickets
    if suffix == ".log" or (source.kind == "log" and suffix in (".txt", "")):
        from components.data.ingest.logs import read_log

        return read_log
    return None


def is_above(confidentiality: str, options: Ingest) -> bool:
    """Tell whether something is more confidential than the recipe's ceiling."""
    return CONFIDENTIALITY.index(confidentiality) > CONFIDENTIALITY.index(options.max_confidentiality)


def make_document(
    file: File,
    source: Source,
    text: str,
    kind: str,
    form: str,
    *,
    part: str = "",
    messages: list[dict[str, str]] | None = None,
    modified: datetime.datetime | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Make a document of a file or a part of one, with what its source declares."""
    license_ = with_header(declared_license(source), text)
    own = {"format": form, "license_stated": license_, "path": file.name, **(metadata or {})}
    return new_document(
        source=source.id,
        url=f"{file.name}#{part}" if part else file.name,
        text=text,
        retrieved_at=modified or file.modified,
        kind=kind if source.kind == "auto" else source.kind,
        license=license_,
        confidentiality=source.confidentiality,
        pii=source.pii,
        messages=messages or [],
        metadata={**source.tags, **file.tags, **own},
    )


def _read_records(file: File, source: Source, options: Ingest) -> Iterator[Found]:
    nothing = True
    try:
        if not file.path.stat().st_size:
            yield Skipped(Unread.EMPTY, file.name)
            return
        for row in scan_jsonl(file.path, source, options.max_record_bytes):
            nothing = False
            yield (
                skipped_record(row, file, options)
                if isinstance(row, LineError)
                else file_record(row, file.name, file.tags)
            )
        if nothing:
            yield Skipped(Unread.EMPTY, file.name)
    except UsageError as error:
        yield Skipped(Unread.UNREADABLE, file.name, str(error).removeprefix(f"{file.path}: "))


def skipped_record(error: LineError, file: File, options: Ingest, records: int = 1) -> Skipped:
    """Say of a record, or of as many, why it is no document; of one above the ceiling nothing but that."""
    if error.confidentiality and is_above(error.confidentiality, options):
        return Skipped(Unread.CONFIDENTIAL, "a record", "", records)
    reason = Unread.TOO_LARGE if isinstance(error, LineTooLong) else Unread.MALFORMED
    detail = str(error).removeprefix(str(file.path)).removeprefix(", ").removeprefix(": ")
    return Skipped(reason, file.name, detail, records)
