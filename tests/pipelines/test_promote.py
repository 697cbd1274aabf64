"""Promotion: every check refuses what it is for, a crash is finished by running it again, and it can be undone."""

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_api import Api, State, serving

from components.common.environment import load_environment
from components.common.errors import HeadraceError, UsageError
from pipelines import kubeflow, schedule, submit
from pipelines.kubeflow import Kfp
from pipelines.pointer import read_pointer
from pipelines.promote import Check, Place, carry_out, check_promotion, check_return
from pipelines.release import NOTE, write_release


@dataclass(frozen=True)
class Ended:
    id: str = "run-1"
    state: str = "SUCCEEDED"
    decision: str = "release"
    url: str = "https://kubeflow.example.com/run-1"


@dataclass
class Kubeflow:
    """A Kubeflow Pipelines API in memory: versions, their last runs, and which version each recurring run runs."""

    versions: dict[tuple[str, str], bytes] = field(default_factory=dict)
    runs: dict[tuple[str, str], Ended] = field(default_factory=dict)
    recurring: dict[str, str] = field(default_factory=dict)
    fails: str = ""

    def uploaded(self, pipeline: str, version: str) -> bytes | None:
        self._refuse("uploaded")
        return self.versions.get((pipeline, version))

    def last_run(self, pipeline: str, version: str) -> Ended | None:
        self._refuse("last_run")
        return self.runs.get((pipeline, version))

    def upload(self, pipeline: str, version: str, path: Path) -> None:
        self._refuse("upload")
        self.versions[pipeline, version] = path.read_bytes()

    def move_schedules(self, pipeline: str, version: str) -> list[str]:
        self._refuse("move_schedules")
        moves = self.recurring.get(pipeline, version) != version
        if moves:
            self.recurring[pipeline] = version
        return [f"{pipeline} runs {version}"] * moves

    def _refuse(self, method: str) -> None:
        if method == self.fails:
            raise HeadraceError("https://kubeflow.example.com answers 503; try again later")


@dataclass
class World:
    """A repository with releases and the environments dev and staging."""

    folder: Path
    dev: Kubeflow
    staging: Kubeflow
    cut: Callable[..., str]
    seen: list[Check] = field(default_factory=list)

    def place(self, name: str) -> Place:
        file = self.folder / "environments" / f"{name}.yaml"
        return Place(load_environment(str(file)), file, getattr(self, name))

    def promote(self, version: str = "", branch: str = "", source: str = "dev", to: str = "staging") -> list[str]:
        self.seen.clear()
        origin = self.place(source) if source else None
        promotion = check_promotion(version, self.place(to), origin, self.seen.append, self.folder / "releases")
        carry_out(promotion, self.seen.append, branch)
        return [check.what for check in self.seen]

    def undo(self, version: str = "") -> None:
        promotion = check_return(self.place("staging"), self.seen.append, version, self.folder / "releases")
        carry_out(promotion, self.seen.append)

    def refused(self, match: str = "staging still has no release", **arguments: Any) -> list[Check]:
        """Promote, expect a refusal and that nothing moved, and return the checks that failed."""
        before = self.git("rev-parse", "HEAD"), dict(self.staging.versions), self.pointer("staging")
        with pytest.raises(HeadraceError, match=match):
            self.promote(**arguments)
        assert (self.git("rev-parse", "HEAD"), self.staging.versions, self.pointer("staging")) == before
        return [check for check in self.seen if not check.ok]

    def pointer(self, name: str) -> str:
        return read_pointer((self.folder / "environments" / f"{name}.yaml").read_text())

    def ran(self, version: str, **ended: str) -> None:
        """Have a release run in dev."""
        for name in ("line", "base"):
            path = self.folder / "releases" / version / f"{name}.yaml"
            self.dev.versions[name, version] = path.read_bytes()
        self.dev.runs["line", version] = replace(Ended(), **ended)

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, message: str = "change") -> None:
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", message)

    def edit(self, name: str, **fields: Any) -> None:
        """Change an environment's file and commit it."""
        path = self.folder / "environments" / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **fields}, sort_keys=False))
        self.commit()


