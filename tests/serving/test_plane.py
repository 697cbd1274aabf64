"""The serving plane as a client of the Kubernetes API, a user of the gateway and a person at the shell see it."""

import asyncio
import contextlib
import copy
import errno
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from kubernetes import client
from typer.testing import CliRunner

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.wrapping import keyset_file, open_vault
from components.release.manifest import render, render_predictor
from components.release.pins import PIN
from serving.cli import serve_app
from serving.plane.client import Plane, plane_of
from serving.plane.predictors import OPENED, RUNTIMES, Predictor
from serving.plane.reconcile import Revision, Service

WHERE = {"group": "serving.kserve.io", "version": "v1beta1", "namespace": "default", "plural": "inferenceservices"}
NAME = "chat"
HOST = {"host": f"{NAME}-default.example.com"}
MODELS = "/openai/v1/models"

Register = Callable[[str], Path]


def predictor(name: str, folder: Path) -> dict[str, Any]:
    resources = {"cpu": "1", "memory": "1Gi"}
    return render_predictor(
        name=name, storage_uri=folder.as_uri(), replicas=1, resources=resources, arguments=[], annotations={}
    )


def wait_until(true: Callable[[], Any], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def condition(service: dict[str, Any], kind: str) -> dict[str, Any]:
    return next(entry for entry in service["status"]["conditions"] if entry["type"] == kind)


def descendants(plane: Plane) -> list[psutil.Process]:
    return psutil.Process(plane.pid).children(recursive=True)


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.fixture
def plane(environment: Environment) -> Plane:
    return plane_of(environment)


@pytest.fixture
def gateway(environment: Environment) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=environment.serving.gateway, headers=HOST, timeout=60) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def service(environment: Environment, model_version: Register) -> Iterator[dict[str, Any]]:
    """A service that serves one revision, `one`, and has a candidate, `two`, without traffic."""
    api = client.CustomObjectsApi(client.ApiClient(client.Configuration(host=environment.serving.api)))
    manifest = render(NAME, "default", predictor("one", model_version("1" * 64)))
    manifest["spec"]["canary"] = [{"trafficPercent": 0, "predictor": predictor("two", model_version("2" * 64))}]
    api.create_namespaced_custom_object(**WHERE, body=manifest)

    def ready() -> bool:
        seen = api.get_namespaced_custom_object(**WHERE, name=NAME)
        return all(entry["status"] == "True" for entry in seen["status"]["conditions"])

    wait_until(ready, "the service")
    yield manifest
    with contextlib.suppress(client.ApiException):
        api.delete_namespaced_custom_object(**WHERE, name=NAME)


def test_the_status_says_what_kserve_says(api: client.CustomObjectsApi, service: dict[str, Any], gateway: Any) -> None:
    seen = api.get_namespaced_custom_object(**WHERE, name=NAME)
    assert seen["spec"] == service["spec"]
    assert {entry["type"] for entry in seen["status"]["conditions"]} == {
        "Ready",
        "PredictorReady",
        "CanaryPredictorReady",
    }
    assert seen["status"]["canaryStatuses"] == [{"name": "two", "ready": True, "trafficPercent": 0}]
    assert seen["status"]["observedGeneration"] == seen["metadata"]["generation"] == 1
    assert seen["status"]["url"] == str(gateway.base_url).rstrip("/")
    assert [item["metadata"]["name"] for item in api.list_namespaced_custom_object(**WHERE)["items"]] == [NAME]


def test_a_write_from_a_stale_read_conflicts(api: client.CustomObjectsApi, service: dict[str, Any]) -> None:
    read = api.get_namespaced_custom_object(**WHERE, name=NAME)
    mine, theirs = copy.deepcopy(read), copy.deepcopy(read)
    theirs["metadata"]["labels"]["team"] = "theirs"
    written = api.replace_namespaced_custom_object(**WHERE, name=NAME, body=theirs)
    assert written["metadata"]["generation"] == read["metadata"]["generation"], "a label is not a new generation"
    with pytest.raises(client.ApiException) as refused:
        api.replace_namespaced_custom_object(**WHERE, name=NAME, body=mine)
    assert refused.value.status == 409
    assert json.loads(refused.value.body)["reason"] == "Conflict"
    with pytest.raises(client.ApiException) as taken:
        api.create_namespaced_custom_object(**WHERE, body=service)
    assert json.loads(taken.value.body)["reason"] == "AlreadyExists"


