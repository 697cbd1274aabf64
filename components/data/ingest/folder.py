"""Reads a folder: files of any kind that `read_file` knows, or documents imported earlier."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.common.documents import part_files
from components.common.errors import UsageError
from components.data.ingest.files import File, read_file
from components.data.ingest.items import Found, Skipped, Unread, modified_at
from components.data.ingest.options import Ingest
from components.data.sources import Source

_BESIDE = {"evidence.json", "ledger.json", "quarantine.jsonl", "refused.jsonl"}
"""What steps write beside documents."""


class Folder:
    """Reader of the files below a folder, hidden ones left out.

    Args:
        source: Declaration whose location is the folder.
        options: Bounds on what is taken.
    """

    def __init__(self, source: Source, options: Ingest) -> None:
        self._source = source
        self._options = options
        self._root = folder_of(source)
        self._files, self._closed = list_files(self._root)

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)

    def state(self) -> Iterator[str]:
        """Yield paths, sizes and times."""
        return _file_states(self._root, self._files)

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield each file's documents, by path."""
        for error in self._closed:
            name = printable(Path(error.filename).relative_to(self._root).as_posix())
            yield [Skipped(Unread.UNREADABLE, name, f"a folder: {error.strerror}")]
        inside = self._root.resolve()
        for path in self._files:
            name = path.relative_to(self._root).as_posix()
            if name != printable(name):
                yield [Skipped(Unread.UNREADABLE, printable(name), "its name is not UTF-8; rename it")]
                continue
            try:
                modified = modified_at(path)
            except (OSError, OverflowError, ValueError) as error:
                yield [Skipped(Unread.UNREADABLE, name, getattr(error, "strerror", "") or str(error))]
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                yield [Skipped(Unread.OUTSIDE, name, "a link to a file that is not in the folder")]
                continue
            yield read_file(File(path, name, modified), self._source, self._options)


class Imported:
    """Reader of a folder of documents, as `headrace import` and steps write it.

    Args:
        source: Declaration whose location is the folder; the documents must be its own.
        options: Bounds on what is taken.
    """

    def __init__(self, source: Source, options: Ingest) -> None:
        self._source = source
        self._options = options
        self._root = folder_of(source)

    def __len__(self) -> int:
        """Count the parts."""
        return len(part_files(self._root))

    def state(self) -> Iterator[str]:
        """Yield paths, sizes and times of the parts."""
        return _file_states(self._root, part_files(self._root))

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield each part's documents as they are."""
        for part in part_files(self._root):
            yield read_file(File(part, part.name, modified_at(part)), self._source, self._options)
        others = {path.name for path in self._root.iterdir() if not path.name.startswith(".") and path.is_file()}
        for name in sorted(others - {part.name for part in part_files(self._root)} - _BESIDE):
            yield [Skipped(Unread.UNSUPPORTED, printable(name), "no part of the documents it lies among")]


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


def list_files(root: Path) -> tuple[list[Path], list[OSError]]:
    """List the files below a folder by path, and the folders that cannot be opened as the errors they give.

    Hidden files and folders are left out, linked folders not entered.
    """
    found: list[Path] = []
    closed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    return sorted(found), sorted(closed, key=lambda error: str(error.filename))


def _file_states(root: Path, files: list[Path]) -> Iterator[str]:
    for file in files:
        try:
            status = file.stat()
        except OSError:  # it will be reported when it is read
            continue
        yield f"{printable(file.relative_to(root).as_posix())} {status.st_size} {status.st_mtime_ns}"
