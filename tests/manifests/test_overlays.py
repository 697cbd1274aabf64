"""What every overlay renders: valid, safe, and named as the environments name it."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from components.common.environment import load_environment
from components.common.recipes import load_recipe
from pipelines.permissions import README, bucket_table, cluster_table
from serving.predictor.__main__ import arguments as predictor_arguments
from serving.storage.__main__ import arguments as storage_arguments

Rendered = Callable[[str], list[dict[str, Any]]]

ENVIRONMENTS = ("dev", "staging", "prod")
KUBERNETES = "1.34"
NOT_CORE = {
    "ClusterStorageContainer": "checked by the API server",
    "ServingRuntime": "checked by the API server",
    "Gateway": "no resource definition here",
    "PodMonitor": "no resource definition here",
    "PrometheusRule": "checked by promtool",
}
"""Kinds that kubernetes-validate does not know, and who looks at them."""


@pytest.fixture(params=ENVIRONMENTS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def of(documents: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in documents if item["kind"] == kind}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from (key, *texts(item))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def pod_of(runtime: dict[str, Any], storage: dict[str, Any]) -> dict[str, Any]:
    """The pod that KServe makes of a runtime for a model that the storage container fetches."""
    spec = runtime["spec"]
    models = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
    served, first = spec["containers"][0], storage["spec"]["container"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": runtime["metadata"]["name"], "namespace": runtime["metadata"]["namespace"]},
        "spec": {
            "serviceAccountName": "headrace-predictor",
            "automountServiceAccountToken": False,
            "initContainers": [
                {
                    **first,
                    "args": ["gs+enc://bucket/model", "/mnt/models"],
                    "volumeMounts": [*first["volumeMounts"], models],
                }
            ],
            "containers": [{**served, "volumeMounts": [*served["volumeMounts"], {**models, "readOnly": True}]}],
            "volumes": [*spec["volumes"], {"name": models["name"], "emptyDir": {}}],
        },
    }


@pytest.fixture
def pods(rendered: Rendered, name: str) -> list[dict[str, Any]]:
    (storage,) = of(rendered(name), "ClusterStorageContainer").values()
    return [pod_of(runtime, storage) for runtime in of(rendered(name), "ServingRuntime").values()]


def test_core_objects_and_pods_are_valid(rendered: Rendered, name: str, pods: list[dict[str, Any]]) -> None:
    for document in [*rendered(name), *pods]:
        if document["kind"] not in NOT_CORE:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert {item["kind"] for item in rendered(name)} >= NOT_CORE.keys()


def test_a_misspelt_field_is_invalid(rendered: Rendered) -> None:
    quota = of(rendered("dev"), "ResourceQuota")["headrace"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**quota, "spec": {"hards": {}}}, KUBERNETES, strict=True)


def test_every_placeholder_is_filled_in(rendered: Rendered, name: str) -> None:
    placeholder = re.compile(r"PROJECT|BUCKET|REGION|\bKEY\b|models\.example\.com|headrace/predictor$")
    for document in [*rendered(name), *rendered(f"{name}/cloud")]:
        assert document["kind"] != "ConfigMap" or document["metadata"]["name"] != "environment"
        assert document["metadata"].get("namespace") not in ("pipelines", "serving"), document["metadata"]
        for text in texts(document):
            filled = "registry.example.com" in text
            assert filled or not placeholder.search(text), (document["kind"], document["metadata"]["name"], text)
    for binding in of(rendered(name), "RoleBinding").values():
        for subject in binding["subjects"]:
            assert f"headrace-{name}" in subject.get("namespace", subject["name"])


def test_names_are_those_of_the_environment(rendered: Rendered, name: str) -> None:
    environment, documents = load_environment(name), rendered(name)
    tiers = {item["metadata"]["labels"]["headrace.dev/tier"]: item for item in of(documents, "Namespace").values()}
    assert tiers["pipelines"]["metadata"]["name"] == environment.kubeflow.namespace
    assert tiers["serving"]["metadata"]["name"] == environment.serving.namespace
    assert {item["metadata"]["labels"]["headrace.dev/environment"] for item in tiers.values()} == {name}

    accounts = {
        (item["metadata"]["namespace"], item["metadata"]["name"])
        for item in documents
        if item["kind"] == "ServiceAccount"
    }
    runs = {environment.kubeflow.service_account, *environment.kubeflow.service_accounts.values()}
    assert {(environment.kubeflow.namespace, account) for account in runs} <= accounts
    assert (environment.serving.namespace, environment.serving.service_account) in accounts
    recipe = load_recipe(environment.recipe, environment.overrides)
    assert recipe.release.publish.placement.priority_class in of(documents, "PriorityClass")

    (gateway,) = of(documents, "Gateway").values()
    assert environment.serving.parent_gateway == "{namespace}/{name}".format(**gateway["metadata"])
    assert environment.serving.gateway == f"https://{gateway['spec']['listeners'][0]['hostname']}"
    (bucket,) = of(rendered(f"{name}/cloud"), "StorageBucket")
    assert environment.store == f"gs://{bucket}/headrace"
    assert of(documents, "ConfigMap")["kfp-launcher"]["data"]["defaultPipelineRoot"] == f"{environment.store}/runs"
    assert environment.tracking == f"http://mlflow.{environment.kubeflow.namespace}.svc:5000"
    assert environment.prometheus.endswith(".monitoring.svc:9090")


def test_the_readme_makes_the_node_pools_that_the_environments_name(name: str) -> None:
    text = README.read_text("utf-8")
    for pool in load_environment(name).pools.model_dump().values():
        (label,) = pool["node_selector"].items()
        assert "--node-labels={}={}".format(*label) in text
        for taint in pool["tolerations"]:
            assert f"{taint['key']}={taint['value']}:{taint['effect']}" in text


def test_the_table_of_permissions_is_current() -> None:
    assert f"<!-- permissions -->\n{cluster_table()}\n{bucket_table()}<!-- /permissions -->" in README.read_text(
        "utf-8"
    )


def test_identities_of_cluster_and_cloud_agree(rendered: Rendered, name: str) -> None:
    cloud = rendered(f"{name}/cloud")
    for account in of(rendered(name), "ServiceAccount").values():
        metadata = account["metadata"]
        if metadata["name"] == "default":
            continue
        google = of(cloud, "IAMServiceAccount")[metadata["name"]]["metadata"]
        project = google["annotations"]["cnrm.cloud.google.com/project-id"]
        email = f"{google['name']}@{project}.iam.gserviceaccount.com"
        assert metadata["annotations"]["iam.gke.io/gcp-service-account"] == email
        member = of(cloud, "IAMPolicyMember")[f"{metadata['name']}-workload"]["spec"]["member"]
        assert member == f"serviceAccount:{project}.svc.id.goog[{metadata['namespace']}/{metadata['name']}]"


def test_nobody_changes_ledger_audit_log_or_tombstones_and_the_bucket_forgets_everything_else(
    rendered: Rendered, name: str
) -> None:
    cloud = rendered(f"{name}/cloud")
    (bucket,), (policy,) = of(cloud, "StorageBucket").values(), of(cloud, "IAMPartialPolicy").values()
    spec = bucket["spec"]
    assert (spec["uniformBucketLevelAccess"], spec["publicAccessPrevention"]) == (True, "enforced")
    assert spec["versioning"] == {"enabled": True}
    assert spec["encryption"]["kmsKeyRef"]["external"].startswith("projects/")
    prefixes: dict[str, set[str]] = {}
    for binding in policy["spec"]["bindings"]:
        people = {member["member"] for member in binding["members"] if "member" in member}
        assert people <= {f"group:headrace-{name}-release-managers@example.com"}
        role = binding["role"].removeprefix("roles/storage.")
        if "condition" not in binding:
            assert role == "legacyBucketReader"  # lists names, reads nothing
            continue
        where = f'resource.name.startsWith("projects/_/buckets/{bucket["metadata"]["name"]}/objects/'
        expression = binding["condition"]["expression"]
        assert expression.startswith(where)
        prefixes.setdefault(expression.removeprefix(where).removesuffix('")'), set()).add(role)
    for added_to in ("headrace/ledger/", "headrace/audit/", "headrace/tombstones/"):
        assert prefixes.pop(added_to) == {"objectViewer", "objectCreator"}
    (old,) = [rule["condition"] for rule in spec["lifecycleRule"] if "daysSinceNoncurrentTime" in rule["condition"]]
    assert old["daysSinceNoncurrentTime"] == 30
    swept = set(old["matchesPrefix"])
    assert swept == {prefix for prefix in prefixes if not prefix.startswith(tuple(swept - {prefix}))}
    young = {
        prefix: rule["condition"]["age"]
        for rule in spec["lifecycleRule"]
        if rule["action"]["type"] == "Delete" and "age" in rule["condition"]
        for prefix in rule["condition"]["matchesPrefix"]
    }
    assert young == {"headrace/checkpoints/": 7, "headrace/tmp/": 7, "headrace/runs/": 90}


def test_only_named_ways_lead_in_and_out(rendered: Rendered, name: str) -> None:
    documents = rendered(name)
    policies = [item for item in documents if item["kind"] == "NetworkPolicy"]
    for namespace in of(documents, "Namespace"):
        mine = {
            item["metadata"]["name"]: item["spec"] for item in policies if item["metadata"]["namespace"] == namespace
        }
        assert mine.pop("default-deny") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        for spec in mine.values():
            for direction, peers in (("ingress", "from"), ("egress", "to")):
                for rule in spec.get(direction, []):
                    assert rule[peers]
                    among_themselves = rule[peers] == [{"podSelector": spec["podSelector"]}]
                    assert rule.get("ports") or among_themselves, "the nodes of a training choose their ports"
                    for peer in rule[peers]:
                        assert "podSelector" in peer or int(peer["ipBlock"]["cidr"].partition("/")[2]) >= 24
    for quota in (item["spec"]["hard"] for item in documents if item["kind"] == "ResourceQuota"):
        assert (quota["services.loadbalancers"], quota["services.nodeports"]) == ("0", "0")
    (gateway,) = of(documents, "Gateway").values()
    assert gateway["spec"]["infrastructure"]["annotations"] == {"networking.gke.io/load-balancer-type": "Internal"}


def test_online_goes_before_batch_before_experiments(rendered: Rendered, name: str) -> None:
    value = {key: item["value"] for key, item in of(rendered(name), "PriorityClass").items()}
    assert value["headrace-online"] > value["headrace-batch"] > value["headrace-experiment"]


def test_the_runtime_calls_the_predictor_as_it_wants_to_be_called(rendered: Rendered, name: str) -> None:
    container = of(rendered(name), "ServingRuntime")["headrace-predictor"]["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "serving.predictor"]
    filled = {"{{.Name}}": "assistant", "$(HEADRACE_REVISION)": "r1", "$(HEADRACE_THREADS)": "2"}
    argv = [
        re.sub("|".join(map(re.escape, filled)), lambda found: filled[found[0]], text) for text in container["args"]
    ]
    chosen = predictor_arguments(argv)
    assert (chosen.model_name, chosen.revision, chosen.threads) == ("assistant", "r1", 2)
    assert (str(chosen.model_dir), chosen.host, chosen.http_port) == ("/mnt/models", "0.0.0.0", 8080)
    assert {item["name"] for item in container["env"]} >= {"HEADRACE_REVISION", "HEADRACE_THREADS"}
    assert container["ports"][0]["containerPort"] == chosen.http_port


def test_the_storage_container_calls_the_program_that_decrypts(pods: list[dict[str, Any]]) -> None:
    for pod in pods:
        first = pod["spec"]["initContainers"][0]
        assert first["command"][:3] == ["python", "-m", "serving.storage"]
        chosen = storage_arguments([*first["command"][3:], *first["args"]])
        assert chosen.pairs == first["args"]
        assert str(chosen.message) == first["terminationMessagePath"]
        assert str(chosen.keys) in {mount["mountPath"] for mount in first["volumeMounts"]}
        assert str(chosen.keys) not in {mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]}


def test_containers_may_do_nothing_that_they_need_not(name: str, pods: list[dict[str, Any]]) -> None:
    environment = load_environment(name)
    for pod in pods:
        volumes = {item["name"]: item for item in pod["spec"]["volumes"]}
        assert not any("hostPath" in item for item in volumes.values())
        for container in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "privileged": False,
                "readOnlyRootFilesystem": True,
                "runAsNonRoot": True,
                "seccompProfile": {"type": "RuntimeDefault"},
            }
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes.keys()
            assert container["image"].startswith(tuple(environment.policy.registries)), container["image"]
            assert re.search(r"(@sha256:[0-9a-f]{64}|:unreleased)$", container["image"])


SKIPPED_CHECKS = {
    "CKV_K8S_15": "an image by digest need not be pulled always",
    "CKV_K8S_29": "every container has its own security context",
    "CKV_K8S_40": "the image sets the user; OpenShift chooses another",
    "CKV_K8S_8": "init containers have no probes",
    "CKV_K8S_9": "init containers have no probes",
    "CKV_K8S_14": "an environment without a release has the tag `unreleased`",
    "CKV_K8S_43": "an environment without a release has the tag `unreleased`",
}


def test_checkov_finds_nothing(rendered: Rendered, tmp_path: Path) -> None:
    checkov = shutil.which("checkov") or shutil.which("checkov", path=Path(__file__).parents[2] / ".tools/checkov/bin")
    if not checkov:
        pytest.skip("checkov is not installed; try `make tools`")
    documents = rendered("prod")
    (storage,) = of(documents, "ClusterStorageContainer").values()
    pods = [pod_of(runtime, storage) for runtime in of(documents, "ServingRuntime").values()]
    (tmp_path / "prod.yaml").write_text("---\n".join(json.dumps(item) + "\n" for item in [*documents, *pods]))
    command = [checkov, "--directory", tmp_path, "--framework", "kubernetes", "--output", "json", "--compact"]
    command += ["--skip-download", "--quiet", "--skip-check", ",".join(SKIPPED_CHECKS)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    report = json.loads(ran.stdout)
    failed = {(item["check_id"], item["check_name"], item["resource"]) for item in report["results"]["failed_checks"]}
    assert report["summary"]["passed"] > 50
    assert not failed
