"""Rollouts against a real Kubernetes API server, KServe's controller being played by the tests."""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from components.common.environment import Environment, Serving
from components.common.errors import HeadraceError, UsageError
from components.release.manifest import Manifest, render, render_predictor
from components.release.rollout import Rollout, RolloutBackend, State, connect
from tests.components.release.controller import Controller, KnativeModel, StandardModel, define_revisions

WHERE = ("serving.kserve.io", "v1beta1")
NUMBERS = itertools.count(1)


@pytest.fixture
def namespace(cluster: client.ApiClient) -> str:
    """A namespace of the test's own."""
    name = f"rollout-{os.getpid()}-{next(NUMBERS)}"
    client.CoreV1Api(cluster).create_namespace({"metadata": {"name": name}})
    return name


@pytest.fixture
def custom(cluster: client.ApiClient) -> client.CustomObjectsApi:
    return client.CustomObjectsApi(cluster)


@pytest.fixture
def standard(cluster: client.ApiClient, namespace: str) -> Iterator[StandardModel]:
    """KServe in Standard mode with the Gateway API."""
    model = StandardModel()
    with Controller(cluster, namespace, {"chat": model}):
        yield model
    assert model.faults == []


@pytest.fixture
def knative(cluster: client.ApiClient, namespace: str) -> Iterator[KnativeModel]:
    """KServe in Knative mode."""
    define_revisions(cluster)
    model = KnativeModel()
    with Controller(cluster, namespace, {"chat": model}):
        yield model
    assert model.faults == []


Connect = Callable[..., RolloutBackend]


@pytest.fixture
def backend(namespace: str) -> Connect:
    def backend(mode: Any, deadline: float = 60, **serving: Any) -> RolloutBackend:
        place = Serving(mode=mode, namespace=namespace, **serving)
        environment = Environment(name="test", store="gs://b", tracking="", signing_key="", serving=place)
        return connect(environment, "chat", deadline)

    return backend


