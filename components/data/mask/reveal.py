"""Undo masks for somebody who holds the key and says why; that they looked is noted before they see anything."""

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.common import audit
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import Ledger, local_copy, open_ledger, sha256
from components.common.sealed_store import store_of
from components.data.mask.originals import sealed_of, unseal

STAGE, OUTPUT = "data/mask", "originals"
_SHORTEST = 8


@dataclass(frozen=True)
class Revealed:
    """What masks of a document stand for.

    Attributes:
        document: Its id.
        artifact: Where the originals lie.
        originals: By mask, the ways in which it was written, in their order.
    """

    document: str
    artifact: str
    originals: dict[str, list[str]]


def reveal(environment: Environment, document: str, key: X25519PrivateKey, why: str) -> list[Revealed]:
    """Open what the masks of a document stand for, wherever the ledger knows of it.

    Args:
        environment: Where it was masked.
        document: Its id, or at least the first eight characters.
        key: The private key of the recipe's `data.mask.reversible_to`.
        why: The purpose, for the audit log.

    Raises:
        HeadraceError: Nothing is kept of it, several documents begin so, or all was sealed to another key.
    """
    if len(document) < _SHORTEST or not set(document) <= set("0123456789abcdef"):
        raise UsageError(f"{document!r} is no document id; give at least its first {_SHORTEST} characters")
    found: list[Revealed] = []
    closed: dict[str, HeadraceError] = {}
    ledger = open_ledger(environment)
    for entry, uri in _places(ledger):
        with local_copy(uri, ledger.vault) as folder:
            for name, sealed in sealed_of(folder, document).items() if folder else ():
                if {name} != {one.document for one in found} | closed.keys() | {name}:
                    raise UsageError(f"several documents begin with {document}; give more of the id")
                # By the id's hash, so that the log names no document that is erased later.
                what = f"{uri}#{sha256(name.encode())[:16]}"
                audit.note(store_of(environment), audit.Read("headrace unmask", what, why, entry=entry))
                try:
                    found.append(Revealed(name, uri, unseal(sealed, name, key)))
                except HeadraceError as error:  # another run may have sealed to this key
                    closed[name] = error
    if closed and not found:
        raise closed.popitem()[1]
    if not found:
        raise HeadraceError(
            f"nothing is kept of what masks of {document} stand for: its recipe did not ask for it "
            "(`data.mask.reversible_to`), nothing in it was masked, or it is gone"
        )
    return found


def _places(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Where originals lie that the ledger knows of, and the entry that made them."""
    for name, entry in ledger.entries():
        if entry["stage"] == STAGE and entry["outputs"].get(OUTPUT, {}).get("files"):
            yield from ((name, place["uri"]) for place in ledger.locations(name) if place["output"] == OUTPUT)
