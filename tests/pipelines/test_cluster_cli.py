"""`headrace submit`, `schedule`, `runs`, `logs` against servers that speak the KFP and Kubernetes protocols."""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_api import SILENCE, Api, Pods, State, serving
from typer.testing import CliRunner, Result

from components.common.environment import Environment, load_environment
from components.common.errors import GateHold, HeadraceError, UsageError
from components.common.step import IMAGES
from components.release import api
from pipelines import kubeflow, submit
from pipelines.cli import app
from pipelines.compile import compile_pipeline
from pipelines.kubeflow import Kfp, Recurring
from pipelines.release import write_release
from pipelines.schedule import MARK, compare, wanted

DIGEST = "0123456789abcdef" * 4
LOCK = {image: f"registry.example.com/headrace/{image}@sha256:{DIGEST}" for image in IMAGES}


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Two releases of the current pipelines, the second with other images: their folder and names."""
    folder = tmp_path_factory.mktemp("releases")
    old = {name: compile_pipeline(name, LOCK.__getitem__) for name in ("prepare_data", "release_line", "release_model")}
    new = {name: text.replace(DIGEST, "b" * 64) for name, text in old.items()}
    lock = {name: reference.replace(DIGEST, "b" * 64) for name, reference in LOCK.items()}
    names = [
        write_release(old, LOCK, folder, date(2026, 11, 1)).name,
        write_release(new, lock, folder, date(2026, 11, 8)).name,
    ]
    return folder, *names


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch, releases: tuple[Path, str, str]) -> State:
    monkeypatch.setattr(kubeflow, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(submit, "_POLL", 0.01)
    monkeypatch.setattr(submit, "RELEASES", releases[0])
    return State(multi_user=True)


@pytest.fixture
def logs() -> dict[str, str]:
    return {}


@pytest.fixture
def place(
    state: State, releases: tuple[Path, str, str], logs: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., str]]:
    """Write the environment's file."""
    with serving([*Api(state).routes(), *Pods(logs).routes()]) as url:
        fields = load_environment("dev").model_dump(mode="json")
        fields["kubeflow"] |= {"host": f"{url}/pipeline", "auth": "none"}
        fields["serving"]["api"] = url
        fields["release"] = releases[1]
        fields["schedules"] = [
            {"name": "nightly-release", "pipeline": "release_line", "cron": "0 0 2 * * *", "recipe": "quick"},
            {"name": "weekly-data", "pipeline": "prepare_data", "cron": "0 0 3 * * 1"},
        ]

        def write(**changes: Any) -> str:
            path = tmp_path / "dev.yaml"
            path.write_text(yaml.safe_dump({**fields, **changes}), "utf-8")
            return str(path)

        yield write


@pytest.fixture
def headrace(place: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, **changes: Any) -> Result:
        return CliRunner().invoke(app, [*arguments, "--environment", place(**changes)])

    return call


def said(result: Result) -> list[str]:
    assert result.exit_code == 0, result.exception
    return result.stdout.splitlines()


def environment(place: Callable[..., str], **changes: Any) -> Environment:
    return load_environment(place(**changes))


def test_submit_uploads_the_release_once_and_starts_a_run(headrace: Callable[..., Result], state: State) -> None:
    first, link = said(headrace("submit", "release_line", "model.tune.epochs=2", "--recipe", "quick"))
    said(headrace("submit", "release_line"))
    assert len(state.versions) == 1
    [quick, default] = state.runs.values()
    assert first.split()[0] == quick["run_id"]
    assert link == f"https://kubeflow.dev.example.com/pipeline/#/runs/details/{quick['run_id']}"
    parameters = quick["runtime_config"]["parameters"]
    assert (parameters["recipe"]["name"], parameters["recipe"]["model"]["tune"]["epochs"]) == ("quick", 2)
    assert parameters["environment"]["store"] == "gs://headrace-dev/headrace"
    assert not {"kubeflow", "release", "policy"} & parameters["environment"].keys()
    assert default["runtime_config"]["parameters"]["recipe"]["name"] == "default"
    [release] = state.versions.values()
    assert release["display_name"].startswith("2026.11.01-")
    dataset = headrace("submit", "release_model", "dataset=gs://b/datasets/d/1")
    assert said(dataset)
    assert list(state.runs.values())[-1]["runtime_config"]["parameters"]["dataset"] == "gs://b/datasets/d/1"


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (["submit", "release_lin"], {}, "has no pipeline 'release_lin'; it has prepare_data"),
        (["submit", "release_model"], {}, r"needs dataset; write `headrace submit release_model dataset=VALUE`"),
        (["submit", "release_line", "model.tune.epoch=2"], {}, "did you mean epochs"),
        (["submit", "release_line"], {"release": ""}, "the environment has no release; cut one"),
        (["submit", "release_line"], {"release": "2020.01.01-x"}, "there is no release '2020.01.01-x' in"),
        (["logs", "nope"], {}, "there is no run 'nope'"),
        (["schedule", "pause", "nope"], {}, "there is no schedule 'nope'; there: none"),
        (
            ["schedule", "apply"],
            {"schedules": [{"name": "x", "pipeline": "release_line", "cron": "0 3 * * 1"}]},
            "schedules: x: cron '0 3 * * 1': it has five fields",
        ),
        (
            ["schedule", "apply"],
            {"schedules": [{"name": "x", "pipeline": "release_line", "cron": "0 0 3 * * 1"}] * 2},
            "schedules: x stands there twice",
        ),
    ],
)
def test_mistakes_are_named(
    headrace: Callable[..., Result], state: State, arguments: list[str], changes: dict[str, Any], message: str
) -> None:
    result = headrace(*arguments, **changes)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)
    assert not state.runs
    assert not state.recurring


