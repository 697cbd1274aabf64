"""What code ran: a digest of the project's own sources, for caches and the ledger."""

import hashlib
import re
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_SUFFIXES = {".py", ".yaml", ".j2"}
_NAME = re.compile(r"[\w.-]+")


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


@cache
def commit() -> str:
    """The commit that is checked out, `+` after it when a file differs; the installed version outside a checkout."""
    try:
        asked = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"headrace {metadata.version('headrace')}"


@cache
def dependency_digest() -> str:
    """SHA-256 over the installed versions of what the project declares it stands on."""
    digest = hashlib.sha256()
    for name in sorted({found[0] for found in map(_NAME.match, metadata.requires("headrace") or ()) if found}):
        try:
            digest.update(f"{name}=={metadata.version(name)}\n".encode())
        except metadata.PackageNotFoundError:
            continue
    return digest.hexdigest()
