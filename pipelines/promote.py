"""Promote a release from one environment to the next, and take it back.

Checks come first and change nothing. Then the world follows in an order that a crash cannot spoil: a promotion uploads
the release, points the environment's file to it in one commit, and moves the recurring runs; a return moves the
recurring runs first, because what it leaves is in trouble. Running the same command again finishes what was begun.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.recipes import load_recipe
from pipelines.diff import Change, compare, describe
from pipelines.pointer import Repository, point, read_pointer, release_before, write_pointer
from pipelines.policy import examine
from pipelines.release import RELEASES, Release, changes_between, read_release

GATE = "gate"
"""Step that decides whether a model is released."""
_GIVEN = {"recipe": "STRUCT", "environment": "STRUCT", "schedule": "STRING"}
"""What a run is given without anybody typing it, with KFP's type."""


class Run(Protocol):
    """A pipeline run, as far as a promotion looks at it."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def state(self) -> str:
        """Its state in the KFP API, such as SUCCEEDED."""

    @property
    def decision(self) -> str:
        """What its gate decided; '' if the pipeline has none."""

    @property
    def url(self) -> str:
        """Link to it in the UI."""


class Pipelines(Protocol):
    """A Kubeflow Pipelines API, as far as a promotion needs it. Its errors are `HeadraceError`s."""

    def uploaded(self, pipeline: str, version: str) -> bytes | None:
        """The YAML that this version of the pipeline runs; None if it was not uploaded."""

    def last_run(self, pipeline: str, version: str) -> Run | None:
        """The run of this version that was started last; None if there is none."""

    def upload(self, pipeline: str, version: str, path: Path) -> object:
        """Upload a version; nothing happens if it is there already."""

    def move_schedules(self, pipeline: str, version: str) -> Sequence[str]:
        """Have the pipeline's recurring runs run this version; says what was done."""


@dataclass(frozen=True)
class Place:
    """An environment, the file that describes it and the API where its pipelines run."""

    environment: Environment
    file: Path
    pipelines: Pipelines

    @property
    def name(self) -> str:
        """Name of the environment."""
        return self.environment.name


@dataclass(frozen=True)
class Check:
    """One thing that was looked at or done.

    Attributes:
        what: What it is.
        ok: Whether it holds.
        fix: What to do if it does not.
        evidence: Whether it says why a promotion may be made, and belongs into its commit.
    """

    what: str
    ok: bool = True
    fix: str = ""
    evidence: bool = False


@dataclass(frozen=True)
class Promotion:
    """What is to be done, after every check has passed.

    Attributes:
        release: The release that will run.
        target: Where.
        previous: The release that runs there now; '' if none does.
        changes: What changes for the environment.
        evidence: Sentences on why it may.
        back: Whether this takes a promotion back.
    """

    release: Release
    target: Place
    previous: str
    changes: Sequence[Change]
    evidence: Sequence[str]
    back: bool = False

    @property
    def message(self) -> str:
        """The commit's message: what was decided, on what evidence, and what it changes."""
        name, version = self.target.name, self.release.version
        title = f"Return {name} to {version}" if self.back else f"Promote {version} to {name}"
        reasons = "\n".join(f"- {reason}" for reason in self.evidence)
        if not self.previous:
            return "\n\n".join(filter(None, [title, "No release ran here before.", reasons]))
        before = f"{self.previous} ran here before."
        changes = describe(self.changes) or "The pipelines are the same."
        return "\n\n".join(filter(None, [title, before, reasons, changes]))


Report = Callable[[Check], None]


