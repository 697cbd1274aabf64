"""Training runs in MLflow and, where a recipe asks for it, Weights & Biases: what went in, how it went, what came out.

Everything that makes a run findable is a tag `headrace.<name>`: the ledger entries and versions of its inputs, the
code, the digest of its recipe, of its adapter and, once registered, the model version. The run's name is derived from
what goes into it, so the same work has the same name and a report can give it beforehand.
"""

import contextlib
import functools
import logging
import os
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, Protocol

import mlflow
import torch
import yaml
from mlflow.entities import Run

from components.common.code import code_digest, commit
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, open_ledger, sha256
from components.common.trace import versions_before
from components.model.precision import resolve

Tracker = Literal["mlflow", "wandb"]
"""Who records a run."""

PREFIX = "headrace."
RECIPE, SURROUNDINGS = "recipe.yaml", "environment.yaml"
"""Files beside a run: the part of the recipe that shaped it, usable as a recipe; where it ran."""

LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")
"""Libraries whose version can change what training comes to."""

REBUILT = "-rebuild"
"""How the names of experiments end whose runs made others again."""

_KEY = "WANDB_API_KEY"


class Log(Protocol):
    """Records what a training step measured."""

    def __call__(self, metrics: dict[str, float], step: int) -> object:
        """Record metrics by name."""


