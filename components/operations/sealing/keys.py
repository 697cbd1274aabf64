"""Change the keys of what an environment keeps sealed: wrap data keys anew, seal what is plain, retire a key.

Every act goes file by file, each replaced whole, and finds by itself what is left to do: interrupted, it is run again.
"""

import io
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from components.common.environment import KEYSET, Environment
from components.common.errors import HeadraceError, UsageError
from components.common.sealed_store import stays_open
from components.common.store import SIDECAR, Store
from components.common.vault import HEADER, Header, is_sealed, read_header, rewrap
from components.common.wrapping import EnvironmentKeys, State, load_keyset
from components.operations.backup.repository import Progress, Repository, silent
from components.operations.backup.take import noted
from components.operations.erase.ground import File, Ground

Item = TypeVar("Item")

_SHOWING = ("artifacts/", "runs/")
"""What a home keeps of documents beside the store."""

_NUMBERS = frozenset({SIDECAR, "metrics", "executor_output.json", "executor_input.json", "executor-logs"})
"""Files of a run that KFP reads or writes by itself; on a cluster they lie in `runs/` of the store."""


@dataclass
class Survey:
    """Which keys are needed.

    Attributes:
        needed: Files of the environment by the id of the key that wrapped their data key.
        backups: The same of the files of its backups, by place.
        plain: Files of the environment that are to be sealed and are not.
        unseen: Places of backups that are not found, such as a disk that is not attached.
    """

    needed: Counter[str] = field(default_factory=Counter)
    backups: dict[str, Counter[str]] = field(default_factory=dict)
    plain: int = 0
    unseen: list[str] = field(default_factory=list)


def survey(environment: Environment, progress: Progress = silent) -> Survey:
    """Look which key every file needs."""
    ground, found = Ground(environment), Survey()
    for file in _each(list(ground.files()), "looking", progress):
        if header := _header(file.store, file.key):
            found.needed[header.key] += 1
        else:
            found.plain += _is_to_be_sealed(ground, file)
    for repository in map(Repository, noted(ground.store)):
        if not repository.is_there():
            found.unseen.append(repository.uri)
            continue
        counted = found.backups.setdefault(repository.uri, Counter())
        for key in _each(list(repository.store.list("blobs/")), f"looking at {repository.uri}", progress):
            if header := _header(repository.store, key):
                counted[header.key] += 1
    return found


def rotate(environment: Environment, progress: Progress = silent) -> tuple[str, int]:
    """Have another key wrap from now on, and wrap every data key of the environment with it; contents stay.

    A keyset gets a new key, unless an earlier rotation is not finished: that one is gone on with. On a cluster the
    first call only makes the key, for pods open what it wraps when their secret has it. In Cloud KMS the key's primary
    version is taken, which KMS changes.

    Returns:
        The id of the key that wraps now, and how many files were changed.

    Raises:
        HeadraceError: A key is missing, or the new one is to be given to the cluster first.
    """
    keys = _keys(environment)
    if environment.encryption == KEYSET and not (before := load_keyset(environment)).rotating:
        with_another = before.with_primary()
        with_another.write(before)
        if not environment.home:
            raise HeadraceError(
                f"{before.path} has another key now, {with_another.primary.id}, and nothing is wrapped with it yet; "
                "replace the secret headrace-keyset with that file, wait until no run is under way, and run "
                "`headrace keys rotate` again"
            )
    primary, _ = keys.wrap(secrets.token_bytes(32))

    @cache
    def anew(key: str, wrapped: bytes) -> tuple[str, bytes]:
        return keys.wrap(keys.unwrap(key, wrapped))

    changed = 0
    for file in _each(list(Ground(environment).files()), "wrapping anew", progress):
        if (header := _header(file.store, file.key)) and header.key != primary:
            changed += _change(file, partial(rewrap, anew=anew))
    if environment.encryption == KEYSET and (after := load_keyset(environment)).rotating:
        replace(after, rotating=False).write(after)
    return primary, changed


