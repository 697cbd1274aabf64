"""What stands beside a service on a cluster, applied to the real API server."""

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from components.common.environment import Environment, Serving
from components.common.errors import HeadraceError, UsageError
from components.release.companions import accompany, check_account, check_callers, companions
from components.release.manifest import render, render_predictor
from components.release.publish.options import Network, Publish
from components.release.services import InferenceServices

OPTIONS = Publish(name="chat")
STORED = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "chat", "namespace": "models", "uid": "1-2-3"},
}


def environment(namespace: str = "models", mode: str = "standard", **changes: Any) -> Environment:
    serving = {"mode": mode, "namespace": namespace, "parent_gateway": "kserve/gateway"}
    fields = {
        "name": "test",
        "store": "gs://models/headrace",
        "tracking": "",
        "signing_key": "",
        "prometheus": "http://prometheus-operated.monitoring.svc:9090",
        "serving": Serving(**serving | changes.pop("serving", {})),
    }
    return Environment(**fields | changes)


def policy(options: Publish = OPTIONS, **changes: Any) -> dict[str, Any]:
    _, written = companions(STORED, options, environment(**changes))
    return written["spec"]


def callers(spec: dict[str, Any]) -> list[str]:
    return [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in spec["ingress"][0]["from"]
    ]


def test_only_gateway_and_monitoring_may_call() -> None:
    spec = policy()
    assert spec["podSelector"]["matchLabels"] == {
        "serving.kserve.io/inferenceservice": "chat",
        "component": "predictor",
    }
    assert callers(spec) == ["kserve", "monitoring"]
    assert [rule["ports"] for rule in spec["ingress"]] == [[{"protocol": "TCP", "port": OPTIONS.probes.port}]]
    assert "ports" not in policy(mode="knative")["ingress"][0], "Knative's proxy listens where it likes"
    assert callers(policy(mode="knative")) == ["knative-serving", "kserve", "monitoring"]
    assert callers(policy(prometheus="https://metrics.example.com")) == ["kserve"]
    extra = Publish(name="chat", network=Network(ingress_namespaces=["envoy-gateway-system"]))
    assert callers(policy(extra)) == ["envoy-gateway-system", "kserve", "monitoring"]


def test_the_pods_reach_names_and_the_store_and_nothing_else() -> None:
    def reached(spec: dict[str, Any]) -> set[tuple[str, int]]:
        return {
            (peer["ipBlock"]["cidr"], port["port"])
            for rule in spec["egress"]
            for peer in rule.get("to", [{"ipBlock": {"cidr": "anywhere"}}])
            for port in rule["ports"]
        }

    private = {("199.36.153.4/30", 443), ("199.36.153.8/30", 443)}
    names = {("anywhere", 53)}
    tokens = {("169.254.169.252/32", 987), ("169.254.169.252/32", 988), ("169.254.169.254/32", 80)}
    assert reached(policy()) == names | private | tokens
    own = Publish(name="chat", network=Network(egress=["10.0.0.0/8"]))
    assert reached(policy(own, store="file:///models")) == names | {("10.0.0.0/8", 443)}


def test_without_a_gateway_it_is_not_known_who_calls() -> None:
    nowhere = environment(serving={"parent_gateway": ""})
    with pytest.raises(UsageError, match="environment test names no serving"):
        companions(STORED, OPTIONS, nowhere)
    with pytest.raises(UsageError, match="environment test names no serving"):
        check_callers(OPTIONS, nowhere)
    assert check_callers(Publish(name="chat", network=Network(policy=False)), nowhere) == []
    without = companions(STORED, Publish(name="chat", network=Network(policy=False)), nowhere)
    assert [companion["kind"] for companion in without] == ["PodDisruptionBudget"]


@pytest.fixture
def namespace(cluster: client.ApiClient) -> Iterator[str]:
    """A namespace of a test's own."""
    core = client.CoreV1Api(cluster)
    name = core.create_namespace({"metadata": {"generateName": "beside-"}}).metadata.name
    yield name
    core.delete_namespace(name)


def test_companions_belong_to_the_service_and_are_applied_again_without_change(
    cluster: client.ApiClient, namespace: str
) -> None:
    place = environment(namespace)
    accompany(place, OPTIONS)
    network = client.NetworkingV1Api(cluster)
    assert network.list_namespaced_network_policy(namespace).items == [], "there is no service to stand beside"

    predictor = render_predictor("r1", "gs://models/x", 1, {"cpu": "1"}, [], {})
    services = InferenceServices(place.serving)
    uid = services.change("chat", lambda seen: seen or render("chat", namespace, predictor))["metadata"]["uid"]
    accompany(place, OPTIONS)
    written = network.read_namespaced_network_policy("chat-predictor", namespace)
    assert [(owner.kind, owner.uid) for owner in written.metadata.owner_references] == [("InferenceService", uid)]
    assert written.metadata.managed_fields[0].manager == "headrace.dev"
    objects = client.CustomObjectsApi(cluster)
    budget = objects.get_namespaced_custom_object(
        "policy", "v1beta1", namespace, "poddisruptionbudgets", "chat-predictor"
    )
    assert budget["spec"]["maxUnavailable"] == 1

    accompany(place, OPTIONS)
    again = network.read_namespaced_network_policy("chat-predictor", namespace)
    assert again.metadata.resource_version == written.metadata.resource_version

    network.patch_namespaced_network_policy("chat-predictor", namespace, {"spec": {"egress": [{}]}})
    accompany(place, OPTIONS)
    mended = network.read_namespaced_network_policy("chat-predictor", namespace)
    assert cluster.sanitize_for_serialization(mended.spec.egress) == policy()["egress"], "what others opened is closed"


def test_the_service_account_must_exist(cluster: client.ApiClient, namespace: str) -> None:
    place = environment(namespace, serving={"service_account": "reader"})
    with pytest.raises(HeadraceError, match=f"namespace {namespace} has no service account reader"):
        check_account(place)
    client.CoreV1Api(cluster).create_namespaced_service_account(namespace, {"metadata": {"name": "reader"}})
    check_account(place)
