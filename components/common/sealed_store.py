"""A store whose objects are sealed: written sealed if its environment says so, read whether they are or not."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from components.common.environment import Environment
from components.common.store import SIDECAR, Store, Stored, open_store
from components.common.vault import HEADER, DamagedFile, Vault, is_sealed
from components.common.wrapping import open_vault

_OPEN = ("ledger/", "audit/", "tombstones/", "erasures/", "holds/", "backups/", "encrypted/", "restore.json")
"""What stays as it is: what the store keeps about itself, hashes and signatures that must be checked without a key, and
what has a key of its own."""

_SERVED = "models/"
"""What KServe reads from a bucket by itself; on a laptop the serving plane opens it."""


def stays_open(key: str, uri: str) -> bool:
    """Whether an object of a store is written as it is in every environment."""
    served = not uri.startswith("file://") and key.startswith(_SERVED)
    return served or key.startswith(_OPEN) or key.rpartition("/")[2] == SIDECAR


class SealedStore:
    """A store seen through a vault.

    Args:
        inner: Where the objects are.
        vault: What seals and opens them. An object is sealed under its key.
    """

    def __init__(self, inner: Store, vault: Vault) -> None:
        self.inner = inner
        self.vault = vault
        self.uri = inner.uri

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        return self._content(key, self.inner.read(key))

    def start(self, key: str, size: int) -> bytes:
        """See `Store.start`; what is stored, sealed or not."""
        return self.inner.start(key, size)

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Store.write`."""
        return self.inner.write(key, self._sealed(key, data), if_absent=if_absent)

    def replace(self, key: str, seen: bytes | None, data: bytes) -> bool:
        """See `Store.replace`."""
        stored = self.inner.read(key) if self.inner.exists(key) else None
        if (None if stored is None else self._content(key, stored)) != seen:
            return False
        return self.inner.replace(key, stored, self._sealed(key, data))

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        return self.inner.exists(key)

    def holds(self, source: Path, key: str) -> bool:
        """See `Store.holds`; of a sealed object the content is compared."""
        if not self.inner.exists(key) or not is_sealed(self.inner.start(key, HEADER)):
            return self.inner.holds(source, key)
        with TemporaryDirectory(prefix="headrace-store-") as folder:
            stored = Path(folder, "file")
            self.inner.download(key, stored)
            try:
                return self.vault.digest(stored, key) == self.vault.digest(source)
            except DamagedFile:
                return False

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `Store.list`."""
        return self.inner.list(prefix)

    def describe(self, prefix: str = "") -> Iterator[Stored]:
        """See `Store.describe`; sizes are those of what is stored."""
        return self.inner.describe(prefix)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self.inner.delete(key)

    def upload(self, source: Path, key: str) -> None:
        """See `Store.upload`."""
        with self._as_stored(source, key) as stored:
            self.inner.upload(stored, key)

    def generation(self, key: str) -> int | None:
        """See `Store.generation`."""
        return self.inner.generation(key)

    def upload_over(self, source: Path, key: str, generation: int) -> bool:
        """See `Store.upload_over`."""
        with self._as_stored(source, key) as stored:
            return self.inner.upload_over(stored, key, generation)

    def download(self, key: str, target: Path) -> None:
        """See `Store.download`."""
        self.inner.download(key, target)
        if is_sealed(target):
            self.vault.open_file(target, target, key)

    @contextmanager
    def _as_stored(self, source: Path, key: str) -> Iterator[Path]:
        """A file as it is stored under a key."""
        if not self._seals(key):
            yield source
            return
        with TemporaryDirectory(prefix="headrace-store-") as folder:
            sealed = Path(folder, "file")
            self.vault.seal_file(source, sealed, key)
            yield sealed

    def _seals(self, key: str) -> bool:
        return self.vault.seals and not stays_open(key, self.uri)

    def _sealed(self, key: str, data: bytes) -> bytes:
        return self.vault.seal_bytes(data, key) if self._seals(key) else data

    def _content(self, key: str, data: bytes) -> bytes:
        return self.vault.open_bytes(data, key, f"{self.uri}/{key}")


def store_of(environment: Environment) -> SealedStore:
    """The store of an environment."""
    return SealedStore(open_store(environment.store, environment.cmek), open_vault(environment))
