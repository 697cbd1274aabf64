"""Where backups lie: files by their hash, manifests by theirs, and numbered signed statements of what was backed up.

    backups/000001.json      signed: which manifest, when, how much; the only objects that are ever replaced
    manifests/<hash>.json    every file by path, with hash and size; no clock, so the same content has the same name
    blobs/<aa>/<hash>        a file as it lay in the environment
    tombstones/…             what was erased since, so that it stays erased when everything else is lost

A manifest is written before its files and the statement after them, so what a backup needs is never taken for unused,
and one that was interrupted is never taken for whole.
"""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from components.common.errors import HeadraceError, UsageError
from components.common.ledger import Ledger, canonical, file_digest, sha256, signature_problem
from components.common.store import open_store

SCHEMA = 1
WORKERS = 8
"""Files that are read or written at once; on Cloud Storage each waits for its request."""

_STATEMENTS, _MANIFESTS, _BLOBS = "backups/", "manifests/", "blobs/"
_BEGUN = timedelta(days=1)
"""How long a manifest without a statement may belong to a backup that is under way."""

Progress = Callable[[int, int, str], None]
"""Told of bytes done, of how many, and of what is being done."""


def silent(done: int, total: int, note: str) -> None:
    """A `Progress` that says nothing."""


@dataclass(frozen=True)
class Content:
    """What a file holds."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What one backup holds.

    Attributes:
        environment: Name of the environment.
        root: URI of what was backed up; the ledger's notes of places begin with it.
        keys: Fingerprints of the keys without which it is of no use, by file name; they are kept elsewhere.
        files: Every file by its path below the root.
    """

    environment: str
    root: str
    keys: Mapping[str, str]
    files: Mapping[str, Content]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(content.size for content in self.files.values())

    def encoded(self) -> bytes:
        """The one form that it is hashed in."""
        files = {path: {"sha256": content.sha256, "size": content.size} for path, content in self.files.items()}
        return canonical(
            {"schema": SCHEMA, "environment": self.environment, "root": self.root, "keys": self.keys, "files": files}
        )


@dataclass(frozen=True)
class Backup:
    """A signed statement: what was backed up, and when."""

    number: int
    manifest: str
    environment: str
    taken_at: str
    files: int
    size: int


