"""Run a compiled pipeline on this machine with `kfp.local`, and say how it is getting on.

KFP's local runner reports through the root logger and the children's standard output. Both are read here, turned into
events for a display, and kept whole in the run's log.
"""

import builtins
import contextlib
import io
import json
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TextIO

import psutil
from kfp import local
from kfp.components import load_component_from_text
from kfp.dsl.graph_component import GraphComponent
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from components.common.errors import HeadraceError, UsageError
from components.common.step import DONE, ERROR, PROGRESS
from components.common.vault import Vault
from pipelines.compile import read_specification, render_local

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_STARTED = re.compile(r"Executing task '(?P<task>[^']+)'")
_FINISHED = re.compile(r"Task '(?P<task>[^']+)' finished with status (?P<status>\w+)")
_CACHED = re.compile(r"Task '?(?P<task>[\w-]+)'? cache hit \(key=(?P<key>[0-9a-f]+)\)")
_SKIPPED = re.compile(r"Skipping conditional task '?(?P<task>[\w-]+)'?")
_NEVER_FIRES = "Could not resolve CEL parameter"
_REPEATED = re.compile(r"-\d+$")


@dataclass
class StepRun:
    """One step of one run, as it was seen from outside."""

    name: str
    state: str = "running"
    seconds: float = 0.0
    metrics: dict[str, Any] = field(default_factory=dict)
    report: Path | None = None
    began: float = 0.0


class Watcher(Protocol):
    """What is told about a run's progress."""

    def begin(self, total: int) -> None:
        """A pipeline begins, with at most so many steps."""

    def started(self, step: StepRun) -> None:
        """A step begins."""

    def progressed(self, step: StepRun, done: float, total: float, note: str) -> None:
        """A step says how far it is."""

    def finished(self, step: StepRun) -> None:
        """A step ended; its state says how: done, cached, failed."""


@dataclass
class PipelineRun:
    """A finished pipeline: its outputs and its steps in order."""

    name: str
    outputs: dict[str, Any]
    steps: list[StepRun]


def run_pipeline(
    pipeline: GraphComponent, arguments: Mapping[str, Any], home: Path, log: TextIO, watcher: Watcher
) -> PipelineRun:
    """Run a pipeline to its end.

    Args:
        pipeline: The pipeline.
        arguments: Its parameters.
        home: Folder for artifacts and caches; steps that were done before with the same code, options and inputs are
            reused.
        log: Receives everything the steps print.
        watcher: Is told how the run is getting on.

    Raises:
        HeadraceError: A step failed; the message is the step's own, with its exit code. A damaged artifact is set
            aside, so that the next run makes it anew.
        KeyboardInterrupt: The run was interrupted; its children are gone.
    """
    specification = render_local(pipeline)
    events = _Events(home, log, watcher)
    watcher.begin(count_steps(read_specification(specification)))
    with _surroundings(home, events):
        local.init(
            runner=local.SubprocessRunner(use_venv=False),
            pipeline_root=str(home / "artifacts"),
            enable_caching=True,
            cache_root=str(home / "cache"),
            raise_on_error=True,
        )
        try:
            task = load_component_from_text(specification)(**arguments)
        except RuntimeError as error:
            raise events.failure(error) from error
    if events.never_fires:
        raise HeadraceError(
            f"a condition of {pipeline.name} could not be evaluated, so its branch never ran; see {log.name}"
        )
    return PipelineRun(pipeline.name, dict(task.outputs), events.steps)


def set_aside(artifact: Path, home: Path) -> None:
    """Move a damaged artifact of an earlier run out of the way: what is missing, KFP does not take from its cache."""
    if artifact.is_relative_to(home / "artifacts"):
        damaged = artifact.with_name(f"{artifact.name}.damaged")
        shutil.rmtree(damaged, ignore_errors=True)
        artifact.rename(damaged)


def folders_used(log: Path, home: Path, vault: Vault) -> set[Path]:
    """Folders of the artifacts that a run made or reused, by its log."""
    used: set[Path] = set()
    for line in vault.read(log).decode("utf-8", "replace").splitlines():
        if line.strip().startswith(DONE):
            with contextlib.suppress(ValueError, LookupError):
                used.add(Path(json.loads(line.strip().removeprefix(DONE))["report"]).parent)
        elif match := _CACHED.search(line):
            for entry in (home / "cache").glob(f"{match['key']}*.json"):
                used |= task_folders(entry)
    return used


def task_folders(cached: Path) -> set[Path]:
    """Folders of the artifacts that an entry of KFP's cache leads to; none if it cannot be read."""
    try:
        outputs = json.loads(cached.read_text("utf-8"))
        uris = [output["uri"] for output in outputs.values() if isinstance(output, dict) and "uri" in output]
    except (OSError, ValueError, AttributeError):
        return set()
    return {Path(uri).parent for uri in uris}


def count_steps(specification: PipelineSpec) -> int:
    """Count the steps a pipeline would run if every condition held."""

    def count(component: Any) -> int:
        if not component.HasField("dag"):
            return 1
        tasks = component.dag.tasks.values()
        return sum(count(specification.components[task.component_ref.name]) for task in tasks)

    return count(specification.root)


class _Here(threading.local):
    """What one thread of KFP's runner is at: the step it runs, and the line its child is writing."""

    step: StepRun | None = None
    line = ""


