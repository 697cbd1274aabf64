"""Make a training again from its record, and compare what comes out byte for byte."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowException
from mlflow.entities import Run
from safetensors.torch import load_file

from components.common.code import code_digest, commit
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import SIDECAR, Ledger, artifact_digest, artifact_files, canonical, open_ledger, sha256
from components.common.sealed_store import SealedStore
from components.common.step import Context
from components.common.store import open_store
from components.model.launch.job import Job
from components.model.rebuild.results import Result, write_result
from components.model.tracking import PREFIX, REBUILT, RECIPE, SURROUNDINGS, find_run, read_file, surroundings
from components.model.versions import TRAINING, read_json

WORK = {"model/tune": "components.model.tune.adapt:run"}
"""What can be made again: the work of a stage."""


@dataclass(frozen=True)
class Rebuilt:
    """What making a training again came to.

    Attributes:
        run: Id of the run in MLflow.
        name: Its name.
        result: Reproduced, differs or cannot.
        reasons: What is missing, or which files differ.
        differences: What is not as it was then: code, libraries, machine.
        largest_difference: Largest difference between two weights; of the same bytes 0, -1 when nothing can be
            compared with.
    """

    run: str
    name: str
    result: Result
    reasons: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    largest_difference: float = -1.0
    losses: tuple[float, float] = field(default=(-1.0, -1.0))


class Missing(HeadraceError):
    """Something that a rebuild needs is not there any more."""


def rebuild(
    environment: Environment, subject: str, say: Callable[[str], None] = lambda line: None
) -> tuple[Rebuilt, str]:
    """Make a training again and keep the signed result.

    Args:
        environment: Where the run was recorded.
        subject: Id or name of the run, or the model version that was made of it.
        say: Told what is being done.

    Returns:
        The result, and its key in the store.

    Raises:
        UsageError: There is no such run.
        HeadraceError: The tracking server does not answer.
    """
    try:
        run = find_run(environment, subject)
    except MlflowException as error:
        raise HeadraceError(
            f"the tracking server {environment.tracking} does not say what {subject!r} was: "
            f"{str(error).splitlines()[0]}; check `tracking` of the environment and that the server runs"
        ) from error
    ledger = open_ledger(environment)
    try:
        rebuilt = _rebuild(environment, run, ledger, say)
    except Missing as error:
        rebuilt = Rebuilt(run.info.run_id, run.info.run_name or "", Result.CANNOT, (str(error),))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return rebuilt, write_result(ledger, asdict(rebuilt), now)


def _rebuild(environment: Environment, run: Run, ledger: Ledger, say: Callable[[str], None]) -> Rebuilt:
    tags = {name.removeprefix(PREFIX): value for name, value in run.data.tags.items() if name.startswith(PREFIX)}
    if "adapter" not in tags:
        raise Missing("the run recorded no adapter: it did not come to its end, or an older version made it")
    entry, output = _made_by(ledger, tags["adapter"])
    if entry["stage"] not in WORK:
        raise Missing(f"{entry['stage']} is no training that can be made again; known: {', '.join(WORK)}")
    differences = changes(tags, read_file(environment, run, SURROUNDINGS))
    with tempfile.TemporaryDirectory(prefix="headrace-rebuild-") as scratch:
        folder = Path(scratch)
        paths = {}
        for label, made_from in entry["inputs"].items():
            say(f"looking for {label} {made_from['digest'][:12]}")
            paths[label] = _bring(ledger, made_from["digest"], folder / label, label)
        paths[output] = made = folder / "made"
        made.mkdir()
        say("training again")
        torch.set_num_threads(int(tags["threads"]))
        options = _options(entry, read_file(environment, run, RECIPE))
        job = Job(WORK[entry["stage"]], entry["stage"], paths, (output,), options, environment.model_dump(mode="json"))
        job.run(_telling(say))
        try:
            kept = _bring(ledger, tags["adapter"], folder / "kept", "the adapter")
        except Missing:
            same = artifact_digest(made) == tags["adapter"]
            why = () if same else ("the adapter that it made is gone, so only its digest can be compared",)
            result = Result.REPRODUCED if same else Result.DIFFERS
            return Rebuilt(run.info.run_id, run.info.run_name or "", result, why, differences, 0.0 if same else -1.0)
        return _compared(run, kept, made, differences)


def _made_by(ledger: Ledger, digest: str) -> tuple[dict[str, Any], str]:
    """The ledger's entry of the training that made an adapter, and as which output."""
    for _, entry in ledger.entries():
        for output, made in entry["outputs"].items():
            if made["digest"] == digest:
                return entry, output
    raise Missing(f"the ledger has no entry that made the adapter {digest[:12]}: it was not made by a step")


