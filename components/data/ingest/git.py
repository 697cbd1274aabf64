"""Reads what is committed at the head of a git repository: tracked files only, with the commit they belong to."""

import datetime
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from dulwich.errors import ChecksumMismatch, FileFormatException, NotGitRepository
from dulwich.object_store import iter_tree_contents
from dulwich.objects import Commit
from dulwich.repo import Repo

from components.common.errors import UsageError
from components.data.ingest.files import File, read_file
from components.data.ingest.items import Found, Skipped, Unread
from components.data.ingest.options import Ingest
from components.data.sources import GIT, Source

_DAMAGE = (AssertionError, ChecksumMismatch, FileFormatException, OSError, ValueError, zlib.error)
"""What dulwich raises of an object that is not what it was."""


class Repository:
    """Reader of the files of a repository's checked-out commit, hidden ones, links and submodules left out.

    What is changed and not committed is not read: a document says which commit it is of, and is that.

    Args:
        source: Declaration with location `git:FOLDER`; a bare repository will do.
        options: Bounds on what is taken.
    """

    def __init__(self, source: Source, options: Ingest) -> None:
        self._source = source
        self._options = options
        folder = Path(source.location.removeprefix(GIT)).expanduser()
        try:
            self._repository = Repo(str(folder))
            commit = self._repository[self._repository.head()]
        except NotGitRepository as error:
            raise UsageError(f"source {source.id}: location {source.location} is no git repository") from error
        except KeyError as error:
            raise UsageError(f"source {source.id}: location {source.location} has no commit yet") from error
        assert isinstance(commit, Commit)
        self._commit = commit
        entries = iter_tree_contents(self._repository.object_store, commit.tree)
        self._files = [
            (entry.path.decode("utf-8", "backslashreplace"), entry.sha)
            for entry in entries
            if stat.S_ISREG(entry.mode) and not any(part.startswith(b".") for part in entry.path.split(b"/"))
        ]

    def __len__(self) -> int:
        """Count the files."""
        return len(self._files)

    def state(self) -> Iterator[str]:
        """Yield the commit."""
        yield self._commit.id.decode()

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield each file's documents, by path."""
        committed = datetime.datetime.fromtimestamp(self._commit.commit_time, datetime.UTC)
        tags = {"commit": self._commit.id.decode()}
        with tempfile.TemporaryDirectory(prefix="headrace-git-") as folder:
            copy = Path(folder) / "blob"
            for name, sha in self._files:
                try:
                    blob = self._repository[sha]
                    blob.check()
                except KeyError:
                    yield [Skipped(Unread.UNREADABLE, name, "the repository lacks its content")]
                    continue
                except _DAMAGE as error:
                    yield [Skipped(Unread.UNREADABLE, name, f"the repository is damaged ({type(error).__name__})")]
                    continue
                copy.write_bytes(blob.as_raw_string())
                yield read_file(File(copy, name, committed, tags), self._source, self._options)
