"""Back an environment up: only what the backups do not hold yet is copied."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components.common import tombstones
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import canonical, file_digest, sha256
from components.common.sealed_store import store_of
from components.common.store import FileStore, Store, Stored
from components.operations.backup.contents import NOTES, Contents
from components.operations.backup.repository import (
    WORKERS,
    Backup,
    Content,
    Manifest,
    Progress,
    Repository,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTLED = timedelta(seconds=2)
"""How long before it was looked at a file must have been written, for size and time to tell it from what came later."""


@dataclass(frozen=True)
class Taken:
    """A backup that was made.

    Attributes:
        backup: What was stated.
        new: Files that were not held yet.
        size: Their bytes.
        dropped: Numbers of older backups that were removed.
    """

    backup: Backup
    new: int
    size: int
    dropped: list[int]


def back_up(environment: Environment, to: str, keep: int = 0, progress: Progress = silent) -> Taken:
    """Back an environment up. Nobody may write to a laptop's home meanwhile; a cluster's runs may go on.

    Args:
        environment: What to back up.
        to: Folder or bucket, as a URI.
        keep: How many backups to keep; 0 keeps all.
        progress: Told how far it is.

    Raises:
        HeadraceError: The backups there are another environment's, or something changed while it was read.
    """
    contents, repository = Contents(environment), Repository(to)
    repository.backups(contents.ledger.verify_key())  # another environment's, or damaged ones, are not added to
    note(contents.store, repository)
    erased = list(contents.store.list(tombstones.PREFIX))
    manifest, fresh = copy(contents, repository, contents.root.uri, progress)
    name = repository.write_manifest(manifest)
    tombstones.carry(contents.store, repository.store)
    if erased != list(contents.store.list(tombstones.PREFIX)):
        raise HeadraceError(f"somebody was erased from {environment.name} while it was backed up; run it again")
    backup = repository.state(name, manifest, contents.ledger)
    old = repository.backups(contents.ledger.verify_key())[:-keep] if keep else []
    for one in old:
        repository.drop(one)
    if old:
        repository.sweep()
    return Taken(backup, len(fresh), sum(fresh.values()), [one.number for one in old])


def copy(
    contents: Contents, repository: Repository, root: str, progress: Progress = silent
) -> tuple[Manifest, dict[str, int]]:
    """Write the manifest of an environment, then the files that it names and the repository lacks.

    Args:
        contents: What to copy.
        repository: Where to.
        root: What the ledger's notes of places begin with.
        progress: Told how far it is.

    Returns:
        The manifest, and the size of every file that was not held by its hash.
    """
    with TemporaryDirectory(prefix="headrace-backup-") as scratch:
        database = Path(scratch, "database")
        files, sources = _look(contents, repository, database, progress)
        manifest = Manifest(contents.environment.name, root, contents.keys(), files)
        repository.write_manifest(manifest)
        missing = repository.missing(manifest)
        fresh = {name: path for path, name in sorted((p, c.sha256) for p, c in files.items()) if name in missing}
        sizes = {files[path].sha256: files[path].size for path in fresh.values()}
        total, done = sum(sizes.values()), 0

        def send(name: str) -> str:
            with _local(contents, sources, fresh[name], database) as path:
                if file_digest(path) != name:
                    raise _changed(contents, fresh[name])
                repository.add(name, path)
            return name

        with ThreadPoolExecutor(WORKERS) as pool:
            for name in pool.map(send, fresh):
                done += sizes[name]
                progress(done, total, "copying what is new")
    return manifest, sizes


def note(store: Store, repository: Repository) -> None:
    """Note in a store that it is backed up there, so that an erasure reaches into its backups."""
    store.write(f"{_folder(repository)}place.json", canonical({"uri": repository.uri}), if_absent=True)


def noted(store: Store) -> list[str]:
    """Where the backups of a store are."""
    return [json.loads(store.read(key))["uri"] for key in store.list(NOTES) if key.endswith("/place.json")]


def carry_to_backups(environment: Environment) -> list[str]:
    """Bring what was erased beside every backup; as soon as it is noted, so that no lost store can undo it.

    Returns:
        The places where no backup is found, such as a disk that is not attached.
    """
    store = store_of(environment)
    repositories = [Repository(uri) for uri in noted(store)]
    for repository in repositories:
        if repository.is_there():
            tombstones.carry(store, repository.store)
    return [repository.uri for repository in repositories if not repository.is_there()]


def _look(
    contents: Contents, repository: Repository, database: Path, progress: Progress
) -> tuple[dict[str, Content], Mapping[str, Stored]]:
    """Hash every file that was not hashed before; by size and time when it was."""
    began = datetime.now(UTC)
    known = _read_seen(contents, repository)
    sources = {stored.key: stored for stored in contents.files()}
    total, done = sum(stored.size for stored in sources.values()), 0
    files: dict[str, Content] = {}

    def digest(stored: Stored) -> tuple[Stored, str]:
        size, written, name = known.get(stored.key, (0, "", ""))
        if name and (size, written) == (stored.size, stored.written.isoformat()):
            return stored, name
        with _local(contents, sources, stored.key, database) as path:
            return stored, file_digest(path)

    with ThreadPoolExecutor(WORKERS) as pool:
        for stored, name in pool.map(digest, sources.values()):
            files[stored.key] = Content(name, stored.size)
            done += stored.size
            progress(done, total, "looking what is new")
    settled = began - _SETTLED
    seen = {
        key: [stored.size, stored.written.isoformat(), files[key].sha256]
        for key, stored in sources.items()
        if stored.written < settled
    }
    contents.store.write(f"{_folder(repository)}seen.json", canonical(seen))
    if contents.database and contents.root.exists(contents.database):
        contents.snapshot(database)
        files[contents.database] = Content(file_digest(database), database.stat().st_size)
    return files, sources


@contextmanager
def _local(contents: Contents, sources: Mapping[str, Stored], key: str, database: Path) -> "Iterator[Path]":
    """A file on this machine."""
    if key not in sources:
        yield database
    elif isinstance(contents.root, FileStore):
        if not (contents.root.root / key).is_file():
            raise _changed(contents, key)
        yield contents.root.root / key
    else:
        with TemporaryDirectory(prefix="headrace-backup-") as folder:
            path = Path(folder, "file")
            try:
                contents.root.download(key, path)
            except HeadraceError as error:
                raise _changed(contents, key) from error
            yield path


def _changed(contents: Contents, key: str) -> HeadraceError:
    return HeadraceError(f"{contents.root.uri}/{key} was changed while it was backed up; run it again")


def _read_seen(contents: Contents, repository: Repository) -> dict[str, tuple[int, str, str]]:
    key = f"{_folder(repository)}seen.json"
    with suppress(HeadraceError, ValueError, TypeError, AttributeError):  # a cache: what it does not say is hashed
        return {path: tuple(value) for path, value in json.loads(contents.store.read(key)).items()}
    return {}


def _folder(repository: Repository) -> str:
    return f"{NOTES}{sha256(repository.uri.encode())[:16]}/"