def test_a_merge_patch_changes_only_what_it_names(api: client.CustomObjectsApi, service: dict[str, Any]) -> None:
    def patch(value: str | None) -> dict[str, Any]:
        body = {"metadata": {"labels": {"tier": value}}}
        return api.patch_namespaced_custom_object(**WHERE, name=NAME, body=body)

    assert patch("gold")["metadata"]["labels"]["tier"] == "gold"
    cleared = patch(None)
    assert "tier" not in cleared["metadata"]["labels"]
    assert cleared["spec"] == service["spec"]


def test_bad_manifests_are_refused_with_their_fields_and_nothing_changes(
    api: client.CustomObjectsApi, service: dict[str, Any]
) -> None:
    before = api.get_namespaced_custom_object(**WHERE, name=NAME)
    for path, value, fault in [
        (("canary", 0, "trafficPercent"), 120, "spec.canary[0].trafficPercent: must be from 0 to 100"),
        (("canary", 0, "predictor", "name"), "one", "spec.canary[0].predictor.name: 'one' is taken"),
        (("predictor", "model", "storageUrl"), "x", "spec.predictor.model.storageUrl: there is no such field"),
        (("predictor", "model", "storageUri"), "gs://b/m", "spec.predictor.model.storageUri: the plane serves file://"),
        (("predictor", "model", "modelFormat", "name"), "onnx", "no runtime for 'onnx'; known: huggingface"),
    ]:
        bad = copy.deepcopy(before)
        target: Any = bad["spec"]
        for part in path[:-1]:
            target = target[part]
        target[path[-1]] = value
        with pytest.raises(client.ApiException) as refused:
            api.replace_namespaced_custom_object(**WHERE, name=NAME, body=bad)
        answer = json.loads(refused.value.body)
        assert (answer["kind"], answer["code"], answer["reason"]) == ("Status", 422, "Invalid")
        assert fault in answer["message"]
    assert api.get_namespaced_custom_object(**WHERE, name=NAME) == before
    with pytest.raises(client.ApiException) as missing:
        api.get_namespaced_custom_object(**WHERE, name="nobody")
    assert missing.value.status == 404


def test_a_dry_run_checks_and_stores_nothing(api: client.CustomObjectsApi, model_version: Register) -> None:
    manifest = render("dry", "default", predictor("one", model_version("1" * 64)))
    assert api.create_namespaced_custom_object(**WHERE, body=manifest, dry_run="All")["metadata"]["name"] == "dry"
    with pytest.raises(client.ApiException) as missing:
        api.get_namespaced_custom_object(**WHERE, name="dry")
    assert missing.value.status == 404


def test_a_header_picks_the_revision(service: dict[str, Any], gateway: httpx.Client) -> None:
    assert gateway.get(MODELS).headers[PIN] == "one"
    assert gateway.get(MODELS, headers={PIN: "two"}).headers[PIN] == "two"
    unknown = gateway.get(MODELS, headers={PIN: "three"})
    assert unknown.status_code == 404
    assert "known: one, two" in unknown.json()["error"]["message"]


