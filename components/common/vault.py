"""Sealed files: what is derived from documents, encrypted where it lies.

Envelope encryption. A data key is made at random for every writer and wrapped by a key that the writer does not hold in
the file: one of a local keyset, or one in Cloud KMS (`wrapping`). Each file has a key of its own, derived (HKDF) from
the data key, a random salt and the file's name, so no two files share a nonce space and a file cannot stand in for
another. Its content is AES-256-GCM (NIST SP 800-38D) over chunks in the STREAM construction (Hoang, Reyhanitabar,
Rogaway and Vizár, "Online authenticated-encryption and its nonce-reuse misuse-resistance", CRYPTO 2015): chunk i has
the nonce (i, is it the last), so that one that was moved, repeated, dropped or appended does not decrypt.

    magic (8) · length (4) · header, JSON: key, wrapped, salt, name · chunk 0 · … · chunk n

A chunk is up to 1 MiB and a tag of 16 bytes; every one but the last is full, so any place in the content is found by
arithmetic. The wrapped key is outside what is authenticated by it: wrapping it anew leaves the chunks as they are.
"""

import base64
import binascii
import hashlib
import io
import json
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from components.common.errors import HeadraceError
from components.common.store import PARTIAL

CHUNK = 2**20
"""Bytes of content in a chunk."""

HEADER = 2**13
"""Bytes within which a file's header ends: enough to read to know which key it needs."""

_MAGIC = b"\x89HRSEAL1"
_LENGTH, _SALT, _TAG = 4, 32, 16