class _Events(io.TextIOBase):
    """The children's standard output and KFP's log records, read as events.

    Iterations of a loop run in threads of their own, so whatever a thread says is about the step it runs.
    """

    def __init__(self, home: Path, log: TextIO, watcher: Watcher) -> None:
        self.steps: list[StepRun] = []
        self.never_fires = False
        self._home = home
        self._log = log
        self._watcher = watcher
        self._here = _Here()
        self._error: dict[str, Any] = {}

    def write(self, text: str) -> int:
        *lines, self._here.line = (self._here.line + text).split("\n")
        for line in lines:
            self._log.write(line + "\n")
            self._read(line.strip())
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def filter(self, record: logging.LogRecord) -> bool:
        message = _ANSI.sub("", record.getMessage())
        self._log.write(message + "\n")
        if _NEVER_FIRES in message:
            self.never_fires = True
        if match := _STARTED.search(message):
            self._start(match["task"])
        elif self._here.step and (match := _FINISHED.search(message)):
            self._finish(self._here.step, "done" if match["status"] == "SUCCESS" else "failed")
        elif match := _CACHED.search(message):
            self._reuse(match["task"], match["key"])
        return False

    def failure(self, error: RuntimeError) -> HeadraceError:
        """Explain why the run failed, and set aside the artifact that was damaged."""
        for step in self.steps:
            if step.state == "running":
                self._finish(step, "failed")
        # What comes after it is an exit handler, or a step that needed nothing of it.
        where = next((step.name for step in self.steps if step.state == "failed"), "the pipeline")
        if not self._error:
            return HeadraceError(f"{where} failed; the last lines of {self._log.name} say why")
        if self._error["damaged"]:
            set_aside(Path(self._error["damaged"]), self._home)
        kind = UsageError if self._error["exit_code"] == UsageError.exit_code else HeadraceError
        return kind(f"{where}: {self._error['message']}")

    def _read(self, line: str) -> None:
        for marker, take in ((PROGRESS, self._progress), (DONE, self._done), (ERROR, self._fail)):
            if line.startswith(marker) and self._here.step:
                with contextlib.suppress(json.JSONDecodeError):
                    take(self._here.step, json.loads(line.removeprefix(marker)))

    def _progress(self, step: StepRun, event: dict[str, Any]) -> None:
        self._watcher.progressed(step, event["done"], event["total"], event["note"])

    def _done(self, step: StepRun, event: dict[str, Any]) -> None:
        step.report = Path(event["report"])
        step.metrics = json.loads(Path(event["metrics"]).read_text("utf-8"))

    def _fail(self, step: StepRun, event: dict[str, Any]) -> None:
        self._error = event

    def _start(self, task: str) -> None:
        self._here.step = StepRun(_step_name(task), began=time.perf_counter())
        self.steps.append(self._here.step)
        self._watcher.started(self._here.step)

    def _finish(self, step: StepRun, state: str) -> None:
        step.state, step.seconds = state, time.perf_counter() - step.began
        self._watcher.finished(step)

    def _reuse(self, task: str, key: str) -> None:
        step = StepRun(_step_name(task), "cached")
        for entry in (self._home / "cache").glob(f"{key}*.json"):
            outputs = json.loads(entry.read_text("utf-8"))
            step.report = Path(outputs["report"]["uri"])
            with contextlib.suppress(OSError, ValueError):  # metrics are for show; a damaged file stops nothing
                step.metrics = json.loads(Path(outputs["metrics"]["uri"]).read_text("utf-8"))
        self.steps.append(step)
        self._watcher.finished(step)


def _step_name(task: str) -> str:
    """Name of the step, without the number that KFP gives a second task of the same component."""
    return _REPEATED.sub("", task)


@contextlib.contextmanager
def _surroundings(home: Path, events: _Events) -> Iterator[None]:
    """Divert output, keep temporary files in one place that is removed, and leave no child behind."""
    temporary = tempfile.mkdtemp(prefix="headrace-")
    variables = {"TMPDIR": temporary, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
    before = {name: os.environ.get(name) for name in variables}
    printing = builtins.print
    root = logging.getLogger()
    os.environ.update(variables)
    tempfile.tempdir = None
    level = root.level
    root.setLevel(logging.INFO)
    root.addFilter(events)
    try:
        (home / "artifacts").mkdir(parents=True, exist_ok=True)
        _clear(home)  # what a power cut left
        with when_stopped(_child_ending()), contextlib.redirect_stdout(events), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.removeFilter(events)
        root.setLevel(level)
        builtins.print = printing
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        tempfile.tempdir = None
        shutil.rmtree(temporary, ignore_errors=True)
        _clear(home)


def _clear(home: Path) -> None:
    """Remove what a step that was stopped left half-written."""
    for partial in (home / "artifacts").rglob("*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def when_stopped(act: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Have Ctrl-C, `kill` and a closed terminal unwind alike; signals that were ignored (`nohup`) stay so.

    Args:
        act: What to do before unwinding.

    Raises:
        KeyboardInterrupt: A signal came.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        act()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _child_ending() -> Callable[[], None]:
    """Make what stops the running step, for which KFP would wait; children from before the run are not the run's."""
    theirs = set(psutil.Process().children(recursive=True))

    def end() -> None:
        for child in set(psutil.Process().children(recursive=True)) - theirs:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(child.pid) == os.getsid(0):
                    child.terminate()

    return end