@pytest.fixture
def world(tmp_path: Path, documents: Callable[[str], list[Any]], images: dict[str, str]) -> World:
    def cut(memory: str = "1Gi", more: Callable[[list[Any]], None] = lambda line: None) -> str:
        line = documents("line")
        line[0]["deploymentSpec"]["executors"]["exec-gate"]["container"]["resources"]["resourceMemoryLimit"] = memory
        more(line)
        pipelines = {"line": yaml.safe_dump_all(line), "base": yaml.safe_dump_all(documents("base"))}
        return write_release(pipelines, images, tmp_path / "releases", date(2026, 1, 2)).name

    world = World(tmp_path, Kubeflow(), Kubeflow(recurring={"line": "none"}), cut)
    (tmp_path / "environments").mkdir()
    for name, after in (("dev", ""), ("staging", "dev")):
        fields = {
            "store": "gs://x",
            "tracking": "http://x",
            "signing_key": "/x",
            "release": "",
            "schedules": [{"name": "nightly", "pipeline": "line", "cron": "0 0 2 * * *"}],
            "policy": {"after": after, "registries": ["registry.example.com/headrace/"]},
        }
        text = f"# {name}\n" + yaml.safe_dump(fields, sort_keys=False)
        (tmp_path / "environments" / f"{name}.yaml").write_text(text)
    world.git("init", "--quiet", "--initial-branch=main")
    world.git("config", "user.name", "Test")
    world.git("config", "user.email", "test@example.com")
    world.commit("first")
    return world


@pytest.fixture
def first(world: World) -> str:
    """A release that dev points to and that ran there."""
    version = world.cut()
    world.commit("cut")
    world.promote(version, source="", to="dev")
    world.ran(version)
    return version


def test_a_promotion_is_one_commit_with_its_evidence(world: World, first: str) -> None:
    (world.folder / "notes").write_text("staged by somebody")
    world.git("add", "notes")
    said = world.promote()
    assert all(check.ok for check in world.seen)
    assert said[-1] == f"staging: line runs {first}"
    assert "line: run run-1 succeeded in dev, gate: release https://kubeflow.example.com/run-1" in said
    assert world.git("show", "--format=", "--name-only", "HEAD") == "environments/staging.yaml"
    assert world.git("show", "--format=", "--numstat", "HEAD").split()[:2] == ["1", "1"]
    message = world.git("show", "--no-patch", "--format=%B", "HEAD")
    assert message.startswith(f"Promote {first} to staging\n\nNo release ran here before.\n\n- line: run run-1")
    assert message.endswith("succeeded in dev, gate: release https://kubeflow.example.com/run-1")
    assert world.git("diff", "--cached", "--name-only") == "notes"
    assert world.pointer("staging") == first
    assert world.staging.versions == world.dev.versions
    assert world.staging.recurring == {"line": first}


def test_the_commit_says_what_changes(world: World, first: str) -> None:
    world.promote()
    second = world.cut("4Gi")
    world.commit("cut")
    world.promote(second, source="", to="dev")
    world.ran(second)
    world.promote()
    message = world.git("show", "--no-patch", "--format=%B", "HEAD")
    assert f"{first} ran here before." in message
    assert "line\n  step gate: memory limit is 4Gi, was 1Gi" in message


def test_a_promotion_and_its_reverse_can_be_repeated(world: World, first: str) -> None:
    second = world.cut("4Gi")
    world.commit("cut")
    world.promote()
    world.promote(second, source="", to="dev")
    world.ran(second)
    for _ in range(2):  # the second changes nothing
        world.promote()
        commits = world.git("rev-list", "--count", "HEAD")
    assert world.git("rev-list", "--count", "HEAD") == commits
    assert world.staging.recurring == {"line": second}
    world.undo()
    assert (world.pointer("staging"), world.staging.recurring) == (first, {"line": first})
    assert world.git("show", "--no-patch", "--format=%s", "HEAD") == f"Return staging to {first}"
    assert world.git("show", "--format=", "--name-only", "HEAD") == "environments/staging.yaml"
    with pytest.raises(UsageError, match=f"points to {first}, not to {second}; nothing was taken back"):
        world.undo(second)
    with pytest.raises(UsageError, match="nothing ran in staging before"):
        world.undo()
    world.promote()
    assert world.staging.recurring == {"line": second}


@pytest.mark.parametrize("method", ["upload", "move_schedules"])
def test_running_again_finishes_a_promotion_that_broke(world: World, first: str, method: str) -> None:
    world.staging.fails = method
    with pytest.raises(HeadraceError, match="answers 503"):
        world.promote()
    assert world.pointer("staging") == ("" if method == "upload" else first)
    world.staging.fails = ""
    world.promote()
    assert (world.pointer("staging"), world.staging.recurring) == (first, {"line": first})
    assert world.git("rev-list", "--count", "HEAD", "--", "environments/staging.yaml") == "2"


