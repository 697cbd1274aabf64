"""From publication to promotion and back, on a real plane and under load: nothing fails on the way."""

import itertools
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from kubernetes import client
from typer.testing import CliRunner

from components.common.environment import Environment, Serving
from components.common.errors import HeadraceError, UsageError
from components.common.step import Context
from components.release.manifest import Manifest
from components.release.publish.inference_service import run
from components.release.publish.options import Publish
from components.release.rollout import (
    PREVIOUS,
    Rollout,
    StandardRollout,
    State,
    introduced,
    observe,
    promoted,
    with_percent,
)
from serving.cli import rollout_app
from serving.plane.client import plane_of
from serving.plane.envoy import PIN

Register = Callable[[str], Path]
REQUESTS = 400
NUMBERS = itertools.count(1)


class Load:
    """Clients that never stop asking, and remember every failure."""

    def __init__(self, environment: Environment, name: str) -> None:
        self.failures: list[str] = []
        self.requests = 0
        self._environment = environment
        self._host = {"host": f"{name}-default.example.com"}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(base_url=self._environment.serving.gateway, headers=self._host, timeout=30) as gateway:
            while not self._stop.wait(0.005):
                try:
                    answer = gateway.get("/openai/v1/models")
                    if answer.status_code != 200:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                self.requests += 1


@pytest.fixture
def name(environment: Environment) -> Iterator[str]:
    """A service name of the test's own; what it publishes is removed afterwards."""
    name = f"service-{next(NUMBERS)}"
    yield name
    api = client.CustomObjectsApi(client.ApiClient(client.Configuration(host=environment.serving.api)))
    where = {"group": "serving.kserve.io", "version": "v1beta1", "plural": "inferenceservices", "namespace": "default"}
    services = api.list_namespaced_custom_object(**where)["items"]
    if name in [service["metadata"]["name"] for service in services]:
        api.delete_namespaced_custom_object(**where, name=name)


@pytest.fixture
def publish(environment: Environment, model_version: Register, name: str, tmp_path: Path) -> Callable[..., dict]:
    def publish(version: str, percent: int = 10, **options: Any) -> dict[str, Any]:
        publication = tmp_path / f"{version}-{len(list(tmp_path.iterdir()))}"
        publication.mkdir()
        chosen = Publish(name=name, canary_percent=percent, **options)
        run(model_version(version * 64), publication, chosen, Context("release/publish", environment))
        return json.loads((publication / "publication.json").read_text())

    return publish


def split(environment: Environment, name: str) -> Counter[str]:
    """Who answers a few hundred requests."""
    host = {"host": f"{name}-default.example.com"}
    with httpx.Client(base_url=environment.serving.gateway, headers=host, timeout=30) as gateway:
        return Counter(gateway.get("/openai/v1/models").headers[PIN] for _ in range(REQUESTS))


def test_publish_promote_and_roll_back_under_load(
    environment: Environment, publish: Callable[..., dict], name: str
) -> None:
    first = publish("1")
    assert (first["percent"], first["candidate"]) == (100, "")
    old = first["revision"]
    assert old.startswith("r11111111-")
    rollout = StandardRollout(environment, name)

    with Load(environment, name) as load:
        second = publish("2")
        new = second["revision"]
        assert (second["percent"], second["stable"], second["candidate"]) == (10, old, new)
        shares = split(environment, name)
        # Five standard deviations of a binomial with n = 400, p = 0.1.
        assert 10 <= shares[new] <= 70
        assert shares[old] + shares[new] == REQUESTS

        before = rollout.status()
        assert publish("2")["percent"] == 10
        assert publish("1")["percent"] == 90
        assert rollout.status() == before, "the same models again: nothing changes"

        halted = rollout.rollback()
        assert (halted.state, halted.stable, halted.candidate, halted.observed) == (State.ROLLED_BACK, old, new, 0)
        assert split(environment, name) == {old: REQUESTS}
        assert rollout.rollback() == halted, "pressed twice"

        assert rollout.set_percent(50).observed == 50
        done = rollout.promote()
        assert (done.state, done.stable, done.candidate, done.previous) == (State.SETTLED, new, "", old)
        assert split(environment, name) == {new: REQUESTS}
        assert rollout.promote() == done, "pressed twice"

        back = rollout.rollback()
        assert (back.state, back.stable, back.candidate, back.previous) == (State.ROLLED_BACK, old, new, "")
        assert split(environment, name) == {old: REQUESTS}
        assert rollout.rollback() == back, "pressed twice"

        third = publish("3", percent=0)
        assert (third["stable"], third["candidate"], third["percent"]) == (old, third["revision"], 0)
    assert load.requests > 100
    assert load.failures == []


