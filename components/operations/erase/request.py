"""A person's request to be erased, and the sealed file in which it travels.

A request names people by their identifiers, so it is encrypted (HPKE, RFC 9180: X25519, HKDF-SHA-256, AES-256-GCM) to
the environment's key where it is written, and opened only in the memory of the step that erases. Whoever seals needs
the public key alone.
"""

import json
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from pydantic import Field, ValidationError, field_validator

from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical
from components.common.options import Options, describe_validation, read_yaml
from components.operations.erase.match import recognise

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_MAGIC = b"headrace sealed request 1\n"


class Request(Options):
    """Who or what is to be erased."""

    reference: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,63}$",
        description="File number of the request; it stands in the certificate, so it must name nobody.",
    )
    identifiers: list[str] = Field(
        [], description="E-mail addresses, telephone and other numbers, names: all by which the person may be found."
    )
    documents: list[str] = Field([], description="Ids of documents that are to go whatever they hold.")

    @field_validator("identifiers")
    @classmethod
    def _long_enough(cls, values: list[str]) -> list[str]:
        for number, value in enumerate(values, 1):
            identifier = recognise(value)
            letters = [letter for letter in identifier.canonical if letter.isalnum()]
            if identifier.kind == "words" and len(letters) < (4 if identifier.canonical.isascii() else 2):
                raise ValueError(f"the identifier in place {number} is so short that it would be found everywhere")
        return values

    @field_validator("documents")
    @classmethod
    def _are_ids(cls, values: list[str]) -> list[str]:
        for number, value in enumerate(values, 1):
            if len(value) != 64 or not set(value) <= set("0123456789abcdef"):
                raise ValueError(f"what stands in place {number} is no document id of 64 characters")
        return values

    def content(self) -> bytes:
        """What is asked for, in one form, by which the case is named; the file number is not part of it."""
        identifiers = sorted({(one.kind, one.canonical) for one in map(recognise, self.identifiers)})
        return canonical({"identifiers": identifiers, "documents": sorted(set(self.documents))})


def read_request(path: Path) -> Request:
    """Read a request that a person wrote.

    Raises:
        UsageError: It is no request; the message repeats nothing that stands in it.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a request is a mapping of reference, identifiers and documents")
    return _validated(values, str(path))


def seal(request: Request, key: X25519PublicKey) -> bytes:
    """Encrypt a request to an environment's key."""
    return _MAGIC + _SUITE.encrypt(canonical(request.model_dump(mode="json")), key, info=_MAGIC)


def unseal(sealed: bytes, key: X25519PrivateKey) -> Request:
    """Open a sealed request.

    Raises:
        HeadraceError: It is none, was sealed to another key, or was changed.
    """
    if not sealed.startswith(_MAGIC):
        raise UsageError("that is no sealed request; make one with `headrace erase seal`")
    try:
        plain = _SUITE.decrypt(sealed.removeprefix(_MAGIC), key, info=_MAGIC)
    except (InvalidTag, ValueError) as error:
        raise HeadraceError(
            "the request was sealed to another environment's key, or was changed; seal it again with the key that "
            "`headrace erase key` prints"
        ) from error
    return _validated(json.loads(plain), "the sealed request")


def public_key(key: X25519PrivateKey) -> bytes:
    """The key that seals requests to an environment, as PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def read_public_key(path: Path) -> X25519PublicKey:
    """Read the key to seal requests with.

    Raises:
        UsageError: It is none.
    """
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        key = None  # type: ignore[assignment]
    if not isinstance(key, X25519PublicKey):
        raise UsageError(f"{path} is no key to seal requests with; `headrace erase key` prints it")
    return key


def _validated(values: Any, where: str) -> Request:
    try:
        request = Request.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_validation(error)}") from None  # the cause quotes the person's data
    if not request.identifiers and not request.documents:
        raise UsageError(f"{where}: it names neither identifiers nor documents; say who or what is to be erased")
    return request
