"""A step: a plain function over directories, with a thin Kubeflow Pipelines interface around it.

`@step(image)` declares the interface; `execute(run, locals())`, the one call in its body, does what every step needs:
validate the options, verify the inputs, give the function temporary outputs that are renamed into place when it has
succeeded, write metrics, report and ledger entry.
"""

import contextlib
import errno
import functools
import inspect
import json
import os
import resource
import shutil
import sys
import time
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

from kfp import dsl
from kfp.dsl.types.type_annotations import is_artifact_wrapped_in_Output
from pydantic import BaseModel, ValidationError

from components.common import audit, failures, ledger
from components.common.code import code_digest
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError, machine_trouble
from components.common.options import describe_validation
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.store import open_store
from components.common.vault import Vault
from components.common.wrapping import open_vault

VERSION = "0.1.0"
PROGRESS = "::progress "
ERROR = "::error "
DONE = "::done "
IMAGES = ("data", "model", "release")
MODEL_SERVER = "predictor"
"""The image that serves models; no step runs from it, so a release may do without."""
_FULL = 2**20
"""Free bytes below which a disk is full: a write that failed for want of space leaves next to nothing."""

if TYPE_CHECKING:
    from kfp.dsl.python_component import PythonComponent

Model = typing.TypeVar("Model", bound=BaseModel)


def image_reference(image: str) -> str:
    """Name an image by project version, as compiled pipelines do; runs and releases put a digest in its place."""
    return f"headrace/{image}:{VERSION}"


def step(image: Literal["data", "model", "release"]) -> "Callable[..., PythonComponent]":
    """Declare a step that runs from one of the project's images; nothing is installed when it runs."""
    return functools.partial(
        dsl.component, base_image=image_reference(image), packages_to_install=[], install_kfp_package=False
    )


@dataclass(frozen=True)
class Context:
    """What a step may know about its surroundings."""

    stage: str
    environment: Environment

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Report how far the step is; shown as a bar by `headrace run`, kept as a line in a pod's log."""
        line = json.dumps({"stage": self.stage, "done": done, "total": total, "note": note}, ensure_ascii=False)
        print(PROGRESS + line, flush=True)


@dataclass
class Outcome:
    """What a step has to say for itself.

    Attributes:
        counts_in: Records read.
        counts_out: Records written.
        dropped: Records left out, by reason; with `counts_out` it explains `counts_in`.
        metrics: Numbers worth plotting over runs.
        report: What a person should see.
        decision: Value of a step that returns one, such as a gate.
        head: Version to sign in the ledger: `datasets/<name>/<hash>`, `models/…`, `publications/…`.
        copies: URIs of further copies of an output, by output name.
    """

    counts_in: int
    counts_out: int
    report: Report
    dropped: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    decision: str = ""
    head: str = ""
    copies: dict[str, str] = field(default_factory=dict)


def execute(run: Callable[..., Outcome], arguments: Mapping[str, Any]) -> str:
    """Run a step's function on what its Kubeflow Pipelines interface received.

    Args:
        run: The step's work: one `Path` per artifact, a list of them for what shards made, then `options` and
            `context`.
        arguments: The `locals()` of the component that calls.

    Returns:
        The outcome's decision.

    Raises:
        HeadraceError: Options, inputs or the work are at fault. The message is also printed as a line of its own, so
            that whoever drives the run can show it without the traceback.
    """
    interface = _interface(run, sys._getframe(1))
    try:
        decision = _execute(run, arguments, interface)
    except Exception as error:
        if message := _explain(error):
            damaged = str(error.path) if isinstance(error, ledger.DamagedArtifact) else ""
            _announce(message, getattr(error, "exit_code", HeadraceError.exit_code), damaged)
        _leave_word(interface[0], arguments, message or f"{type(error).__name__}: {error}")
        raise
    with contextlib.suppress(Exception):  # an earlier attempt's word is no reason to fail
        environment = Environment.model_validate(arguments["environment"])
        failures.mend(store_of(environment), environment.name, _task(arguments))
    return decision