def test_the_manifest_leads_back_to_what_made_the_model(
    environment: Environment, model_version: Register, name: str, tmp_path: Path, api: client.CustomObjectsApi
) -> None:
    options = Publish(name=name, arguments=["--slots", "2"], cpu="1", memory="512Mi")
    outcome = run(model_version("1" * 64), tmp_path, options, Context("release/publish", environment))
    stored = api.get_namespaced_custom_object("serving.kserve.io", "v1beta1", "default", "inferenceservices", name)
    predictor = stored["spec"]["predictor"]
    assert predictor["model"]["storageUri"] == f"{environment.store}/models/tiny/{'1' * 64}"
    assert predictor["model"]["resources"]["limits"] == {"cpu": "1", "memory": "512Mi"}
    assert predictor["model"]["args"] == ["--slots", "2"]
    assert predictor["annotations"] == {
        "headrace.dev/model": f"tiny/{'1' * 64}",
        "headrace.dev/dataset": "d" * 64,
        "headrace.dev/base": "b" * 64,
        "headrace.dev/recipe": "e" * 64,
    }
    assert outcome.head == f"publications/{name}/{predictor['name']}"
    assert predictor["name"] in outcome.report.html()


def test_a_model_that_does_not_start_is_reported_and_leaves_the_old_one_serving(
    environment: Environment, publish: Callable[..., dict], name: str
) -> None:
    old = publish("1")["revision"]
    with pytest.raises(
        HeadraceError, match=f"{name} does not become ready: revision r.*unrecognized arguments: --no_such"
    ):
        publish("2", arguments=["--no_such"])
    rollout = StandardRollout(environment, name)
    assert rollout.status().observed == 0
    assert split(environment, name) == {old: REQUESTS}
    assert rollout.rollback().state == State.ROLLED_BACK
    with pytest.raises(HeadraceError, match="does not become ready"):
        rollout.promote()
    assert split(environment, name) == {old: REQUESTS}


def test_a_promoted_model_that_breaks_later_can_be_rolled_back(
    environment: Environment, publish: Callable[..., dict], model_version: Register, name: str
) -> None:
    old, new = publish("1")["revision"], publish("4")["revision"]
    rollout = StandardRollout(environment, name)
    rollout.promote()
    shutil.rmtree(model_version("4" * 64))
    row = next(row for row in plane_of(environment).revisions() if row["revision"] == new)
    psutil.Process(row["pid"]).kill()
    back = rollout.rollback()
    assert (back.stable, back.candidate, back.observed) == (old, new, 0)
    assert split(environment, name) == {old: REQUESTS}


def test_what_cannot_be_done_is_said(environment: Environment, publish: Callable[..., dict], name: str) -> None:
    with pytest.raises(HeadraceError, match=f"no InferenceService {name} in namespace default; publish a model first"):
        StandardRollout(environment, name).status()
    only = publish("1")["revision"]
    rollout = StandardRollout(environment, name)
    with pytest.raises(HeadraceError, match=f"{name} has no candidate to give 5 % to; publish a model first"):
        rollout.set_percent(5)
    with pytest.raises(HeadraceError, match=f"{only} is the only revision {name} ever had: nothing to go back to"):
        rollout.rollback()
    with pytest.raises(UsageError, match="101 %: a share is from 0 to 100"):
        rollout.set_percent(101)
    knative = environment.model_copy(update={"serving": Serving(mode="knative")})
    with pytest.raises(UsageError, match="use plane or standard"):
        StandardRollout(knative, name)