class DamagedFile(HeadraceError):
    """A sealed file is not what was sealed."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; restore it from a backup")
        self.problem = problem


class Wrapping(Protocol):
    """Who wraps data keys."""

    def wrap(self, data_key: bytes) -> tuple[str, bytes]:
        """Wrap a data key; returns the id of the key that wrapped it, and the wrapped one."""

    def unwrap(self, key: str, wrapped: bytes) -> bytes:
        """Unwrap a data key; HeadraceError when the key is missing or the wrapped one was changed."""


@dataclass(frozen=True)
class Header:
    """What a sealed file begins with.

    Attributes:
        key: Id of the key that wrapped its data key.
        wrapped: The data key, wrapped.
        salt: What makes the file's key its own.
        name: What it was sealed as.
    """

    key: str
    wrapped: bytes
    salt: bytes
    name: str

    def encoded(self) -> bytes:
        """The bytes of it, magic and length among them."""
        fields = {
            "key": self.key,
            "wrapped": base64.b64encode(self.wrapped).decode(),
            "salt": base64.b64encode(self.salt).decode(),
            "name": self.name,
        }
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        if len(_MAGIC) + _LENGTH + len(text) > HEADER:
            raise HeadraceError(f"{self.name[:80]}… is too long a name for a sealed file; shorten it")
        return _MAGIC + len(text).to_bytes(_LENGTH, "big") + text


def read_header(file: BinaryIO, where: str) -> Header | None:
    """Read the header of a sealed file, and stand behind it; None, and stand at the beginning, when it is not sealed.

    Raises:
        HeadraceError: It is damaged.
    """
    beginning = file.read(len(_MAGIC) + _LENGTH)
    if not is_sealed(beginning):
        file.seek(0)
        return None
    length = int.from_bytes(beginning[len(_MAGIC) :], "big")
    text = file.read(length) if length <= HEADER else b""
    try:
        fields = json.loads(text)
        wrapped, salt = (base64.b64decode(fields[name], validate=True) for name in ("wrapped", "salt"))
        header = Header(fields["key"], wrapped, salt, fields["name"])
        if isinstance(header.key, str) and isinstance(header.name, str) and len(text) == length:
            return header
    except (ValueError, LookupError, TypeError, binascii.Error):
        pass
    raise _damaged(where)


def rewrap(source: Path, target: Path, anew: Callable[[str, bytes], tuple[str, bytes]]) -> None:
    """Copy a sealed file with its data key wrapped anew; its chunks stay as they are.

    Args:
        source: The file.
        target: Where to.
        anew: From the id of a key and what it wrapped to another key's.
    """
    with source.open("rb") as before, _written(target) as after:
        header = read_header(before, str(source))
        assert header, f"{source} is not sealed"
        key, wrapped = anew(header.key, header.wrapped)
        after.write(replace(header, key=key, wrapped=wrapped).encoded())
        shutil.copyfileobj(before, after, CHUNK)


class Vault:
    """Seals files, and opens those that are sealed; others pass as they are.

    Args:
        keys: Who wraps data keys; None opens nothing that is sealed.
        seals: Whether what is written from now on is sealed.
    """

    def __init__(self, keys: Wrapping | None = None, *, seals: bool = False) -> None:
        self.seals = seals
        self._keys = keys

    @cached_property
    def _writing(self) -> tuple[bytes, str, bytes]:
        """The data key of this writer, and how it is wrapped."""
        assert self._keys
        data_key = secrets.token_bytes(32)
        return data_key, *self._keys.wrap(data_key)

    def seal(self, source: BinaryIO, target: BinaryIO, name: str) -> None:
        """Seal what a file holds; it opens under this name, or the end of it, and no other."""
        data_key, key, wrapped = self._writing
        header = Header(key, wrapped, secrets.token_bytes(_SALT), name)
        target.write(header.encoded())
        write_chunks(source, target, _cipher(data_key, header))

    def seal_bytes(self, data: bytes, name: str) -> bytes:
        """Seal something small."""
        sealed = io.BytesIO()
        self.seal(io.BytesIO(data), sealed, name)
        return sealed.getvalue()

    def seal_file(self, source: Path, target: Path, name: str) -> None:
        """Write a file sealed; whole or not at all."""
        with source.open("rb") as plain, _written(target) as sealed:
            self.seal(plain, sealed, name)

    def open_file(self, source: Path, target: Path, name: str = "") -> None:
        """Write the content of a file; whole or not at all."""
        with self.open(source, name) as content, _written(target) as plain:
            shutil.copyfileobj(content, plain, CHUNK)

    def seal_tree(self, folder: Path, target: Path, name: str) -> None:
        """Write the files of a folder sealed, under their names below a name."""
        for path in files_of(folder):
            below = path.relative_to(folder)
            (target / below).parent.mkdir(parents=True, exist_ok=True)
            self.seal_file(path, target / below, f"{name}/{below.as_posix()}")

    def open(self, path: Path, name: str = "") -> BinaryIO:
        """Open a file to read its content, from any place on; one that is not sealed as it is.

        Args:
            path: The file.
            name: What it must have been sealed as, or the end of that.

        Raises:
            HeadraceError: Its key is missing, or it is not what was sealed under that name.
        """
        return self._opened(path.open("rb"), name, str(path))

    def open_bytes(self, data: bytes, name: str, where: str) -> bytes:
        """The content of what was read whole, as `open` does it."""
        return self._opened(io.BytesIO(data), name, where).read() if is_sealed(data) else data

    def read(self, path: Path) -> bytes:
        """The content of a small file."""
        with self.open(path) as content:
            return content.read()

    def digest(self, path: Path, name: str = "") -> str:
        """Hex SHA-256 of a file's content."""
        with self.open(path, name) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]

    def open_tree(self, folder: Path, target: Path) -> None:
        """Write the content of a folder's files."""
        for path in files_of(folder):
            below = path.relative_to(folder)
            (target / below).parent.mkdir(parents=True, exist_ok=True)
            self.open_file(path, target / below, below.as_posix())

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Path]:
        """A folder whose files can be read by whoever takes a path; where one is sealed, a copy that is removed."""
        if not any(map(is_sealed, files_of(folder))):
            yield folder
            return
        with TemporaryDirectory(prefix="headrace-open-") as scratch:
            self.open_tree(folder, Path(scratch, folder.name))
            yield Path(scratch, folder.name)

    def _opened(self, file: BinaryIO, name: str, where: str) -> BinaryIO:
        try:
            header = read_header(file, where)
            if header is None:
                return file
            if name and header.name != name and not header.name.endswith(f"/{name}"):
                raise DamagedFile(f"{where} was sealed as {header.name} and put in another's place")
            if self._keys is None:
                raise HeadraceError(f"{where} is sealed; read it in the environment that has its key")
            try:
                data_key = self._keys.unwrap(header.key, header.wrapped)
            except HeadraceError as error:
                raise HeadraceError(f"{where} is sealed: {error}") from error
            return read_chunks(file, _cipher(data_key, header), where)
        except BaseException:
            file.close()
            raise


