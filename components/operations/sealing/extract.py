"""Bring something sealed out in plain, on purpose: whoever does so is noted in the audit log first."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from components.common import audit
from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.ledger import entry_of
from components.common.sealed_store import store_of
from components.common.store import open_store
from components.common.vault import read_header


def unseal(environment: Environment, source: str, out: Path, why: str) -> int:
    """Write the content of a sealed file, or of a folder of them.

    Args:
        environment: Whose keys open it.
        source: Path or URI.
        out: File or folder to write, which must not be there yet.
        why: The purpose, for the audit log.

    Returns:
        How many files were written.

    Raises:
        UsageError: There is nothing at the source, or something at the target.
        HeadraceError: A key is missing, or a file is not what was sealed.
    """
    if out.exists():
        raise UsageError(f"{out} is there already; choose another place")
    store = store_of(environment)
    uri = source.rstrip("/") if "://" in source else f"file://{Path(source).resolve()}"
    root, _, name = uri.rpartition("/")
    beside = open_store(root, environment.cmek)
    keys = [name] if beside.exists(name) else list(beside.list(f"{name}/"))
    if not keys:
        raise UsageError(f"{source} does not exist")
    with TemporaryDirectory(prefix="headrace-unseal-") as folder:
        for key in keys:
            beside.download(key, Path(folder, "sealed", key))
        for key in keys:
            path = Path(folder, "sealed", key)
            Path(folder, key).parent.mkdir(parents=True, exist_ok=True)
            store.vault.open_file(path, Path(folder, key), _name(path, key))
        content = Path(folder, name)
        grades, sources = audit.count(content)
        entry = entry_of(content)
        audit.note(store, audit.Read("headrace unseal", uri, why, entry=entry, grades=grades, sources=sources))
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(content, out)
    return len(keys)


def _name(path: Path, key: str) -> str:
    """What a file must have been sealed as: its place, or as much of it as it was told, as below an artifact."""
    with path.open("rb") as file:
        header = read_header(file, str(path))
    return header.name if header and f"/{key}".endswith(f"/{header.name}") else key
