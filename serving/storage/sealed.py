"""Encrypted files of a model version, under a key that only predictors have.

Their content is encrypted in chunks as in `components.common.vault`. Every file has its own key, derived from the given
one, a salt and the file's name, so a file cannot stand in for another. The salt is a keyed digest of name and content:
encrypting the same file again gives the same bytes, and no nonce is used twice.

    magic (8) · key id (8) · salt (32) · chunk 0 · … · chunk n
"""

import base64
import binascii
import hashlib
import hmac
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from components.common.errors import HeadraceError
from components.common.ledger import file_digest
from components.common.vault import CHUNK, DamagedFile, read_chunks, write_chunks

_MAGIC = b"headrace"
_ID, _SALT = 8, 32
HEADER = len(_MAGIC) + _ID + _SALT

Keys = Mapping[str, bytes]
"""Keys by their id, the one to encrypt with last."""


def read_keys(folder: Path) -> Keys:
    """Read the keys of a folder, as a Kubernetes secret is mounted: one file per key, 32 bytes in base64.

    The last file by name encrypts, all of them decrypt; so a new key is added before an old one is removed.

    Raises:
        HeadraceError: There is none, or a file is not a key.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
        texts = {path: path.read_bytes() for path in files}
    except FileNotFoundError:
        texts = {}
    except OSError as error:
        raise HeadraceError(
            f"{error.filename}: {error.strerror}; a key must be a file that this user can read"
        ) from error
    if not texts:
        raise HeadraceError(
            f"{folder} holds no key to decrypt the model with; make the secret headrace-model-key in the namespace of "
            "the predictor"
        )
    keys = [_parse(path, text) for path, text in texts.items()]
    return {key_id(key): key for key in keys}


def key_id(key: bytes) -> str:
    """Name a key without telling it."""
    return hashlib.sha256(b"headrace key id" + key).hexdigest()[: 2 * _ID]


def seal(source: Path, target: Path, name: str, key: bytes) -> None:
    """Encrypt a file.

    Args:
        source: The file.
        target: Where to write it encrypted.
        name: Its name within the version; it decrypts under no other.
        key: 32 bytes.
    """
    salt = hmac.digest(_derive(key, b"", b"salt"), f"{name}\0{file_digest(source)}".encode(), "sha256")
    cipher = AESGCM(_derive(key, salt, name.encode()))
    with source.open("rb") as plain, target.open("wb") as sealed:
        sealed.write(_MAGIC + bytes.fromhex(key_id(key)) + salt)
        write_chunks(plain, sealed, cipher)


def unseal(source: Path, target: Path, name: str, keys: Keys) -> None:
    """Decrypt a file; what is written before a fault is found is removed.

    Raises:
        HeadraceError: No key fits, or the file is not what was encrypted.
    """
    with source.open("rb") as sealed:
        header = sealed.read(HEADER)
        if len(header) < HEADER or not header.startswith(_MAGIC):
            raise HeadraceError(
                f"{name} is no encrypted file; encrypt the version again with `headrace models encrypt`"
            )
        wanted, salt = header[len(_MAGIC) : -_SALT].hex(), header[-_SALT:]
        if wanted not in keys:
            raise HeadraceError(
                f"{name} was encrypted with the key {wanted}, and only {', '.join(keys)} is there; add that key to the "
                "secret headrace-model-key"
            )
        cipher = AESGCM(_derive(keys[wanted], salt, name.encode()))
        try:
            with read_chunks(sealed, cipher, name) as content, target.open("wb") as plain:
                shutil.copyfileobj(content, plain, CHUNK)
        except DamagedFile as error:
            target.unlink(missing_ok=True)
            raise HeadraceError(
                f"{name} was changed or cut short since it was encrypted; encrypt the version again with "
                "`headrace models encrypt`"
            ) from error


def _derive(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"headrace sealed file\0" + info).derive(key)


def _parse(path: Path, text: bytes) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise HeadraceError(f"{path} is not 32 bytes in base64; make a key with `openssl rand -base64 32`")
    return key
