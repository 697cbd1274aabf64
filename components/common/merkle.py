"""Merkle trees over record ids, as in RFC 6962: leaf prefix 0x00, node prefix 0x01, the left part a power of two.

Leaves are sorted, so a tree answers both ways: an audit path shows that a record is in it, and the paths of the two
leaves between which it would be, that it is not.
"""

import hashlib
from collections.abc import Iterable, Sequence


def leaf_hash(record: str) -> bytes:
    """Hash of a leaf."""
    return hashlib.sha256(b"\0" + record.encode()).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node; its prefix differs from a leaf's, so neither can stand in for the other."""
    return hashlib.sha256(b"\1" + left + right).digest()


def merkle_root(records: Iterable[str]) -> str:
    """Root over record ids in sorted order, as hex; of none, the hash of nothing."""
    return root_of([leaf_hash(record) for record in sorted(records)])


def root_of(leaves: Sequence[bytes]) -> str:
    """Root over hashes of leaves in the order given."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return (level[0] if level else hashlib.sha256(b"").digest()).hex()


def audit_path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Hashes that lead from a leaf to the root, from below."""
    level, path = list(leaves), []
    while len(level) > 1:
        if (sibling := index ^ 1) < len(level):
            path.append(level[sibling])
        level, index = _above(level), index // 2
    return path


def root_from_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> str:
    """Root to which an audit path leads; '' when no leaf at `index` of `size` leaves has a path of that length."""
    if not 0 <= index < size:
        return ""
    found, last, rest = leaf, size - 1, list(path)
    while last:
        if index % 2 or index < last:
            if not rest:
                return ""
            sibling = rest.pop(0)
            found = node_hash(sibling, found) if index % 2 else node_hash(found, sibling)
        index, last = index // 2, last // 2
    return "" if rest else found.hex()


def _above(level: list[bytes]) -> list[bytes]:
    """The next level; what has no neighbour goes up as it is, which makes every left part a power of two."""
    paired = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[len(paired) * 2 :]