def test_running_again_commits_what_a_crash_left_uncommitted(world: World, first: str) -> None:
    hook = world.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho not today >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(HeadraceError, match="not today; put that right and run this again"):
        world.promote()
    assert world.pointer("staging") == first
    hook.unlink()
    world.promote()
    assert world.git("status", "--porcelain") == ""
    assert "No release ran here before." in world.git("show", "--no-patch", "--format=%B", "HEAD")


def test_a_return_that_broke_is_finished_by_running_it_again(world: World, first: str) -> None:
    world.promote()
    second = world.cut("4Gi")
    world.commit("cut")
    world.promote(second, source="", to="dev")
    world.ran(second)
    world.promote()
    world.staging.fails = "move_schedules"
    with pytest.raises(HeadraceError, match="answers 503"):
        world.undo()
    assert world.pointer("staging") == second
    world.staging.fails = ""
    world.undo(second)
    assert (world.pointer("staging"), world.staging.recurring) == (first, {"line": first})


def test_on_a_branch_nothing_moves_until_it_is_merged(world: World, first: str) -> None:
    said = world.promote(branch="promote-staging")
    assert "run this again without --branch" in said[-1]
    assert (world.pointer("staging"), world.staging.recurring) == ("", {"line": "none"})
    world.git("merge", "--quiet", "--ff-only", "promote-staging")
    world.promote()
    assert (world.pointer("staging"), world.staging.recurring) == (first, {"line": first})


def test_without_git_the_file_is_changed_and_that_is_said(world: World, first: str, tmp_path: Path) -> None:
    (tmp_path / ".git").rename(tmp_path / "aside")
    said = world.promote()
    assert any("in no git repository" in one and "commit the file where you keep it" in one for one in said)
    assert world.pointer("staging") == first
    with pytest.raises(HeadraceError, match="in no git repository"):
        world.undo()


@pytest.mark.parametrize(
    ("state", "decision", "problem", "fix"),
    [
        ("FAILED", "", "run run-1 is failed in dev", "headrace logs"),
        ("RUNNING", "", "run run-1 is running in dev", "wait until it has ended"),
        ("SUCCEEDED", "hold", "its gate says hold", "not evidence"),
        ("SUCCEEDED", "", "its gate says unknown", "not evidence"),
    ],
)
def test_a_run_that_is_no_evidence_is_refused(
    world: World, first: str, state: str, decision: str, problem: str, fix: str
) -> None:
    world.ran(first, state=state, decision=decision)
    failed = world.refused()
    assert problem in failed[0].what
    assert fix in failed[0].fix


def test_what_never_ran_is_refused_if_the_target_schedules_it(world: World, first: str) -> None:
    del world.dev.runs["line", first]
    failed = world.refused()
    assert [check.what for check in failed] == [f"line: no run of {first} in dev", "no gate passed in dev"]
    assert failed[0].fix == "headrace submit line --environment dev"


def test_other_bytes_in_dev_are_refused(world: World, first: str) -> None:
    world.dev.versions["line", first] = world.dev.versions["line", first].replace(b"1Gi", b"9Gi")
    (failed,) = world.refused()
    assert "dev runs something else (step condition-1/publish: memory limit is 1Gi, was 9Gi)" in failed.what
    del world.dev.versions["line", first]
    (failed,) = world.refused()
    assert failed.what == "line: not uploaded to dev"


def test_other_bytes_under_the_same_name_in_the_target_are_refused(world: World, first: str) -> None:
    world.staging.versions["base", first] = b"root: {}\n"
    (failed,) = world.refused()
    assert "base: staging has something else under this name" in failed.what


def test_a_release_that_the_source_does_not_point_to_is_refused(world: World, first: str) -> None:
    other = world.cut("2Gi")
    world.commit("cut")
    world.ran(other)
    (failed,) = world.refused(version=other)
    assert failed.fix == f"dev points to {first}; promote {other} there first"


def test_the_chain_has_no_short_cut(world: World, first: str) -> None:
    world.edit("staging", policy={"after": "qa", "registries": ["registry.example.com/"]})
    with pytest.raises(UsageError, match="staging takes releases from qa, not from dev: promote to qa first"):
        world.promote()
    with pytest.raises(UsageError, match="dev is the first environment; name one with --release"):
        world.promote(source="", to="dev")


def test_a_tampered_or_unknown_or_uncommitted_release_is_refused(world: World, first: str) -> None:
    note = world.folder / "releases" / first / NOTE
    note.write_text(note.read_text() + "uncommitted words\n")
    (failed,) = world.refused()
    assert "is intact, but not committed" in failed.what
    (note.parent / "line.yaml").write_text("root: {}\n")
    with pytest.raises(HeadraceError, match=r"line\.yaml was changed"):
        world.promote()
    with pytest.raises(UsageError, match=f"did you mean {first}"):
        world.promote(first[:-1], source="", to="dev")


