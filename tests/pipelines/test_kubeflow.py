"""The client of Kubeflow Pipelines against a server that speaks its v2beta1 protocol."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from kfp_api import Api, State, conform, serving

from components.common.environment import Environment, Kubeflow, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.step import IMAGES
from pipelines import kubeflow
from pipelines.compile import compile_pipeline
from pipelines.kubeflow import Kfp, Refused, Unanswered
from serving.plane.processes import free_port

VERSION = "2026.11.01-0123456789ab"
LOCK = {image: f"registry.example.com/headrace/{image}@sha256:{'0123456789abcdef' * 4}" for image in IMAGES}
ARGUMENTS = {"recipe": {"name": "x"}, "environment": {"name": "dev"}}


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setattr(kubeflow, "_PAUSES", (0.0, 0.0))
    return State()


@pytest.fixture
def host(state: State) -> Iterator[str]:
    with serving(Api(state).routes()) as url:
        yield f"{url}/pipeline"


def place(host: str, **fields: object) -> Environment:
    dev = load_environment("dev")
    return dev.model_copy(update={"kubeflow": dev.kubeflow.model_copy(update={"host": host, "auth": "none", **fields})})


@pytest.fixture
def dev(host: str, state: State) -> Environment:
    state.multi_user = True
    return place(host)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    path = tmp_path / "release_line.yaml"
    path.write_text(compile_pipeline("release_line", LOCK.__getitem__), "utf-8")
    return path


def test_a_version_is_uploaded_once_and_comes_back_byte_for_byte(dev: Environment, state: State, release: Path) -> None:
    kfp = Kfp(dev)
    assert kfp.uploaded("release_line", VERSION) is None
    assert kfp.last_run("release_line", VERSION) is None
    for _ in range(3):
        kfp.upload("release_line", VERSION, release)
    assert len(state.versions) == 1
    assert Kfp(dev).uploaded("release_line", VERSION) == release.read_bytes()
    [pipeline] = state.pipelines.values()
    assert (pipeline["display_name"], pipeline["namespace"]) == ("release_line", "headrace-dev")
    release.write_text(release.read_text("utf-8").replace("release-line", "release-lime"), "utf-8")
    with pytest.raises(HeadraceError, match=r"is not what .* holds; a version is never changed"):
        kfp.upload("release_line", VERSION, release)


def test_runs_are_found_over_many_pages_with_what_the_gate_decided(
    dev: Environment, state: State, release: Path
) -> None:
    kfp = Kfp(dev)
    kfp.upload("release_line", VERSION, release)
    kfp.upload("release_line", "2026.11.02-ba9876543210", release)
    runs = [kfp.submit("release_line", VERSION, ARGUMENTS) for _ in range(5)]
    later = kfp.submit("release_line", "2026.11.02-ba9876543210", ARGUMENTS)
    assert [run.id for run in kfp.runs()] == [later.id, *(run.id for run in reversed(runs))]
    assert list(kfp.runs("prepare_data")) == []
    state.move(runs[-1].id, "SUCCEEDED", gate="SUCCEEDED", publish="SKIPPED", notify_hold="SUCCEEDED")
    last = kfp.last_run("release_line", VERSION)
    assert last
    assert (last.id, last.state, last.decision, last.ended) == (runs[-1].id, "SUCCEEDED", "hold", True)
    assert last.url == f"https://kubeflow.dev.example.com/pipeline/#/runs/details/{last.id}"
    assert last.finished and last.finished > last.started
    state.move(last.id, "SUCCEEDED", publish="SUCCEEDED", notify_hold="SKIPPED")
    assert kfp.run(last.id).decision == "release"
    state.move(runs[0].id, "FAILED", tune="FAILED")
    assert [run.id for run in kfp.runs(failed=True)] == [runs[0].id]
    [group, tune] = kfp.run(runs[0].id).tasks
    assert (group.name, group.pods) == ("exit-handler-1", ())
    assert (tune.name, tune.error) == ("tune", "tune failed")
    assert tune.pods == tuple(f"{runs[0].id}-system-container-impl-tune-{number}" for number in range(3))
    assert state.runs[last.id]["service_account"] == "headrace-release"
    assert len(state.experiments) == 1


def test_a_lost_answer_makes_no_second_run(dev: Environment, state: State, release: Path) -> None:
    kfp = Kfp(dev)
    state.lose_answers = 1
    kfp.upload("release_line", VERSION, release)
    state.lose_answers = 1
    run = kfp.submit("release_line", VERSION, ARGUMENTS)
    assert list(state.runs) == [run.id]
    state.fail("POST /runs", 503)
    with pytest.raises(Unanswered, match="in trouble"):
        kfp.submit("release_line", VERSION, ARGUMENTS)
    assert list(state.runs) == [run.id]


def test_reading_outlives_a_restart_of_the_api(dev: Environment, state: State) -> None:
    state.fail("GET /experiments", 503, 502)
    assert list(Kfp(dev).runs()) == []
    state.experiments["e"] = {"experiment_id": "e", "display_name": "headrace", "namespace": "headrace-dev"}
    state.fail("GET /runs", 500, 500, 500)
    with pytest.raises(Unanswered, match=r"in trouble \(500: injected\); try again in a minute"):
        list(Kfp(dev).runs())


@pytest.mark.parametrize(("auth", "variable"), [("token", "HEADRACE_KFP_TOKEN"), ("cookie", "HEADRACE_KFP_COOKIE")])
def test_logging_in(host: str, state: State, monkeypatch: pytest.MonkeyPatch, auth: str, variable: str) -> None:
    secret = "authservice_session=MTY4" if auth == "cookie" else "eyJ"
    setattr(state, auth, secret)
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UsageError, match=f"{variable} is not set"):
        Kfp(place(host, auth=auth))
    monkeypatch.setenv(variable, "expired")
    with pytest.raises(Refused, match=f"does not know you .*{variable}") as raised:
        list(Kfp(place(host, auth=auth)).runs())
    assert "expired" not in str(raised.value)
    monkeypatch.setenv(variable, f"{secret}\n")
    assert list(Kfp(place(host, auth=auth)).runs()) == []
    with pytest.raises(Refused, match=r"set kubeflow\.auth to token or cookie"):
        list(Kfp(place(host)).runs())


def test_a_pod_logs_in_with_its_projected_token(
    host: str, state: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(token))
    with pytest.raises(UsageError, match=r"token does not exist: kubeflow\.auth in_cluster is for pods"):
        Kfp(place(host, auth="in_cluster"))
    token.write_text("first")
    state.token = "first"
    kfp = Kfp(place(host, auth="in_cluster"))
    assert list(kfp.runs()) == []
    state.token = "second"  # the kubelet rotates it
    token.write_text("second")
    assert list(kfp.runs()) == []


def test_somebody_elses_profile_is_refused_with_a_next_step(dev: Environment, host: str) -> None:
    with pytest.raises(Refused, match=r"knows you and says no: .*; ask for access to the profile team-b"):
        list(Kfp(place(host, namespace="team-b")).runs())


def test_addresses_that_are_no_kfp_api(host: str, state: State) -> None:
    with pytest.raises(Unanswered, match="nothing listens at http://127"):
        list(Kfp(place(f"http://127.0.0.1:{free_port()}/pipeline")).runs())
    with pytest.raises(Refused, match=r"kubeflow\.host; behind Kubeflow's gateway it ends in /pipeline"):
        list(Kfp(place(host.removesuffix("/pipeline"))).runs())
    with pytest.raises(UsageError, match="write https://HOST/pipeline"):
        Kfp(place("kubeflow.example.com"))
    state.login_page = True
    with pytest.raises(Refused, match="answers with text/html"):
        list(Kfp(place(host)).runs())
    with pytest.raises(UsageError, match="`headrace run` runs the line on this machine"):
        Kfp(load_environment("local"))


def test_an_api_that_never_answers_is_given_up(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeflow, "_TIMEOUT", (0.1, 0.1))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"http://127.0.0.1:{silent.getsockname()[1]}/pipeline"
        with pytest.raises(Unanswered, match="does not answer; see the VPN, or try again"):
            list(Kfp(place(host)).runs())


def test_what_is_not_there_is_named(dev: Environment) -> None:
    kfp = Kfp(dev)
    with pytest.raises(UsageError, match="release_line 1 is not uploaded to dev"):
        kfp.submit("release_line", "1", ARGUMENTS)
    with pytest.raises(UsageError, match="there is no run 'nope' in dev; `headrace runs"):
        kfp.run("nope")


def test_the_servers_own_yardstick_bites() -> None:
    conform("V2beta1Run", {"run_id": "1", "state": "FAILED", "created_at": "2026-01-01T00:00:00Z"})
    for broken in ({"runid": "1"}, {"run_id": 1.5}, {"state": "DONE"}, {"run_details": {"task_details": {}}}):
        with pytest.raises(AssertionError):
            conform("V2beta1Run", broken)


def test_the_environments_of_the_project_name_a_host_and_an_account() -> None:
    for name in ("dev", "staging", "prod"):
        kubeflow_section: Kubeflow = load_environment(name).kubeflow
        assert kubeflow_section.host.endswith("/pipeline")
        assert yaml.safe_dump(kubeflow_section.model_dump())