def _options(entry: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a training, if they are those that the ledger knows; its runs are kept apart from the first."""
    area, _, step = entry["stage"].partition("/")
    options = recipe.get(area, {}).get(step, {})
    if sha256(canonical(options)) != entry["options"]:
        raise Missing("the options beside the run are not those that the ledger recorded")
    return {**options, "experiment": f"{options['experiment']}{REBUILT}"}


def changes(tags: Mapping[str, str], then: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what is not as it was when a run was recorded: code, libraries, machine.

    Args:
        tags: What the run recorded.
        then: Where it ran.
    """
    now = surroundings()
    found = []
    if tags.get("code") != code_digest():
        found.append(f"code: {tags.get('commit', 'unknown')} then, {commit()} now")
    for library in sorted({*then["libraries"], *now["libraries"]}):
        old, new = (where["libraries"].get(library, "none") for where in (then, now))
        if old != new:
            found.append(f"{library}: {old} then, {new} now")
    for what in ("python", "machine", "system", "device", "cuda", "auto_precision", "processes"):
        if what in then and then[what] != now[what]:
            found.append(f"{what}: {then[what]} then, {now[what]} now")
    return tuple(found)


def _bring(ledger: Ledger, digest: str, folder: Path, label: str) -> Path:
    """Bring an artifact of a digest from any copy that the ledger knows of and that still is what was recorded."""
    for name, entry in ledger.entries():
        outputs = [output for output, made in entry["outputs"].items() if made["digest"] == digest]
        for place in ledger.locations(name) if outputs else ():
            if place["output"] not in outputs:
                continue
            with _copy(place["uri"], folder, ledger) as found:
                if found and artifact_digest(found) == digest:
                    return found
    raise Missing(f"no copy of {label} ({digest[:12]}) is left; restore one from a backup, or look at `headrace gc`")


@contextmanager
def _copy(uri: str, folder: Path, ledger: Ledger) -> Iterator[Path | None]:
    """A copy of an artifact, opened where it is sealed; None when it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    if uri.startswith("file://"):
        source = Path(uri.removeprefix("file://"))
        if not source.is_dir():
            yield None
            return
        with ledger.vault.opened(source) as readable:
            shutil.copytree(readable, folder)
    else:
        root, _, prefix = uri.rpartition("/")
        store = SealedStore(open_store(root), ledger.vault)
        for key in list(store.list(f"{prefix}/")):
            store.download(key, folder / key.removeprefix(f"{prefix}/"))
    yield folder if folder.is_dir() else None


def _compared(run: Run, kept: Path, made: Path, differences: tuple[str, ...]) -> Rebuilt:
    """Compare what was made then with what was made now, but for what names the run."""
    old, new = artifact_files(kept), artifact_files(made)
    reasons = [
        f"{name}: {'differs' if name in old and name in new else 'is there once only'}"
        for name in sorted(old.keys() | new.keys())
        if name not in (TRAINING, SIDECAR) and old.get(name) != new.get(name)
    ]
    losses = [read_json(folder / TRAINING).get("losses", []) for folder in (kept, made)]
    if losses[0] != losses[1]:
        step = next((n for n, (a, b) in enumerate(zip(*losses, strict=False), 1) if a != b), min(map(len, losses)) + 1)
        reasons.append(f"losses: differ from step {step} on")
    last = tuple(float(values[-1]) if values else -1.0 for values in losses)
    return Rebuilt(
        run.info.run_id,
        run.info.run_name or "",
        Result.DIFFERS if reasons else Result.REPRODUCED,
        tuple(reasons),
        differences,
        largest_difference(kept, made),
        (last[0], last[1]),
    )


def largest_difference(kept: Path, made: Path) -> float:
    """The largest difference between two weights of the same name and place; infinite when shapes or names differ."""
    largest = 0.0
    for file in sorted({path.name for folder in (kept, made) for path in folder.glob("*.safetensors")}):
        if not (kept / file).is_file() or not (made / file).is_file():
            return float("inf")
        old, new = load_file(kept / file), load_file(made / file)
        if {name: value.shape for name, value in old.items()} != {name: value.shape for name, value in new.items()}:
            return float("inf")
        for name, value in old.items():
            largest = max(largest, (value.double() - new[name].double()).abs().max().item())
    return largest


def _telling(say: Callable[[str], None]) -> type[Context]:
    class Telling(Context):
        """Tells a person how far it is."""

        def progress(self, done: float, total: float, note: str = "") -> None:
            """Say it."""
            say(f"{done:g}/{total:g} {note}")

    return Telling
