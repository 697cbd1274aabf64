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

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.step import Context
from components.release.manifest import Manifest
from components.release.notes import PREVIOUS
from components.release.observed import on_plane
from components.release.pins import PIN
from components.release.publish.inference_service import run
from components.release.publish.options import Publish
from components.release.rollout import Rollout, State, connect
from components.release.standard import enlarged, introduced, observe, promoted, with_percent
from serving.cli import rollout_app
from serving.plane.client import plane_of

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
    rollout = connect(environment, name)

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
        assert (halted.state, halted.stable, halted.candidate, halted.observed) == (State.STANDING_BY, old, new, 0)
        assert split(environment, name) == {old: REQUESTS}
        assert rollout.rollback() == halted, "pressed twice"

        assert rollout.set_percent(50).observed == 50
        done = rollout.promote()
        assert (done.state, done.stable, done.candidate, done.previous) == (State.SETTLED, new, "", old)
        assert split(environment, name) == {new: REQUESTS}
        assert rollout.promote() == done, "pressed twice"

        back = rollout.rollback()
        assert (back.state, back.stable, back.candidate, back.previous) == (State.STANDING_BY, old, new, "")
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
    rollout = connect(environment, name)
    assert rollout.status().observed == 0
    assert split(environment, name) == {old: REQUESTS}
    assert rollout.rollback().state == State.STANDING_BY
    with pytest.raises(HeadraceError, match="does not become ready"):
        rollout.promote()
    assert split(environment, name) == {old: REQUESTS}


def test_a_promoted_model_that_breaks_later_can_be_rolled_back(
    environment: Environment, publish: Callable[..., dict], model_version: Register, name: str
) -> None:
    old, new = publish("1")["revision"], publish("4")["revision"]
    rollout = connect(environment, name)
    rollout.promote()
    shutil.rmtree(model_version("4" * 64))
    row = next(row for row in plane_of(environment).revisions() if row["revision"] == new)
    psutil.Process(row["pid"]).kill()
    back = rollout.rollback()
    assert (back.stable, back.candidate, back.observed) == (old, new, 0)
    assert split(environment, name) == {old: REQUESTS}


def test_what_cannot_be_done_is_said(environment: Environment, publish: Callable[..., dict], name: str) -> None:
    with pytest.raises(HeadraceError, match=f"no InferenceService {name} in namespace default; publish a model first"):
        connect(environment, name).status()
    only = publish("1")["revision"]
    rollout = connect(environment, name)
    with pytest.raises(HeadraceError, match=f"{name} has no candidate to give 5 % to; publish a model first"):
        rollout.set_percent(5)
    with pytest.raises(HeadraceError, match=f"{only} is the only revision {name} ever had: nothing to go back to"):
        rollout.rollback()
    with pytest.raises(UsageError, match="101 %: a share is from 0 to 100"):
        rollout.set_percent(101)
    publish("2", percent=0)
    with pytest.raises(UsageError, match="0 %: an A/B test needs users on both sides"):
        rollout.assign("cookie", 0)
    with pytest.raises(UsageError, match="'x user:' is no name of a request header"):
        rollout.assign("header x user:", 50)
    with pytest.raises(UsageError, match=f"{PIN!r} names a revision already"):
        rollout.assign(f"header {PIN}", 50)
    assert rollout.status().assignment == ""


def test_a_plane_that_does_not_run_is_named(environment_at: Callable[[Path], Environment], tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match="the serving plane is not running; start it with `headrace serve up`"):
        connect(environment_at(tmp_path), "chat").status()