def test_waiting_follows_the_run_to_its_end(headrace: Callable[..., Result], state: State) -> None:
    outcomes: list[tuple[str, dict[str, str], type[Exception] | None, str]] = [
        ("SUCCEEDED", {"ingest": "SUCCEEDED", "publish": "SUCCEEDED"}, None, ""),
        ("SUCCEEDED", {"gate": "SUCCEEDED", "notify_hold": "SUCCEEDED"}, GateHold, "the gate holds the model"),
        (
            "FAILED",
            {"tune": "FAILED", "notify": "SUCCEEDED"},
            HeadraceError,
            "tune failed: tune failed; `headrace logs",
        ),
        ("CANCELED", {}, HeadraceError, "canceled"),
    ]
    for number, (end, tasks, problem, message) in enumerate(outcomes, 1):

        def backend(number: int = number, end: str = end, tasks: dict[str, str] = tasks) -> None:
            while len(state.runs) < number:
                threading.Event().wait(0.01)
            run = list(state.runs)[-1]
            state.move(run, "RUNNING", plan="SUCCEEDED")
            state.move(run, end, **tasks)

        thread = threading.Thread(target=backend)
        thread.start()
        result = headrace("submit", "release_line", "--wait")
        thread.join()
        assert "✓ plan  60 s" in result.stdout
        assert (result.exception is None) if problem is None else isinstance(result.exception, problem)
        assert message in str(result.exception)
    assert isinstance(result.exception, HeadraceError) and result.exception.exit_code == 1