def write_chunks(source: BinaryIO, target: BinaryIO, cipher: AESGCM) -> None:
    """Encrypt what a file holds from where it stands, with a key that no other file has."""
    chunk, number = source.read(CHUNK), 0
    while following := source.read(CHUNK):
        target.write(cipher.encrypt(_nonce(number, last=False), chunk, None))
        chunk, number = following, number + 1
    target.write(cipher.encrypt(_nonce(number, last=True), chunk, None))


def read_chunks(file: BinaryIO, cipher: AESGCM, where: str) -> BinaryIO:
    """Decrypt what stands behind where a file is, from any place on; closing it closes the file.

    Raises:
        DamagedFile: It is not what was encrypted; also raised while it is read.
    """
    return io.BufferedReader(_Content(file, cipher, where), CHUNK)


class _Content(io.RawIOBase):
    """The content of a sealed file that stands behind its header."""

    def __init__(self, file: BinaryIO, cipher: AESGCM, where: str) -> None:
        self._file, self._cipher, self._where = file, cipher, where
        self._begin = file.tell()
        size = file.seek(0, io.SEEK_END) - self._begin
        self._count = max(1, -(-size // (CHUNK + _TAG)))  # no content is one chunk too
        self._size = size - self._count * _TAG
        self._at = 0
        self._loaded: tuple[int, bytes] = (-1, b"")
        self._chunk(self._count - 1)  # what is cut short, or appended to, is found before anything of it is used

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        number, within = divmod(self._at, CHUNK)
        view = memoryview(buffer).cast("B")
        piece = self._chunk(number)[within : within + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()

    def _chunk(self, number: int) -> bytes:
        if self._loaded[0] != number:
            self._file.seek(self._begin + number * (CHUNK + _TAG))
            try:
                nonce = _nonce(number, last=number == self._count - 1)
                self._loaded = number, self._cipher.decrypt(nonce, self._file.read(CHUNK + _TAG), None)
            except InvalidTag as error:
                raise _damaged(self._where) from error
        return self._loaded[1]


@contextmanager
def _written(target: Path) -> Iterator[BinaryIO]:
    """A file that takes the target's place when it is written."""
    partial = target.with_name(f"{PARTIAL}{target.name}")
    try:
        with partial.open("wb") as file:
            yield file
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)


def files_of(folder: Path) -> Iterator[Path]:
    """The files of a folder, sorted, without those that a writer who died left half-written."""
    yield from sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(PARTIAL))


def is_sealed(file: Path | bytes) -> bool:
    """Whether a file is sealed, or what begins with some bytes."""
    if isinstance(file, bytes):
        return file.startswith(_MAGIC)
    with file.open("rb") as opened:
        return is_sealed(opened.read(len(_MAGIC)))


def _cipher(data_key: bytes, header: Header) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, header.salt, _MAGIC + header.name.encode()).derive(data_key))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _damaged(where: str) -> DamagedFile:
    return DamagedFile(f"{where} was changed or cut short since it was sealed")