def test_the_command_rolls_out(
    environment: Environment, publish: Callable[..., dict], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.cli.load_environment", lambda name, home: environment)

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(rollout_app, [*arguments, "--service", name], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    old, new = publish("1")["revision"], publish("2", percent=0)["revision"]
    assert command("set", "25") == f"{name}: {old} 75 %, candidate {new} 25 % (canary)\n"
    assert command("set", "25") == f"nothing to do: {name}: {old} 75 %, candidate {new} 25 % (canary)\n"
    shown = json.loads(command("status", "--json"))
    assert (shown["observed"], shown["state"], shown["strategy"]) == (25, "canary", "canary")
    assert f"the candidate alone: header x-headrace-revision: {new}" in command("status")
    paused = command("pause", "--reason", "a complaint")
    assert "paused: a complaint; `headrace rollout resume` lets automation go on" in paused
    assert command("pause", "--reason", "a complaint").startswith("nothing to do: ")
    assert "paused" not in command("resume")
    assert f"{new} 100 %" in command("switch")
    assert command("switch").startswith("nothing to do: ")
    assert "(standing by)" in command("switch", "--back")
    assert "A/B test: users are kept by cookie" in command("ab", "start", "--by-cookie", "--percent", "30")
    assert command("ab", "start", "--by-cookie", "--percent", "30").startswith("nothing to do: ")
    assert "A/B" not in command("ab", "stop")
    assert command("ab", "stop").startswith("nothing to do: ")
    assert "(standing by)" in command("rollback")
    assert command("rollback").startswith("nothing to do: ")
    assert command("promote") == f"{name}: {new} 100 % (settled)\n  rollback returns to {old}\n"
    assert command("promote").startswith("nothing to do: ")
    back = f"or use `headrace rollout rollback`, which returns to {old} and keeps {new} as one"
    with pytest.raises(HeadraceError, match=back):
        command("set", "5")
    unclear = CliRunner().invoke(rollout_app, ["ab", "start", "--service", name])
    assert (unclear.exit_code, "--by-header NAME or --by-cookie" in unclear.output) == (2, True)


def kept(environment: Environment, name: str, users: list[str]) -> dict[str, str]:
    """Who answers each user."""
    host = {"host": f"{name}-default.example.com"}
    with httpx.Client(base_url=environment.serving.gateway, headers=host, timeout=30) as gateway:
        return {user: gateway.get("/openai/v1/models", headers={"x-user": user}).headers[PIN] for user in users}


def test_users_keep_their_revision_and_a_growing_share_takes_only_from_one_side(
    environment: Environment, publish: Callable[..., dict], name: str
) -> None:
    old, new = publish("1")["revision"], publish("2", percent=0)["revision"]
    rollout = connect(environment, name)
    users = [f"user-{number}" for number in range(REQUESTS)]
    seen: set[str] = set()
    for percent in (10, 30, 60):
        assert rollout.assign("header x-user", percent).assignment == "header x-user"
        answers = kept(environment, name, users)
        assert kept(environment, name, users) == answers, "everybody keeps the revision"
        now = {user for user, revision in answers.items() if revision == new}
        assert seen < now, "nobody who had the candidate lost it while its share grew"
        # Five standard deviations of a binomial with n = 400 are at most 12.5 %.
        assert abs(len(now) / len(users) - percent / 100) < 0.125
        seen = now
    halted = rollout.rollback()
    assert (halted.assignment, halted.observed) == ("", 0), "a rollback ends the test"
    assert set(kept(environment, name, users).values()) == {old}


def test_a_cookie_of_the_gateway_keeps_users_who_have_no_name(
    environment: Environment, publish: Callable[..., dict], name: str
) -> None:
    publish("1")
    publish("2", percent=0)
    rollout = connect(environment, name)
    rollout.assign("cookie", 50)
    met: Counter[str] = Counter()
    for _ in range(60):
        # Without a domain of the host, as a browser at this gateway would be.
        with httpx.Client(base_url=environment.serving.gateway, timeout=30) as browser:
            host = {"host": f"{name}-default.example.com"}
            first = browser.get("/openai/v1/models", headers=host)
            cookie = first.headers["set-cookie"].partition(";")[0]
            again = browser.get("/openai/v1/models", headers={**host, "cookie": f"theme=dark; {cookie}"})
            assert again.headers[PIN] == first.headers[PIN]
            assert "set-cookie" not in again.headers
            met[first.headers[PIN]] += 1
    assert len(met) == 2 and min(met.values()) > 5
    assert rollout.promote().assignment == ""


def test_an_abort_is_observed_while_another_service_changes(
    environment: Environment, publish: Callable[..., dict], model_version: Register, name: str, tmp_path: Path
) -> None:
    publish("1")
    publish("2", percent=50)
    other = f"{name}-other"
    busy = threading.Event()
    failures: list[BaseException] = []

    def change_without_end() -> None:
        rollout = connect(environment, other)
        try:
            for percent in itertools.cycle((10, 20)):
                if busy.is_set():
                    return
                rollout.set_percent(percent)
        except BaseException as error:
            failures.append(error)

    for version, percent in (("3", 100), ("4", 10)):
        folder = tmp_path / f"other-{version}"
        folder.mkdir()
        run(
            model_version(version * 64),
            folder,
            Publish(name=other, canary_percent=percent),
            Context("release/publish", environment),
        )
    thread = threading.Thread(target=change_without_end)
    thread.start()
    try:
        rollout = connect(environment, name)
        for _ in range(5):
            assert rollout.set_percent(0).observed == 0
            assert set(split(environment, name)) == {rollout.status().stable}
            assert rollout.set_percent(50).observed == 50
    finally:
        busy.set()
        thread.join()
        api = client.CustomObjectsApi(client.ApiClient(client.Configuration(host=environment.serving.api)))
        api.delete_namespaced_custom_object("serving.kserve.io", "v1beta1", "default", "inferenceservices", other)
    assert failures == []


def service(stable: str, **canary: int) -> Manifest:
    canaries = [{"trafficPercent": share, "predictor": {"name": name}} for name, share in canary.items()]
    metadata = {"name": "chat", "generation": 2, "annotations": {}}
    return {"metadata": metadata, "spec": {"predictor": {"name": stable}, "canary": canaries}}


def status(**shares: int) -> dict[str, Any]:
    """A status as the plane writes it: every revision is ready, and the gateway splits like this."""
    statuses = [{"name": name, "ready": True} for name in shares]
    traffic = [{"revisionName": name, "percent": share} for name, share in shares.items()]
    ready = {"type": "PredictorReady", "status": "True"}
    return {"canaryStatuses": statuses, "conditions": [ready], "components": {"predictor": {"traffic": traffic}}}


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ({**service("a"), "status": status(a=100)}, State.SETTLED),
        ({**service("a"), "status": status(a=90, b=10)}, State.CHANGING),
        ({**service("a", b=10), "status": status(a=90, b=10)}, State.CANARY),
        ({**service("a", b=10), "status": status(a=95, b=5)}, State.CHANGING),
        ({**service("a", b=0), "status": status(a=100, b=0)}, State.STANDING_BY),
        (service("a"), State.CHANGING),
    ],
)
def test_accepted_is_not_observed(seen: Manifest, state: State) -> None:
    rollout: Rollout = observe(seen, on_plane(seen))
    assert rollout.state == state


