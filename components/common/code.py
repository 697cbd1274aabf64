"""What code ran: a digest of the project's own sources, for caches and the ledger."""

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_SUFFIXES = {".py", ".yaml", ".j2"}


@cache
def code_digest() -> str:
    """SHA-256 over the names and bytes of every source file of `components`."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in _SUFFIXES and path.is_file():
            data = path.read_bytes()
            digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()
