"""Reads a folder: files of text, code, tables and JSON Lines, or documents imported earlier."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.common.documents import new_document, part_files, read_batches
from components.common.errors import UsageError
from components.data.ingest.items import Skipped, Unread, modified_at, read_text
from components.data.ingest.options import Ingest
from components.data.jsonl import LineError, read_jsonl
from components.data.licenses import declared_license
from components.data.sources import Source

FORMATS = {
    ".csv": ("table", "csv"),
    ".tsv": ("table", "tsv"),
    ".htm": ("prose", "html"),
    ".html": ("prose", "html"),
    ".xhtml": ("prose", "html"),
    ".markdown": ("prose", "markdown"),
    ".md": ("prose", "markdown"),
    ".rst": ("prose", "rst"),
    ".text": ("prose", "text"),
    ".txt": ("prose", "text"),
    ".log": ("log", "text"),
}
"""Kind and format of a document by the file's extension; code has its own table."""

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


class Folder:
    """Reader of the files below a folder, hidden ones left out.

    Args:
        source: Declaration whose location is the folder.
        options: Bounds on what is taken.
    """

    def __init__(self, source: Source, options: Ingest) -> None:
        self._source = source
        self._license = declared_license(source)
        self._options = options
        self._root = folder_of(source)
        self._files = list_files(self._root)

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)

    def state(self) -> Iterator[str]:
        """Yield paths, sizes and times."""
        return _file_states(self._root, self._files)

    def read(self) -> Iterator[list[dict[str, Any] | Skipped]]:
        """Yield each file's documents, by path."""
        for path in self._files:
            name = path.relative_to(self._root).as_posix()
            if name != printable(name):
                yield [Skipped(Unread.UNREADABLE, printable(name), "its name is not UTF-8; rename it")]
            else:
                yield self._read(path, name)

    def _read(self, path: Path, name: str) -> list[dict[str, Any] | Skipped]:
        suffix = path.suffix.lower()
        if suffix in (".jsonl", ".ndjson"):
            return self._read_lines(path, name)
        if suffix in LANGUAGES:
            kind, form = "code", "code"
        elif suffix in FORMATS:
            kind, form = FORMATS[suffix]
        elif not suffix and name.rpartition("/")[2].lower() in _PLAIN_NAMES:
            kind, form = "prose", "text"
        else:
            return [Skipped(Unread.UNSUPPORTED, name, suffix or "no extension")]
        text = read_text(path, name, self._options.max_file_bytes)
        if isinstance(text, Skipped):
            return [text]
        source = self._source
        metadata = {**source.tags, "format": form, "license_stated": self._license, "path": name}
        if form == "code":
            metadata["code_language"] = LANGUAGES[suffix]
        document = new_document(
            source=source.id,
            url=name,
            text=text,
            retrieved_at=modified_at(path),
            kind=kind if source.kind == "auto" else source.kind,
            license=self._license,
            confidentiality=source.confidentiality,
            pii=source.pii,
            metadata=metadata,
        )
        return [document]

    def _read_lines(self, path: Path, name: str) -> list[dict[str, Any] | Skipped]:
        made: list[dict[str, Any] | Skipped] = []
        try:
            for row in read_jsonl(path, self._source):
                url = f"{name}#{row['url']}" if row["url"].startswith("line-") else row["url"]
                fields = {field: row[field] for field in row if field not in ("id", "revision")}
                made.append(new_document(**{**fields, "url": url}))
        except LineError as error:
            return [Skipped(Unread.MALFORMED, name, str(error).removeprefix(f"{path}, "))]
        except UsageError as error:
            return [Skipped(Unread.UNREADABLE, name, str(error).removeprefix(f"{path}: "))]
        except OSError as error:
            return [Skipped(Unread.UNREADABLE, name, error.strerror or type(error).__name__)]
        return made or [Skipped(Unread.EMPTY, name)]


class Imported:
    """Reader of a folder of documents, as `headrace import` writes it.

    Args:
        source: Declaration whose location is the folder; the documents must be its own.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._root = folder_of(source)

    def __len__(self) -> int:
        """Count the parts."""
        return len(part_files(self._root))

    def state(self) -> Iterator[str]:
        """Yield paths, sizes and times of the parts."""
        return _file_states(self._root, part_files(self._root))

    def read(self) -> Iterator[list[dict[str, Any] | Skipped]]:
        """Yield batches of documents as they are."""
        for batch in read_batches(self._root):
            rows = batch.to_pylist()
            for row in rows:
                if row["source"] != self._source.id:
                    raise UsageError(
                        f"source {self._source.id}: {self._root} holds documents of source {row['source']}; "
                        "declare them under that id"
                    )
                row["metadata"] = dict(row["metadata"])
            yield rows


def folder_of(source: Source) -> Path:
    """Find the folder that a declaration names.

    Raises:
        UsageError: There is none.
    """
    folder = Path(source.location).expanduser()
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise UsageError(f"source {source.id}: location {source.location} {problem}; name a folder")
    return folder


def printable(name: str) -> str:
    """Write the bytes of a file name that are not UTF-8, as old archives bring them, as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def list_files(root: Path) -> list[Path]:
    """List the files below a folder by path; hidden files and folders are left out, linked folders not entered."""
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _file_states(root: Path, files: list[Path]) -> Iterator[str]:
    for file in files:
        try:
            status = file.stat()
        except OSError:  # it will be reported when it is read
            continue
        yield f"{printable(file.relative_to(root).as_posix())} {status.st_size} {status.st_mtime_ns}"
