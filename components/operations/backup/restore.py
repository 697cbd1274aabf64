"""Restore a backup: where nobody reads it at first, cleared of what was erased since, checked, then put in place.

A home is brought together beside its place and renamed into it. A store without a home has no rename, so it is restored
below a root that no environment names yet; naming it is what makes it readable. Either leaves a note of how far it is,
so that whoever is killed can go on, and of another restore nobody takes half.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from components.common import audit, tombstones
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.keys import SUBJECTS, key_folder
from components.common.ledger import canonical, open_ledger
from components.common.sealed_store import store_of
from components.common.store import FileStore, Store
from components.operations.backup.contents import Contents, fingerprint_of, moved
from components.operations.backup.repository import WORKERS, Backup, Manifest, Progress, Repository, silent
from components.operations.backup.take import note
from components.operations.erase.work import replay

_NOTE = "restore.json"
_FETCHING, _FETCHED, _READY = "fetching", "fetched", "ready"
_IDLE = frozenset({"run.lock"})
"""What may lie in a home in which nothing is kept; its keys besides."""


@dataclass(frozen=True)
class Restored:
    """What was restored.

    Attributes:
        backup: Which backup.
        root: URI of where it is now.
        cases: Erasures that were carried out on it again.
        findings: What is wrong with its ledger, and was accepted.
        aside: Where the home is that was in its place; '' if there was none.
    """

    backup: Backup
    root: str
    cases: list[str]
    findings: list[str]
    aside: str


def restore(
    environment: Environment,
    source: str,
    to: str = "",
    number: int = 0,
    overwrite: bool = False,
    accept: bool = False,
    progress: Progress = silent,
) -> Restored:
    """Restore a backup. Interrupted, it goes on when it is called again in the same way, and comes to the same end.

    Args:
        environment: What was backed up; its key checks the backup, and its store, if there is one, says who was erased.
        source: Folder or bucket with the backups, as a URI.
        to: URI of the new home, or of the new store where the environment has no home; '' means the environment's.
        number: Which backup; 0 means the newest.
        overwrite: Put a home aside in which something is kept.
        accept: Put it in place though the ledger has findings.
        progress: Told how far it is.

    Raises:
        UsageError: Something is kept there already.
        HeadraceError: A key is missing, the backup was changed, or what was restored does not hold; nothing is
            readable then.
    """
    root = Contents(environment).root.uri
    if not environment.home and to in ("", root):
        raise UsageError(
            f"{root} is what {environment.name} reads; restore to an empty place with --to, and name it then"
        )
    target = moved(environment, to or root)
    stage = _Stage(target)
    if stage.state == _READY and number in (0, stage.number):
        done = stage.put_in_place()
        if _chosen(target, source, number)[0].manifest == done.backup.manifest:
            return done
        stage = _Stage(target)
    _refuse_overwriting(target, overwrite)
    backup, manifest = _chosen(environment, source, number)
    _check_keys(environment, manifest)
    stage.begin(backup)
    if target.home:
        _carry_keys(environment, stage.environment)
    repository = Repository(source)
    if stage.state == _FETCHING:
        fetch(repository, manifest, Contents(stage.environment).root, progress)
        stage.note(_FETCHED)
    cases = settle(repository, manifest, [environment, target], stage.environment, progress)
    contents = Contents(stage.environment)
    progress(0, 0, "verifying the ledger")
    findings = [f"{one.subject}: {one.problem}" for one in contents.ledger.verify()]
    if findings and not accept:
        raise HeadraceError(
            f"what was restored does not hold: {findings[0]} ({len(findings)} finding{'s' * (len(findings) > 1)}); "
            "nothing was put in place. Restore another backup with --backup, or accept it with --despite-findings"
        )
    contents.ledger.relocate(contents.root.uri, Contents(target).root.uri)
    note(contents.store, repository)
    stage.note(_READY, cases=cases, findings=findings)
    return stage.put_in_place()


def _refuse_overwriting(target: Environment, overwrite: bool) -> None:
    """Refuse to restore over something that is kept, unless told to put it aside.

    Raises:
        UsageError: Something is kept there.
    """
    kept = _kept(target)
    if kept and not target.home and not store_of(target).exists(_NOTE):
        raise UsageError(f"{target.store} holds {kept} already; restore to an empty place with --to")
    if kept and target.home and not overwrite:
        raise UsageError(
            f"{target.home} holds {kept} already; restore beside it with --to, or put it aside with --replace"
        )


def fetch(repository: Repository, manifest: Manifest, root: Store, progress: Progress = silent) -> None:
    """Bring every file of a backup that is not there yet, and check each by its hash.

    Raises:
        HeadraceError: One is missing or damaged.
    """
    there = {stored.key: stored.size for stored in root.describe()}
    wanted = {path: content for path, content in manifest.files.items() if there.get(path) != content.size}
    total, done = manifest.size, manifest.size - sum(content.size for content in wanted.values())
    with TemporaryDirectory(prefix=".partial-", dir=_scratch_in(root)) as scratch, ThreadPoolExecutor(WORKERS) as pool:

        def bring(numbered: tuple[int, str]) -> int:
            number, path = numbered
            temporary = Path(scratch, str(number))
            repository.fetch(wanted[path].sha256, temporary)
            if isinstance(root, FileStore):
                (root.root / path).parent.mkdir(parents=True, exist_ok=True)
                temporary.rename(root.root / path)
            else:
                root.upload(temporary, path)
                temporary.unlink()
            return wanted[path].size

        for size in pool.map(bring, enumerate(wanted)):
            done += size
            progress(done, total, "bringing files")


def settle(
    repository: Repository,
    manifest: Manifest,
    known: list[Environment],
    staged: Environment,
    progress: Progress = silent,
) -> list[str]:
    """Have the ledger of a restored environment speak of where it lies, and erase again what was ever erased.

    Args:
        repository: Where the backup lies, and beside it what was erased since.
        manifest: The backup.
        known: Environments whose stores may know of more that was erased.
        staged: The environment where the backup lies now.
        progress: Told what is being done.

    Returns:
        The cases that were replayed.

    Raises:
        HeadraceError: The key is missing under which people are named, or something could not be erased.
    """
    contents = Contents(staged)
    for root in {manifest.root, *(Contents(one).root.uri for one in known)} - {contents.root.uri}:
        contents.ledger.relocate(root, contents.root.uri)
    for store in (repository.store, *(store_of(one) for one in known)):
        if store.uri != contents.store.uri:
            tombstones.carry(store, contents.store)
            audit.carry(store, contents.store)
    if not tombstones.cases(contents.store):
        return []
    if not (key := key_folder(staged) / SUBJECTS).is_file():
        raise HeadraceError(
            f"{key} is missing, and without it nobody can tell what was erased; put the key there, no backup holds it"
        )
    progress(0, 0, "erasing again what was erased")
    return replay(staged, lambda said: progress(0, 0, said))


class _Stage:
    """Where a backup lies before it is in place, and a note of how far it is.

    Args:
        target: The environment that it becomes.
    """

    def __init__(self, target: Environment) -> None:
        self.target = self.environment = target
        self._notes: Store = store_of(target)
        self._key = _NOTE
        if target.home:
            home = Path(target.home).resolve()
            self.environment = moved(target, f"file://{home.with_name(f'{home.name}.restoring')}")
            self._notes, self._key = FileStore(home.parent), f"{home.name}.restoring.json"
        self._noted = json.loads(self._notes.read(self._key)) if self._notes.exists(self._key) else {}

    @property
    def state(self) -> str:
        """`fetching`, `fetched`, `ready`; '' when nothing was begun."""
        return self._noted.get("state", "")

    @property
    def number(self) -> int:
        """Which backup was begun."""
        return self._noted.get("backup", {}).get("number", 0)

    def begin(self, backup: Backup) -> None:
        """Begin anew, unless the same backup was begun before."""
        if self.state and self._noted["backup"] == vars(backup):
            return
        if self.state and not self.target.home:
            raise UsageError(
                f"backup {self.number} is being restored to {self.target.store}; go on with it (--backup "
                f"{self.number}), or choose another place with --to"
            )
        if self.target.home:
            shutil.rmtree(self.environment.home, ignore_errors=True)
        self.note(_FETCHING, backup=vars(backup))

    def note(self, state: str, **more: Any) -> None:
        """Write down how far it is."""
        self._noted = {**self._noted, **more, "state": state}
        self._notes.write(self._key, canonical(self._noted))

    def put_in_place(self) -> Restored:
        """Make what was restored readable; a home by one rename.

        Raises:
            HeadraceError: It cannot be renamed.
        """
        backup = Backup(**self._noted["backup"])
        aside = self._swap(backup) if self.target.home else ""
        self._notes.delete(self._key)
        root = Contents(self.target).root.uri
        return Restored(backup, root, self._noted["cases"], self._noted["findings"], aside)

    def _swap(self, backup: Backup) -> str:
        home, staged = Path(self.target.home).resolve(), Path(self.environment.home)
        aside = home.with_name(f"{home.name}.before-{backup.number:06}-{backup.manifest[:8]}")
        try:
            if staged.is_dir():
                if home.is_dir() and aside.exists():
                    self._remove_idle(home)
                elif home.is_dir():
                    home.rename(aside)
                staged.rename(home)
            if aside.is_dir():
                self._remove_idle(aside)
        except OSError as error:
            raise HeadraceError(
                f"{error.filename}: {error.strerror}; a home that is a mount cannot be renamed, restore to another"
            ) from error
        return str(aside) if aside.is_dir() else ""

    def _remove_idle(self, home: Path) -> None:
        """Remove a home in which nothing is kept; its keys were carried over."""
        if not _kept(moved(self.target, f"file://{home}")):
            shutil.rmtree(home)


def _chosen(environment: Environment, source: str, number: int) -> tuple[Backup, Manifest]:
    """A backup and what it holds, checked with the ledger's key, which is not made anew."""
    repository = Repository(source)
    backup = repository.backup(number, verify_key(environment))
    return backup, repository.manifest(backup.manifest)


