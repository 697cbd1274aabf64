"""What publish refuses before it asks anybody to run a model."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kubernetes import client
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from components.common.environment import Environment, Pool, Pools, Serving, Toleration
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import DamagedArtifact
from components.release.manifest import (
    AUTOSCALER,
    DEPLOYMENT_MODE,
    REVISION,
    Manifest,
    as_canary,
    as_stable,
    inherited,
    violations,
)
from components.release.publish.cluster import query
from components.release.publish.inference_service import (
    Provenance,
    check_stored,
    check_whole,
    read_provenance,
    resettled,
    wanted_manifest,
)
from components.release.publish.options import Network, Placement, Probes, Publish, Scaling
from components.release.services import InferenceServices
from serving.predictor.metrics import Metrics


@pytest.fixture
def laptop(environment_at: Callable[[Path], Environment], tmp_path: Path) -> Environment:
    """An environment with one model version in its store, and no plane."""
    folder = tmp_path / "store" / "models" / "tiny" / ("1" * 64)
    folder.mkdir(parents=True)
    (folder / "provenance.json").write_text("{}")
    return environment_at(tmp_path)


def manifest(laptop: Environment, **options: object) -> Manifest:
    return wanted_manifest(Provenance(model="tiny", version="1" * 64), "f" * 64, Publish(**options), laptop)


def revision(laptop: Environment, **options: object) -> str:
    return manifest(laptop, **options)["spec"]["predictor"]["name"]


def test_the_revision_is_named_by_the_model_and_how_it_runs(laptop: Environment) -> None:
    assert revision(laptop) == revision(laptop, canary_percent=50, deadline_seconds=1)
    assert revision(laptop).startswith("r11111111-")
    assert len({revision(laptop), revision(laptop, cpu="2"), revision(laptop, arguments=["--slots", "8"])}) == 3


def test_the_ledger_entry_of_the_version_is_named(laptop: Environment) -> None:
    assert manifest(laptop)["spec"]["predictor"]["annotations"] == {
        "headrace.dev/model": f"tiny/{'1' * 64}",
        "headrace.dev/ledger": "f" * 64,
    }


def test_a_version_that_the_store_lacks_is_refused(laptop: Environment) -> None:
    lost = Provenance(model="tiny", version="2" * 64)
    with pytest.raises(HeadraceError, match=f"models/tiny/{'2' * 64}: no such model version in the store"):
        wanted_manifest(lost, "", Publish(), laptop)


@pytest.mark.parametrize("damage", [b"PROVENANCE", None])
def test_a_version_that_the_store_damaged_or_lost_is_not_published(
    laptop: Environment, tmp_path: Path, damage: bytes | None
) -> None:
    version, model = Provenance(model="tiny", version="1" * 64), tmp_path / "model"
    shutil.copytree(tmp_path / "store" / "models" / "tiny" / version.version, model)
    check_stored(model, version, laptop)
    stored = tmp_path / "store" / "models" / "tiny" / version.version / "provenance.json"
    stored.write_bytes(damage) if damage else stored.unlink()
    with pytest.raises(DamagedArtifact, match=r"provenance\.json is not the file that was registered") as caught:
        check_stored(model, version, laptop)
    assert caught.value.path == model


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (None, "provenance.json: No such file or directory; it must be a version made by model/register"),
        ("{", "provenance.json: value: Invalid JSON"),
        (json.dumps({"model": "tiny"}), "provenance.json: version: Field required; register the model again"),
    ],
)
def test_a_folder_that_is_no_model_version_is_refused(tmp_path: Path, text: str | None, fault: str) -> None:
    if text is not None:
        (tmp_path / "provenance.json").write_text(text)
    with pytest.raises(HeadraceError, match=fault):
        read_provenance(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"name": "Chat"}, "name"),
        ({"canary_percent": 101}, "canary_percent"),
        ({"cpu": "two"}, "cpu"),
        ({"memory": "1 GB"}, "memory"),
        ({"gpus": -1}, "gpus"),
        ({"scaling": {"autoscaler": "hpa"}}, "signal: hpa follows cpu or memory, not requests"),
        ({"scaling": {"autoscaler": "keda", "signal": "cpu"}}, "signal: keda follows requests or tokens, not cpu"),
        (
            {"scaling": {"autoscaler": "hpa", "signal": "cpu", "target": 101}},
            "target: 101 is more than 100 per cent of the cpu",
        ),
        (
            {"replicas": 3, "scaling": {"autoscaler": "keda", "max_replicas": 2}},
            "scaling.max_replicas: 2 is less than replicas 3",
        ),
        ({"placement": {"pool": "batch"}}, "pool"),
        ({"probes": {"ready_path": "health"}}, "ready_path"),
    ],
)
def test_options_are_checked(wrong: dict[str, object], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        Publish(**wrong)


@pytest.fixture
def cluster_of(laptop: Environment) -> Callable[..., Environment]:
    """The same model version, served on a cluster with pools and Prometheus."""

    def describe(mode: str = "standard", **changes: object) -> Environment:
        pools = Pools(
            online=Pool(
                node_selector={"headrace.dev/pool": "online"},
                tolerations=[Toleration(key="headrace.dev/pool", value="online", effect="NoSchedule")],
            ),
            experiment=Pool(node_selector={"headrace.dev/pool": "experiment"}),
        )
        serving = Serving(mode=mode, namespace="models", service_account="reader", parent_gateway="kserve/gateway")
        fields = {"serving": serving, "pools": pools, "prometheus": "http://prometheus-operated.monitoring.svc:9090"}
        return laptop.model_copy(update={**fields, **changes})

    return describe


KEDA = Scaling(autoscaler="keda", max_replicas=6, target=4)


def test_a_laptop_s_revision_has_only_what_the_plane_needs(laptop: Environment) -> None:
    spec = manifest(laptop, scaling=KEDA, placement=Placement(priority_class="high"))["spec"]["predictor"]
    assert sorted(spec) == ["annotations", "minReplicas", "model", "name"]
    assert sorted(spec["model"]) == ["modelFormat", "resources", "storageUri"]


def test_a_cluster_s_revision_has_its_nodes_its_probes_and_a_narrow_account(
    cluster_of: Callable[..., Environment],
) -> None:
    rendered = manifest(cluster_of(), gpus=2, placement=Placement(zones="require", priority_class="online"))
    assert violations(rendered) == []
    assert rendered["metadata"]["annotations"] == {DEPLOYMENT_MODE: "Standard"}
    spec, model = rendered["spec"]["predictor"], rendered["spec"]["predictor"]["model"]
    assert model["resources"]["requests"] == model["resources"]["limits"]
    assert model["resources"]["limits"] == {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "2"}
    assert spec["nodeSelector"] == {"headrace.dev/pool": "online"}
    assert spec["tolerations"] == [
        {"key": "headrace.dev/pool", "operator": "Equal", "value": "online", "effect": "NoSchedule"}
    ]
    assert [(c["topologyKey"], c["whenUnsatisfiable"]) for c in spec["topologySpreadConstraints"]] == [
        ("topology.kubernetes.io/zone", "DoNotSchedule"),
        ("kubernetes.io/hostname", "ScheduleAnyway"),
    ]
    for constraint in spec["topologySpreadConstraints"]:
        assert constraint["labelSelector"]["matchLabels"] == spec["labels"] == {REVISION: spec["name"]}
    assert (spec["priorityClassName"], spec["serviceAccountName"]) == ("online", "reader")
    assert spec["annotations"][AUTOSCALER] == "none"
    assert spec["securityContext"]["runAsNonRoot"] is model["securityContext"]["runAsNonRoot"] is True
    assert model["securityContext"]["readOnlyRootFilesystem"] is True
    assert model["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    startup = model["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == Probes().start_seconds


def test_a_recipe_may_choose_the_pool_of_experiments(cluster_of: Callable[..., Environment]) -> None:
    spec = manifest(cluster_of(), placement=Placement(pool="experiment", zones="any"))["spec"]["predictor"]
    assert spec["nodeSelector"] == {"headrace.dev/pool": "experiment"}
    assert "tolerations" not in spec
    assert [constraint["topologyKey"] for constraint in spec["topologySpreadConstraints"]] == ["kubernetes.io/hostname"]


def test_keda_follows_what_the_predictor_counts(cluster_of: Callable[..., Environment]) -> None:
    rendered = manifest(cluster_of(), scaling=KEDA)
    assert violations(rendered) == []
    spec = rendered["spec"]["predictor"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["annotations"][AUTOSCALER]) == (1, 6, "keda")
    external = spec["autoScaling"]["metrics"][0]["external"]
    assert external["target"] == {"type": "Value", "value": "4"}
    assert external["metric"] == {
        "backend": "prometheus",
        "serverAddress": "http://prometheus-operated.monitoring.svc:9090",
        "query": f'sum(http_server_active_requests{{namespace="models",pod=~"assistant-{spec["name"]}-predictor-.*"}})',
    }
    canary = {**rendered, "spec": {"predictor": {**spec, "name": "old"}, "canary": [{"trafficPercent": 5}]}}
    canary["spec"]["canary"][0]["predictor"] = as_canary(spec)
    assert violations(canary) == []
    assert as_stable(as_canary(spec)) == spec


@pytest.mark.parametrize("signal", ["requests", "tokens"])
def test_the_predictor_exports_what_is_asked_for(signal: str) -> None:
    registry = CollectorRegistry()
    Metrics("assistant", "r1", registry)
    exported = {family.name for family in registry.collect()}
    asked = re.findall(r"(\w+)\{namespace", query(signal, "models", "assistant-r1-predictor"))
    assert asked and {name.removesuffix("_sum").removesuffix("_count") for name in asked} <= exported


def test_hpa_follows_use(cluster_of: Callable[..., Environment]) -> None:
    scaling = Scaling(autoscaler="hpa", signal="memory", target=70, max_replicas=3)
    rendered = manifest(cluster_of(), scaling=scaling)
    assert violations(rendered) == []
    assert rendered["spec"]["predictor"]["autoScaling"]["metrics"] == [
        {
            "type": "Resource",
            "resource": {"name": "memory", "target": {"type": "Utilization", "averageUtilization": 70}},
        }
    ]


def test_knative_scales_on_requests_and_waits_for_a_model_that_loads(cluster_of: Callable[..., Environment]) -> None:
    scaling = Scaling(autoscaler="knative", max_replicas=3, target=2)
    rendered = manifest(cluster_of("knative"), scaling=scaling, probes=Probes(start_seconds=600))
    assert violations(rendered) == []
    assert rendered["metadata"]["annotations"] == {DEPLOYMENT_MODE: "Knative"}
    spec = rendered["spec"]["predictor"]
    assert spec["annotations"][REVISION] == spec["name"], "Knative names its revisions itself"
    assert (spec["scaleMetric"], spec["scaleTarget"], spec["maxReplicas"]) == ("concurrency", 2, 3)
    assert spec["annotations"]["serving.knative.dev/progress-deadline"] == "600s"
    assert "startupProbe" not in spec["model"]
    assert AUTOSCALER not in spec["annotations"]


@pytest.mark.parametrize(
    ("mode", "changes", "scaling", "fault"),
    [
        ("knative", {}, KEDA, "keda needs Standard mode; use knative or none"),
        ("standard", {}, Scaling(autoscaler="knative"), "knative needs Knative mode; use hpa, keda or none"),
        ("standard", {"prometheus": ""}, KEDA, "environment test: prometheus is empty"),
    ],
)
def test_scaling_that_the_environment_cannot_do_is_refused(
    cluster_of: Callable[..., Environment], mode: str, changes: dict[str, object], scaling: Scaling, fault: str
) -> None:
    with pytest.raises(UsageError, match=fault):
        manifest(cluster_of(mode, **changes), scaling=scaling)


def test_every_setting_makes_another_revision_and_the_network_none(cluster_of: Callable[..., Environment]) -> None:
    names = [
        revision(cluster_of(), **options)
        for options in (
            {},
            {"gpus": 1},
            {"scaling": KEDA},
            {"placement": Placement(zones="any")},
            {"read_only_root": False},
            {"runtime": "headrace-vllm"},
        )
    ]
    assert len(set(names)) == len(names)
    assert revision(cluster_of(), network=Network(policy=False)) == names[0]


def test_an_encrypted_copy_is_served_where_a_cluster_decrypts_it(
    laptop: Environment, cluster_of: Callable[..., Environment], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="only a cluster decrypts"):
        manifest(laptop, encrypted=True)
    environment = cluster_of()
    with pytest.raises(HeadraceError, match=f"`headrace models encrypt tiny/{'1' * 64} --keys FOLDER -e "):
        manifest(environment, encrypted=True)
    copy = tmp_path / "store/encrypted/models/tiny" / ("1" * 64)
    copy.mkdir(parents=True)
    (copy / "provenance.json").touch()
    model = manifest(environment, encrypted=True, runtime="headrace-vllm")["spec"]["predictor"]["model"]
    assert model["storageUri"] == f"file+enc://{copy}"
    assert model["runtime"] == "headrace-vllm"
    assert revision(environment, encrypted=True) != revision(environment)


def test_the_stable_model_with_other_settings_is_changed_where_it_is(cluster_of: Callable[..., Environment]) -> None:
    seen = manifest(cluster_of())
    stable = seen["spec"]["predictor"]["name"]
    version = Provenance(model="tiny", version="1" * 64)
    other = wanted_manifest(version, "a" * 64, Publish(memory="2Gi"), cluster_of(), name=stable)
    changed = resettled(seen, other)["spec"]["predictor"]
    assert (changed["name"], changed["model"]["resources"]["limits"]["memory"]) == (stable, "2Gi")
    again = wanted_manifest(version, "b" * 64, Publish(), cluster_of(), name=stable)
    assert resettled(seen, again) == seen, "another ledger entry restarts nothing"
    canary = {**other["spec"]["predictor"], "name": "new", "minReplicas": 2}
    with_canary = {**seen, "spec": {**seen["spec"], "canary": [{"trafficPercent": 5, "predictor": canary}]}}
    assert resettled(with_canary, other)["spec"]["predictor"]["minReplicas"] == 2


def test_a_canary_that_kserve_would_fill_in_is_refused(cluster_of: Callable[..., Environment]) -> None:
    stable = manifest(cluster_of(), gpus=1, arguments=["--slots", "8"])["spec"]["predictor"]
    new = manifest(cluster_of())
    assert inherited(stable, manifest(cluster_of(), gpus=2, arguments=["--slots", "4"])["spec"]["predictor"]) == []
    lacking = inherited(stable, new["spec"]["predictor"])
    assert sorted(lacking) == [
        "model.args",
        "model.resources.limits.nvidia.com/gpu",
        "model.resources.requests.nvidia.com/gpu",
    ]
    with pytest.raises(HeadraceError, match=r"leaves .*model\.args.* empty, and KServe would give it what the stable"):
        check_whole(stable, new)


@pytest.mark.parametrize("mode", ["standard", "knative"])
def test_a_real_api_server_stores_all_of_it(
    cluster: client.ApiClient, cluster_of: Callable[..., Environment], mode: str
) -> None:
    services = InferenceServices(Serving(mode=mode, namespace="default"))
    scaling = KEDA if mode == "standard" else Scaling(autoscaler="knative", max_replicas=4)
    wanted = manifest(cluster_of(mode), gpus=1, arguments=["--slots", "8"], scaling=scaling)
    wanted["metadata"] |= {"name": f"stored-{mode}", "namespace": "default"}
    if mode == "standard":
        canary = as_canary({**wanted["spec"]["predictor"], "name": "new"})
        wanted["spec"]["canary"] = [{"trafficPercent": 5, "predictor": canary}]
    stored = services.change(wanted["metadata"]["name"], lambda seen: wanted)
    try:
        assert stored["spec"] == wanted["spec"]
    finally:
        where = ("serving.kserve.io", "v1beta1", "default", "inferenceservices", wanted["metadata"]["name"])
        client.CustomObjectsApi(cluster).delete_namespaced_custom_object(*where)
