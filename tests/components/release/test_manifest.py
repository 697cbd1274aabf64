"""Manifests: what is rendered is valid, and what is wrong is found with its path."""

import copy
from typing import Any

import pytest

from components.release.manifest import (
    AUTOSCALER,
    DEPLOYMENT_MODE,
    SCALING,
    as_canary,
    as_stable,
    render,
    render_predictor,
    violations,
)


def predictor(name: str, **fields: Any) -> dict[str, Any]:
    rendered = render_predictor(
        name=name,
        storage_uri=f"file:///models/tiny/{name}",
        replicas=1,
        resources={"cpu": "1", "memory": "1Gi"},
        arguments=["--slots", "2"],
        annotations={"headrace.dev/model": f"tiny/{name}"},
    )
    return {**rendered, **fields}


def service(*canaries: tuple[Any, dict[str, Any]]) -> dict[str, Any]:
    manifest = render("chat", "default", predictor("stable"))
    if canaries:
        manifest["spec"]["canary"] = [{"trafficPercent": share, "predictor": canary} for share, canary in canaries]
    return manifest


def changed(path: str, value: Any) -> dict[str, Any]:
    """A good manifest with one field changed."""
    manifest = copy.deepcopy(service((10, predictor("new"))))
    target: Any = manifest
    *parents, last = path.split(".")
    for part in parents:
        target = target[int(part)] if part.isdigit() else target[part]
    target[last.replace("~", ".")] = value
    return manifest


def test_what_is_rendered_is_valid() -> None:
    assert violations(service()) == []
    assert violations(service((10, predictor("one")), (0, predictor("two")))) == []
    assert service()["metadata"]["annotations"] == {DEPLOYMENT_MODE: "Standard"}
    assert "name" not in predictor("a")["model"], "the webhook refuses it in a stable predictor"
    assert as_canary(predictor("a"))["model"]["name"] == "kserve-container", "the resource definition requires it"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("spec.predictr", {}, "spec.predictr: there is no such field"),
        ("spec.predictor.model.storageURI", "x", "spec.predictor.model.storageURI: there is no such field"),
        ("spec.canary.0.trafficPercent", "10", "spec.canary[0].trafficPercent: must be int, not str '10'"),
        ("spec.canary.0.trafficPercent", True, "spec.canary[0].trafficPercent: must be int, not bool True"),
        ("spec.canary.0.trafficPercent", -1, "spec.canary[0].trafficPercent: must be from 0 to 100, not -1"),
        ("spec.canary.0.trafficPercent", None, "spec.canary[0].trafficPercent: must be from 0 to 100, not None"),
        ("spec.predictor.model.args", "--slots", "spec.predictor.model.args: must be a list, not str"),
        ("spec.predictor.model.resources.limits.cpu", ["1"], "spec.predictor.model.resources.limits[cpu]: must be str"),
        ("spec.predictor.model.env", [{"nam": "x"}], "spec.predictor.model.env[0].nam: there is no such field"),
        ("spec.predictor.model.modelFormat", {}, "spec.predictor.model.modelFormat.name: required"),
        ("spec.predictor.model", None, "spec.predictor.model: required"),
        ("spec.predictor", None, "spec.predictor: required"),
        ("spec.predictor.canaryTrafficPercent", 10, "spec.predictor.canaryTrafficPercent: has no effect in Standard"),
        ("spec.canary.0.predictor.name", "stable", "spec.canary[0].predictor.name: 'stable' is taken"),
        ("spec.canary.0.predictor.name", "", "spec.canary[0].predictor.name: required"),
        ("spec.canary.0.predictor.name", "New", "spec.canary[0].predictor.name: 'New' must be lower-case"),
        ("spec.canary.0.predictor.name", "n" * 60, "spec.canary[0].predictor.name: chat-nnn"),
        ("spec.canary.0.predictor.maxReplicas", 2, "spec.canary[0].predictor.maxReplicas: not allowed in a canary"),
        ("spec.canary.0.predictor.minReplicas", 2, "spec.canary[0].predictor.minReplicas: 2 is more than the stable"),
        ("spec.predictor.maxReplicas", 0.5, "spec.predictor.maxReplicas: must be int, not float 0.5"),
        (
            "spec.predictor.model.resources.limits.memory",
            "1 GB",
            "spec.predictor.model.resources.limits[memory]: not a quantity: '1 GB'",
        ),
        (
            "spec.predictor.model.resources.limits.cpu",
            "500m",
            "spec.predictor.model.resources.requests[cpu]: more than the limit",
        ),
        (
            "spec.predictor.model.resources.limits.nvidia~com/gpu",
            "0.5",
            "spec.predictor.model.resources.limits[nvidia.com/gpu]: '0.5' must be a whole number",
        ),
        (
            "spec.canary.0.predictor.model.startupProbe",
            {"periodSeconds": 5},
            "spec.canary[0].predictor.model.startupProbe: must have one of httpGet, tcpSocket, grpc and exec, not none",
        ),
        (
            "spec.predictor.model.livenessProbe",
            {"tcpSocket": {"port": 8080}, "successThreshold": 2},
            "spec.predictor.model.livenessProbe.successThreshold: must be 1",
        ),
        (
            "spec.predictor.model.readinessProbe",
            {"tcpSocket": {"port": 8080}, "failureThreshold": -1},
            "spec.predictor.model.readinessProbe.failureThreshold: must be at least 1",
        ),
        (
            "spec.predictor.topologySpreadConstraints",
            [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Never"}],
            "spec.predictor.topologySpreadConstraints[0].whenUnsatisfiable: must be ScheduleAnyway or DoNotSchedule",
        ),
        ("spec.predictor.tolerations", [{"value": "x"}], "spec.predictor.tolerations[0].key: required with"),
        (
            "spec.predictor.annotations",
            {"serving.kserve.io/autoscalerClass": "vpa"},
            "spec.predictor.annotations[serving.kserve.io/autoscalerClass]: must be hpa, keda, none or external",
        ),
        (
            "spec.predictor.autoScaling",
            {"metrics": [{"type": "External", "external": {"metric": {"query": "x"}, "target": {"value": "1"}}}]},
            "spec.predictor.autoScaling.metrics[0].type: External needs annotation",
        ),
        (
            "spec.predictor.autoScaling",
            {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]},
            "spec.predictor.autoScaling.metrics[0].resource.target.averageUtilization: must be from 1 to 100",
        ),
        ("metadata.name", "9chat", "metadata.name: '9chat' must be lower-case"),
        ("metadata.annotations", {}, f"metadata.annotations[{DEPLOYMENT_MODE}]: spec.canary needs Standard"),
        ("kind", "Service", "kind: must be InferenceService, not 'Service'"),
    ],
)
def test_a_fault_is_found_and_named(path: str, value: Any, fault: str) -> None:
    found = violations(changed(path, value))
    assert len(found) == 1 and found[0].startswith(fault), found