def revision(name: str, namespace: str, mode: str = "Standard", replicas: int = 1, **predictor: Any) -> Manifest:
    rendered = render_predictor(
        name=name,
        storage_uri=f"gs://models/{name}",
        replicas=replicas,
        resources={"cpu": "1"},
        arguments=[],
        annotations={"headrace.dev/model": name},
    )
    manifest = render("chat", namespace, {**rendered, **predictor})
    manifest["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] = mode
    return manifest


def where(rollout: Rollout) -> tuple[State, str, str, int]:
    """Where a rollout stands; old pods may be on their way out."""
    return rollout.state, rollout.stable, rollout.candidate, rollout.observed


def test_standard_canaries_follow_each_other_and_every_command_may_be_repeated(
    standard: StandardModel, backend: Connect, namespace: str
) -> None:
    rollout = backend("standard")
    first = rollout.introduce(revision("r1", namespace, replicas=3), 10)
    assert (first.state, first.stable) == (State.SETTLED, "r1")
    canary = rollout.introduce(revision("r2", namespace), 10)
    assert (canary.stable, canary.candidate, canary.observed) == ("r1", "r2", 10)
    assert rollout.rollback().state == State.STANDING_BY
    assert rollout.introduce(revision("r2", namespace), 10).observed == 0, "an aborted candidate stays aborted"
    on_top = rollout.introduce(revision("r3", namespace), 50)
    assert (on_top.stable, on_top.candidate, on_top.observed) == ("r1", "r3", 50)
    done = rollout.promote()
    assert (done.state, done.stable, done.previous) == (State.SETTLED, "r3", "r1")
    assert standard.replicas["r3"] == 3, "as many as the stable revision had"
    assert standard.smallest["r1"] == 3, "whoever takes the requests back finds all of the stable revision there"
    assert where(rollout.promote()) == where(done)
    back = rollout.rollback()
    assert (back.state, back.stable, back.candidate) == (State.STANDING_BY, "r1", "r3")
    assert where(rollout.rollback()) == where(back)
    # r2 was aborted at 10 %, and nothing after that gave it a request.
    assert standard.served == {"r1", "r2", "r3"}


def test_knative_canaries_follow_each_other_and_every_command_may_be_repeated(
    knative: KnativeModel, backend: Connect, namespace: str
) -> None:
    rollout = backend("knative")
    first = rollout.introduce(revision("r1", namespace, "Knative"), 10)
    assert (first.state, first.stable) == (State.SETTLED, "r1"), "the percentage is not for the first one"
    canary = rollout.introduce(revision("r2", namespace, "Knative"), 10)
    assert (canary.stable, canary.candidate, canary.observed) == ("r1", "r2", 10)
    assert canary.pin == "address http://latest-chat-predictor.example.com"
    assert rollout.rollback().state == State.STANDING_BY
    assert rollout.introduce(revision("r2", namespace, "Knative"), 10).observed == 0
    knative.served.clear()
    on_top = rollout.introduce(revision("r3", namespace, "Knative"), 50)
    assert (on_top.stable, on_top.candidate, on_top.observed) == ("r1", "r3", 50)
    done = rollout.promote()
    assert (done.state, done.stable, done.previous) == (State.SETTLED, "r3", "r1")
    assert where(rollout.promote()) == where(done)
    back = rollout.rollback()
    assert (back.state, back.stable, back.candidate, back.returned) == (State.SETTLED, "r1", "", "r3")
    assert where(rollout.rollback()) == where(back)
    assert knative.served == {"r1", "r3"}, "r2 was aborted and never the latest ready one with a share again"


def test_knative_that_takes_a_canary_for_a_rollback_is_noticed_and_mended(
    knative: KnativeModel, backend: Connect, namespace: str
) -> None:
    rollout = backend("knative")
    for name in ("r1", "r2"):
        rollout.introduce(revision(name, namespace, "Knative"), 10)
    rollout.promote()
    knative.hasty = True
    with pytest.raises(HeadraceError, match=r"sends requests to r1, which is neither stable nor candidate; .* r2 back"):
        rollout.introduce(revision("r3", namespace, "Knative"), 10)
    knative.hasty = False
    knative.served.clear()
    back = rollout.rollback()
    assert (back.state, back.stable) == (State.SETTLED, "r2")
    assert "r3" not in knative.served


@pytest.mark.parametrize(("mode", "kind"), [("standard", "Standard"), ("knative", "Knative")])
def test_a_revision_that_never_answers_is_explained_and_the_stable_one_keeps_its_requests(
    mode: str, kind: str, backend: Connect, namespace: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(mode)
    model.failing.add("r2")
    rollout = backend(mode)
    rollout.introduce(revision("r1", namespace, kind), 10)
    with pytest.raises(HeadraceError, match=r"chat does not become ready: .*(timed out|unrecognized arguments)"):
        rollout.introduce(revision("r2", namespace, kind), 10)
    with pytest.raises(HeadraceError, match="chat does not become ready"):
        rollout.promote()
    seen = rollout.status()
    assert (seen.stable, seen.candidate, seen.observed, seen.wanted) == ("r1", "r2", 0, 0)
    assert model.served == {"r1"}
    model.failing.clear()
    assert rollout.introduce(revision("r3", namespace, kind), 10).observed == 10


def test_notes_do_not_touch_the_service_whose_annotations_kserve_copies_into_pods(
    standard: StandardModel, backend: Connect, namespace: str, custom: client.CustomObjectsApi
) -> None:
    rollout = backend("standard")
    rollout.introduce(revision("r1", namespace), 10)
    before = custom.get_namespaced_custom_object(*WHERE, namespace, "inferenceservices", "chat")
    assert rollout.pause("a complaint").paused == "a complaint"
    after = custom.get_namespaced_custom_object(*WHERE, namespace, "inferenceservices", "chat")
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    assert rollout.resume().paused == ""


def test_of_two_who_decide_at_once_one_is_told(standard: StandardModel, backend: Connect, namespace: str) -> None:
    one, other = backend("standard"), backend("standard")
    one.introduce(revision("r1", namespace), 10)
    one.introduce(revision("r2", namespace), 10)
    said: list[str] = []

    def decide(rollout: RolloutBackend, percents: tuple[int, ...]) -> None:
        for percent in percents:
            try:
                rollout.set_percent(percent)
            except HeadraceError as error:
                said.append(str(error))

    threads = [threading.Thread(target=decide, args=(one, (20, 30) * 4))]
    threads.append(threading.Thread(target=decide, args=(other, (40, 50) * 4)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said and all("meanwhile" in text or "at this moment" in text for text in said), said
    assert one.status().state == State.CANARY
    looked = one.status()
    other.introduce(revision("r3", namespace), 10)
    with pytest.raises(HeadraceError, match="the candidate was r2 and is r3 now"):
        one._give("r2", 90, looked)  # type: ignore[attr-defined]


def test_a_pause_between_two_writes_of_somebody_else_is_kept(
    standard: StandardModel, backend: Connect, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, person = backend("standard"), backend("standard")
    one.introduce(revision("r1", namespace), 10)
    one.introduce(revision("r2", namespace), 10)
    services = one._services._services  # type: ignore[attr-defined]
    change, pressed = services.change, []

    def then_paused(name: str, edit: Any) -> Manifest:
        stored = change(name, edit)
        if not pressed:
            pressed.append(person.pause("a complaint"))
        return stored

    monkeypatch.setattr(services, "change", then_paused)
    one.rollback()
    assert (person.status().paused, person.status().wanted) == ("a complaint", 0)
    monkeypatch.setattr(services, "change", change)
    assert one.promote().stable == "r2"
    assert (person.status().paused, person.status().previous) == ("a complaint", "r1")


def test_a_service_that_goes_meanwhile_is_named(
    standard: StandardModel, backend: Connect, namespace: str, custom: client.CustomObjectsApi
) -> None:
    rollout = backend("standard")
    rollout.introduce(revision("r1", namespace), 10)
    standard.failing.add("r2")
    waiting = threading.Timer(
        0.5, custom.delete_namespaced_custom_object, (*WHERE, namespace, "inferenceservices", "chat")
    )
    waiting.start()
    with pytest.raises(HeadraceError, match=r"no InferenceService chat in namespace|does not become ready"):
        rollout.introduce(revision("r2", namespace), 10)
    waiting.join()
    with pytest.raises(HeadraceError, match=f"no InferenceService chat in namespace {namespace}"):
        rollout.promote()


def test_the_other_mode_is_refused(knative: KnativeModel, backend: Connect, namespace: str) -> None:
    backend("knative").introduce(revision("r1", namespace, "Knative"), 10)
    with pytest.raises(UsageError, match=r"was made in Knative mode, which cannot change; set serving.mode: knative"):
        backend("standard").introduce(revision("r2", namespace), 10)
    backend("knative").introduce(revision("r2", namespace, "Knative"), 10)
    with pytest.raises(UsageError, match="Knative splits requests, not users"):
        backend("knative").assign("cookie", 50)


def test_what_kserve_would_copy_into_a_candidate_is_refused(
    standard: StandardModel, backend: Connect, namespace: str
) -> None:
    rollout = backend("standard")
    first = revision("r1", namespace)
    first["spec"]["predictor"]["model"]["args"] = ["--slots", "2"]
    rollout.introduce(first, 10)
    with pytest.raises(HeadraceError, match=r"r2 leaves out what r1 sets, .*: model\.args"):
        rollout.introduce(revision("r2", namespace), 10)


def test_without_a_route_nothing_counts_as_applied(backend: Connect, namespace: str, cluster: client.ApiClient) -> None:
    with pytest.raises(HeadraceError, match=r"not ready within 1 s: .*"):
        backend("standard", deadline=1).introduce(revision("r1", namespace), 10)
    assert "no HTTPRoute chat: KServe makes it" in backend("standard").status().reason


def test_a_header_pins_a_revision_and_a_group_of_users(
    standard: StandardModel, backend: Connect, namespace: str, custom: client.CustomObjectsApi
) -> None:
    rollout = backend("standard", parent_gateway="kserve/kserve-ingress-gateway")

    def pins() -> list[tuple[str, str, str]]:
        where = ("gateway.networking.k8s.io", "v1", namespace, "httproutes", "chat-pins")
        route = custom.get_namespaced_custom_object(*where)
        assert (
            route["spec"]["parentRefs"][0] | {"namespace": "kserve", "name": "kserve-ingress-gateway"}
            == (route["spec"]["parentRefs"][0])
        )
        assert route["metadata"]["ownerReferences"][0]["kind"] == "InferenceService"
        return [
            (rule["matches"][0]["headers"][0]["name"], rule["matches"][0]["headers"][0]["value"], backend["name"])
            for rule in route["spec"]["rules"]
            for backend in rule["backendRefs"]
        ]

    rollout.introduce(revision("r1", namespace), 10)
    assert rollout.introduce(revision("r2", namespace), 0).pin == "header x-headrace-revision"
    by_revision = [
        ("x-headrace-revision", "r2", "chat-r2-predictor"),
        ("x-headrace-revision", "r1", "chat-r1-predictor"),
    ]
    assert pins() == by_revision
    with pytest.raises(UsageError, match="a cluster's gateway cannot keep users by cookie"):
        rollout.assign("cookie", 50)
    assert rollout.assign("header x-headrace-group", 50).strategy == "A/B"
    assert pins() == [
        *by_revision,
        ("x-headrace-group", "candidate", "chat-r2-predictor"),
        ("x-headrace-group", "stable", "chat-r1-predictor"),
    ]
    assert rollout.rollback().assignment == ""
    assert pins() == by_revision, "the abort is for those who were assigned, too"
    rollout.promote()
    with pytest.raises(ApiException, match="404"):
        pins()
