"""Who reaches whom by the policies of the manifests and of publishing together, and what Prometheus finds there."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from components.common.environment import Environment, load_environment
from components.release.companions import companions
from components.release.manifest import REVISION, render, render_predictor
from components.release.progress.options import Progress
from components.release.publish.cluster import furnished
from components.release.publish.options import Publish

Rendered = Callable[[str], list[dict[str, Any]]]
Policy = dict[str, Any]

OPTIONS = Publish(name="assistant")


@dataclass(frozen=True)
class Pod:
    namespace: str
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Address:
    ip: str


def selects(selector: Policy, labels: dict[str, str]) -> bool:
    known = {"matchLabels", "matchExpressions"}
    assert selector.keys() <= known, selector
    expressions = selector.get("matchExpressions", [])
    assert all(one["operator"] == "Exists" for one in expressions)
    wanted = selector.get("matchLabels", {}).items()
    return wanted <= labels.items() and all(one["key"] in labels for one in expressions)


def is_meant(peer: Policy, other: Pod | Address, home: str) -> bool:
    if isinstance(other, Address):
        return "ipBlock" in peer and ipaddress.ip_address(other.ip) in ipaddress.ip_network(peer["ipBlock"]["cidr"])
    if "ipBlock" in peer:
        return False
    place = {"kubernetes.io/metadata.name": other.namespace}
    there = selects(peer["namespaceSelector"], place) if "namespaceSelector" in peer else other.namespace == home
    return there and selects(peer.get("podSelector", {}), other.labels)


def passes(policies: list[Policy], pod: Pod, other: Pod | Address, port: int, direction: str) -> bool:
    """Kubernetes' rule: a pod that no policy selects is open, any other takes what one of its policies names."""
    mine = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == pod.namespace
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    peers = {"Ingress": "from", "Egress": "to"}[direction]
    return not mine or any(
        (peers not in rule or any(is_meant(peer, other, pod.namespace) for peer in rule[peers]))
        and ("ports" not in rule or any(one["port"] == port for one in rule["ports"]))
        for spec in mine
        for rule in spec.get(direction.lower(), [])
    )


@pytest.fixture(params=["dev", "staging", "prod"])
def environment(request: pytest.FixtureRequest) -> Environment:
    return load_environment(request.param)


@pytest.fixture
def reaches(rendered: Rendered, environment: Environment) -> Callable[[Pod, Pod | Address, int], bool]:
    serving = environment.serving
    service = render(OPTIONS.name, serving.namespace, render_predictor("r1", "gs://b/m", 1, {"cpu": "1"}, [], {}))
    service["metadata"]["uid"] = "1"
    objects = [*rendered(environment.name), *companions(service, OPTIONS, environment)]
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    assert {policy["metadata"]["name"] for policy in policies} >= {"assistant-predictor", "default-deny"}

    def reaches(one: Pod, other: Pod | Address, port: int) -> bool:
        out = passes(policies, one, other, port, "Egress")
        return out and (isinstance(other, Address) or passes(policies, other, one, port, "Ingress"))

    return reaches


def in_cluster(url: str) -> tuple[str, int]:
    """Namespace and port of a service's URL."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return parts.hostname.split(".")[1], parts.port


BUCKET, METADATA, INTERNET = Address("199.36.153.5"), Address("169.254.169.254"), Address("8.8.8.8")


def test_everybody_reaches_what_a_rollout_needs_and_nothing_else(
    reaches: Callable[[Pod, Pod | Address, int], bool], rendered: Rendered, environment: Environment
) -> None:
    serving, gateway = environment.serving, environment.serving.parent_gateway.partition("/")[2]
    predictor = Pod(serving.namespace, {"serving.kserve.io/inferenceservice": OPTIONS.name, "component": "predictor"})
    envoy = Pod("envoy-gateway-system", {"gateway.envoyproxy.io/owning-gateway-name": gateway})
    namespace, asked = in_cluster(environment.prometheus)
    prometheus = Pod(namespace, {"app.kubernetes.io/name": "prometheus"})
    step = Pod(environment.kubeflow.namespace, {"pipelines.kubeflow.org/v2_component": "true"})
    place, tracked = in_cluster(environment.tracking)
    mlflow = Pod(place, {"app": "mlflow"})
    [control] = (
        item["spec"]["egress"][0]["to"][0]["ipBlock"]["cidr"]
        for item in rendered(environment.name)
        if item["kind"] == "NetworkPolicy" and item["metadata"]["name"] == "to-control-plane"
    )
    kubernetes = Address(str(ipaddress.ip_network(control)[2]))
    port = OPTIONS.probes.port

    for one, other, number in (
        (envoy, predictor, port),
        (prometheus, predictor, port),
        (step, prometheus, asked),
        (step, kubernetes, 443),
        (step, mlflow, tracked),
        (step, BUCKET, 443),
        (step, METADATA, 80),
        (predictor, BUCKET, 443),
        (predictor, METADATA, 80),
    ):
        assert reaches(one, other, number), f"{one} does not reach {other} at {number}"
    for one, other, number in (
        (step, predictor, port),
        (Pod("default"), predictor, port),
        (Pod(serving.namespace), predictor, port),
        (Pod("envoy-gateway-system", {"gateway.envoyproxy.io/owning-gateway-name": "another"}), predictor, port),
        (envoy, predictor, port + 1),
        (prometheus, predictor, port + 1),
        (prometheus, Pod(serving.namespace), port),
        (step, Pod(namespace), asked),
        (predictor, step, 80),
        (predictor, kubernetes, 443),
        (predictor, INTERNET, 443),
        (step, INTERNET, 443),
    ):
        assert not reaches(one, other, number), f"{one} reaches {other} at {number}"


def test_prometheus_scrapes_the_predictors_as_often_as_a_rollout_looks(
    rendered: Rendered, environment: Environment
) -> None:
    objects = rendered(environment.name)
    [monitor] = (item["spec"] for item in objects if item["kind"] == "PodMonitor")
    assert selects(monitor["selector"], {"serving.kserve.io/inferenceservice": "assistant"})
    endpoints = {endpoint["port"]: endpoint for endpoint in monitor["podMetricsEndpoints"]}
    for runtime in (item["spec"] for item in objects if item["kind"] == "ServingRuntime"):
        [port] = runtime["containers"][0]["ports"]
        assert port["containerPort"] == OPTIONS.probes.port
        assert port["name"] in endpoints
    for endpoint in endpoints.values():
        assert endpoint["interval"] == f"{Progress().look_seconds:g}s"


@pytest.mark.parametrize("mode", ["standard", "knative"])
def test_a_predictor_learns_from_its_pod_the_revision_that_a_rollout_asks_prometheus_for(
    rendered: Rendered, environment: Environment, mode: str
) -> None:
    place = environment.model_copy(update={"serving": environment.serving.model_copy(update={"mode": mode})})
    predictor = furnished(render_predictor("r1", "gs://b/m", 1, {"cpu": "1"}, [], {}), OPTIONS, place)
    [runtime] = (
        item["spec"]["containers"][0]
        for item in rendered(environment.name)
        if item["kind"] == "ServingRuntime" and item["metadata"]["name"] == "headrace-predictor"
    )
    [argument] = (text for text in runtime["args"] if text.startswith("--revision="))
    [variable] = re.findall(r"^--revision=\$\((\w+)\)$", argument)
    [source] = (one["valueFrom"]["fieldRef"]["fieldPath"] for one in runtime["env"] if one["name"] == variable)
    [label] = re.findall(r"^metadata\.labels\['(.+)'\]$", source)
    assert (label, predictor["labels"][label]) == (REVISION, predictor["name"])
