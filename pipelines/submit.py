"""Start runs of an environment's release, and follow them to their end."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from components.common.environment import Environment
from components.common.errors import GateHold, HeadraceError, UsageError
from components.common.recipes import load_recipe
from pipelines.compile import load_documents
from pipelines.kubeflow import SUCCEEDED, Kfp, Run, Task
from pipelines.release import RELEASES, read_release

GIVEN = ("recipe", "environment", "schedule")
"""Parameters that nobody types."""
_POLL = 5.0
"""Seconds between looks at a run that is followed."""
_WORKING, _WELL = ("RUNNING", "PENDING"), ("SUCCEEDED", "SKIPPED")


def release_file(pipeline: str, version: str) -> Path:
    """The YAML of a pipeline of a release, every byte of which was verified.

    Raises:
        UsageError: The release is not here, or has no such pipeline.
        HeadraceError: The release was changed since it was cut.
    """
    if not version:
        raise UsageError("the environment has no release; cut one with `headrace cut` and put it there")
    release = read_release(version, RELEASES)
    if pipeline not in release.pipelines:
        raise UsageError(
            f"release {version} has no pipeline {pipeline!r}; it has {', '.join(sorted(release.pipelines))}"
        )
    return release.folder / f"{pipeline}.yaml"


def arguments(
    pipeline: str, environment: Environment, recipe: str = "", overrides: Sequence[str] = (), schedule: str = ""
) -> dict[str, Any]:
    """Put together what a run is given.

    Args:
        pipeline: The pipeline; its release's file says what it takes.
        environment: Where the run takes place.
        recipe: Name or file of the recipe; the environment's by default.
        overrides: `key=value`: a parameter of the pipeline's own, or a change to the recipe after the environment's.
        schedule: Schedule that starts the run.

    Raises:
        UsageError: The recipe or an override is wrong, or a parameter is missing.
    """
    specification, *_ = load_documents(release_file(pipeline, environment.release).read_text("utf-8"))
    parameters = specification["root"].get("inputDefinitions", {}).get("parameters", {})
    own = {}
    changes = list(environment.overrides)
    for override in overrides:
        key, equals, value = override.partition("=")
        if equals and key in parameters and key not in GIVEN:
            own[key] = yaml.safe_load(value) if parameters[key]["parameterType"] != "STRING" else value
        else:
            changes.append(override)
    chosen = load_recipe(recipe or environment.recipe, changes)
    given = {"recipe": chosen.parameter(), "environment": environment.parameter(), "schedule": schedule, **own}
    missing = [name for name, field in parameters.items() if name not in given and not field.get("isOptional")]
    if missing:
        example = f"{missing[0]}=VALUE"
        raise UsageError(f"{pipeline} needs {', '.join(missing)}; write `headrace submit {pipeline} {example}`")
    return {name: value for name, value in given.items() if name in parameters}


def submit(kfp: Kfp, pipeline: str, environment: Environment, recipe: str = "", overrides: Sequence[str] = ()) -> Run:
    """Start a run of the environment's release, uploading it if it is not there."""
    given = arguments(pipeline, environment, recipe, overrides)
    kfp.upload(pipeline, environment.release, release_file(pipeline, environment.release))
    return kfp.submit(pipeline, environment.release, given)


def follow(kfp: Kfp, run: Run, say: Callable[[str], None]) -> Run:
    """Wait for a run, saying what each step comes to.

    Returns:
        The run, which succeeded.

    Raises:
        GateHold: It succeeded, and its gate holds the model.
        HeadraceError: It failed or was stopped; the message names the step.
    """
    told: set[tuple[str, str]] = set()
    while True:
        for task in run.tasks:
            if (task.name, task.state) not in told and (task.state != "PENDING"):
                told.add((task.name, task.state))
                say(describe(task))
        if run.ended:
            break
        time.sleep(_POLL)
        run = kfp.run(run.id)
    if run.state != SUCCEEDED:
        raise HeadraceError(f"{run.name} {run.state.lower()}: {trouble(run)}; see {run.url}")
    if run.decision == "hold":
        raise GateHold(f"the gate holds the model of {run.name}; nothing was published; its verdict is at {run.url}")
    return run


def describe(task: Task) -> str:
    """One line on a step."""
    mark = "✓" if task.state in _WELL else "·" if task.state in _WORKING else "✗"
    took = f"  {task.seconds:,.0f} s" if task.seconds and task.state not in _WORKING else ""
    note = f"  {task.error}" if task.error else "" if task.state == SUCCEEDED else f"  {task.state.lower()}"
    return f"{mark} {task.name}{took}{note}"


def trouble(run: Run) -> str:
    """Why a run failed, as far as the API says: the first step that failed; a group fails with its step."""
    every = [task for task in run.tasks if task.state == "FAILED"]
    steps = [task for task in every if task.pods] or every[-1:]
    if not steps:
        return run.error or "the API names no step"
    failed = steps[0]
    log = f"`headrace logs {run.id} --step {failed.name}` shows its log"
    return f"{failed.name} failed" + (f": {failed.error}" if failed.error else "") + f"; {log}"