def test_a_plane_that_does_not_run_is_named(environment_at: Callable[[Path], Environment], tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match="the serving plane is not running; start it with `headrace serve up`"):
        StandardRollout(environment_at(tmp_path), "chat").status()


def test_the_command_rolls_out(
    environment: Environment, publish: Callable[..., dict], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.cli.load_environment", lambda name, home: environment)

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(rollout_app, [*arguments, "--service", name], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    old, new = publish("1")["revision"], publish("2")["revision"]
    assert command("set", "25") == f"{name}: {old} 75 %, candidate {new} 25 % (canary)\n"
    assert json.loads(command("status", "--json"))["observed"] == 25
    assert new in command("status")
    assert "(rolled back)" in command("rollback")
    assert command("promote") == f"{name}: {new} 100 % (settled)\n  rollback returns to {old}\n"


def service(stable: str, **canary: int) -> Manifest:
    canaries = [{"trafficPercent": share, "predictor": {"name": name}} for name, share in canary.items()]
    metadata = {"name": "chat", "generation": 2, "annotations": {}}
    return {"metadata": metadata, "spec": {"predictor": {"name": stable}, "canary": canaries}}


def status(observed_generation: int, **shares: int) -> dict[str, Any]:
    """A status as KServe writes it in Standard mode, which says nothing of the stable revision's share."""
    statuses = [{"name": name, "ready": True, "trafficPercent": share} for name, share in shares.items()]
    ready = {"type": "Ready", "status": "True"}
    return {"observedGeneration": observed_generation, "canaryStatuses": statuses, "conditions": [ready]}


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ({**service("a"), "status": status(2)}, State.SETTLED),
        ({**service("a"), "status": status(1)}, State.CHANGING),
        ({**service("a", b=10), "status": status(2, b=10)}, State.CANARY),
        ({**service("a", b=10), "status": status(2, b=5)}, State.CHANGING),
        ({**service("a", b=0), "status": status(2, b=0)}, State.ROLLED_BACK),
        (service("a"), State.CHANGING),
    ],
)
def test_accepted_is_not_observed(seen: Manifest, state: State) -> None:
    rollout: Rollout = observe(seen)
    assert rollout.state == state


def test_a_candidate_is_replaced_and_forgets_the_promotion_before_it() -> None:
    after_promotion = promoted(service("a", b=100), "b")
    assert json.loads(after_promotion["metadata"]["annotations"][PREVIOUS]) == {"name": "a"}
    with_canary = introduced(after_promotion, service("c"), 10)
    assert PREVIOUS not in with_canary["metadata"]["annotations"]
    replaced = introduced(with_canary, service("d"), 20)
    assert replaced["spec"] == service("b", d=20)["spec"]


def test_nobody_else_s_candidate_is_promoted_or_given_traffic() -> None:
    with pytest.raises(HeadraceError, match="chat: the candidate was b and is c now"):
        with_percent(service("a", c=10), "b", 100)
    with pytest.raises(HeadraceError, match="chat: the candidate was b and is gone now"):
        promoted(service("a"), "b")


def test_a_candidate_never_has_more_replicas_than_the_stable_revision() -> None:
    new = service("b")
    new["spec"]["predictor"]["minReplicas"] = 3
    canaried = introduced(service("a"), new, 10)
    assert canaried["spec"]["predictor"]["minReplicas"] == 3
    assert canaried["spec"]["canary"][0]["predictor"]["minReplicas"] == 3
    small = introduced(canaried, service("c"), 10)
    taking_over = with_percent(small, "c", 100)
    assert taking_over["spec"]["canary"][0]["predictor"]["minReplicas"] == 3


def test_a_pause_is_remembered_by_the_service(
    environment: Environment, publish: Callable[..., dict], name: str
) -> None:
    publish("1")
    rollout = StandardRollout(environment, name)
    assert rollout.pause("looking at a complaint").paused == "looking at a complaint"
    assert rollout.pause("looking at a complaint").paused == "looking at a complaint", "pressed twice"
    assert rollout.resume().paused == "" == rollout.resume().paused
