"""Proof that a document was, or was not, in a dataset version: one file, checked with the ledger's public key alone.

The file holds the signed head of the version, the ledger entry that the head names, and one or two audit paths. The
entry's SHA-256 is its name, it states how many records there are and their Merkle root, and it lists the manifest whose
SHA-256 is the version's name. Who checks needs no store, no dataset and no network.
"""

import base64
import json
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from components.common.errors import HeadraceError, UsageError
from components.common.ledger import Ledger, canonical, local_copy, record_ids, sha256, signature_problem
from components.common.merkle import audit_path, leaf_hash, root_from_path, root_of

SCHEMA = 1
MANIFEST = "manifest.json"
"""The file of a dataset version whose SHA-256 names it."""

_ID = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Checked:
    """What a proof shows: a document was in a dataset version, or was not."""

    document: str
    version: str
    inside: bool
    signed_at: str
    records: int


def prove(ledger: Ledger, document: str, version: str) -> bytes:
    """Make the proof that a document is, or is not, in a dataset version.

    Args:
        ledger: The ledger that signed the version.
        document: Id of the document.
        version: `datasets/<name>/<hash>`, or the first eight characters or more of the hash.

    Raises:
        UsageError: There is no such version, or that is no document id.
        HeadraceError: No whole copy of the version is left.
    """
    if len(document) != 64 or not _ID.issuperset(document):
        raise UsageError(f"{document!r} is no document id; give all 64 characters, as `headrace ledger trace` shows it")
    head = _head(ledger, version)
    entry = ledger.entry(head["entry"])
    output, records = _records(entry, head["head"])
    ids, leaves = _ids(ledger, head, output, records)
    at = bisect_left(ids, document)
    inside = at < len(ids) and ids[at] == document
    shown = [at] if inside else [index for index in (at - 1, at) if 0 <= index < len(ids)]
    proof = {
        "schema": SCHEMA,
        "document": document,
        "head": head,
        "entry": entry.decode(),
        "leaves": [
            {"index": index, "record": ids[index], "path": [_base64(node) for node in audit_path(leaves, index)]}
            for index in shown
        ],
    }
    return canonical(proof) + b"\n"


def check(proof: bytes, public: Ed25519PublicKey) -> Checked:
    """Check a proof.

    Args:
        proof: The file's bytes.
        public: The ledger's public key.

    Raises:
        HeadraceError: It proves nothing; the message says why.
    """
    try:
        stated = json.loads(proof)
        if stated["schema"] != SCHEMA:
            raise HeadraceError(f"the proof has schema {stated['schema']}, this version checks {SCHEMA}")
        return _check(stated, public)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise HeadraceError("that is no proof; make one with `headrace ledger prove`") from error


def _check(proof: dict[str, Any], public: Ed25519PublicKey) -> Checked:
    head, document = proof["head"], proof["document"]
    if problem := signature_problem(head, public):
        raise HeadraceError(f"the proof does not hold: its signed head: {problem}")
    if sha256(proof["entry"].encode()) != head["entry"]:
        raise HeadraceError("the proof does not hold: its ledger entry is not the one that the signed head names")
    _, records = _records(proof["entry"].encode(), head["head"])
    root, size = records["merkle_root"], records["count"]
    shown = proof["leaves"]
    for leaf in shown:
        path = [base64.b64decode(node) for node in leaf["path"]]
        if root_from_path(leaf_hash(leaf["record"]), leaf["index"], size, path) != root:
            raise HeadraceError(
                f"the proof does not hold: the path of record {leaf['index']} does not lead to the root"
            )
    inside = len(shown) == 1 and shown[0]["record"] == document
    if not inside and not _between(document, shown, size):
        raise HeadraceError("the proof does not hold: the records shown are not the two between which it would be")
    return Checked(document, head["head"], inside, head["signed_at"], size)


def _between(document: str, shown: list[dict[str, Any]], size: int) -> bool:
    """Whether what is shown are neighbours with the document's place between them, or the one at an end."""
    match shown:
        case []:
            return size == 0
        case [before, after]:
            return after["index"] == before["index"] + 1 and before["record"] < document < after["record"]
        case [only]:
            first = only["index"] == 0 and document < only["record"]
            return first or (only["index"] == size - 1 and document > only["record"])
    return False


def _head(ledger: Ledger, version: str) -> dict[str, str]:
    found = [
        head
        for head in ledger.heads()
        if head["head"].startswith("datasets/")
        and (head["head"] == version or (len(version) >= 8 and head["head"].rpartition("/")[2].startswith(version)))
    ]
    if len(found) != 1:
        problem = "is no signed dataset version" if not found else "names several dataset versions"
        raise UsageError(f"{version!r} {problem}; give datasets/NAME/HASH, as `headrace ledger trace` shows it")
    return found[0]


def _records(entry: bytes, head: str) -> tuple[str, dict[str, Any]]:
    """The output of an entry that is a dataset version, and what is stated of its records."""
    version = head.rpartition("/")[2]
    for name, output in json.loads(entry)["outputs"].items():
        if output["files"].get(MANIFEST) == version and "records" in output:
            return name, output["records"]
    raise HeadraceError(f"the proof does not hold: the entry that made {head} has no such output")


def _ids(ledger: Ledger, head: dict[str, str], output: str, records: dict[str, Any]) -> tuple[list[str], list[bytes]]:
    """Sorted ids of a version and the tree's leaves, from a copy that has the recorded root."""
    for place in ledger.locations(head["entry"]):
        if place["output"] == output:
            with local_copy(place["uri"], ledger.vault) as folder:
                ids = sorted(record_ids(folder)) if folder else []
            leaves = [leaf_hash(record) for record in ids]
            if root_of(leaves) == records["merkle_root"]:
                return ids, leaves
    gone = [removal for removal in ledger.removals() if removal["entry"] == head["entry"]]
    why = (
        f": it was removed {gone[0]['signed_at'][:10]}, {gone[0]['reason']}" if gone else "; restore one from a backup"
    )
    raise HeadraceError(f"no whole copy of {head['head']} is left to prove anything from{why}")


def read_proof(path: Path) -> bytes:
    """Read a proof's file.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give the file that `headrace ledger prove` wrote") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