def test_a_file_that_somebody_is_changing_is_refused(world: World, first: str) -> None:
    path = world.folder / "environments" / "staging.yaml"
    path.write_text(path.read_text() + "# more\n")
    (failed,) = world.refused()
    assert "staging.yaml has an uncommitted change" in failed.what


def test_what_breaks_the_policy_is_refused(world: World, first: str) -> None:
    world.edit("staging", policy={"after": "dev", "registries": ["elsewhere.example.com/"]})
    failed = world.refused()
    assert len(failed) == 3
    assert "registry that is not allowed" in failed[0].what


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"overrides": ["model.tune.epoch=3"]}, "did you mean epochs"),
        ({"recipe": "none"}, "there is no recipe 'none'"),
        (
            {"schedules": [{"name": "x", "pipeline": "line", "cron": "0 0 2 * * *", "overrides": ["data=1"]}]},
            "data: Input should be",
        ),
        (
            {"schedules": [{"name": "x", "pipeline": "wander", "cron": "0 0 2 * * *"}]},
            "the release has no pipeline wander",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(world: World, first: str, fields: dict[str, Any], problem: str) -> None:
    world.edit("staging", **fields)
    failed = world.refused()
    assert problem in failed[-1].what


def test_a_schedule_cannot_give_what_a_person_must(world: World, first: str) -> None:
    def require(line: list[Any]) -> None:
        parameters = line[0]["root"]["inputDefinitions"]["parameters"]
        parameters["dataset"] = {"parameterType": "STRING"}
        parameters["recipe"] = {"parameterType": "STRING"}

    version = world.cut("1Gi", require)
    world.commit("cut")
    with pytest.raises(HeadraceError, match=f"dev keeps {first}: 2 checks failed"):
        world.promote(version, source="", to="dev")
    assert [check.what for check in world.seen if not check.ok] == [
        "line: its parameter recipe is STRING, but a run is given STRUCT",
        "schedule nightly: line requires dataset",
    ]
    world.edit(
        "dev",
        schedules=[{"name": "x", "pipeline": "line", "cron": "0 0 2 * * *", "overrides": ["dataset=gs://x"]}],
    )
    with pytest.raises(HeadraceError, match="1 check failed"):
        world.promote(version, source="", to="dev")


@pytest.mark.parametrize("method", ["uploaded", "last_run"])
def test_an_api_that_fails_is_a_check_that_failed(world: World, first: str, method: str) -> None:
    world.dev.fails = method
    failed = world.refused()
    assert failed[0].what == "https://kubeflow.example.com answers 503; try again later"


def test_with_the_client_against_two_kubeflow_apis(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "RELEASES", world.folder / "releases")
    monkeypatch.setattr(kubeflow, "_PAUSES", (0.0, 0.0))
    states = {"dev": State(), "staging": State()}
    with serving(Api(states["dev"]).routes()) as dev, serving(Api(states["staging"]).routes()) as staging:
        for name, url in (("dev", dev), ("staging", staging)):
            world.edit(name, kubeflow={"host": f"{url}/pipeline"})
            setattr(world, name, Kfp(world.place(name).environment))
        versions = []
        for memory in ("1Gi", "4Gi"):
            versions.append(world.cut(memory))
            world.commit("cut")
            world.promote(versions[-1], source="", to="dev")
            failed = [check.what for check in _refusal(world)]
            assert failed == [f"line: no run of {versions[-1]} in dev", "no gate passed in dev"]
            run = submit.submit(world.dev, "line", world.place("dev").environment)
            states["dev"].move(run.id, "SUCCEEDED", gate="SUCCEEDED", publish="SUCCEEDED")
            world.promote()
            if memory == "1Gi":
                schedule.apply(world.place("staging").environment, world.staging)
        assert [found.version for found in world.staging.recurring()] == [versions[1]]
        assert world.staging.uploaded("line", versions[1]) == world.dev.uploaded("line", versions[1])
        assert run.id in world.git("show", "--no-patch", "--format=%B", "HEAD")
        world.undo()
        assert [found.version for found in world.staging.recurring()] == [versions[0]]
        assert world.pointer("staging") == versions[0]
        states["staging"].fail("GET /pipelines", 403)
        (failed,) = [check.what for check in _refusal(world, "staging keeps")]
        assert "knows you and says no" in failed


def _refusal(world: World, match: str = "checks failed") -> list[Check]:
    with pytest.raises(HeadraceError, match=match):
        world.promote()
    return [check for check in world.seen if not check.ok]