def seal_plain(environment: Environment, progress: Progress = silent) -> int:
    """Seal what was written before the environment named a key; returns how many files."""
    _keys(environment)
    ground, changed = Ground(environment), 0
    for file in _each(list(ground.files()), "sealing", progress):
        if _is_to_be_sealed(ground, file) and not _header(file.store, file.key):
            changed += _change(file, partial(ground.store.vault.seal_file, name=file.key))
    return changed


def retire(environment: Environment, key: str, progress: Progress = silent) -> None:
    """Remove a key from the keyset that nothing needs any more.

    Raises:
        UsageError: There is no such key, it wraps, or it is Cloud KMS's to remove.
        HeadraceError: Something needs it, or it cannot be seen whether a backup does.
    """
    if key.startswith("projects/"):
        _see_that_nothing_needs(environment, key, progress)
        raise UsageError(f"nothing needs {key}; disable it with `gcloud kms keys versions disable`")
    keyset = load_keyset(environment)
    known = {one.id: one.state for one in keyset.keys}
    if key not in known:
        raise UsageError(f"{keyset.path} has no key {key!r}; it has {', '.join(known)}")
    if known[key] == State.PRIMARY and environment.encryption == KEYSET:
        raise UsageError(f"{key} wraps what is written now; run `headrace keys rotate` first")
    if known[key] != State.RETIRED:
        _see_that_nothing_needs(environment, key, progress)
        keyset.without(key).write(keyset)


def _see_that_nothing_needs(environment: Environment, key: str, progress: Progress) -> None:
    found = survey(environment, progress)
    if found.needed[key]:
        raise HeadraceError(f"{found.needed[key]:,} files need {key}; run `headrace keys rotate`, then retire it")
    for place, counted in found.backups.items():
        if counted[key]:
            raise HeadraceError(
                f"{counted[key]:,} files of the backups in {place} need {key}; keep it until newer backups have taken "
                "their place (`headrace backup --keep`)"
            )
    if found.unseen:
        raise HeadraceError(f"the backups in {found.unseen[0]} are not found, and may need {key}; attach them first")


def _keys(environment: Environment) -> EnvironmentKeys:
    if not environment.encryption:
        raise UsageError(
            f"{environment.name} seals nothing; name `keyset` or gcp-kms://… as `encryption` in its file first"
        )
    return EnvironmentKeys(environment)


def _is_to_be_sealed(ground: Ground, file: File) -> bool:
    in_store = f"{file.store.uri}/{file.key}".startswith(f"{ground.store.uri}/")
    name = file.key.rpartition("/")[2]
    if (not in_store or file.key.startswith("runs/")) and (name in _NUMBERS or name.endswith(".metrics.json")):
        return False
    if in_store:
        return not stays_open(file.key, file.store.uri)
    return file.store is not ground.home or file.key.startswith(_SHOWING)


def _header(store: Store, key: str) -> Header | None:
    try:
        start = store.start(key, HEADER)
    except HeadraceError:
        if store.exists(key):
            raise
        return None  # it went since it was listed
    return read_header(io.BytesIO(start), f"{store.uri}/{key}") if is_sealed(start) else None


def _change(file: File, make: Callable[[Path, Path], None]) -> bool:
    """Put what is made of a file in its place; False if somebody replaced or deleted it meanwhile."""
    generation = file.store.generation(file.key)
    if generation is None:
        return False
    with TemporaryDirectory(prefix="headrace-sealing-") as folder, file.local() as path:
        made = Path(folder, "made")
        make(path, made)
        return file.store.upload_over(made, file.key, generation)


def _each(items: list[Item], note: str, progress: Progress) -> Iterator[Item]:
    for done, item in enumerate(items):
        progress(done, len(items), note)
        yield item
    progress(len(items), len(items), note)