def check_promotion(
    version: str, target: Place, source: Place | None, report: Report, folder: Path = RELEASES
) -> Promotion:
    """Check that a release may run in an environment.

    Args:
        version: The release; '' for the one that the source points to.
        target: Where it is to run.
        source: Where it must have run; None for the first environment of a chain.
        report: Told of every check as it is made.
        folder: Where releases live.

    Raises:
        UsageError: There is no such release, or no way from the source to the target.
        HeadraceError: A check failed; `report` was told which.
    """
    wanted = target.environment.policy.after
    if wanted and (source is None or source.name != wanted):
        came = f"not from {source.name}" if source else "and from nowhere else"
        raise UsageError(f"{target.name} takes releases from {wanted}, {came}: promote to {wanted} first")
    version = version or (source.environment.release if source else "")
    if not version:
        where = f"{source.name} points to no release" if source else f"{target.name} is the first environment"
        raise UsageError(f"{where}; name one with --release, or cut one with `headrace cut`")
    checks = _Checks(report)
    release = _readable(checks, version, folder)
    _clean(checks, target, version)
    evidence: list[str] = []
    if source is not None:
        points = source.environment.release
        fix = f"{source.name} points to {points or 'no release'}; promote {version} there first"
        checks.add(f"{source.name} points to it", points == version, fix)
        checks.extend(_same_bytes(release, source))
        evidence = checks.extend(_runs(release, source, target.environment))
    findings = examine(release, target.environment.policy.registries)
    checks.extend(Check(str(finding), False) for finding in findings)
    if not findings:
        checks.add("policy: pinned, bounded, unprivileged, no secrets, allowed registries, every reference resolves")
    checks.extend(_parameters(release, target.environment))
    checks.extend(_not_another(release, target))
    checks.conclude(target)
    previous = _current(target)
    return Promotion(release, target, previous, _changes(previous, release, folder), evidence)


def check_return(target: Place, report: Report, version: str = "", folder: Path = RELEASES) -> Promotion:
    """Check that an environment can go back to the release it had before.

    Args:
        target: The environment.
        report: Told of every check as it is made.
        version: The release to take back, so that pressing twice takes back one; '' for whichever runs.
        folder: Where releases live.

    Raises:
        UsageError: Nothing ran there before, or not the named release runs there.
        HeadraceError: A check failed, or git cannot tell what was before.
    """
    current = _current(target)
    if version and version != current:
        raise UsageError(f"{target.name} points to {current or 'no release'}, not to {version}; nothing was taken back")
    before = release_before(Repository(target.file).pointers(target.file))
    if not before:
        raise UsageError(f"nothing ran in {target.name} before {current or 'now'}; promote another release instead")
    checks = _Checks(report)
    release = _readable(checks, before, folder)
    _clean(checks, target, before)
    checks.extend(_parameters(release, target.environment))
    checks.extend(_not_another(release, target))
    checks.conclude(target)
    return Promotion(release, target, current, _changes(current, release, folder), [], back=True)


def carry_out(promotion: Promotion, report: Report, branch: str = "") -> None:
    """Do what was checked; every step that is done already is passed over.

    Args:
        promotion: What to do.
        report: Told of every step as it is done.
        branch: Commit on this new branch instead; the recurring runs then stay until it is merged and the promotion is
            run again.
    """
    release, target = promotion.release, promotion.target
    for name in release.pipelines:
        if target.pipelines.uploaded(name, release.version) is None:
            target.pipelines.upload(name, release.version, release.folder / f"{name}.yaml")
            report(Check(f"uploaded {name} {release.version} to {target.name}"))
    if branch:
        report(_commit_on_branch(promotion, branch))
        return
    if promotion.back:
        _move_schedules(promotion, report)
        report(_commit(promotion))
    else:
        report(_commit(promotion))
        _move_schedules(promotion, report)


class _Checks:
    """Checks made so far, reported one by one."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._failed = 0

    def add(self, what: str, ok: bool = True, fix: str = "") -> None:
        self._failed += not ok
        self._report(Check(what, ok, "" if ok else fix))

    def extend(self, checks: Iterator[Check]) -> list[str]:
        """Make checks; an error of the API they ask is a check that failed. Returns the evidence."""
        evidence = []
        try:
            for check in checks:
                self.add(check.what, check.ok, check.fix)
                evidence += [check.what] * check.evidence
        except HeadraceError as error:
            self.add(str(error), False)
        return evidence

    def conclude(self, target: Place) -> None:
        if self._failed:
            keeps = f"keeps {target.environment.release}" if target.environment.release else "still has no release"
            raise HeadraceError(
                f"{target.name} {keeps}: {self._failed} check{'s' * (self._failed > 1)} failed; the lines marked ✗ say "
                "what to do"
            )


def _current(target: Place) -> str:
    """The release that the environment's file was last committed with; as it stands where there is no git."""
    try:
        return read_pointer(Repository(target.file).committed(target.file) or "")
    except HeadraceError:
        return target.environment.release


