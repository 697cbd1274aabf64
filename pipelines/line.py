"""`headrace run`: the whole line on this machine, one pipeline after the other."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from components.common import audit
from components.common.documents import read_table
from components.common.environment import Environment
from components.common.errors import GateHold, HeadraceError
from components.common.ledger import DamagedArtifact, check_input
from components.common.observed import observe
from components.common.recipes import Recipe
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.vault import DamagedFile, Vault, files_of, is_sealed
from components.common.wrapping import open_vault
from components.data.ingest.read import fingerprint
from components.evaluation.gate.decide import VERDICT
from components.release.rollout import Rollout, connect
from components.release.services import InferenceServices
from pipelines.compile import load_pipeline
from pipelines.display import Display
from pipelines.local_run import PipelineRun, StepRun, run_pipeline, set_aside, when_stopped
from pipelines.pods import BUDGETS
from pipelines.rehearse import Rehearsal, rehearse, report_rehearsal
from serving.plane.client import plane_of

UNFOLDED = ("tune", "benchmark")
"""Steps whose reports are open when the run's report is opened."""


@dataclass(frozen=True)
class LineRun:
    """What a run of the line came to."""

    decision: str
    verdict: str
    rollout: Rollout
    rehearsal: Rehearsal | None
    question: str
    report: Path
    seconds: float


def run_line(recipe: Recipe, environment: Environment, display: Display) -> LineRun:
    """Run the line: base model served, dataset, tuning, evaluation, gate, canary, traffic, promotion.

    Args:
        recipe: What to do.
        environment: Where; its serving mode is `plane`.
        display: Shows how the run is getting on.

    Raises:
        GateHold: The gate said no; nothing was published. The report says why.
        HeadraceError: A step failed, or another run is under way.
    """
    home = Path(environment.home)
    began = time.monotonic()
    vault = open_vault(environment)
    with only_run(home), when_stopped(), run_folder(home, vault) as folder, _served(environment, display):
        arguments = {
            "recipe": _observed(recipe).parameter(),
            "environment": environment.parameter(),
        }
        runs: list[PipelineRun] = []
        with (folder / "run.log").open("w", encoding="utf-8") as log:
            for name in _pipelines(recipe, environment):
                display.say(f"[bold]{name}[/]")
                runs.append(run_pipeline(load_pipeline(name), arguments, home, log, display))
        released = runs[-1]
        asked = output_of(released, "curate", "questions", home, vault)
        with vault.opened(asked) as made:
            read = audit.Read("headrace run", f"file://{asked}", "traffic for the canary", f"file://{folder}")
            audit.note_folder(store_of(environment), made, read)
            questions = _questions(made)
        with vault.opened(output_of(released, "gate", "verdict", home, vault)) as made:
            decision, verdict = _verdict(made)
        rehearsal = None
        service = connect(environment, recipe.release.publish.name)
        if decision == "release" and service.status().candidate:
            service.set_percent(recipe.release.publish.canary_percent)
            rehearsal = _rehearse(questions, recipe, environment, display)
        rollout = service.status()
        seconds = time.monotonic() - began
        report = folder / "report.html"
        _write_report(report, vault, recipe, runs, decision, verdict, rollout, rehearsal, seconds)
    if decision != "release":
        raise GateHold(f"the gate holds this model: {verdict.rstrip('.')}; nothing was published; report: {report}")
    return LineRun(decision, verdict, rollout, rehearsal, questions[0], report, seconds)


