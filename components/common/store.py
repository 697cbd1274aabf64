"""Where datasets, models and the ledger live: a directory (`file://`) or a Google Cloud Storage bucket (`gs://`).

Keys are relative, with forward slashes. Every write is whole or absent: a temporary file and a rename on disk,
generation preconditions on Cloud Storage. `if_absent` makes a write a race that exactly one writer wins.
"""

import base64
import fcntl
import filecmp
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from components.common.errors import HeadraceError, UsageError

if TYPE_CHECKING:
    from google.cloud.storage import Blob, Bucket

PARTIAL = ".partial-"
"""How the name of a file begins that is being written."""

SIDECAR = "ledger.json"
"""The ledger entry that an artifact carries."""

SINGLE_REQUEST_UPLOAD = 8 * 1024 * 1024
"""Bytes up to which Cloud Storage takes an object in one request."""


@dataclass(frozen=True)
class Stored:
    """An object: its key, its size in bytes, when it was written."""

    key: str
    size: int
    written: datetime


class Store(Protocol):
    """A flat space of immutable or atomically replaced objects below one root."""

    uri: str

    def read(self, key: str) -> bytes:
        """Return an object's bytes; HeadraceError when it does not exist."""

    def start(self, key: str, size: int) -> bytes:
        """Return at most so many bytes that an object begins with; HeadraceError when it does not exist."""

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """Write an object whole; False when `if_absent` and it existed already."""

    def replace(self, key: str, seen: bytes | None, data: bytes) -> bool:
        """Write an object whole if it still is what was seen, None for absent; False when somebody was faster."""

    def exists(self, key: str) -> bool:
        """Tell whether an object exists."""

    def holds(self, source: Path, key: str) -> bool:
        """Tell whether an object exists and is what a local file is."""

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with a prefix, sorted."""

    def describe(self, prefix: str = "") -> "Iterator[Stored]":
        """List the objects whose keys begin with a prefix, sorted by key."""

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens when there is none."""

    def upload(self, source: Path, key: str) -> None:
        """Write a local file as an object."""

    def generation(self, key: str) -> int | None:
        """Which writing of an object is there now, for `upload_over`; None when it does not exist."""

    def upload_over(self, source: Path, key: str, generation: int) -> bool:
        """Write a local file over an object; False when it was replaced or deleted since that generation."""

    def download(self, key: str, target: Path) -> None:
        """Write an object to a local file."""


def open_store(uri: str, cmek: str = "") -> Store:
    """Open a store.

    Args:
        uri: `file:///absolute/folder` or `gs://bucket/prefix`.
        cmek: Key in Cloud KMS that Cloud Storage encrypts new objects with; '' means the bucket's own.

    Raises:
        UsageError: The scheme is neither.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file" and rest.startswith("/"):
        return FileStore(Path(rest))
    if scheme == "gs" and rest:
        bucket, _, prefix = rest.partition("/")
        return CloudStore(bucket, prefix, cmek)
    raise UsageError(f"store {uri!r}: use file:///absolute/folder or gs://bucket/prefix")


def upload_tree(store: Store, folder: Path, prefix: str, last: str) -> str:
    """Publish a folder of files under a prefix so that readers see it whole or not at all.

    Files that are there already are left alone, those that are damaged or missing are written again.

    Args:
        store: Where to.
        folder: Files to write.
        prefix: Key prefix, without a trailing slash.
        last: Name of the file written last; its presence means that the tree is complete.

    Returns:
        The URI of the tree.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in sorted(files, key=lambda path: path.relative_to(folder).as_posix() == last):
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        if not store.holds(path, key):
            store.upload(path, key)
    return f"{store.uri}/{prefix}"


def _checked(key: str) -> str:
    if not key or key.startswith("/") or ".." in key.split("/"):
        raise UsageError(f"{key!r} is no store key: it must be relative and stay below the root")
    return key