def verify_key(environment: Environment) -> Ed25519PublicKey:
    """The key that checks backups.

    Raises:
        HeadraceError: It is missing; a new one would be of no use.
    """
    path = Path(environment.signing_key)
    if not path.is_file():
        raise HeadraceError(
            f"{path}, the key that signed the backups, is missing; put it there, for no backup holds it"
        )
    return open_ledger(environment).verify_key()


def _check_keys(environment: Environment, manifest: Manifest) -> None:
    """See that the keys are there without which the backup is of no use."""
    folder = key_folder(environment)
    for name, fingerprint in manifest.keys.items():
        path = folder / name
        if not path.is_file():
            raise HeadraceError(f"{path} is missing, and without it the backup is of no use; put the key there")
        if fingerprint_of(path) != fingerprint:
            raise HeadraceError(f"{path} is not the key that was there when the backup was made; put that one there")


def _carry_keys(environment: Environment, staged: Environment) -> None:
    """Have the keys of a home where its restored content comes together."""
    for secret in Contents(environment).secrets():
        copied = Path(staged.home, secret)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(environment.home, secret), copied)


def _kept(environment: Environment) -> str:
    """Something that a home or store keeps; '' if it keeps nothing but keys and what a stopped run left."""
    contents = Contents(environment)
    idle = _IDLE | set(contents.secrets())
    return next((key for key in contents.root.list() if key not in idle), "")


def _scratch_in(root: Store) -> str | None:
    """The folder for what is not whole yet, with nothing left in it; None lets the system choose."""
    if not isinstance(root, FileStore):
        return None
    for left in root.root.glob(".partial-*"):
        shutil.rmtree(left)
    root.root.mkdir(parents=True, exist_ok=True)
    return str(root.root)