def test_shares_add_up_to_at_most_one_hundred() -> None:
    assert violations(service((60, predictor("one")), (41, predictor("two")))) == [
        "spec.canary: the percentages add up to more than 100"
    ]


def test_a_canary_without_traffic_says_how_many_replicas_it_keeps() -> None:
    canary = {field: value for field, value in predictor("new").items() if field != "minReplicas"}
    assert violations(service((5, canary))) == []
    assert violations(service((0, canary))) == ["spec.canary[0].predictor.minReplicas: required with trafficPercent 0"]


SCALED = {"minReplicas": 1, "maxReplicas": 4, "scaleMetric": "cpu", "scaleTarget": 80}


def test_a_canary_has_no_autoscaling_and_gets_it_back_on_promotion() -> None:
    published = predictor("new", **SCALED, annotations={AUTOSCALER: "hpa", "headrace.dev/model": "tiny/new"})
    canary = as_canary(published)
    assert violations(service((10, canary))) == []
    assert violations(service((10, published))) != []
    assert canary["annotations"][AUTOSCALER] == "none", "KServe then keeps a canary at minReplicas"
    assert canary["annotations"]["headrace.dev/model"] == "tiny/new"
    assert as_stable(canary) == published
    assert as_stable({**canary, "minReplicas": 3}) == published, "from here on the autoscaler decides"


def test_who_moves_between_stable_and_canary_may_do_so_twice() -> None:
    published = predictor("new", **SCALED)
    assert as_canary(as_canary(published)) == as_canary(published)
    assert as_stable(as_stable(as_canary(published))) == published
    plain = predictor("plain")
    assert as_stable(as_canary(plain)) == as_stable(plain) == plain
    assert as_canary(plain)["annotations"] == plain["annotations"]
    assert SCALING in as_canary(published)["annotations"]


def test_replicas_grow_and_do_not_shrink_below_the_least() -> None:
    fewer = render("chat", "default", predictor("one", minReplicas=3, maxReplicas=2))
    assert violations(fewer) == ["spec.predictor.maxReplicas: 2 is less than minReplicas"]


@pytest.mark.parametrize("percent", [-1, 101])
def test_knative_s_share_is_checked_because_nothing_else_does(percent: int) -> None:
    knative = render("chat", "default", predictor("one", canaryTrafficPercent=percent), "Knative")
    assert violations(knative) == [f"spec.predictor.canaryTrafficPercent: must be from 0 to 100, not {percent}"]
    assert violations(render("chat", "default", predictor("one", canaryTrafficPercent=10), "Knative")) == []
