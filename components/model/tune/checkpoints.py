"""Checkpoints of a training in the store: whole or absent, the last few and the best, gone when it has ended well.

`checkpoints/<training>/<step>/` holds what transformers' Trainer saves of a step: weights as safetensors, and torch
files that are only ever read with `weights_only`. `complete.json` comes last and names every file with its SHA-256;
without it a checkpoint is none. A training is named by the digest of all that goes into it, so a changed recipe never
goes on from another's.
"""

import json
import shutil
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from components.common.code import code_digest
from components.common.errors import HeadraceError
from components.common.ledger import artifact_files, canonical, entry_of, file_digest, sha256
from components.common.options import Options
from components.common.sealed_store import SealedStore
from components.common.vault import DamagedFile
from components.model.tune import ranks

FOLDER = "checkpoints"
"""Folder of the store that keeps them."""
MARKER = "complete.json"
_LEFT_OUT = ("training_args.bin", "README.md")
"""What the trainer saves beside: a pickle of its arguments, which only unsafe loading reads, and an empty card."""
_BESIDE_THE_POINT = {"experiment", "trackers", "checkpoint_every", "keep_checkpoints"}
"""Options that change no weight."""


class Damaged(HeadraceError):
    """The files of a checkpoint are not those that were stored."""


def name_training(
    stage: str, inputs: Mapping[str, Path], options: Options, precision: str, libraries: Collection[str]
) -> str:
    """Digest of all that goes into a training.

    Args:
        stage: `area/name` of the step.
        inputs: Artifacts it reads, by name.
        options: How it trains.
        precision: What its option `precision` means on this machine.
        libraries: Distributions whose version matters.
    """
    return sha256(
        canonical(
            {
                "stage": stage,
                "inputs": {
                    name: entry_of(path) or sha256(canonical(artifact_files(path))) for name, path in inputs.items()
                },
                "options": options.model_dump(mode="json", exclude=_BESIDE_THE_POINT),
                "code": code_digest(),
                "libraries": {library: version(library) for library in libraries},
                "device": "cuda" if torch.cuda.is_available() else "cpu",
                "precision": precision,
                "processes": ranks.count(),
            }
        )
    )


class Checkpoints:
    """The checkpoints of one training.

    Args:
        store: Where they are.
        training: What `name_training` said.
        keep: How many of the newest stay.
    """

    def __init__(self, store: SealedStore, training: str, keep: int) -> None:
        self.damaged: list[int] = []
        self._store = store
        self._folder = f"{FOLDER}/{training}"
        self.uri = f"{store.uri}/{self._folder}"
        self._keep = keep

    def steps(self) -> list[int]:
        """Steps of which there is a whole checkpoint, in order."""
        found = (key.split("/") for key in self._store.list(f"{self._folder}/"))
        return sorted(int(parts[2]) for parts in found if len(parts) == 4 and parts[3] == MARKER)

    def publish(self, saved: Path, step: int, best: int = 0) -> None:
        """Put what the trainer saved of a step into the store; then remove what it replaces.

        Each of several processes gives what it saved; the checkpoint is there when the first has written the marker.

        Args:
            saved: Folder of the trainer.
            step: The step.
            best: Step whose checkpoint stays, however old it is.
        """
        for name in _LEFT_OUT:
            (saved / name).unlink(missing_ok=True)
        digests = {}
        for path in sorted(file for file in saved.rglob("*") if file.is_file()):
            name = path.relative_to(saved).as_posix()
            self._store.upload(path, f"{self._at(step)}/{name}")
            digests[name] = file_digest(path)
        shutil.rmtree(saved)
        if ranks.rank():
            self._store.write(self._part(step, ranks.rank()), canonical(digests))
        ranks.wait()
        if ranks.rank() == 0:
            for other in range(1, ranks.count()):
                digests |= json.loads(self._store.read(self._part(step, other)))
            self._store.write(f"{self._at(step)}/{MARKER}", canonical({"step": step, "files": digests}))
            self._prune(keep={*self.steps()[-self._keep :], best})
        ranks.wait()

    def bring_last(self, to: Path) -> int:
        """Fetch the newest whole checkpoint; a damaged one is removed and noted in `damaged`.

        Each of several processes calls it; a checkpoint that is damaged for one of them is for all.

        Args:
            to: Folder to write it to.

        Returns:
            Its step; 0 when there is none.

        Raises:
            HeadraceError: The store does not answer; nothing is known of the checkpoint then, and it stays.
        """
        for step in reversed(self.steps()):
            if not ranks.anyone(self._is_damaged(step, to)):
                return step
            self.damaged.append(step)
            if ranks.rank() == 0:
                self._remove(self._store.list(f"{self._at(step)}/"))
        shutil.rmtree(to, ignore_errors=True)
        return 0

    def bring(self, step: int, to: Path) -> None:
        """Fetch a checkpoint and check every byte of it.

        Raises:
            Damaged: A file is missing or another than was stored.
            HeadraceError: There is no such checkpoint, or the store does not answer.
        """
        shutil.rmtree(to, ignore_errors=True)
        stored = set(self._store.list(f"{self._at(step)}/"))
        try:
            for name, digest in json.loads(self._store.read(f"{self._at(step)}/{MARKER}"))["files"].items():
                if f"{self._at(step)}/{name}" not in stored:
                    raise LookupError(f"{name} is missing")
                self._store.download(f"{self._at(step)}/{name}", to / name)
                if file_digest(to / name) != digest:
                    raise ValueError(f"{name} is not what was stored")
        except (DamagedFile, ValueError, LookupError, TypeError) as error:
            raise Damaged(f"{self.uri}: the checkpoint of step {step:,} is damaged; delete it") from error

    def forget(self) -> None:
        """Remove all of them: the training has ended well."""
        if ranks.rank() == 0:
            self._prune(keep=set())

    def _is_damaged(self, step: int, to: Path) -> bool:
        try:
            self.bring(step, to)
        except Damaged:
            return True
        return False

    def _prune(self, keep: Collection[int]) -> None:
        self._remove(key for key in self._store.list(f"{self._folder}/") if int(key.split("/")[2]) not in keep)

    def _remove(self, keys: Iterable[str]) -> None:
        # The marker first: what is half removed is no checkpoint.
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{MARKER}")):
            self._store.delete(key)

    def _at(self, step: int) -> str:
        return f"{self._folder}/{step:08d}"

    def _part(self, step: int, rank: int) -> str:
        return f"{self._at(step)}/files-{rank}.json"