def test_schedules_become_what_the_file_says_and_begin_paused(headrace: Callable[..., Result], state: State) -> None:
    lines = said(headrace("schedule", "apply"))
    assert lines[:2] == ["created nightly-release, paused", "created weekly-data, paused"]
    assert lines[3].startswith("weekly-data: At 03:00, only on Monday (UTC); next: Mon ")
    assert said(headrace("schedule", "apply"))[0] == "nothing changed"
    nightly, weekly = state.recurring.values()
    assert (nightly["status"], nightly["no_catchup"], nightly["max_concurrency"]) == ("DISABLED", True, 1)
    assert nightly["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert nightly["runtime_config"]["parameters"]["schedule"] == "nightly-release"
    assert nightly["service_account"] == "headrace-release"
    assert weekly["service_account"] == "headrace-data"

    assert said(headrace("schedule", "resume", "nightly-release")) == ["resumed nightly-release"]
    assert said(headrace("schedule", "resume", "nightly-release")) == ["nothing changed"]
    later = [{"name": "nightly-release", "pipeline": "release_line", "cron": "0 30 2 * * *", "recipe": "quick"}]
    assert said(headrace("schedule", "apply", schedules=later))[:2] == [
        "replaced nightly-release, running",
        "deleted weekly-data",
    ]
    [nightly] = state.recurring.values()
    assert (nightly["status"], nightly["trigger"]["cron_schedule"]["cron"]) == ("ENABLED", "0 30 2 * * *")
    listed = said(headrace("schedule", "list"))
    assert [line.split()[:2] for line in listed[1:3]] == [["nightly-release", "differs"], ["weekly-data", "missing"]]
    assert said(headrace("schedule", "pause")) == ["paused nightly-release"]
    assert said(headrace("schedule", "delete")) == ["deleted nightly-release"]
    assert not state.recurring


def test_recurring_runs_of_others_are_left_alone(headrace: Callable[..., Result], state: State) -> None:
    said(headrace("schedule", "apply"))
    [first, _] = state.recurring.values()
    state.recurring["theirs"] = {
        **first,
        "recurring_run_id": "theirs",
        "display_name": "mine",
        "description": "by hand",
    }
    said(headrace("schedule", "apply", schedules=[]))
    assert list(state.recurring) == ["theirs"]
    assert "mine      made elsewhere  paused" in "\n".join(said(headrace("schedule", "list", schedules=[])))


def test_promotion_moves_only_the_pipelines_own_recurring_runs(
    headrace: Callable[..., Result], place: Callable[..., str], releases: tuple[Path, str, str]
) -> None:
    _, old, new = releases
    said(headrace("schedule", "apply"))
    said(headrace("schedule", "resume", "nightly-release"))
    kfp = Kfp(environment(place))
    assert kfp.move_schedules("release_line", new) == ["replaced nightly-release, running"]
    assert kfp.move_schedules("release_line", new) == []
    assert kfp.move_schedules("release_model", new) == []
    versions = {found.name: (found.version, found.enabled) for found in kfp.recurring()}
    assert versions == {"nightly-release": (new, True), "weekly-data": (old, False)}


@pytest.mark.parametrize("request_", ["DELETE /recurringruns", "POST /recurringruns/"])
def test_what_was_interrupted_is_finished(headrace: Callable[..., Result], state: State, request_: str) -> None:
    said(headrace("schedule", "apply"))
    said(headrace("schedule", "resume"))
    state.fail(request_, 503)
    later = [{"name": "nightly-release", "pipeline": "release_line", "cron": "0 30 2 * * *"}]
    broken = headrace("schedule", "apply", schedules=later)
    assert isinstance(broken.exception, HeadraceError)
    assert len(state.recurring) == 3, "the one that runs goes last"
    said(headrace("schedule", "apply", schedules=later))
    [nightly] = state.recurring.values()
    assert (nightly["trigger"]["cron_schedule"]["cron"], nightly["status"]) == ("0 30 2 * * *", "ENABLED")


def test_the_difference_is_a_pure_function(place: Callable[..., str], state: State) -> None:
    wants = wanted(environment(place))
    seen = [
        Recurring("1", want.name, want.pipeline, want.version, want.cron.expression, want.description, True)
        for want in wants
    ]
    assert [step.action for step in compare(wants, seen)] == ["keep", "keep"]
    assert [step.action for step in compare(wants, [])] == ["create", "create"]
    assert [step.action for step in compare([], seen)] == ["delete", "delete"]
    double = Recurring("2", seen[0].name, seen[0].pipeline, "", "", f"{MARK}other", True)
    assert [step.action for step in compare(wants, [*seen, double])] == ["replace", "keep"]


def test_runs_are_listed_for_people_and_programs(headrace: Callable[..., Result], state: State) -> None:
    assert said(headrace("runs")) == ["no run in dev; `headrace submit` starts one"]
    assert said(headrace("schedule", "pause")) == ["nothing changed"]
    assert all(request.startswith("GET ") for request in state.requests)
    for pipeline in ("release_line", "prepare_data", "release_line"):
        said(headrace("submit", pipeline))
    first, second, third = state.runs
    state.move(first, "FAILED", tune="FAILED")
    state.move(second, "SUCCEEDED")
    lines = said(headrace("runs"))
    assert [line.split()[0] for line in lines[1:]] == [third, second, first]
    assert lines[1].split()[1:5] == ["release_line", "by", "hand", "pending"]
    assert lines[3].split()[4] == "failed"
    assert [line.split()[0] for line in said(headrace("runs", "--pipeline", "prepare_data"))[1:]] == [second]
    [failed] = json.loads(headrace("runs", "--failed", "--json").stdout)
    assert (failed["id"], failed["state"], failed["release"][:10]) == (first, "FAILED", "2026.11.01")


def test_logs_come_from_the_pods_that_are_left(
    headrace: Callable[..., Result], state: State, logs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(headrace("submit", "release_line"))
    [run] = state.runs
    with_no_step = headrace("logs", run)
    assert "it had no pod: reused from a cache, or not begun" in str(with_no_step.exception)
    state.move(run, "FAILED", ingest="SUCCEEDED", tune="FAILED")
    gone = headrace("logs", run)
    assert isinstance(gone.exception, HeadraceError)
    assert "no log of tune is left: its pods are gone from headrace-dev; Kubeflow may have archived it" in str(
        gone.exception
    )
    logs[f"{run}-system-container-impl-tune-2"] = (
        'step 1\n::progress {"done": 1, "total": 9, "note": "손실 0.5"}\n::error {'
    )
    logs[f"{run}-system-container-impl-ingest"] = "read 12\n"
    assert said(headrace("logs", run)) == [
        f"── tune ({run}-system-container-impl-tune-2)",
        "step 1",
        "1/9 손실 0.5",
        "::error {",
    ]
    monkeypatch.setattr(api, "_TIMEOUT", (5, SILENCE / 2))
    assert said(headrace("logs", run, "--step", "ingest", "--follow"))[1:] == ["read 12"]
    wrong = headrace("logs", run, "--step", "tuna")
    assert "has no step 'tuna'; it has exit-handler-1, ingest, tune" in str(wrong.exception)
