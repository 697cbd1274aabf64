"""A whole rollout as the service accounts of the manifests on a real API server, KServe being played by the tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError
from components.release.companions import accompany, check_account
from components.release.manifest import Manifest, render, render_predictor
from components.release.publish.options import Publish
from components.release.rollout import RolloutBackend, State, connect
from tests.components.release.controller import WHERE, Controller, KnativeModel, StandardModel, define_revisions

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

SERVICE = "assistant"
OPTIONS = Publish(name=SERVICE)
Backend = Callable[[str], RolloutBackend]


@pytest.fixture
def place(
    kubeconfig: Path,
    applied: list[dict[str, Any]],
    cluster: client.ApiClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str, str], Environment]:
    """The environment prod as a service account sees it; what it may do, the API server judges by its token."""
    environment, core = load_environment("prod"), client.CoreV1Api(cluster)
    written = yaml.safe_load(kubeconfig.read_text("utf-8"))
    written |= {"users": [], "contexts": []}
    for account in sorted({environment.kubeflow.service_account, *environment.kubeflow.service_accounts.values()}):
        asked = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        made = core.create_namespaced_service_account_token(account, environment.kubeflow.namespace, asked)
        written["users"].append({"name": account, "user": {"token": made.status.token}})
        context = {"cluster": written["clusters"][0]["name"], "user": account}
        written["contexts"].append({"name": account, "context": context})
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(written), "utf-8")
    monkeypatch.setenv("KUBECONFIG", str(path))

    def describe(account: str, mode: str) -> Environment:
        serving = environment.serving.model_copy(update={"context": account, "mode": mode})
        return environment.model_copy(update={"serving": serving})

    return describe


@contextmanager
def served(cluster: client.ApiClient, namespace: str, model: StandardModel | KnativeModel) -> Iterator[None]:
    """KServe, and an empty namespace afterwards."""
    try:
        with Controller(cluster, namespace, {SERVICE: model}):
            yield
    finally:
        custom, core = client.CustomObjectsApi(cluster), client.CoreV1Api(cluster)
        for name in [
            item["metadata"]["name"] for item in custom.list_namespaced_custom_object(*where(namespace))["items"]
        ]:
            custom.delete_namespaced_custom_object(*where(namespace), name)
        client.AppsV1Api(cluster).delete_collection_namespaced_deployment(namespace)
        routes = ("gateway.networking.k8s.io", "v1", namespace, "httproutes")
        custom.delete_collection_namespaced_custom_object(*routes)
        # No garbage collector runs here, which removes what belongs to a service that is gone.
        core.delete_collection_namespaced_config_map(namespace, label_selector="app.kubernetes.io/managed-by=headrace")
    assert model.faults == []


def where(namespace: str) -> tuple[str, str, str, str]:
    return (*WHERE, namespace, "inferenceservices")


def revision(name: str, environment: Environment) -> Manifest:
    predictor = render_predictor(name, f"gs://models/{name}", 1, {"cpu": "1"}, [], {})
    mode = "Knative" if environment.serving.mode == "knative" else "Standard"
    return render(SERVICE, environment.serving.namespace, predictor, mode)


@pytest.mark.parametrize("mode", ["standard", "knative"])
def test_publishing_and_a_rollout_need_no_more_than_their_accounts_may(
    cluster: client.ApiClient, place: Callable[[str, str], Environment], mode: str
) -> None:
    release, rollout = place("headrace-release", mode), place("headrace-rollout", mode)
    namespace = release.serving.namespace
    if mode == "knative":
        define_revisions(cluster)
    model = KnativeModel() if mode == "knative" else StandardModel()
    with served(cluster, namespace, model):
        publishing, moving = (connect(one, SERVICE, 30) for one in (release, rollout))
        check_account(release)
        with pytest.raises(HeadraceError, match=r'cannot create resource "inferenceservices".*bind a role'):
            moving.introduce(revision("r1", rollout), 10)
        assert publishing.introduce(revision("r1", release), 10).state == State.SETTLED
        accompany(release, OPTIONS)
        accompany(release, OPTIONS)
        assert publishing.introduce(revision("r2", release), 10).observed == 10

        seen = moving.set_percent(50)
        assert (seen.candidate, seen.observed) == ("r2", 50)
        assert seen.pin == (
            "header x-headrace-revision" if mode == "standard" else "address http://latest-chat-predictor.example.com"
        )
        assert moving.pause("a look at the answers").paused
        assert not moving.resume().paused
        if mode == "standard":
            assert moving.assign("header x-headrace-group", 50).strategy == "A/B"
            assert moving.assign("", 50).strategy == "canary"
        assert moving.promote().stable == "r2"
        assert moving.rollback().stable == "r1"
        assert moving.rollback().stable == "r1"

        model.failing.add("r3")
        with pytest.raises(HeadraceError, match=r"does not become ready: revision r3: ") as failed:
            publishing.introduce(revision("r3", release), 10)
        assert "not known" not in str(failed.value), "it may look at pods, events and Deployments"

        for who in (release, rollout):
            with pytest.raises(HeadraceError, match=r'cannot get resource "inferenceservices"'):
                connect(who, "another", 5).status()
        with pytest.raises(HeadraceError, match=r'cannot patch resource "(poddisruptionbudgets|networkpolicies)"'):
            accompany(rollout, OPTIONS)
        with pytest.raises(HeadraceError, match=r'cannot get resource "serviceaccounts"'):
            check_account(rollout)
        with pytest.raises(HeadraceError, match=r'cannot get resource "inferenceservices"'):
            connect(place("headrace-data", mode), SERVICE, 5).status()