def test_a_candidate_is_replaced_and_forgets_the_promotion_before_it() -> None:
    after_promotion = promoted(service("a", b=100), "b")
    assert json.loads(after_promotion["metadata"]["annotations"][PREVIOUS])["name"] == "a"
    with_canary = introduced(after_promotion, service("c"))
    assert PREVIOUS not in with_canary["metadata"]["annotations"]
    replaced = introduced(with_percent(with_canary, "c", 10), service("d"))
    [canary] = replaced["spec"]["canary"]
    assert (canary["predictor"]["name"], canary["trafficPercent"]) == ("d", 0)


def test_nobody_else_s_candidate_is_promoted_or_given_traffic() -> None:
    with pytest.raises(HeadraceError, match="chat: the candidate was b and is c now"):
        with_percent(service("a", c=10), "b", 100)
    with pytest.raises(HeadraceError, match="chat: the candidate was b and is gone now"):
        promoted(service("a"), "b")
    with pytest.raises(HeadraceError, match="chat: somebody gave b 0 % meanwhile"):
        promoted(service("a", b=0), "b")


def sizes(seen: Manifest) -> tuple[int, int]:
    """What the stable revision and the candidate ask for."""
    spec = seen["spec"]
    return spec["predictor"].get("minReplicas", 1), spec["canary"][0]["predictor"]["minReplicas"]


def test_a_candidate_grows_before_it_gets_its_share_and_the_stable_revision_loses_nothing_for_it() -> None:
    stable, new = service("a"), service("b")
    stable["spec"]["predictor"] |= {"minReplicas": 4, "maxReplicas": 5}
    new["spec"]["predictor"]["minReplicas"] = 3
    # KServe runs the stable revision with what it asks for less the candidate's: always 4.
    canaried = introduced(stable, new)
    assert sizes(canaried) == (5, 1)
    assert enlarged(canaried, "b", 10, running=4) == canaried
    canaried = with_percent(canaried, "b", 10)
    assert sizes(canaried) == (5, 1)
    growing = enlarged(canaried, "b", 100, running=4)
    assert sizes(growing) == (8, 4)
    assert growing["spec"]["predictor"]["maxReplicas"] == 8
    assert enlarged(growing, "b", 100, running=4) == growing, "pressed twice"
    aborted = with_percent(growing, "b", 0)
    assert sizes(aborted) == (5, 1)
    assert aborted["spec"]["predictor"]["maxReplicas"] == 5
    whole = with_percent(growing, "b", 100)
    assert sizes(whole) == (8, 4), "so that a return finds all of it"
    done = promoted(whole, "b")
    assert done["spec"]["predictor"]["minReplicas"] == 4
    previous = json.loads(done["metadata"]["annotations"][PREVIOUS])
    assert (previous["minReplicas"], previous["maxReplicas"]) == (4, 5)


def test_a_stable_revision_that_its_autoscaler_has_grown_is_not_replaced_by_a_small_one() -> None:
    stable = service("a")
    stable["spec"]["predictor"] |= {"minReplicas": 2, "maxReplicas": 10}
    canaried = introduced(stable, service("b"))
    growing = enlarged(canaried, "b", 100, running=8)
    assert sizes(growing) == (16, 8)
    whole = with_percent(growing, "b", 100)
    assert sizes(whole) == (16, 8)
    assert sizes(with_percent(whole, "b", 50)) == (12, 4)
    assert sizes(with_percent(whole, "b", 0)) == (3, 1)


def test_without_an_autoscaler_pods_that_are_about_to_end_are_not_counted() -> None:
    stable = service("a")
    stable["spec"]["predictor"]["minReplicas"] = 3
    canaried = introduced(stable, service("b"))
    assert sizes(enlarged(canaried, "b", 100, running=4)) == (6, 3)


def test_a_single_replica_asks_for_no_more_than_itself() -> None:
    canaried = introduced(service("a"), service("b"))
    assert sizes(with_percent(enlarged(canaried, "b", 100, running=1), "b", 100)) == (1, 1)


def test_a_pause_is_remembered_by_the_service(
    environment: Environment, publish: Callable[..., dict], name: str
) -> None:
    publish("1")
    rollout = connect(environment, name)
    assert rollout.pause("looking at a complaint").paused == "looking at a complaint"
    assert rollout.pause("looking at a complaint").paused == "looking at a complaint", "pressed twice"
    assert rollout.resume().paused == "" == rollout.resume().paused
