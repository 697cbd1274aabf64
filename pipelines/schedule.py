"""Recurring runs: what an environment's file wants against what Kubeflow Pipelines has."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from components.common.environment import Environment, Schedule
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, sha256
from pipelines.cron import Cron
from pipelines.kubeflow import Kfp, Recurring
from pipelines.submit import arguments, release_file

MARK = "headrace "
"""How the description of a recurring run begins that these functions made; others are left alone."""


@dataclass(frozen=True)
class Wanted:
    """A recurring run as the environment's file has it."""

    name: str
    pipeline: str
    version: str
    cron: Cron
    arguments: dict[str, Any]

    @property
    def description(self) -> str:
        """What tells it from any other recurring run, also from an earlier one of its name."""
        content = [self.pipeline, self.version, self.cron.expression, self.arguments]
        return f"{MARK}{sha256(canonical(content))[:16]}"


@dataclass(frozen=True)
class Step:
    """One thing to do; an unchanged recurring run is kept."""

    action: Literal["create", "replace", "delete", "keep"]
    name: str
    wanted: Wanted | None = None
    seen: tuple[Recurring, ...] = ()


def wanted(environment: Environment, schedules: Sequence[Schedule] | None = None) -> list[Wanted]:
    """Check an environment's schedules and put together what their runs are given.

    Raises:
        UsageError: A cron expression, recipe, pipeline or name is wrong.
    """
    chosen = environment.schedules if schedules is None else schedules
    names = [schedule.name for schedule in chosen]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"environment {environment.name}: schedules: {double} stands there twice")
    return [
        Wanted(
            schedule.name,
            schedule.pipeline,
            environment.release,
            Cron(schedule.cron, f"environment {environment.name}: schedules: {schedule.name}"),
            arguments(schedule.pipeline, environment, schedule.recipe, schedule.overrides, schedule.name),
        )
        for schedule in chosen
    ]


def compare(wants: Iterable[Wanted], seen: Sequence[Recurring]) -> list[Step]:
    """Find the difference between what is wanted and what there is; recurring runs of other making do not count."""
    own = [found for found in seen if found.description.startswith(MARK)]
    steps = []
    for want in wants:
        same_name = tuple(found for found in own if found.name == want.name)
        current = [found for found in same_name if found.description == want.description]
        if len(current) == 1 == len(same_name):
            steps.append(Step("keep", want.name, want, same_name))
        else:
            steps.append(Step("replace" if same_name else "create", want.name, want, same_name))
    kept = {step.name for step in steps}
    gone = sorted({found.name for found in own} - kept)
    return steps + [Step("delete", name, None, tuple(found for found in own if found.name == name)) for name in gone]


def apply(environment: Environment, kfp: Kfp) -> list[str]:
    """Make the recurring runs what the environment's file says; says what was done.

    A recurring run that an environment never had begins paused. One that changed keeps running, or stays paused.
    """
    return _carry_out(compare(wanted(environment), kfp.recurring()), kfp)


def move(environment: Environment, kfp: Kfp, pipeline: str, version: str) -> list[str]:
    """Have those recurring runs of a pipeline that are there run another version."""
    target = environment.model_copy(update={"release": version})
    seen = [found for found in kfp.recurring() if found.pipeline == pipeline]
    names = {found.name for found in seen if found.description.startswith(MARK)}
    chosen = [
        schedule for schedule in environment.schedules if schedule.pipeline == pipeline and schedule.name in names
    ]
    steps = compare(wanted(target, chosen), seen)
    return _carry_out([step for step in steps if step.wanted], kfp)


def switch(kfp: Kfp, names: Sequence[str], enabled: bool) -> list[str]:
    """Resume or pause recurring runs, all of Headrace's if none is named; says what was done."""
    done = []
    for found in _named(kfp, names):
        if found.enabled != enabled:
            kfp.enable(found.id, enabled)
            done.append(f"{'resumed' if enabled else 'paused'} {found.name}")
    return done


def delete(kfp: Kfp, names: Sequence[str]) -> list[str]:
    """Delete recurring runs, all of Headrace's if none is named; says what was done."""
    done = []
    for found in _named(kfp, names):
        kfp.delete_recurring(found.id)
        done.append(f"deleted {found.name}")
    return done


def _named(kfp: Kfp, names: Sequence[str]) -> list[Recurring]:
    own = [found for found in kfp.recurring() if found.description.startswith(MARK)]
    unknown = [name for name in names if name not in {found.name for found in own}]
    if unknown:
        known = ", ".join(sorted({found.name for found in own})) or "none, `headrace schedule apply` makes them"
        raise UsageError(f"there is no schedule {unknown[0]!r}; there: {known}")
    return [found for found in own if not names or found.name in names]


def _carry_out(steps: Iterable[Step], kfp: Kfp) -> list[str]:
    done = []
    for step in steps:
        if step.wanted and step.action != "keep":
            want = step.wanted
            # Created and resumed before the old one goes, so that whoever is interrupted leaves nothing that should run
            # paused; for the moment in between, two may start a run.
            enabled = any(found.enabled for found in step.seen)
            kfp.upload(want.pipeline, want.version, release_file(want.pipeline, want.version))
            if not any(found.description == want.description for found in step.seen):
                kfp.create_recurring(
                    want.name,
                    want.pipeline,
                    want.version,
                    want.cron.expression,
                    want.arguments,
                    want.description,
                    False,
                )
            now = [
                found for found in kfp.recurring() if (found.name, found.description) == (want.name, want.description)
            ]
            if not now:
                raise HeadraceError(f"{want.name} was created and is not there; try again")
            if enabled != now[0].enabled:
                kfp.enable(now[0].id, enabled)
            for found in (*(old for old in step.seen if old.id != now[0].id), *now[1:]):
                kfp.delete_recurring(found.id)
            state = "running" if enabled else "paused"
            done.append(f"{'created' if step.action == 'create' else 'replaced'} {want.name}, {state}")
        elif step.action == "delete":
            for found in step.seen:
                kfp.delete_recurring(found.id)
            done.append(f"deleted {step.name}")
    return done