def _explain(error: Exception) -> str:
    """What a person can act on; '' for what nobody foresaw."""
    if isinstance(error, HeadraceError):
        return str(error)
    return machine_trouble(error) if isinstance(error, OSError) else ""


def _leave_word(stage: str, arguments: Mapping[str, Any], message: str) -> None:
    """Leave why the run failed for whoever tells people; the failure itself is what matters if that fails too."""
    if isinstance(arguments.get("status"), dsl.PipelineTaskFinalStatus):
        return  # an exit handler's own trouble is not why the run failed
    with contextlib.suppress(Exception):
        environment = Environment.model_validate(arguments["environment"])
        failure = failures.Failure(stage, message.strip().splitlines()[0])
        failures.leave(store_of(environment), environment.name, _task(arguments), failure)


def _task(arguments: Mapping[str, Any]) -> str:
    """Name a task of a run, the same for each of its attempts."""
    return ledger.sha256(_uri(arguments["metrics"]).encode())[:16]


def _announce(message: str, exit_code: int, damaged: str = "") -> None:
    line = {"message": message, "exit_code": exit_code, "damaged": damaged}
    print(ERROR + json.dumps(line, ensure_ascii=False), flush=True)


def _execute(
    run: Callable[..., Outcome], arguments: Mapping[str, Any], interface: tuple[str, list[str], list[str]]
) -> str:
    began = time.perf_counter()
    stage, input_names, output_names = interface
    environment = _validated(Environment, arguments["environment"], "environment")
    options = _validated(typing.get_type_hints(run)["options"], arguments["options"], stage)
    inputs = {name: _paths(arguments[name]) for name in input_names}
    outputs = {name: Path(arguments[name].path) for name in output_names}
    vault = open_vault(environment)
    checked = {label: ledger.check_input(path, vault) for label, path in _labelled(inputs)}

    partial = {name: path.with_name(f"{path.name}.partial") for name, path in outputs.items()}
    for path in partial.values():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        with contextlib.ExitStack() as opened:
            readable = {name: _opened(paths, vault, opened) for name, paths in inputs.items()}
            for (label, path), artifact in zip(_labelled(readable), _artifacts(arguments, inputs), strict=True):
                read = audit.Read(stage, _uri(artifact), "step of a run", _run(arguments), checked[label]["entry"])
                audit.note_folder(store_of(environment), path, read)
            made = partial
            if vault.seals:  # what the step writes is plain until it is sealed, and not where it will lie
                scratch = opened.enter_context(TemporaryDirectory(prefix="headrace-step-"))
                made = {name: Path(scratch, name) for name in outputs}
                for path in made.values():
                    path.mkdir()
            outcome = run(**readable, **made, options=options, context=Context(stage, environment))
            entry = ledger.make_entry(
                stage,
                checked,
                made,
                options.model_dump(mode="json"),
                code_digest(),
                {"in": outcome.counts_in, "out": outcome.counts_out, "dropped": outcome.dropped},
            )
            for name, path in partial.items():
                if vault.seals:
                    vault.seal_tree(made[name], path, outputs[name].name)
                (path / ledger.SIDECAR).write_bytes(entry)
                _replace(path, outputs[name])
    except Exception as error:
        # Each library has its own exception for it: some quote the system, some blame the model.
        full = os.strerror(errno.ENOSPC)
        for name, path in partial.items():
            if full in str(error) or (path.exists() and shutil.disk_usage(path).free < _FULL):
                raise OSError(errno.ENOSPC, full, str(outputs[name])) from error
        raise
    finally:
        for path in partial.values():
            shutil.rmtree(path, ignore_errors=True)

    for uri in outcome.copies.values():
        root, _, folder = uri.rpartition("/")
        open_store(root, environment.cmek).write(f"{folder}/{ledger.SIDECAR}", entry, if_absent=True)
    book = ledger.open_ledger(environment)
    locations = {
        name: [_uri(arguments[name]), *([outcome.copies[name]] if name in outcome.copies else [])]
        for name in output_names
    }
    name = book.record(entry, locations)
    if outcome.head:
        book.sign_head(outcome.head, name)
    report = Path(arguments["report"].path)
    report.parent.mkdir(parents=True, exist_ok=True)
    page = outcome.report.html().encode()
    report.write_bytes(vault.seal_bytes(page, report.name) if vault.seals else page)
    _write_metrics(arguments["metrics"], outcome, time.perf_counter() - began)
    print(DONE + json.dumps({"report": str(report), "metrics": arguments["metrics"].path}), flush=True)
    return outcome.decision


