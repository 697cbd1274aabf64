"""What an environment keeps that cannot be made again: a laptop's home, or a cluster's store, file by file.

Left out are caches, logs and locks of what runs, and every key.
"""

import hashlib
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.keys import ERASURE, SUBJECTS, UNMASK, key_folder
from components.common.ledger import open_ledger
from components.common.sealed_store import store_of
from components.common.store import FileStore, Store, Stored
from components.common.wrapping import ENCRYPTION, keyset_file

NOTES = "backups/"
"""Where a store notes where its backups are."""

_SQLITE = re.compile(r"sqlite:/{3}(?P<path>[^?]+)")
_LEFT_OUT = ("cache/", "run.lock", "plane/")
_KEPT = ("plane/services/",)
"""What is served, which is below a folder that is left out."""
_BESIDE = ("journal", "shm", "wal")
"""What SQLite keeps beside a database that is in use."""
_UNFINISHED = re.compile(r"(^|/)(\.removed-|\.partial-)|\.(partial|damaged)(/|$)")


class Contents:
    """The files of an environment below one root.

    Args:
        environment: A laptop's, whose store lies in its home, or a cluster's, which has a store and no home.

    Raises:
        UsageError: The store lies outside the home.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.store = store_of(environment)
        self.ledger = open_ledger(environment)
        self.root: Store = FileStore(Path(environment.home).resolve()) if environment.home else self.store.inner
        if not f"{self.store.uri}/".startswith(f"{self.root.uri}/"):
            raise UsageError(
                f"{environment.name}: its store {self.store.uri} lies outside its home {self.root.uri}; give each an "
                "environment of its own to back them up"
            )
        below = self.store.uri.removeprefix(self.root.uri).strip("/")
        self.store_prefix = f"{below}/" if below else ""

    @property
    def database(self) -> str:
        """Path of MLflow's SQLite file below the root; '' when runs are tracked elsewhere."""
        found = _SQLITE.fullmatch(self.environment.tracking)
        path = f"file://{unquote(found['path'])}" if found else ""
        return path.removeprefix(f"{self.root.uri}/") if path.startswith(f"{self.root.uri}/") else ""

    def unreached(self) -> list[str]:
        """What the environment keeps that a backup of it does not hold, as sentences."""
        tracked = self.database or not self.environment.tracking
        return [] if tracked else [f"runs tracked at {self.environment.tracking}; back that server up itself"]

    def files(self) -> Iterator[Stored]:
        """Every file, the ledger's first: what it speaks of was there before it and so is listed after it.

        The database is not among them; `snapshot` copies it.
        """
        ledger = f"{self.store_prefix}ledger/"
        yield from self.root.describe(ledger)
        for stored in self.root.describe():
            if not stored.key.startswith(ledger) and not self._is_left_out(stored.key):
                yield stored

    def snapshot(self, target: Path) -> None:
        """Copy the database as it is at one moment, whoever is writing to it.

        Raises:
            HeadraceError: It is no database.
        """
        source = Path(self.root.uri.removeprefix("file://"), self.database)
        try:
            with (
                closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True, timeout=30)) as before,
                closing(sqlite3.connect(target)) as after,
            ):
                before.backup(after)
        except sqlite3.Error as error:
            raise HeadraceError(f"{source}: {error}; stop what uses it and run again") from error

    def keys(self) -> dict[str, str]:
        """Fingerprints of the keys without which the files are of no use, by their names in the folder of keys.

        The ledger's is not among them: what it signed tells whether it is the right one; nor is the keyset, which has
        new keys when it was rotated: what it sealed tells.
        """
        folder = key_folder(self.environment)
        own = {Path(self.environment.signing_key), folder / ERASURE, keyset_file(self.environment)}
        return {
            path.relative_to(folder).as_posix(): fingerprint_of(path)
            for path in sorted(self._key_files())
            if path not in own
        }

    def secrets(self) -> list[str]:
        """Paths below the root of every key that lies there; a backup holds none of them."""
        root = self.root.uri.removeprefix("file://")
        files = [path.resolve() for path in self._key_files()]
        return sorted(path.relative_to(root).as_posix() for path in files if path.is_relative_to(root))

    def _key_files(self) -> set[Path]:
        folder, signing = key_folder(self.environment), Path(self.environment.signing_key)
        # Where keys lie among other things, only those are keys that are known to be.
        apart = folder.resolve() != Path(self.root.uri.removeprefix("file://"))
        known = (SUBJECTS, ERASURE, UNMASK, ENCRYPTION)
        named = folder.rglob("*") if apart else [folder / name for name in known]
        return {path for path in (signing, *named) if path.is_file() and not path.name.startswith(".")}

    def _is_left_out(self, key: str) -> bool:
        if key.startswith(_KEPT):
            return False
        mine = _LEFT_OUT if self.environment.home else ()
        return (
            key.startswith((*mine, f"{self.store_prefix}{NOTES}"))
            or key in self._secrets
            or bool(self.database and key in (self.database, *(f"{self.database}-{end}" for end in _BESIDE)))
            or bool(_UNFINISHED.search(key))
        )

    @cached_property
    def _secrets(self) -> frozenset[str]:
        return frozenset(self.secrets())


def fingerprint_of(key: Path) -> str:
    """Tell the file of a key from others without telling the key."""
    return hashlib.sha256(b"headrace key file\0" + key.read_bytes()).hexdigest()[:16]


def moved(environment: Environment, root: str) -> Environment:
    """The same environment below another root, keys in its home among it.

    Args:
        environment: A laptop's or a cluster's.
        root: URI of the new home, or of the new store where there is no home.
    """
    if not environment.home:
        return Environment.model_validate(environment.model_dump() | {"store": root})
    old, new = str(Path(environment.home).resolve()), root.removeprefix("file://")

    def move(value: str, change: Callable[[str], str] = lambda path: path) -> str:
        head, found, tail = value.partition(change(old))
        return f"{head}{change(new)}{tail}" if found and tail[:1] in ("", "/") else value

    fields = {name: move(getattr(environment, name)) for name in ("home", "store", "signing_key", "keys")}
    fields["tracking"] = move(environment.tracking, lambda path: path.replace("%", "%25").replace("?", "%3F"))
    return Environment.model_validate(environment.model_dump() | fields)
