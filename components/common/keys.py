"""The secret keys of an environment that are not the ledger's: for naming people, and for opening sealed requests.

Each is a file in a folder of its own: on a laptop made on first use, on a cluster mounted from a secret, and only into
the steps that need it.
"""

import base64
import binascii
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.store import open_store

SUBJECTS = "subjects/subjects.key"
"""32 bytes in base64: the key under which people, documents and identifiers are hashed."""

ERASURE = "erasure/erasure.pem"
"""X25519 private key that opens sealed requests."""

UNMASK = "unmask/unmask.pem"
"""X25519 private key that opens what masks stand for; on a cluster its holder keeps it elsewhere."""


def key_folder(environment: Environment) -> Path:
    """Where an environment's keys are: `keys`, or beside the ledger's key."""
    return Path(environment.keys) if environment.keys else Path(environment.signing_key).parent


def subject_key(environment: Environment) -> bytes:
    """The key that names people without telling who they are.

    Raises:
        HeadraceError: It is missing and cannot be made, or is no key.
    """
    path = key_folder(environment) / SUBJECTS
    text = _read_or_make(environment, path, lambda: base64.b64encode(secrets.token_bytes(32)) + b"\n")
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != 32:
        raise HeadraceError(f"{path} is not 32 bytes in base64; restore it, for nothing else names the same people")
    return key


def erasure_key(environment: Environment) -> X25519PrivateKey:
    """The key that opens sealed requests.

    Raises:
        HeadraceError: It is missing and cannot be made, or is no key.
    """
    path = key_folder(environment) / ERASURE
    if key := _x25519(_read_or_make(environment, path, _new_x25519)):
        return key
    raise HeadraceError(f"{path} is no X25519 key; restore it, or remove it and seal the open requests anew")


def unmask_key(environment: Environment, path: Path | None = None) -> X25519PrivateKey:
    """The key that opens what masks stand for.

    Args:
        environment: Whose; a laptop makes its key on first use.
        path: A file that holds it, instead of the environment's.

    Raises:
        HeadraceError: It is missing and cannot be made, or is no key.
    """
    place = path or key_folder(environment) / UNMASK
    if not path and not environment.home and not place.is_file():
        raise HeadraceError(f"{environment.name} does not hold the key that opens masks; give it with --key")
    try:
        pem = path.read_bytes() if path else _read_or_make(environment, place, _new_x25519)
    except OSError as error:
        raise HeadraceError(f"{path}: {error.strerror}") from error
    if key := _x25519(pem):
        return key
    raise HeadraceError(f"{place} is no X25519 private key in PEM; restore it, for nothing else opens what was sealed")


def _x25519(pem: bytes) -> X25519PrivateKey | None:
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_pem_private_key(pem, password=None)
        if isinstance(key, X25519PrivateKey):
            return key
    return None


def _new_x25519() -> bytes:
    return X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_or_make(environment: Environment, path: Path, make: Callable[[], bytes]) -> bytes:
    """Read a key; only a laptop makes what is missing, for a pod's would be gone with the pod."""
    try:
        if environment.home and not path.is_file():
            # Whole or absent, the owner's alone, and the first of several writers wins.
            open_store(f"file://{path.parent.resolve()}").write(path.name, make(), if_absent=True)
        return path.read_bytes()
    except OSError as error:
        raise HeadraceError(
            f"{path}: {error.strerror}; put the key there, on a cluster into the secret headrace-{path.parent.name} "
            "(manifests/README.md)"
        ) from error