def _interface(run: Callable[..., Outcome], component: FrameType) -> tuple[str, list[str], list[str]]:
    """Read from the component's own annotations which of the artifacts that `run` takes go in and which come out."""
    declared = component.f_globals[component.f_code.co_name]
    annotations = inspect.get_annotations(getattr(declared, "python_func", declared), eval_str=True)
    artifacts = [name for name in inspect.signature(run).parameters if name not in ("options", "context")]
    outputs = [name for name in artifacts if is_artifact_wrapped_in_Output(annotations[name])]
    stage = "/".join(run.__module__.split(".")[1:3])
    return stage, [name for name in artifacts if name not in outputs], outputs


def _paths(artifacts: dsl.Artifact | list[dsl.Artifact]) -> Path | list[Path]:
    if isinstance(artifacts, list):
        return [Path(artifact.path) for artifact in artifacts]
    return Path(artifacts.path)


def _opened(paths: Path | list[Path], vault: Vault, opened: contextlib.ExitStack) -> Path | list[Path]:
    """Artifacts as the step reads them."""
    if isinstance(paths, Path):
        return opened.enter_context(vault.opened(paths))
    return [opened.enter_context(vault.opened(path)) for path in paths]


def _artifacts(arguments: Mapping[str, Any], names: Iterable[str]) -> Iterator[dsl.Artifact]:
    """The artifacts that go in, in the order of `_labelled`."""
    for name in names:
        yield from arguments[name] if isinstance(arguments[name], list) else [arguments[name]]


def _run(arguments: Mapping[str, Any]) -> str:
    """The run, by the folder that its step's metrics are in."""
    return _uri(arguments["metrics"]).rpartition("/")[0]


def _labelled(inputs: Mapping[str, Path | list[Path]]) -> Iterator[tuple[str, Path]]:
    """Name every artifact that goes in; those of an input that shards made, by their number."""
    for name, paths in inputs.items():
        if isinstance(paths, Path):
            yield name, paths
        else:
            yield from ((f"{name}.{number}", path) for number, path in enumerate(paths))


def _validated(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe_validation(error)}") from error


def _replace(source: Path, target: Path) -> None:
    if target.exists():
        if any(target.iterdir()) and not (target / ledger.SIDECAR).is_file():
            raise UsageError(f"{target} exists and is no step's output; choose another folder for it")
        shutil.rmtree(target)
    source.rename(target)


def _uri(artifact: dsl.Artifact) -> str:
    return artifact.uri if "://" in artifact.uri else f"file://{Path(artifact.path).resolve()}"


def _write_metrics(metrics: dsl.Metrics, outcome: Outcome, seconds: float) -> None:
    values = {
        "records_in": outcome.counts_in,
        "records_out": outcome.counts_out,
        **{f"dropped_{reason}": count for reason, count in outcome.dropped.items()},
        **outcome.metrics,
        "seconds": round(seconds, 2),
        "peak_mib": round(peak_mib(), 1),
    }
    for name, value in values.items():
        metrics.log_metric(name, value)
    path = Path(metrics.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, sort_keys=True), "utf-8")


def peak_mib() -> float:
    """Largest resident size so far of this process or of any child it waited for, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(peaks) * unit / 2**20
