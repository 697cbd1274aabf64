"""Have an erasure reach into the backups: whoever restores one later finds nothing of the person, nor do its files.

A backup is brought together again from its files, erased as an environment is, and backed up in its own place, with its
number and date; then the files go that no backup needs any more. One that holds every record of what was erased has
been cleared, which is how an interrupted clearing goes on.
"""

import shutil
from pathlib import Path
from tempfile import gettempdir

from components.common import tombstones
from components.common.environment import Environment
from components.common.keys import key_folder
from components.common.ledger import sha256
from components.common.sealed_store import store_of
from components.operations.backup.contents import Contents, moved
from components.operations.backup.repository import Backup, Progress, Repository, silent
from components.operations.backup.restore import fetch, settle, verify_key
from components.operations.backup.take import carry_to_backups, copy, noted


def clear_backups(environment: Environment, progress: Progress = silent) -> dict[str, list[int]]:
    """Erase in every backup of an environment what was ever erased from it. Done again, it changes nothing.

    Args:
        environment: The environment; its store notes where it was backed up.
        progress: Told how far it is.

    Returns:
        The numbers of the backups that were rewritten, by place; a place where no backup is found is not among them.

    Raises:
        HeadraceError: A backup cannot be read or cleared; run it again, or remove that backup.
    """
    carry_to_backups(environment)
    return {
        repository.uri: clear(environment, repository, progress)
        for repository in map(Repository, noted(store_of(environment)))
        if repository.is_there()
    }


def clear(environment: Environment, repository: Repository, progress: Progress = silent) -> list[int]:
    """Erase in the backups of one place; returns the numbers of those that were rewritten."""
    prefix = f"{Contents(environment).store_prefix}{tombstones.PREFIX}"
    erased = {sha256(repository.store.read(key)) for key in repository.store.list(tombstones.PREFIX)}
    if not erased:
        return []
    rewritten = []
    for backup in repository.backups(verify_key(environment)):
        files = repository.manifest(backup.manifest).files
        if erased - {content.sha256 for path, content in files.items() if path.startswith(prefix)}:
            _rewrite(environment, repository, backup, progress)
            rewritten.append(backup.number)
    repository.sweep(begun=True)
    return rewritten


def _rewrite(environment: Environment, repository: Repository, backup: Backup, progress: Progress) -> None:
    manifest = repository.manifest(backup.manifest)
    name = f"headrace-clearing-{backup.manifest[:16]}"
    folder = Path(environment.home).resolve().with_name(name) if environment.home else Path(gettempdir(), name)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        keys = {"signing_key": environment.signing_key, "keys": str(key_folder(environment))}
        staged = Environment.model_validate(moved(environment, f"file://{folder}").model_dump() | keys)
        contents = Contents(staged)
        fetch(repository, manifest, contents.root, progress)
        settle(repository, manifest, [environment], staged, progress)
        contents.ledger.relocate(contents.root.uri, manifest.root)
        cleared, _ = copy(contents, repository, manifest.root, progress)
        repository.restate(backup, repository.write_manifest(cleared), cleared, contents.ledger)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