def _readable(checks: _Checks, version: str, folder: Path) -> Release:
    release = read_release(version, folder)
    try:
        committed = Repository(release.folder / "release.yaml").is_clean(release.folder)
    except HeadraceError:
        checks.add(f"release {version} is intact")
    else:
        what = f"release {version} is intact{' and committed' if committed else ', but not committed'}"
        checks.add(what, committed, f"commit {release.folder}, so that others have what the environment points to")
    return release


def _clean(checks: _Checks, target: Place, version: str) -> None:
    """A file that others are changing is not committed along; our own unfinished edit is."""
    try:
        repository = Repository(target.file)
    except HeadraceError:
        return
    text, committed = target.file.read_bytes().decode(), repository.committed(target.file)
    clean = committed is not None and (repository.is_clean(target.file) or text == point(committed, version))
    what = f"{target.file.name} {'has no other' if clean else 'has an uncommitted'} change"
    checks.add(what, clean, f"commit or stash the changes of {target.file} first")


def _same_bytes(release: Release, source: Place) -> Iterator[Check]:
    for name, text in release.pipelines.items():
        difference = _difference(name, source.pipelines.uploaded(name, release.version), text)
        if difference is None:
            yield Check(f"{name}: not uploaded to {source.name}", False, f"run it there: headrace submit {name}")
        elif difference:
            fix = "somebody uploaded other bytes under this name; cut a new release"
            yield Check(f"{name}: {source.name} runs something else ({difference})", False, fix)
        else:
            yield Check(f"{name}: {source.name} runs these bytes")


def _runs(release: Release, source: Place, target: Environment) -> Iterator[Check]:
    """Evidence that the release works: what the target will run by itself, and at least one gate, must have passed."""
    scheduled = {schedule.pipeline for schedule in target.schedules}
    gated = False
    for name, documents in release.specifications.items():
        run = source.pipelines.last_run(name, release.version)
        decides = _has_step(documents, GATE)
        if run is None:
            needed = name in scheduled
            what = f"{name}: no run of {release.version} in {source.name}"
            fix = f"headrace submit {name} --environment {source.name}"
            yield Check(
                what if needed else f"{what}, and none needed: {target.name} does not schedule it", not needed, fix
            )
        elif run.state != "SUCCEEDED":
            ended = run.state in ("FAILED", "CANCELED", "SKIPPED")
            fix = "see `headrace logs`, and run it again" if ended else "wait until it has ended"
            yield Check(f"{name}: run {run.id} is {run.state.lower()} in {source.name} {run.url}", False, fix)
        elif decides and run.decision != "release":
            verdict = run.decision or "unknown"
            fix = "read the gate's report; a held model is not evidence for a release"
            yield Check(f"{name}: run {run.id} succeeded, but its gate says {verdict} {run.url}", False, fix)
        else:
            gated |= decides
            verdict = ", gate: release" if decides else ""
            what = f"{name}: run {run.id} succeeded in {source.name}{verdict} {run.url}"
            yield Check(what, evidence=True)
    if not gated:
        fix = "run a pipeline with a gate there, such as release_line"
        yield Check(f"no gate passed in {source.name}", False, fix)


