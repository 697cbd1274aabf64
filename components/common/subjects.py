"""Names for people and documents that say nothing about them: keyed hashes (HMAC-SHA-256) of a canonical form.

The same key gives the same name wherever it is computed: in the column `subjects` of a document, and in the list of
what was erased and may not come back. Without the key nobody can tell whose name it is, or test a guess.
"""

import hashlib
import hmac
import re
import unicodedata

WORDS = "words"
"""Kind of an identifier that is no number or address: a name, a user name. Others may have the same."""

_BITS = 160
"""Bits kept of a name: enough that no two people share one."""
_SPACE = re.compile(r"\s+")


def subject(key: bytes, kind: str, canonical: str) -> str:
    """Name a person by one of their identifiers.

    Args:
        key: The environment's key, from `keys.subject_key`.
        kind: Kind of the identifier: `email`, `phone`, …, as `data/mask` calls it, or `WORDS`.
        canonical: The form of it that `data/mask` compares by: an address in lower case, a number's digits.
    """
    return _name(key, f"subject {kind}", canonical)


def document(key: bytes, identifier: str) -> str:
    """Name a document by its id."""
    return _name(key, "document", identifier)


def text(key: bytes, revision: str) -> str:
    """Name a text by its SHA-256."""
    return _name(key, "text", revision)


def place(key: bytes, uri: str) -> str:
    """Name a place, whose own name may tell of somebody."""
    return _name(key, "place", uri)


def case(key: bytes, request: bytes) -> str:
    """Name a request by what it asks for, so that asking again is the same case."""
    return hmac.digest(key, b"headrace case\0" + request, hashlib.sha256).hex()[:16]


def key_id(key: bytes) -> str:
    """Tell a key from others without telling it."""
    return hashlib.sha256(b"headrace subject key id\0" + key).hexdigest()[:16]


def plain(value: str) -> str:
    """Bring words to the form in which they are compared: composed, case folded, single spaces."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", value).casefold())
    return _SPACE.sub(" ", folded).strip()


def _name(key: bytes, domain: str, value: str) -> str:
    return hmac.digest(key, f"headrace {domain}\0{value}".encode(), hashlib.sha256).hex()[: _BITS // 4]
