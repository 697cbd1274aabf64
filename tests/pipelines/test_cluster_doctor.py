"""`headrace doctor` against a real API server: a cluster in order, and one thing after another missing or wrong."""

import copy
import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from typer.testing import CliRunner

from components.common.environment import (
    Accelerated,
    Environment,
    Kubeflow,
    Notify,
    Policy,
    Pool,
    Pools,
    Serving,
    Sizes,
    Toleration,
    Training,
)
from components.common.ledger import canonical
from pipelines import cluster_doctor
from pipelines.cli import app
from pipelines.cluster_facts import CONFIGURATION, CONTROLLER, NODES, Answer, Api, Facts, Permission, gather
from pipelines.doctor import Finding, Mark

SERVING, PIPELINES = "doctor-serving", "doctor-pipelines"
Change = Callable[["Cluster"], None]


class Cluster:
    """Objects of the API server, changed by path."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api
        self.made: list[str] = []

    def send(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        headers = {"Accept": "application/json", "Content-Type": kind}
        return self._api.call_api(
            path, method, header_params=headers, body=body, response_type="object", auth_settings=["BearerToken"]
        )[0]

    def create(self, path: str, api: str, kind: str, **fields: Any) -> None:
        """Create an object, its status included, at the path where it is read."""
        collection, _, name = path.rpartition("/")
        metadata = {"name": name, **fields.pop("metadata", {})}
        status = fields.pop("status", None)
        self.send("POST", collection, {"apiVersion": api, "kind": kind, "metadata": metadata, **fields})
        self.made.append(path)
        if status is not None:
            self.patch(f"{path}/status", {"status": status})

    def patch(self, path: str, body: Any) -> None:
        self.send("PATCH", path, body, "application/merge-patch+json")

    def remove(self, path: str) -> None:
        self.send("DELETE", path)
        self.made.remove(path)


def node(name: str) -> str:
    return f"/api/v1/nodes/{name}"


def in_(namespace: str, resource: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/{resource}/{name}"


RBAC = "/apis/rbac.authorization.k8s.io/v1"
GATEWAY_CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/gateways.gateway.networking.k8s.io"
GATEWAY = "/apis/gateway.networking.k8s.io/v1/namespaces/kserve/gateways/kserve-ingress-gateway"
CLASS = "/apis/storage.k8s.io/v1/storageclasses/standard"
QUOTA = in_(SERVING, "resourcequotas", "team")
BINDING = f"{RBAC}/namespaces/{SERVING}/rolebindings/doctor-release"


def furnish(cluster: Cluster) -> None:
    """Everything an environment needs, as its controllers would have left it."""
    free: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    names = {"plural": "gateways", "singular": "gateway", "kind": "Gateway"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": free}}
    group = {"group": "gateway.networking.k8s.io", "scope": "Namespaced", "names": names, "versions": [version]}
    approved = {"annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"}}
    cluster.create(GATEWAY_CRD, "apiextensions.k8s.io/v1", "CustomResourceDefinition", spec=group, metadata=approved)
    for namespace in ("kserve", SERVING, PIPELINES):
        labels = {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
        if namespace not in namespaces(cluster):
            cluster.create(f"/api/v1/namespaces/{namespace}", "v1", "Namespace", metadata=labels)
    ingress = {"enableGatewayApi": True, "kserveIngressGateway": "kserve/kserve-ingress-gateway"}
    data = {"deploy": json.dumps({"defaultDeploymentMode": "Standard"}), "ingress": json.dumps(ingress)}
    cluster.create(CONFIGURATION, "v1", "ConfigMap", data=data)
    image = "kserve/kserve-controller:v0.21.0"
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "manager", "image": image}]}}
    spec: dict[str, Any] = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    available = {"availableReplicas": 1, "replicas": 1, "readyReplicas": 1}
    cluster.create(CONTROLLER, "apps/v1", "Deployment", spec=spec, status=available)
    listener = {"name": "https", "port": 443, "protocol": "HTTPS", "allowedRoutes": {"namespaces": {"from": "All"}}}
    ready = {"listeners": [{"name": "https", "conditions": [{"type": "Programmed", "status": "True"}]}]}
    create_when_served(cluster, listener, ready)
    hard = {"requests.cpu": "8"}
    used = {"hard": hard, "used": {"requests.cpu": "500m"}}
    cluster.create(QUOTA, "v1", "ResourceQuota", spec={"hard": hard}, status=used)
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    cluster.create(CLASS, "storage.k8s.io/v1", "StorageClass", provisioner="x", metadata=default)
    for pool in ("online", "batch", "experiment"):
        taints = [{"key": "headrace.dev/pool", "value": pool, "effect": "NoSchedule"}]
        taints += [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}] * (pool == "experiment")
        offered = {"nvidia.com/gpu": "4"} if pool == "experiment" else {"cpu": "4"}
        conditions = [{"type": "Ready", "status": "True"}]
        cluster.create(
            node(f"doctor-{pool}"),
            "v1",
            "Node",
            metadata={"labels": {"headrace.dev/pool": pool}},
            status={"allocatable": offered, "capacity": offered, "conditions": conditions},
        )
        cluster.patch(node(f"doctor-{pool}"), {"spec": {"taints": taints}})  # the server has added its own
    secrets = [(PIPELINES, f"headrace-{name}") for name in ("ledger", "subjects", "erasure", "notify")]
    for namespace, secret in (*secrets, (SERVING, "headrace-model-key")):
        cluster.create(in_(namespace, "secrets", secret), "v1", "Secret", stringData={"key": "never to be read"})
    identity = {"annotations": {"iam.gke.io/gcp-service-account": "x@y.iam.gserviceaccount.com"}}
    for namespace, account in ((SERVING, "predictor"), (PIPELINES, "release"), (PIPELINES, "data")):
        cluster.create(in_(namespace, "serviceaccounts", account), "v1", "ServiceAccount", metadata=identity)
    base = Path(cluster_doctor.__file__).parents[1] / "manifests" / "base" / "serving" / "access.yaml"
    [rules] = [
        item["rules"]
        for item in yaml.safe_load_all(base.read_text("utf-8").replace("SERVICE", "assistant"))
        if (item["kind"], item["metadata"]["name"]) == ("Role", "headrace-release")
    ]
    rules = json.loads(json.dumps(rules).replace("headrace-predictor", "predictor"))
    role = f"{RBAC}/namespaces/{SERVING}/roles/doctor-release"
    cluster.create(role, "rbac.authorization.k8s.io/v1", "Role", rules=rules)
    bind(cluster, BINDING, "Role", "doctor-release", PIPELINES, "release")


def namespaces(cluster: Cluster) -> set[str]:
    return {item["metadata"]["name"] for item in cluster.send("GET", "/api/v1/namespaces")["items"]}


def create_when_served(cluster: Cluster, listener: Any, status: Any) -> None:
    for _ in range(200):
        try:
            cluster.send("GET", GATEWAY.rpartition("/")[0])
            break
        except client.ApiException:
            threading.Event().wait(0.05)
    api = "gateway.networking.k8s.io/v1"
    cluster.create(GATEWAY, api, "Gateway", spec={"listeners": [listener]})
    cluster.patch(GATEWAY, {"status": status})


def bind(cluster: Cluster, path: str, kind: str, role: str, namespace: str, account: str) -> None:
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}
    subjects = [{"kind": "ServiceAccount", "namespace": namespace, "name": account}]
    singular = {"rolebindings": "RoleBinding", "clusterrolebindings": "ClusterRoleBinding"}[path.split("/")[-2]]
    cluster.create(path, "rbac.authorization.k8s.io/v1", singular, roleRef=reference, subjects=subjects)


class _Service(BaseHTTPRequestHandler):
    """The KFP API behind a login, and a Prometheus."""

    def do_GET(self) -> None:
        token = self.headers.get("Authorization", "")
        kfp = self.path == "/pipeline/apis/v2beta1/healthz"
        known = {"Bearer good": 200, "Bearer stranger": 403, "Bearer away": 302}
        self.send_response(known.get(token, 401) if kfp else 200 if self.path == "/-/ready" else 404)
        self.send_header("Location", "https://login.example.com/dex")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def furnished(kubeconfig: Path) -> Iterator[Cluster]:
    cluster = Cluster(config.new_client_from_config(str(kubeconfig)))
    try:
        furnish(cluster)
        yield cluster
    finally:
        for path in reversed(cluster.made):
            cluster.send("DELETE", path)


@pytest.fixture
def place(web: str, tmp_path: Path, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setenv("HEADRACE_KFP_TOKEN", "good")

    def pool(name: str) -> Pool:
        accepted = Toleration(key="headrace.dev/pool", operator="Equal", value=name, effect="NoSchedule")
        return Pool(node_selector={"headrace.dev/pool": name}, tolerations=[accepted])

    return Environment(
        name="testing",
        store=f"file://{tmp_path}/store",
        tracking=f"sqlite:///{tmp_path}/mlflow.db",
        signing_key=str(tmp_path / "key.pem"),
        serving=Serving(
            mode="standard",
            gateway=web,
            parent_gateway="kserve/kserve-ingress-gateway",
            namespace=SERVING,
            service_account="predictor",
        ),
        pools=Pools(online=pool("online"), batch=pool("batch"), experiment=pool("experiment")),
        prometheus=web,
        kubeflow=Kubeflow(
            host=f"{web}/pipeline",
            namespace=PIPELINES,
            auth="token",
            service_account="release",
            service_accounts={"prepare_data": "data"},
        ),
        notify=Notify(channels=["webhook"]),
    )


def facts_of(place: Environment) -> Facts:
    own, accounts = cluster_doctor.own_needs(place), cluster_doctor.accounts(place)
    return gather(place, cluster_doctor.paths(place), own, accounts)


def other_than(findings: list[Finding], mark: Mark = Mark.GOOD) -> list[str]:
    return [finding.what for finding in findings if finding.mark != mark]


USUAL = ["its certificate unchecked", "Kubernetes 1.20.2", "no release runs here yet"]
"""What the server of the tests cannot help, and what a new environment lacks."""


def test_a_cluster_in_order_has_nothing_to_mend(furnished: Cluster, place: Environment) -> None:
    findings = cluster_doctor.examine(place)
    odd = other_than(findings)
    assert [any(part in what for part in USUAL) for what in odd] == [True] * 3, odd
    said = "\n".join(finding.what for finding in findings)
    for part in (
        "inferenceservices.serving.kserve.io v1beta1",
        "KServe 0.21",
        "kserve/kserve-ingress-gateway listens: https",
        f"namespace {SERVING}, pod security restricted",
        f"quota {SERVING}/team has room",
        "default storage class standard",
        "pool experiment: 1 of 1 nodes",
        "4 GPUs on 1 nodes",
        f"secret {PIPELINES}/headrace-ledger exists",
        "service account release may do what its steps need",
        "KFP API at",
        "prometheus at",
    ):
        assert part in said


def test_values_of_secrets_stay_in_the_cluster(furnished: Cluster, place: Environment) -> None:
    facts = facts_of(place)
    kept = repr(facts)
    assert "never to be read" not in kept
    secret = facts.answers[in_(PIPELINES, "secrets", "headrace-ledger")]
    assert secret.ok
    assert secret.body["kind"] == "PartialObjectMetadata"
    assert "data" not in secret.body


def changed(path: str, patch: Any) -> Change:
    return lambda cluster: cluster.patch(path, patch)


def removed(path: str) -> Change:
    return lambda cluster: cluster.send("DELETE", path)


def reconfigured(part: str, **fields: Any) -> Change:
    return changed(CONFIGURATION, {"data": {part: json.dumps(fields)}})


def image(reference: str) -> Change:
    containers = [{"name": "manager", "image": reference}]
    return changed(CONTROLLER, {"spec": {"template": {"spec": {"containers": containers}}}})


CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/inferenceservices.serving.kserve.io"
ONLINE, GPU_NODE = node("doctor-online"), node("doctor-experiment")
LABELS = {"metadata": {"labels": {"headrace.dev/pool": None}}}
NO_GPU = {"nvidia.com/gpu": None}
NOT_PROGRAMMED = [{"type": "Programmed", "status": "False", "message": "no address"}]

BROKEN: dict[str, tuple[str, Change, Mark, str]] = {
    "no configuration": (CONFIGURATION, removed(CONFIGURATION), Mark.BAD, "inferenceservice-config does not exist"),
    "not JSON": (CONFIGURATION, changed(CONFIGURATION, {"data": {"ingress": "{"}}), Mark.BAD, "Expecting"),
    "mode": (CONFIGURATION, reconfigured("deploy", defaultDeploymentMode="Knative"), Mark.UNSURE, "mode is Knative"),
    "no gateway API": (CONFIGURATION, reconfigured("ingress"), Mark.BAD, "does not use the Gateway API"),
    "other gateway": (
        CONFIGURATION,
        reconfigured("ingress", enableGatewayApi=True, kserveIngressGateway="a/b"),
        Mark.BAD,
        "KServe's routes hang from a/b",
    ),
    "no controller": (CONTROLLER, removed(CONTROLLER), Mark.BAD, "no KServe controller in namespace kserve"),
    "old KServe": (CONTROLLER, image("kserve/kserve-controller:v0.20.1"), Mark.BAD, "KServe 0.20.1 sets no canary"),
    "KServe by digest": (CONTROLLER, image(f"x/kserve@sha256:{'0' * 64}"), Mark.UNSURE, "KServe's controller is x"),
    "KServe down": (
        CONTROLLER,
        changed(f"{CONTROLLER}/status", {"status": {"availableReplicas": None}}),
        Mark.BAD,
        "KServe's controller is not available",
    ),
    "no gateway": (GATEWAY, removed(GATEWAY), Mark.BAD, "kserve/kserve-ingress-gateway does not exist"),
    "gateway not ready": (
        GATEWAY,
        changed(GATEWAY, {"status": {"listeners": [{"name": "https", "conditions": NOT_PROGRAMMED}]}}),
        Mark.BAD,
        "has no ready listener: no address",
    ),
    "gateway shut": (
        GATEWAY,
        changed(GATEWAY, {"spec": {"listeners": [{"name": "https", "port": 443, "protocol": "HTTPS"}]}}),
        Mark.BAD,
        f"no ready listener takes routes from namespace {SERVING}",
    ),
    "privileged": (
        f"/api/v1/namespaces/{SERVING}",
        changed(f"/api/v1/namespaces/{SERVING}", {"metadata": {"labels": None}}),
        Mark.UNSURE,
        f"namespace {SERVING} lets privileged pods in",
    ),
    "quota nearly used": (
        QUOTA,
        changed(f"{QUOTA}/status", {"status": {"used": {"requests.cpu": "7600m"}}}),
        Mark.UNSURE,
        f"quota {SERVING}/team is used: requests.cpu 95%",
    ),
    "quota used": (
        QUOTA,
        changed(f"{QUOTA}/status", {"status": {"used": {"requests.cpu": "8"}}}),
        Mark.BAD,
        "requests.cpu 100%",
    ),
    "no storage class": (CLASS, removed(CLASS), Mark.BAD, "no default storage class (there are none)"),
    "no online node": (ONLINE, changed(ONLINE, LABELS), Mark.BAD, "pool online: no node has headrace.dev/pool=online"),
    "scaled to zero": (GPU_NODE, changed(GPU_NODE, LABELS), Mark.UNSURE, "pool experiment: no node has"),
    "taint": (
        ONLINE,
        changed(ONLINE, {"spec": {"taints": [{"key": "spot", "value": "yes", "effect": "NoSchedule"}]}}),
        Mark.BAD,
        "pool online: no node takes its pods: doctor-online is tainted spot=yes:NoSchedule",
    ),
    "cordoned": (ONLINE, changed(ONLINE, {"spec": {"unschedulable": True}}), Mark.BAD, "doctor-online is cordoned"),
    "not ready": (
        ONLINE,
        changed(f"{ONLINE}/status", {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}),
        Mark.BAD,
        "doctor-online is not ready",
    ),
    "no GPU": (
        GPU_NODE,
        changed(f"{GPU_NODE}/status", {"status": {"allocatable": NO_GPU, "capacity": NO_GPU}}),
        Mark.UNSURE,
        "no node offers nvidia.com/gpu now",
    ),
    "no device plugin": (
        ONLINE,
        changed(ONLINE, {"metadata": {"labels": {"cloud.google.com/gke-accelerator": "l4"}}}),
        Mark.BAD,
        "doctor-online: labelled with a GPU and offers no nvidia.com/gpu",
    ),
    "no secret": (
        in_(PIPELINES, "secrets", "headrace-notify"),
        removed(in_(PIPELINES, "secrets", "headrace-notify")),
        Mark.BAD,
        f"secret {PIPELINES}/headrace-notify does not exist",
    ),
    "no key that names people": (
        in_(PIPELINES, "secrets", "headrace-subjects"),
        removed(in_(PIPELINES, "secrets", "headrace-subjects")),
        Mark.BAD,
        f"secret {PIPELINES}/headrace-subjects does not exist",
    ),
    "no key that opens requests": (
        in_(PIPELINES, "secrets", "headrace-erasure"),
        removed(in_(PIPELINES, "secrets", "headrace-erasure")),
        Mark.UNSURE,
        f"secret {PIPELINES}/headrace-erasure does not exist",
    ),
    "no model key": (
        in_(SERVING, "secrets", "headrace-model-key"),
        removed(in_(SERVING, "secrets", "headrace-model-key")),
        Mark.UNSURE,
        f"secret {SERVING}/headrace-model-key does not exist",
    ),
    "no account": (
        in_(PIPELINES, "serviceaccounts", "release"),
        removed(in_(PIPELINES, "serviceaccounts", "release")),
        Mark.BAD,
        f"service account {PIPELINES}/release does not exist",
    ),
    "no binding": (
        BINDING,
        removed(BINDING),
        Mark.BAD,
        "service account release may not: ",
    ),
}


def rounds() -> list[list[str]]:
    """The cases in as few clusters as they fit in, one case to an object."""
    made: list[list[str]] = []
    for what, (path, *_) in BROKEN.items():
        free = next((one for one in made if path not in {BROKEN[other][0] for other in one}), None)
        if free is None:
            made.append([what])
        else:
            free.append(what)
    return made


@pytest.mark.parametrize("cases", rounds(), ids=lambda cases: ", ".join(cases))
def test_what_is_wrong_is_one_line_with_a_next_step(furnished: Cluster, place: Environment, cases: list[str]) -> None:
    before = {path: furnished.send("GET", path) for path in [BROKEN[what][0] for what in cases]}
    for what in cases:
        BROKEN[what][1](furnished)
    try:
        findings = cluster_doctor.examine(place)
    finally:
        for path, seen in before.items():
            restore(furnished, path, seen)
    others = {one for one in other_than(findings) if not any(part in one for part in USUAL)}
    for _, _, mark, sentence in [BROKEN[what] for what in cases]:
        [found] = [finding for finding in findings if sentence in finding.what]
        assert found.mark == mark
        assert found.fix
        assert "\n" not in found.what + found.fix
        others.remove(found.what)
    assert not others


def restore(cluster: Cluster, path: str, before: Any) -> None:
    wanted = {**before, "metadata": {**before["metadata"]}}
    for field in ("resourceVersion", "uid", "managedFields"):
        wanted["metadata"].pop(field, None)
    try:
        wanted["metadata"]["resourceVersion"] = cluster.send("GET", path)["metadata"]["resourceVersion"]
    except client.ApiException:
        cluster.send("POST", path.rpartition("/")[0], wanted)
    else:
        cluster.send("PUT", path, wanted)
    if before["kind"] in ("Node", "Deployment", "ResourceQuota"):
        cluster.patch(f"{path}/status", {"status": before["status"]})


def test_what_hangs_on_a_missing_namespace_is_left_out(furnished: Cluster, place: Environment) -> None:
    serving = place.serving.model_copy(update={"namespace": "nowhere"})
    kubeflow = place.kubeflow.model_copy(update={"namespace": "neither"})
    findings = cluster_doctor.examine(place.model_copy(update={"serving": serving, "kubeflow": kubeflow}))
    about = [finding.what for finding in findings if "nowhere" in finding.what or "neither" in finding.what]
    assert about == ["namespace nowhere does not exist", "namespace neither does not exist"]
    assert not [finding for finding in findings if "service account" in finding.what or "secret" in finding.what]


def test_by_mode(furnished: Cluster, place: Environment) -> None:
    serving = place.serving.model_copy(update={"mode": "knative"})
    named = [need.name for need in cluster_doctor.definitions(place.model_copy(update={"serving": serving}))]
    assert "services.serving.knative.dev" in named
    assert "httproutes.gateway.networking.k8s.io" not in named
    findings = cluster_doctor.examine(place.model_copy(update={"serving": serving}))
    assert not [finding for finding in findings if finding.mark == Mark.BAD]
    assert any("default mode is Standard, this environment's knative" in finding.what for finding in findings)


def test_several_nodes_need_kubeflows_trainer(furnished: Cluster, place: Environment) -> None:
    spread = place.model_copy(update={"training": Training(nodes=2, runtime="torch-of-ours")})
    said = {finding.what: finding.mark for finding in cluster_doctor.examine(spread)}
    assert said["trainjobs.trainer.kubeflow.org v1alpha1"] == Mark.GOOD
    assert said["Trainer's ClusterTrainingRuntime torch-of-ours does not exist"] == Mark.BAD
    [refused] = [what for what in said if "create/delete/get trainjobs" in what]
    assert refused.startswith("service account release may not") and said[refused] == Mark.BAD
    gathered = facts_of(spread)
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/trainjobs.trainer.kubeflow.org"
    without = dataclasses.replace(gathered, answers={**gathered.answers, path: Answer(404)})
    said = {finding.what: finding.mark for finding in cluster_doctor.judge(without)}
    assert said["trainjobs.trainer.kubeflow.org v1alpha1 is not installed"] == Mark.BAD
    assert not any("ClusterTrainingRuntime" in what for what in said), "the first thing to mend is said"


def kubeconfig_with(kubeconfig: Path, tmp_path: Path, user: dict[str, Any], **cluster: Any) -> str:
    written = yaml.safe_load(kubeconfig.read_text("utf-8"))
    written["users"][0]["user"] = user
    written["clusters"][0]["cluster"] |= cluster
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(written), "utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("user", "cluster", "sentence"),
    [
        ({"token": "expired"}, {}, "the token is wrong or has expired"),
        ({}, {}, "you are anonymous there"),
        ({}, {"server": "https://127.0.0.1:9"}, "refuses the connection or there is no route"),
        ({}, {"server": "https://nowhere.invalid"}, "its name has no address"),
        ({}, {"insecure-skip-tls-verify": False}, "its certificate is not one that the kubeconfig trusts"),
    ],
)
def test_an_api_that_cannot_be_used_is_explained_and_the_rest_is_still_looked_at(
    furnished: Cluster,
    place: Environment,
    kubeconfig: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    user: dict[str, Any],
    cluster: dict[str, Any],
    sentence: str,
) -> None:
    monkeypatch.setenv("KUBECONFIG", kubeconfig_with(kubeconfig, tmp_path, user, **cluster))
    first, *rest = cluster_doctor.examine(place)
    assert sentence in first.what
    assert first.mark == Mark.BAD
    assert first.fix
    assert [finding.what.split()[0] for finding in rest] == ["KFP", "prometheus", "store", "no", "gateway"]


def test_a_kubeconfig_or_context_that_is_not_there(place: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = place.serving.model_copy(update={"context": "gone"})
    first = cluster_doctor.examine(place.model_copy(update={"serving": serving}))[0]
    assert "gone" in first.what
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    first = cluster_doctor.examine(place)[0]
    assert "no Kubernetes API: KUBECONFIG names /nonexistent" in first.what
    assert first.mark == Mark.BAD


def test_without_permissions_it_says_which_are_missing(
    furnished: Cluster, place: Environment, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = furnished.send("POST", in_(PIPELINES, "serviceaccounts", "data") + "/token", {"spec": {}})
    monkeypatch.setenv("KUBECONFIG", kubeconfig_with(kubeconfig, tmp_path, {"token": made["status"]["token"]}))
    findings = cluster_doctor.examine(place)
    assert not [finding for finding in findings if finding.mark == Mark.BAD]
    said = {finding.what: finding.fix for finding in findings if finding.mark == Mark.UNSURE}
    name = "inferenceservices.serving.kserve.io v1beta1 is served; whether it has spec.canary"
    permission = "ask for the permission to"
    assert said[f"{name}: you may not look"] == f"{permission} get customresourcedefinitions.apiextensions.k8s.io"
    assert said["nodes and their pools: you may not look"] == f"{permission} list nodes"
    assert said[f"secret {PIPELINES}/headrace-ledger: you may not look"] == (
        f"{permission} get secrets/headrace-ledger in {PIPELINES}"
    )
    assert "subjectaccessreviews" in said["what service account release may do cannot be seen"]
    assert any(
        what.startswith("you may not: get/update inferenceservices.serving.kserve.io assistant in") for what in said
    )


def test_who_may_impersonate_an_account_sees_what_it_may_do(
    furnished: Cluster, place: Environment, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, binding = f"{RBAC}/clusterroles/doctor-act", f"{RBAC}/clusterrolebindings/doctor-act"
    rules = [{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]
    furnished.create(role, "rbac.authorization.k8s.io/v1", "ClusterRole", rules=rules)
    bind(furnished, binding, "ClusterRole", "doctor-act", PIPELINES, "data")
    made = furnished.send("POST", in_(PIPELINES, "serviceaccounts", "data") + "/token", {"spec": {}})
    try:
        monkeypatch.setenv("KUBECONFIG", kubeconfig_with(kubeconfig, tmp_path, {"token": made["status"]["token"]}))
        api = Api(place.serving)
        [account] = [one for one in cluster_doctor.accounts(place) if one.name == "release"]
        assert api.may(Permission(SERVING, "inferenceservices.serving.kserve.io", "create"), account) is True
        assert api.may(Permission(SERVING, "configmaps", "update", "assistant-rollout"), account) is True
        assert api.may(Permission(SERVING, "configmaps", "update", "headrace-dashboards"), account) is False
        assert api.may(Permission(SERVING, "secrets", "get"), account) is False
    finally:
        furnished.remove(binding)
        furnished.remove(role)


@pytest.mark.parametrize(
    ("token", "sentence", "fix"),
    [
        ("", "HEADRACE_KFP_TOKEN is not set", "kubeflow.auth"),
        ("old", "does not know you (HTTP 401 Unauthorized)", "put a new token into HEADRACE_KFP_TOKEN"),
        ("away", "does not know you (it sends you to login.example.com)", "put a new token into HEADRACE_KFP_TOKEN"),
        ("stranger", "knows you and says no", f"ask for access to the profile {PIPELINES}"),
    ],
)
def test_the_kfp_api_s_login_is_explained(
    furnished: Cluster, place: Environment, monkeypatch: pytest.MonkeyPatch, token: str, sentence: str, fix: str
) -> None:
    monkeypatch.setenv("HEADRACE_KFP_TOKEN", token)
    [found] = [finding for finding in cluster_doctor.examine(place) if finding.mark == Mark.BAD]
    assert sentence in found.what
    assert fix in found.fix


def test_services_that_only_pods_reach_are_asked_through_the_api(furnished: Cluster, place: Environment) -> None:
    findings = cluster_doctor.examine(place.model_copy(update={"tracking": f"http://mlflow.{SERVING}.svc:5000"}))
    [found] = [finding for finding in findings if finding.mark == Mark.BAD]
    assert 'services "mlflow" not found' in found.what


def test_judgement_needs_no_cluster(furnished: Cluster, place: Environment) -> None:
    facts = facts_of(place)

    def bad(**seen: Any) -> list[str]:
        findings = cluster_doctor.judge(dataclasses.replace(facts, **seen))
        return [finding.what for finding in findings if finding.mark == Mark.BAD]

    assert bad() == []
    assert bad(skew=75.0) == ["this machine's clock is 75 s ahead of the API server's"]
    assert bad(skew=-75.0) == ["this machine's clock is 75 s behind the API server's"]
    assert bad(store="403 no access") == [f"store {place.store}: 403 no access"]
    without = {**facts.answers, NODES: Answer(200, {"items": []})}
    hungry = place.model_copy(update={"sizes": Sizes(tune=Accelerated(accelerators=1))})
    told = [
        finding.fix
        for one in (place, hungry)
        for finding in cluster_doctor.judge(dataclasses.replace(facts, environment=one, answers=without))
        if finding.what == "no node offers nvidia.com/gpu now"
    ]
    assert told == [
        "models are tuned and served on CPU, unless a pool scales from zero",
        "sizes gives tune some: it stays pending, unless a pool scales from zero",
    ]
    cloud = place.model_copy(update={"store": "gs://bucket/x"})
    path = in_(PIPELINES, "serviceaccounts", "data")
    bare = copy.deepcopy(facts.answers[path])
    bare.body["metadata"].pop("annotations")
    without = {**facts.answers, path: bare}
    definition = copy.deepcopy(facts.answers[CRD])
    for version in definition.body["spec"]["versions"]:
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].pop("canary", None)
    assert bad(answers={**facts.answers, CRD: definition}) == [
        "inferenceservices.serving.kserve.io v1beta1 has no spec.canary"
    ]
    gone = {path: Answer(404) for path in facts.answers if "inferenceservices.serving" in path}
    first, *_ = bad(answers={**facts.answers, **gone})
    assert first == "inferenceservices.serving.kserve.io v1beta1 is not installed"
    assert bad(environment=cloud, answers=without) == [f"service account {PIPELINES}/data has no Workload Identity"]


def test_the_release_must_be_there_and_pinned_from_allowed_registries(
    furnished: Cluster, place: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster_doctor, "RELEASES", tmp_path)
    facts = facts_of(place)

    def bad(release: str, registries: list[str]) -> list[str]:
        update = {"release": release, "policy": Policy(registries=registries)}
        findings = cluster_doctor.judge(dataclasses.replace(facts, environment=place.model_copy(update=update)))
        return [finding.what for finding in findings if finding.mark == Mark.BAD]

    assert bad("gone", []) == ["release gone is not in pipelines/releases"]
    (tmp_path / "r1").mkdir()
    lock = tmp_path / "r1" / "images.lock.yaml"
    images = dict.fromkeys(("data", "model", "release"), f"registry/x@sha256:{'a' * 64}")
    lock.write_text(yaml.safe_dump(images), "utf-8")
    assert bad("r1", ["registry/"]) == []
    [foreign] = bad("r1", ["elsewhere/"])
    assert "release r1 uses registry/x@sha256:" in foreign
    lock.write_text(yaml.safe_dump({**images, "data": "registry/x:latest"}), "utf-8")
    [floating] = bad("r1", [])
    assert "'registry/x:latest' floats" in floating


def test_the_command_prints_json_and_exits_with_1(furnished: Cluster, place: Environment, tmp_path: Path) -> None:
    path = tmp_path / "testing.yaml"
    path.write_bytes(canonical(place.model_dump(mode="json")))
    ended = CliRunner().invoke(app, ["doctor", "-e", str(path), "--json"])
    assert ended.exit_code == 0, ended.output
    said = json.loads(ended.output)
    assert said["ok"] is True
    assert {finding["mark"] for finding in said["findings"]} == {"✓", "!"}
    path.write_bytes(canonical({**place.model_dump(mode="json"), "release": "gone"}))
    ended = CliRunner().invoke(app, ["doctor", "-e", str(path), "--json"])
    assert ended.exit_code == 1
    assert json.loads(ended.output)["ok"] is False


def test_the_clock_s_skew_is_measured(furnished: Cluster, place: Environment) -> None:
    _, date = Api(place.serving).ask("/version")
    assert date is not None
    assert abs(date - datetime.now(UTC)) < timedelta(hours=1)
    assert abs(facts_of(place).skew) < 3600