def _parameters(release: Release, environment: Environment) -> Iterator[Check]:
    """Hold what an environment will pass to the pipelines against what they take."""
    load_recipe(environment.recipe, environment.overrides)
    taken = {name: _signature(one) for name, one in release.specifications.items()}
    problems = []
    for name, parameters in taken.items():
        for parameter, kind in _GIVEN.items():
            takes = parameters.get(parameter, {}).get("parameterType", kind)
            if takes != kind:
                what = f"{name}: its parameter {parameter} is {takes}, but a run is given {kind}"
                problems.append(Check(what, False, "cut a release from the source that this command belongs to"))
    for schedule in environment.schedules:
        own = taken.get(schedule.pipeline, {}).keys() - _GIVEN.keys()
        given = {key for key, *_ in (override.partition("=") for override in schedule.overrides) if key in own}
        changes = [override for override in schedule.overrides if override.partition("=")[0] not in given]
        load_recipe(schedule.recipe, [*environment.overrides, *changes])
        if schedule.pipeline not in taken:
            what = f"schedule {schedule.name}: the release has no pipeline {schedule.pipeline}"
            problems.append(Check(what, False, f"it has {', '.join(taken)}; change the schedule"))
            continue
        required = {key for key in own if _required(taken[schedule.pipeline][key])}
        if missing := sorted(required - given):
            what = f"schedule {schedule.name}: {schedule.pipeline} requires {', '.join(missing)}"
            problems.append(Check(what, False, f"add {missing[0]}=VALUE to the schedule's overrides"))
    count = len(environment.schedules)
    fits = f"{environment.name}'s recipe and {count} schedule{'s' * (count != 1)} fit what the pipelines take"
    yield from problems or [Check(fits)]


def _required(parameter: Mapping[str, Any]) -> bool:
    return "defaultValue" not in parameter and not parameter.get("isOptional")


def _not_another(release: Release, target: Place) -> Iterator[Check]:
    for name, text in release.pipelines.items():
        if difference := _difference(name, target.pipelines.uploaded(name, release.version), text):
            fix = "somebody uploaded other bytes under this name; cut a new release"
            yield Check(f"{name}: {target.name} has something else under this name ({difference})", False, fix)


def _difference(name: str, uploaded: bytes | None, text: str) -> str | None:
    """Say how a pipeline differs from what an API holds: '' if it does not, None if the API holds none."""
    if uploaded is None:
        return None
    there, here = list(yaml.safe_load_all(uploaded)), list(yaml.safe_load_all(text))
    if there == here:
        return ""
    changes = compare(name, there, here)
    return f"{changes[0].subject}: {changes[0].what}" if changes else "internal names"


def _signature(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return documents[0].get("root", {}).get("inputDefinitions", {}).get("parameters", {})


def _has_step(documents: Sequence[Mapping[str, Any]], name: str) -> bool:
    components = [documents[0].get("root", {}), *documents[0].get("components", {}).values()]
    return any(name in component.get("dag", {}).get("tasks", {}) for component in components)


def _changes(previous: str, release: Release, folder: Path) -> list[Change]:
    if not previous:
        return []
    try:
        return changes_between(read_release(previous, folder), release)
    except HeadraceError as error:
        return [Change("", "previous release", "other", f"cannot be compared: {error}")]


def _commit(promotion: Promotion) -> Check:
    file, version = promotion.target.file, promotion.release.version
    if read_pointer(file.read_text("utf-8")) != version:
        write_pointer(file, version)
    try:
        repository = Repository(file)
    except HeadraceError as error:
        return Check(f"{file} points to {version} now; {error}: commit the file where you keep it")
    if repository.is_clean(file):
        return Check(f"{file.name} points to {version} already")
    try:
        return Check(f"{file.name} points to {version}: commit {repository.commit(file, promotion.message)}")
    except HeadraceError as error:
        raise HeadraceError(f"{file} points to {version}, but {error}; put that right and run this again") from error


def _commit_on_branch(promotion: Promotion, branch: str) -> Check:
    file, version = promotion.target.file, promotion.release.version
    repository = Repository(file)
    text = point(file.read_bytes().decode(), version)
    commit = repository.commit_on_branch(branch, file, text, promotion.message)
    return Check(
        f"{file.name} points to {version} on branch {branch}: commit {commit}; have it merged, then run this again "
        "without --branch to move the recurring runs"
    )


def _move_schedules(promotion: Promotion, report: Report) -> None:
    for name in promotion.release.pipelines:
        for done in promotion.target.pipelines.move_schedules(name, promotion.release.version):
            report(Check(f"{promotion.target.name}: {done}"))