class FileStore:
    """A store in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = f"file://{root}"

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        try:
            return (self.root / _checked(key)).read_bytes()
        except FileNotFoundError as error:
            raise HeadraceError(f"{self.uri}/{key} does not exist") from error

    def start(self, key: str, size: int) -> bytes:
        """See `Store.start`."""
        try:
            with (self.root / _checked(key)).open("rb") as file:
                return file.read(size)
        except FileNotFoundError as error:
            raise HeadraceError(f"{self.uri}/{key} does not exist") from error

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Store.write`."""
        target = self.root / _checked(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if if_absent and target.exists():
            return False
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if not if_absent:
                temporary.rename(target)
                return True
            try:
                target.hardlink_to(temporary)
            except FileExistsError:
                return False
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def replace(self, key: str, seen: bytes | None, data: bytes) -> bool:
        """See `Store.replace`; writers queue up on a lock beside the object."""
        target = self.root / _checked(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f"{PARTIAL}{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (target.read_bytes() if target.is_file() else None) != seen:
                return False
            return self.write(key, data)

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        return (self.root / _checked(key)).is_file()

    def holds(self, source: Path, key: str) -> bool:
        """See `Store.holds`."""
        target = self.root / _checked(key)
        return target.is_file() and filecmp.cmp(source, target, shallow=False)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `Store.list`."""
        folder = self.root / prefix.rpartition("/")[0]
        found = (path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
        yield from sorted(key for key in found if key.startswith(prefix) and f"/{PARTIAL}" not in f"/{key}")

    def describe(self, prefix: str = "") -> Iterator[Stored]:
        """See `Store.describe`."""
        for key in self.list(prefix):
            stat = (self.root / key).stat()
            yield Stored(key, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC))

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        (self.root / _checked(key)).unlink(missing_ok=True)

    def upload(self, source: Path, key: str) -> None:
        """See `Store.upload`; large files are copied in the kernel."""
        target = self.root / _checked(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_whole(source, target)

    def generation(self, key: str) -> int | None:
        """See `Store.generation`; every writing is a file of its own."""
        try:
            return (self.root / _checked(key)).stat().st_mtime_ns
        except FileNotFoundError:
            return None

    def upload_over(self, source: Path, key: str, generation: int) -> bool:
        """See `Store.upload_over`; who deletes or replaces in the moment between look and rename is not noticed."""
        if self.generation(key) != generation:
            return False
        self.upload(source, key)
        return True

    def download(self, key: str, target: Path) -> None:
        """See `Store.download`."""
        source = self.root / _checked(key)
        if not source.is_file():
            raise HeadraceError(f"{self.uri}/{key} does not exist")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_whole(source, target)


class CloudStore:
    """A store below a prefix of a Cloud Storage bucket."""

    def __init__(self, bucket: str, prefix: str = "", cmek: str = "") -> None:
        self.prefix = prefix.strip("/")
        self._cmek = cmek or None
        self.uri = f"gs://{bucket}" + (f"/{self.prefix}" if self.prefix else "")
        self._name = bucket
        self._opened: Bucket | None = None

    @property
    def _bucket(self) -> "Bucket":
        if self._opened is None:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import storage

            try:
                self._opened = storage.Client().bucket(self._name)
            except DefaultCredentialsError as error:
                raise HeadraceError(
                    f"{self.uri}: no Google Cloud credentials; run `gcloud auth application-default login`, or give "
                    "the pod's service account access to the bucket"
                ) from error
        return self._opened

    def read(self, key: str) -> bytes:
        """See `Store.read`."""
        return self._bytes(key, None)

    def start(self, key: str, size: int) -> bytes:
        """See `Store.start`."""
        from google.api_core.exceptions import RequestRangeNotSatisfiable

        try:
            return self._bytes(key, size)
        except RequestRangeNotSatisfiable:  # nothing is in it
            return b""

    def write(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        """See `Store.write`."""
        from google.api_core.exceptions import Forbidden, PreconditionFailed

        try:
            self._blob(key).upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=0 if if_absent else None
            )
        except PreconditionFailed:
            return False
        except Forbidden:
            # An account that may add objects and not replace them can be told so in the place of the precondition.
            if if_absent and self.exists(key):
                return False
            raise
        return True

    def replace(self, key: str, seen: bytes | None, data: bytes) -> bool:
        """See `Store.replace`."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        blob = self._bucket.get_blob(self._blob(key).name)
        generation = 0 if blob is None else blob.generation
        try:
            if (None if blob is None else blob.download_as_bytes(if_generation_match=generation)) != seen:
                return False
            self._blob(key).upload_from_string(
                data, content_type="application/octet-stream", if_generation_match=generation
            )
        except (NotFound, PreconditionFailed):
            return False
        return True

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        return self._blob(key).exists()

    def holds(self, source: Path, key: str) -> bool:
        """See `Store.holds`; compares the checksum that Cloud Storage keeps."""
        from google_crc32c import Checksum

        blob = self._bucket.get_blob(self._blob(key).name)
        if blob is None or blob.size != source.stat().st_size:
            return False
        checksum = Checksum()
        with source.open("rb") as file:
            for _ in checksum.consume(file, SINGLE_REQUEST_UPLOAD):
                pass
        return base64.b64encode(checksum.digest()).decode() == blob.crc32c

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `Store.list`; Cloud Storage lists in order."""
        for stored in self.describe(prefix):
            yield stored.key

    def describe(self, prefix: str = "") -> Iterator[Stored]:
        """See `Store.describe`."""
        root = f"{self.prefix}/" if self.prefix else ""
        for blob in self._bucket.client.list_blobs(self._name, prefix=root + prefix):
            yield Stored(blob.name.removeprefix(root), blob.size, blob.updated)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        from google.api_core.exceptions import NotFound

        try:
            self._blob(key).delete()
        except NotFound:
            return

    def upload(self, source: Path, key: str) -> None:
        """See `Store.upload`; large files go up in resumable chunks, checksummed."""
        self._upload(source, key, None)

    def generation(self, key: str) -> int | None:
        """See `Store.generation`."""
        blob = self._bucket.get_blob(self._blob(key).name)
        return None if blob is None else blob.generation

    def upload_over(self, source: Path, key: str, generation: int) -> bool:
        """See `Store.upload_over`."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        try:
            self._upload(source, key, generation)
        except (NotFound, PreconditionFailed):
            return False
        return True

    def download(self, key: str, target: Path) -> None:
        """See `Store.download`."""
        from google.api_core.exceptions import NotFound

        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{PARTIAL}{target.name}")
        try:
            self._blob(key).download_to_filename(str(temporary))
        except NotFound as error:
            raise HeadraceError(f"{self.uri}/{key} does not exist") from error
        temporary.rename(target)

    def _bytes(self, key: str, size: int | None) -> bytes:
        from google.api_core.exceptions import NotFound

        try:
            return self._blob(key).download_as_bytes(end=None if size is None else size - 1)
        except NotFound as error:
            raise HeadraceError(f"{self.uri}/{key} does not exist") from error

    def _upload(self, source: Path, key: str, generation: int | None) -> None:
        blob = self._blob(key)
        if source.stat().st_size > SINGLE_REQUEST_UPLOAD:
            blob.chunk_size = SINGLE_REQUEST_UPLOAD
        blob.upload_from_filename(
            str(source),
            content_type="application/octet-stream",
            checksum="crc32c",
            if_generation_match=generation,
        )

    def _blob(self, key: str) -> "Blob":
        name = f"{self.prefix}/{_checked(key)}" if self.prefix else _checked(key)
        return self._bucket.blob(name, kms_key_name=self._cmek)


def _copy_whole(source: Path, target: Path) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=PARTIAL)
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        Path(name).rename(target)
    finally:
        Path(name).unlink(missing_ok=True)