def test_a_stream_arrives_piece_by_piece(service: dict[str, Any], gateway: httpx.Client) -> None:
    messages = [{"role": "user", "content": "Write three sentences about rivers."}]
    body = {"model": NAME, "stream": True, "max_tokens": 24, "temperature": 0, "messages": messages}
    with gateway.stream("POST", "/openai/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        pieces = list(answer.iter_raw())
    assert len(pieces) > 8, "a gateway that buffers hands over one piece"
    assert pieces[-1].endswith(b"data: [DONE]\n\n")


def test_a_killed_predictor_comes_back_and_nobody_notices(
    plane: Plane, service: dict[str, Any], gateway: httpx.Client
) -> None:
    def one() -> dict[str, Any]:
        return next(row for row in plane.revisions() if row["revision"] == "one")

    before = one()
    psutil.Process(before["pid"]).kill()
    wait_until(lambda: not one()["ready"], "its end")
    answer = gateway.get(MODELS)
    assert (answer.status_code, answer.headers[PIN]) == (200, "one"), answer.text
    wait_until(lambda: one()["ready"], "the restart")
    after = one()
    assert after["restarts"] == before["restarts"] + 1
    assert after["pid"] != before["pid"]


def test_a_model_that_cannot_be_loaded_is_reported_with_the_reason(
    api: client.CustomObjectsApi, environment: Environment, gateway: httpx.Client, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    manifest = render("broken", "default", predictor("bad", tmp_path))
    api.create_namespaced_custom_object(**WHERE, body=manifest)
    try:

        def ready() -> dict[str, Any]:
            return condition(api.get_namespaced_custom_object(**WHERE, name="broken"), "Ready")

        wait_until(lambda: ready().get("reason") == "CrashLoopBackOff", "the crash loop to be noticed")
        message = ready()["message"]
        assert message.startswith("revision bad: the predictor exited with status 1, 3 times in a row; its last line: ")
        assert str(tmp_path) in message
        refused = gateway.get(MODELS, headers={"host": "broken-default.example.com"})
        assert refused.status_code == 503
        assert "no predictor of broken is ready" in refused.json()["error"]["message"]
    finally:
        api.delete_namespaced_custom_object(**WHERE, name="broken")


def test_a_killed_envoy_is_started_again_with_its_routes(
    plane: Plane, service: dict[str, Any], gateway: httpx.Client
) -> None:
    envoy = next(process for process in descendants(plane) if process.name() == "envoy")
    envoy.kill()

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return gateway.get(MODELS).headers.get(PIN) == "one"
        return False

    wait_until(answers, "the gateway")


def test_after_a_killed_supervisor_nothing_is_left_and_start_resumes(
    plane: Plane, service: dict[str, Any], gateway: httpx.Client
) -> None:
    children = descendants(plane)
    assert len(children) >= 3, "Envoy and two predictors"
    psutil.Process(plane.pid).kill()
    wait_until(lambda: plane.pid == 0, "the supervisor's end")
    with pytest.raises(HeadraceError, match="the serving plane is not running; start it with `headrace serve up`"):
        plane.revisions()
    assert plane.start()
    assert all(gone(child) for child in children)
    wait_until(lambda: all(row["ready"] for row in plane.revisions()), "the predictors")
    wait_until(lambda: gateway.get(MODELS).headers.get(PIN) == "one", "the routes")
    assert {row["revision"]: row["weight"]["observed"] for row in plane.revisions()} == {"one": 100, "two": 0}
    assert not plane.start(), "it runs already"


def test_a_busy_port_is_named(environment_at: Callable[[Path], Environment], tmp_path: Path) -> None:
    plane = plane_of(environment_at(tmp_path))
    with socket.create_server(("127.0.0.1", plane.gateway_port)), pytest.raises(HeadraceError) as busy:
        plane.start()
    assert str(busy.value) == (
        f"the serving plane did not start: port {plane.gateway_port} is in use: stop what listens there, "
        "or change serving.gateway of the environment"
    )
    assert not plane.stop(), "nothing is left of the attempt"


def test_the_plane_of_another_folder_is_not_taken_for_ones_own(
    service: dict[str, Any], environment: Environment, tmp_path: Path
) -> None:
    other = plane_of(environment.model_copy(update={"home": str(tmp_path)}))
    with pytest.raises(HeadraceError, match=f"port {other.api_port} is in use"):
        other.start()
    assert not other.stop()


@pytest.mark.parametrize("address", ["http://127.0.0.1", "http://127.0.0.1:99999", "http://127.0.0.1:http", "nowhere"])
def test_an_address_without_a_usable_port_is_named(environment: Environment, address: str) -> None:
    serving = environment.serving.model_copy(update={"api": address})
    with pytest.raises(UsageError, match=f"serving.api is '{address}'"):
        plane_of(environment.model_copy(update={"serving": serving}))


def test_one_port_for_api_and_gateway_is_refused(environment: Environment) -> None:
    serving = environment.serving.model_copy(update={"gateway": environment.serving.api})
    with pytest.raises(UsageError, match="share port"):
        plane_of(environment.model_copy(update={"serving": serving}))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a, b]", "not a YAML mapping of model format to a list of strings"),
        ("onnx: [server, 8]", "not a YAML mapping of model format to a list of strings"),
        ("onnx: [server, '{prot}']", "'prot' is not filled in; known: {port}, {model_dir}"),
    ],
)
def test_a_wrong_runtime_is_named(
    environment_at: Callable[[Path], Environment], tmp_path: Path, text: str, fault: str
) -> None:
    runtimes = tmp_path / "runtimes.yaml"
    runtimes.write_text(text)
    plane = replace(plane_of(environment_at(tmp_path)), runtimes=runtimes)
    with pytest.raises(HeadraceError, match=re.escape(f"did not start: {runtimes}: {fault}")):
        plane.start()


def test_stop_leaves_no_process(
    environment_at: Callable[[Path], Environment], model_version: Register, tmp_path: Path
) -> None:
    environment = environment_at(tmp_path)
    plane = plane_of(environment)
    plane.start()
    api = client.CustomObjectsApi(client.ApiClient(client.Configuration(host=environment.serving.api)))
    manifest = render(NAME, "default", predictor("one", model_version("1" * 64)))
    api.create_namespaced_custom_object(**WHERE, body=manifest)
    wait_until(lambda: len(descendants(plane)) == 2, "Envoy and a predictor that is still loading")
    processes = [psutil.Process(plane.pid), *descendants(plane)]
    assert plane.stop()
    assert all(gone(process) for process in processes)
    assert not plane.stop(), "there is nothing to stop"