@contextmanager
def only_run(home: Path) -> Iterator[None]:
    """Keep every other run and sweep out of a home.

    Raises:
        HeadraceError: One is under way there.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "run.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise HeadraceError(
                f"another run is under way in {home} (process {owner}); wait for it, or stop it with `kill {owner}`"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def run_folder(home: Path, vault: Vault) -> Iterator[Path]:
    """A folder for a run's log and report, which show excerpts of documents; sealed with the run's end.

    What a run left plain that was killed is sealed too.
    """
    folder = home / "runs" / f"{datetime.now():%Y-%m-%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        for path in files_of(home / "runs") if vault.seals else ():
            if not is_sealed(path):
                vault.seal_file(path, path, path.relative_to(home).as_posix())


@contextmanager
def _served(environment: Environment, display: Display) -> Iterator[None]:
    """Have the plane up; take it down again if the run that started it fails or is interrupted."""
    plane = plane_of(environment)
    started = plane.start()
    if started:
        display.say(f"serving plane up: {environment.serving.gateway}")
    try:
        yield
    except BaseException:
        if started:
            plane.stop()
        raise


def _pipelines(recipe: Recipe, environment: Environment) -> list[str]:
    """The base model goes first where nothing is served yet, so that the tuned one has a stable revision to meet."""
    served = InferenceServices(environment.serving).get(recipe.release.publish.name)
    return ["release_line"] if served else ["publish_base", "release_line"]


def _observed(recipe: Recipe) -> Recipe:
    """Note what sources and files beside the recipe look like now, so that a cached step notices when they change."""
    seen = observe(recipe)
    ingest = seen.data.ingest.model_copy(update={"observed": fingerprint(recipe.data.ingest.sources)})
    return seen.model_copy(update={"data": seen.data.model_copy(update={"ingest": ingest})})


def _step(run: PipelineRun, name: str) -> StepRun:
    return next(step for step in run.steps if step.name == name)


def output_of(run: PipelineRun, step: str, name: str, home: Path, vault: Vault) -> Path:
    """Find a step's output; a reused one may have been damaged since."""
    report = _step(run, step).report
    if report is None:
        raise HeadraceError(f"{step} left no report, so its outputs cannot be found; see the run's log")
    artifact = report.parent / name
    try:
        check_input(artifact, vault)
    except DamagedArtifact:
        set_aside(artifact, home)
        raise
    return artifact


def _verdict(verdict: Path) -> tuple[str, str]:
    record = json.loads((verdict / VERDICT).read_text("utf-8"))
    return record["decision"], record["sentence"]


def _questions(questions: Path) -> list[str]:
    messages = read_table(questions, ["messages"]).column("messages").to_pylist()
    return [dialogue[0]["content"] for dialogue in messages]


def _rehearse(questions: list[str], recipe: Recipe, environment: Environment, display: Display) -> Rehearsal:
    display.say("[bold]rollout[/]")
    display.begin(1)
    step = StepRun("traffic")
    display.started(step)
    began = time.perf_counter()
    try:
        rehearsal = rehearse(
            environment,
            recipe.release.publish.name,
            questions,
            recipe.traffic,
            lambda phase, done, total: display.progressed(step, done, total, f"{phase}: {done}/{total} requests"),
        )
    except BaseException:
        step.state = "failed"
        raise
    else:
        step.state = "done"
        step.metrics = {"requests": len(rehearsal.samples), "failed": rehearsal.failed}
        return rehearsal
    finally:
        step.seconds = time.perf_counter() - began
        display.finished(step)


def _write_report(
    path: Path,
    vault: Vault,
    recipe: Recipe,
    runs: list[PipelineRun],
    decision: str,
    verdict: str,
    rollout: Rollout,
    rehearsal: Rehearsal | None,
    seconds: float,
) -> None:
    report = Report(f"Headrace: {recipe.name}", verdict)
    metrics = {
        "Decision": decision,
        "Stable revision": rollout.stable,
        "Minutes": round(seconds / 60, 1),
        "Steps": sum(len(run.steps) for run in runs),
        "Reused": sum(step.state == "cached" for run in runs for step in run.steps),
    }
    if rehearsal:
        metrics["Failed requests"] = rehearsal.failed
    report.metrics(metrics)
    report.heading("Steps")
    for run in runs:
        for step in run.steps:
            note = "reused" if step.state == "cached" else f"{step.seconds:.1f} s"
            with suppress(OSError, ValueError, DamagedFile):  # a reused report may have been removed or damaged since
                page = Report.load(vault.read(step.report).decode()) if step.report else Report(step.name)
                report.section(page, note, folded=step.name not in UNFOLDED)
    if rehearsal:
        report.heading("Rollout")
        report.section(report_rehearsal(rehearsal), folded=False)
    report.heading("Time and memory")
    report.table(usage(runs), "Against the budget of each step on two cores")
    partial = path.with_suffix(".partial")
    partial.write_text(report.html(), "utf-8")
    partial.rename(path)


def usage(runs: list[PipelineRun]) -> list[dict[str, str | float]]:
    """Wall time and peak memory of every step beside its budget."""
    budgets = yaml.safe_load(BUDGETS.read_text("utf-8"))
    rows: list[dict[str, str | float]] = []
    for run in runs:
        for step in run.steps:
            budget = budgets.get(step.name, {})
            rows.append(
                {
                    "pipeline": run.name,
                    "step": step.name,
                    "seconds": "reused" if step.state == "cached" else round(step.seconds, 1),
                    "budget s": budget.get("seconds", ""),
                    "peak MiB": round(step.metrics.get("peak_mib", 0)),
                    "budget MiB": budget.get("mib", ""),
                }
            )
    return rows