class Recorder(Protocol):
    """One tracker's record of a run."""

    def measure(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics of a step."""

    def note(self, tags: Mapping[str, str]) -> None:
        """Record facts about the run."""

    def attach(self, name: str, text: str) -> None:
        """Keep a file beside the run."""


class Tracked:
    """A run under way, as its trackers see it; without trackers nothing is recorded."""

    def __init__(self, recorders: Sequence[Recorder]) -> None:
        self._recorders = recorders

    def __call__(self, metrics: dict[str, float], step: int) -> None:
        """Record metrics of a step, those of training and those of validation."""
        for recorder in self._recorders:
            recorder.measure(metrics, step)

    def note(self, **tags: str) -> None:
        """Record facts that are known only now, such as the digest of a checkpoint or of the adapter."""
        for recorder in self._recorders:
            recorder.note({f"{PREFIX}{tag}": value for tag, value in tags.items()})

    def attach(self, name: str, text: str) -> None:
        """Keep a text file beside the run."""
        for recorder in self._recorders:
            recorder.attach(name, text)


@contextmanager
def track(
    environment: Environment,
    experiment: str,
    name: str,
    settings: Mapping[str, Any],
    tags: Mapping[str, str],
    *,
    recipe: Mapping[str, Any],
    trackers: Sequence[Tracker] = ("mlflow",),
) -> Iterator[Tracked]:
    """Record a training run; it ends as failed when the body raises. Of several processes the first one records.

    Args:
        environment: Where the tracking server or file is.
        experiment: Name of the experiment, in Weights & Biases of the project; made when it does not exist.
        name: Name of the run, derived from what goes into it, so that a report can name it beforehand.
        settings: Parameters of the run.
        tags: What it was made from; each is recorded as `headrace.<name>`. Of those that are ledger entries, the
            dataset versions that they lead back to are recorded too.
        recipe: The part of the recipe that shaped the run, nested as in a recipe file.
        trackers: Who records it.

    Raises:
        HeadraceError: A tracker's package, key or server is missing.
    """
    if int(os.environ.get("RANK", "0")):
        yield Tracked([])
        return
    facts = {
        **tags,
        "recipe": sha256(canonical(recipe)),
        "code": code_digest(),
        "commit": commit(),
        "data": " ".join(versions_before(open_ledger(environment), tags.values(), "datasets")) or "outside the ledger",
    }
    where = surroundings()
    facts |= {key: str(where[key]) for key in ("python", "device", "threads", "processes")}
    begin = {"mlflow": _mlflow, "wandb": _wandb}
    with contextlib.ExitStack() as open_runs:
        opened = [
            open_runs.enter_context(begin[tracker](environment, experiment, name, settings)) for tracker in trackers
        ]
        run = Tracked(opened)
        run.note(**facts)
        run.attach(RECIPE, yaml.safe_dump(dict(recipe), sort_keys=False, allow_unicode=True))
        run.attach(SURROUNDINGS, yaml.safe_dump(where, sort_keys=False))
        yield run


def surroundings() -> dict[str, Any]:
    """Where training runs: Python, libraries, machine, device and its precision, threads and processes."""
    gpu = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "libraries": libraries(),
        "machine": platform.machine(),
        "system": platform.system(),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "cuda": torch.version.cuda or "none",
        "auto_precision": resolve("auto"),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def libraries() -> dict[str, str]:
    """Installed versions of the libraries that training stands on."""
    found = {}
    for library in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            found[library] = version(library)
    return found


def find_run(environment: Environment, subject: str) -> Run:
    """Find a finished run by its id, its name, or the model version that was made of it.

    Args:
        environment: Where runs are tracked.
        subject: An MLflow run id; a name such as `tune-4f0c…`, of several the newest; or `models/NAME/HASH`, of
            whose runs the one that made the adapter.

    Raises:
        UsageError: There is none.
    """
    client = _client(environment)
    with contextlib.suppress(mlflow.MlflowException):
        return client.get_run(subject)
    experiments = [
        experiment.experiment_id for experiment in client.search_experiments() if not experiment.name.endswith(REBUILT)
    ]
    asked = subject.rpartition("/")[2] if "/" in subject and not subject.startswith("models/") else subject
    if "'" not in asked and experiments:
        field = f"tags.`{PREFIX}model`" if asked.startswith("models/") else "attributes.run_name"
        where = f"{field} = '{asked}' and attributes.status = 'FINISHED'"
        found = client.search_runs(experiments, where, order_by=["attributes.start_time DESC"])
        if found:
            return min(found, key=lambda run: f"{PREFIX}adapter" not in run.data.tags)
    raise UsageError(
        f"{subject!r} is no finished run of {environment.tracking}: give a run id, a name such as tune-4f0c9f6a1b2c, "
        "or models/NAME/HASH; the report of model/tune and the model card name theirs"
    )


def read_file(environment: Environment, run: Run, name: str) -> dict[str, Any]:
    """Read a YAML file that was kept beside a run.

    Raises:
        HeadraceError: It is not there.
    """
    _client(environment)
    with tempfile.TemporaryDirectory(prefix="headrace-run-") as folder:
        try:
            path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=name, dst_path=folder)
            return yaml.safe_load(Path(path).read_text("utf-8"))
        except (mlflow.MlflowException, OSError) as error:
            raise HeadraceError(f"run {run.info.run_name} kept no {name}, so nobody knows how it was made") from error


def note_version(environment: Environment, run: str, model: str, uri: str, tags: Mapping[str, str]) -> None:
    """Note which model version was made of a run, and list it in MLflow's model registry; twice changes nothing.

    Args:
        environment: Where runs are tracked.
        run: Name of the run, as `training.json` has it.
        model: The version, `models/NAME/HASH`.
        uri: Where it is stored.
        tags: More about it; recorded as `headrace.<name>` with run and version.

    Raises:
        UsageError: There is no such run.
    """
    client, found = _client(environment), find_run(environment, run)
    noted = {f"{PREFIX}{tag}": value for tag, value in {**tags, "model": model}.items()}
    for tag, value in noted.items():
        client.set_tag(found.info.run_id, tag, value)
    name = model.split("/")[1]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    if not any(known.tags.get(f"{PREFIX}model") == model for known in client.search_model_versions(f"name = '{name}'")):
        client.create_model_version(name, uri, found.info.run_id, tags=noted)


def _client(environment: Environment) -> mlflow.MlflowClient:
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(environment.tracking)
    return mlflow.MlflowClient(environment.tracking)


class _Mlflow:
    """The run in MLflow, also when it has ended."""

    def __init__(self, client: mlflow.MlflowClient, run: str) -> None:
        self._client = client
        self._run = run

    def measure(self, metrics: Mapping[str, float], step: int) -> None:
        mlflow.log_metrics(dict(metrics), step=step, run_id=self._run)

    def note(self, tags: Mapping[str, str]) -> None:
        for tag, value in tags.items():
            self._client.set_tag(self._run, tag, value)

    def attach(self, name: str, text: str) -> None:
        self._client.log_text(self._run, text, name)


@contextmanager
def _mlflow(environment: Environment, experiment: str, name: str, settings: Mapping[str, Any]) -> Iterator[Recorder]:
    client = _client(environment)
    try:
        if mlflow.get_experiment_by_name(experiment) is None:
            mlflow.create_experiment(experiment, artifact_location=f"{environment.store}/tracking/{experiment}")
        mlflow.set_experiment(experiment)
    except mlflow.MlflowException as error:
        raise HeadraceError(
            f"the tracking server {environment.tracking} does not take experiment {experiment}: "
            f"{str(error).splitlines()[0]}; check `tracking` of the environment and that the server runs"
        ) from error
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params(dict(settings))
        yield _Mlflow(client, run.info.run_id)


class _Wandb:
    """The run in Weights & Biases; what is noted when it has ended, resumes it."""

    def __init__(self, begin: Callable[..., Any]) -> None:
        self._begin = begin
        self.run = begin()

    def measure(self, metrics: Mapping[str, float], step: int) -> None:
        self.run.log(dict(metrics), step=step)

    def note(self, tags: Mapping[str, str]) -> None:
        if not self.run._is_finished:
            self.run.config.update(dict(tags), allow_val_change=True)
            return
        resumed = self._begin(id=self.run.id, resume="allow")
        resumed.config.update(dict(tags), allow_val_change=True)
        resumed.finish()

    def attach(self, name: str, text: str) -> None:
        path = Path(self.run.dir, name)
        path.write_text(text, "utf-8")
        self.run.save(str(path), base_path=self.run.dir, policy="now")


@contextmanager
def _wandb(environment: Environment, experiment: str, name: str, settings: Mapping[str, Any]) -> Iterator[Recorder]:
    try:
        import wandb
    except ImportError as error:
        raise UsageError(
            "model.tune.trackers: wandb is not installed; pip install 'headrace[wandb]', or leave it out"
        ) from error
    offline = os.environ.get("WANDB_MODE") == "offline"
    if not offline and not os.environ.get(_KEY):
        raise UsageError(f"model.tune.trackers: wandb needs its key in the environment variable {_KEY}")
    folder = Path(environment.home or tempfile.gettempdir()) / "wandb"
    folder.mkdir(parents=True, exist_ok=True)
    recorder = _Wandb(
        functools.partial(
            wandb.init,
            project=experiment,
            name=name,
            config=dict(settings),
            dir=str(folder),
            mode="offline" if offline else "online",
            settings=wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True),
        )
    )
    try:
        yield recorder
    except BaseException:
        recorder.run.finish(exit_code=1)
        raise
    recorder.run.finish()