def test_a_sealed_model_is_served_from_a_working_copy_that_goes_with_the_predictor(
    environment_at: Callable[[Path], Environment], model_version: Register, tmp_path: Path
) -> None:
    environment = environment_at(tmp_path).model_copy(update={"encryption": "keyset"})
    folder = tmp_path / "store" / "models" / "tiny" / "1"
    open_vault(environment).seal_tree(model_version("1" * 64), folder, "models/tiny/1")
    plane, opened = plane_of(environment), tmp_path / "plane" / "opened"
    left = opened / "by-a-plane-that-was-killed"
    left.mkdir(parents=True)
    plane.start()
    try:
        api = client.CustomObjectsApi(client.ApiClient(client.Configuration(host=environment.serving.api)))
        api.create_namespaced_custom_object(**WHERE, body=render(NAME, "default", predictor("one", folder)))
        wait_until(lambda: any(row["ready"] for row in plane.revisions()), "the predictor")
        assert not left.exists() and len(list(opened.iterdir())) == 1
        keyset_file(environment).unlink()
        api.create_namespaced_custom_object(**WHERE, body=render("locked", "default", predictor("two", folder)))
        wait_until(lambda: any("is sealed: " in row["message"] for row in plane.revisions()), "what is wrong", 20)
    finally:
        plane.stop()
    assert list(opened.iterdir()) == []


def test_a_predictor_that_is_stopped_while_it_opens_its_model_leaves_nothing(
    environment_at: Callable[[Path], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = open_vault(environment_at(tmp_path).model_copy(update={"encryption": "keyset"}))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/weights").write_bytes(b"1")
    vault.seal_tree(tmp_path / "plain", tmp_path / "model", "models/tiny/1")
    model = predictor("one", tmp_path / "model")["model"]
    began, go_on, open_tree = threading.Event(), threading.Event(), vault.open_tree

    def slowly(folder: Path, target: Path) -> None:
        began.set()
        assert go_on.wait(20)
        target.mkdir(parents=True, exist_ok=True)
        open_tree(folder, target)

    monkeypatch.setattr(vault, "open_tree", slowly)
    revision = Revision(Service("default", NAME), "one", "f")
    slow = Predictor(revision, model, RUNTIMES, vault, tmp_path / "plane", lambda: None)

    async def stopped_meanwhile() -> None:
        running = asyncio.create_task(slow.run())
        await asyncio.to_thread(began.wait, 20)
        await slow.stop(1)
        go_on.set()
        await running

    asyncio.run(stopped_meanwhile())

    assert not slow.child.pid and list((tmp_path / "plane" / OPENED).iterdir()) == []


def test_a_full_disk_is_what_the_predictor_says(
    environment_at: Callable[[Path], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = open_vault(environment_at(tmp_path).model_copy(update={"encryption": "keyset"}))
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain/weights").write_bytes(b"1")
    vault.seal_tree(tmp_path / "plain", tmp_path / "model", "models/tiny/1")
    model = predictor("one", tmp_path / "model")["model"]

    def full(folder: Path, target: Path) -> None:
        (target / "weights").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target / "weights"))

    monkeypatch.setattr(vault, "open_tree", full)
    told = asyncio.Event()
    revision = Revision(Service("default", NAME), "one", "f")
    failing = Predictor(revision, model, RUNTIMES, vault, tmp_path / "plane", told.set)

    async def until_told() -> None:
        running = asyncio.create_task(failing.run())
        await asyncio.wait_for(told.wait(), 20)
        await failing.stop(1)
        await running

    asyncio.run(until_told())

    assert "No space left on device" in failing.message
    assert list((tmp_path / "plane" / OPENED).iterdir()) == []


def test_the_command_shows_what_the_plane_knows(
    service: dict[str, Any], environment: Environment, gateway: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.get(MODELS)
    monkeypatch.setattr("serving.cli.load_environment", lambda name, home: environment)
    shown = CliRunner().invoke(serve_app, ["status", "--json"])
    assert shown.exit_code == 0
    status = json.loads(shown.stdout)
    assert status["gateway"] == environment.serving.gateway
    one = next(row for row in status["revisions"] if row["revision"] == "one")
    assert one["ready"] and one["weight"] == {"wanted": 100, "observed": 100}
    assert one["requests"]["total"] > 0
    table = CliRunner().invoke(serve_app, ["status"]).stdout
    assert "one" in table and "stable" in table