class Repository:
    """A folder or a bucket with backups of one environment.

    Args:
        uri: Where it is.
    """

    def __init__(self, uri: str) -> None:
        self.store = open_store(uri)
        self.uri = self.store.uri

    def is_there(self) -> bool:
        """Whether any backup is found."""
        return next(self.store.list(_STATEMENTS), None) is not None

    def backups(self, public: Ed25519PublicKey) -> list[Backup]:
        """Every backup, oldest first.

        Raises:
            HeadraceError: A statement is damaged, or was signed with another key.
        """
        return [self._stated(key, public)[0] for key in self.store.list(_STATEMENTS)]

    def backup(self, number: int, public: Ed25519PublicKey) -> Backup:
        """Find a backup by its number, the newest by 0.

        Raises:
            UsageError: There is none.
            HeadraceError: Its statement is damaged, or was signed with another key.
        """
        keys = list(self.store.list(_STATEMENTS))
        key = (keys[-1] if keys else "") if number == 0 else _statement_key(number)
        if key not in keys:
            known = f"it has {_numbers(keys)}" if keys else "`headrace backup` makes one"
            raise UsageError(f"{self.uri} has no backup{f' {number}' if number else ''}; {known}")
        return self._stated(key, public)[0]

    def manifest(self, name: str) -> Manifest:
        """Read a manifest.

        Raises:
            HeadraceError: It is missing or not what was signed.
        """
        where = f"{self.uri}/{_manifest_key(name)}"
        data = self.store.read(_manifest_key(name))
        if sha256(data) != name:
            raise HeadraceError(f"{where} was changed since it was signed; restore another backup")
        stated = json.loads(data)
        if stated["schema"] != SCHEMA:
            raise HeadraceError(f"{where} has schema {stated['schema']}, and this version reads {SCHEMA}")
        files = {path: Content(**content) for path, content in stated["files"].items()}
        return Manifest(stated["environment"], stated["root"], stated["keys"], files)

    def write_manifest(self, manifest: Manifest) -> str:
        """Write a manifest, before the files it names; returns its name."""
        data = manifest.encoded()
        self.store.write(_manifest_key(sha256(data)), data, if_absent=True)
        return sha256(data)

    def state(self, manifest: str, content: Manifest, ledger: Ledger) -> Backup:
        """Sign that a manifest and all its files are here now; nothing new is signed for what the newest backup holds.

        Raises:
            HeadraceError: Something of it is missing: somebody removed it meanwhile.
        """
        if not self.store.exists(_manifest_key(manifest)) or self.missing(content):
            raise HeadraceError(f"{self.uri}: files of this backup were removed while it was made; run it again")
        while True:
            before = self.backups(ledger.verify_key())
            if before and before[-1].manifest == manifest:
                return before[-1]
            made = Backup(
                before[-1].number + 1 if before else 1,
                manifest,
                content.environment,
                datetime.now(UTC).isoformat(timespec="seconds"),
                len(content.files),
                content.size,
            )
            if self.store.write(_statement_key(made.number), ledger.sign(vars(made)), if_absent=True):
                return made

    def restate(self, backup: Backup, manifest: str, content: Manifest, ledger: Ledger) -> None:
        """Put another content in the place of a backup's, with its number and date.

        Raises:
            HeadraceError: Somebody else changed the backup meanwhile.
        """
        stated, seen = self._stated(_statement_key(backup.number), ledger.verify_key())
        size = {"files": len(content.files), "size": content.size}
        signed = ledger.sign({**vars(backup), "manifest": manifest, **size})
        if stated != backup or not self.store.replace(_statement_key(backup.number), seen, signed):
            raise HeadraceError(f"{self.uri}: backup {backup.number} was changed by somebody else; run again")

    def missing(self, manifest: Manifest) -> set[str]:
        """The hashes of files that are not here, or not whole."""
        wanted = {content.sha256: content.size for content in manifest.files.values()}
        held = {Path(stored.key).name: stored.size for stored in self.store.describe(_BLOBS)}
        return {name for name, size in wanted.items() if held.get(name) != size}

    def add(self, name: str, source: Path) -> None:
        """Store a file under its hash."""
        self.store.upload(source, _blob_key(name))

    def fetch(self, name: str, target: Path) -> None:
        """Bring a file, and check it.

        Raises:
            HeadraceError: It is missing or not what was backed up.
        """
        self.store.download(_blob_key(name), target)
        if file_digest(target) != name:
            target.unlink()
            raise HeadraceError(
                f"{self.uri}/{_blob_key(name)} is not what was backed up; `headrace backups --verify` says which "
                "backups hold it, restore another one with --backup"
            )

    def damaged(self, manifests: Mapping[str, Manifest], progress: Progress = silent) -> set[str]:
        """Read every file of some backups; returns the hashes of those that are missing or damaged."""
        wanted = {content.sha256: content.size for one in manifests.values() for content in one.files.values()}
        total, done, bad = sum(wanted.values()), 0, set()
        with TemporaryDirectory(prefix="headrace-verify-") as folder, ThreadPoolExecutor(WORKERS) as pool:

            def check(name: str) -> tuple[str, bool]:
                path = Path(folder, name)
                try:
                    self.fetch(name, path)
                except HeadraceError:
                    return name, False
                path.unlink()
                return name, True

            for name, whole in pool.map(check, sorted(wanted)):
                done += wanted[name]
                progress(done, total, "reading every file")
                if not whole:
                    bad.add(name)
        return bad

    def drop(self, backup: Backup) -> None:
        """Remove a backup; `sweep` removes the files that only it needed."""
        self.store.delete(_statement_key(backup.number))
        if backup.manifest not in self._needed():
            self.store.delete(_manifest_key(backup.manifest))

    def sweep(self, *, begun: bool = False) -> int:
        """Remove manifests and files that no backup needs; returns how many files.

        Args:
            begun: Also those of a backup that may be under way; it fails then, and is to be run again.
        """
        needed = self._needed()
        since = datetime.now(UTC) - _BEGUN
        held: set[str] = set()
        for stored in list(self.store.describe(_MANIFESTS)):
            name = Path(stored.key).stem
            if name in needed or (not begun and stored.written > since):
                held |= {content.sha256 for content in self.manifest(name).files.values()}
            else:
                self.store.delete(stored.key)
        going = [key for key in self.store.list(_BLOBS) if Path(key).name not in held]
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self.store.delete, going))
        return len(going)

    def _needed(self) -> set[str]:
        return {json.loads(self.store.read(key))["manifest"] for key in self.store.list(_STATEMENTS)}

    def _stated(self, key: str, public: Ed25519PublicKey) -> tuple[Backup, bytes]:
        data = self.store.read(key)
        where = f"{self.uri}/{key}"
        try:
            signed = dict(json.loads(data))
            backup = Backup(**{name: value for name, value in signed.items() if name not in _SIGNATURE})
        except (ValueError, TypeError) as error:
            raise HeadraceError(f"{where} is no statement of a backup; remove it to go on with the others") from error
        if problem := signature_problem(signed, public):
            raise HeadraceError(
                f"{where}: {problem}; give the key that the environment signed with, or another place for its backups"
            )
        if key != _statement_key(backup.number):
            raise HeadraceError(f"{where} is stored in the place of another; it says it is backup {backup.number}")
        return backup, data


_SIGNATURE = ("public_key", "signature")


def _statement_key(number: int) -> str:
    return f"{_STATEMENTS}{number:06}.json"


def _manifest_key(name: str) -> str:
    return f"{_MANIFESTS}{name}.json"


def _blob_key(name: str) -> str:
    return f"{_BLOBS}{name[:2]}/{name}"


def _numbers(keys: list[str]) -> str:
    numbers = [int(Path(key).stem) for key in keys]
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
