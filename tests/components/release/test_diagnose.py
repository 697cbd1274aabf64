"""Every way a revision can fail to become ready has its own sentence."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.common.environment import Serving
from components.release.diagnose import SERVICE_LABEL, Evidence, diagnose, explain
from components.release.manifest import REVISION

POD = "chat-r1-predictor-7d9-x2x"
REGISTRY_SAID = 'Failed to pull image "registry.example.com/llm:1": rpc error: code = NotFound desc = manifest unknown'


def pod(
    state: dict[str, Any] | None = None,
    last: dict[str, Any] | None = None,
    *,
    init: bool = False,
    name: str = POD,
    ready: bool = False,
    restarts: int = 0,
    conditions: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    """A pod of revision r1 with one container that is in a state."""
    container = "storage-initializer" if init else "kserve-container"
    described = {"name": container, "image": "registry.example.com/llm:1", "restartCount": restarts, "ready": ready}
    described |= {"state": state or {}, "lastState": last or {}, "imageID": ""}
    spec = {"name": container, "image": "registry.example.com/llm:1", "resources": {"limits": {"memory": "4Gi"}}}
    main = {"name": "kserve-container", "image": "registry.example.com/llm:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {SERVICE_LABEL: "chat", "app": "isvc.chat-r1-predictor"},
        },
        "spec": {
            "serviceAccountName": "reader",
            **({"initContainers": [spec], "containers": [main]} if init else {"containers": [spec]}),
        },
        "status": {
            "phase": "Running",
            "conditions": [*conditions, {"type": "Ready", "status": str(ready)}],
            "initContainerStatuses" if init else "containerStatuses": [described],
        },
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int, reason: str = "Error", message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def unschedulable(message: str) -> dict[str, Any]:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return pod(conditions=(condition,))


def warning(reason: str, message: str, kind: str = "Pod", about: str = POD) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about}.{abs(hash(message)):x}", "namespace": "default"},
        "involvedObject": {"kind": kind, "name": about, "namespace": "default"},
        "reason": reason,
        "message": message,
        "type": "Warning",
    }


def refused(message: str) -> dict[str, Any]:
    return warning("FailedCreate", f"Error creating: {message}", "ReplicaSet", "chat-r1-predictor-7d9")


QUOTA = (
    'pods "chat-r1-predictor-7d9-" is forbidden: exceeded quota: tenant-a, requested: requests.nvidia.com/gpu=1, used: '
    "requests.nvidia.com/gpu=4, limited: requests.nvidia.com/gpu=4"
)
CASES: list[tuple[str, Evidence, str]] = [
    (
        "image pull",
        Evidence(
            "r1",
            pods=[pod(waiting("ImagePullBackOff", "Back-off pulling image"))],
            events=[warning("Failed", REGISTRY_SAID)],
        ),
        f"{POD} cannot pull the image registry.example.com/llm:1 of kserve-container: {REGISTRY_SAID}; check that the "
        "image is in the registry and that the service account may pull it",
    ),
    (
        "image pull without events",
        Evidence("r1", pods=[pod(waiting("ErrImagePull", "unauthorized"))]),
        f"{POD} cannot pull the image registry.example.com/llm:1 of kserve-container: unauthorized; check",
    ),
    (
        "secret missing",
        Evidence("r1", pods=[pod(waiting("CreateContainerConfigError", 'secret "keys" not found'))]),
        f'{POD} cannot create its container kserve-container: secret "keys" not found; create what is missing',
    ),
    (
        "out of memory",
        Evidence("r1", pods=[pod(waiting("CrashLoopBackOff"), ended(137, "OOMKilled"), restarts=3)]),
        f"{POD} ran out of memory: kserve-container needs more than its limit of 4Gi; raise publish.memory",
    ),
    (
        "crash loop with a termination message",
        Evidence(
            "r1",
            pods=[
                pod(
                    waiting("CrashLoopBackOff"), ended(1, message="Traceback\nValueError: no config.json\n"), restarts=5
                )
            ],
        ),
        f"{POD} crashed 5 times: kserve-container exited with 1; its last words: ValueError: no config.json; read",
    ),
    (
        "crash with a log only",
        Evidence(
            "r1", pods=[pod(ended(2))], logs={(POD, "kserve-container"): "error: unrecognized arguments: --slots"}
        ),
        f"{POD} crashed: kserve-container exited with 2; its last words: error: unrecognized arguments: --slots; read",
    ),
    (
        "startup probe",
        Evidence(
            "r1",
            pods=[pod({"running": {}}, ended(143), restarts=2)],
            events=[warning("Unhealthy", "Startup probe failed: HTTP probe failed with statuscode: 503")],
        ),
        f"{POD} was stopped 2 times because its startup probe failed: Startup probe failed: HTTP probe failed with "
        "statuscode: 503; give the model longer to load (publish.probes.start_seconds)",
    ),
    (
        "permission of the bucket",
        Evidence(
            "r1",
            pods=[pod(waiting("CrashLoopBackOff"), ended(1), init=True)],
            logs={(POD, "storage-initializer"): "google.api_core.exceptions.Forbidden: 403 GET bucket"},
        ),
        f"the model was not brought to {POD}: storage-initializer exited with 1: "
        "google.api_core.exceptions.Forbidden: 403 "
        "GET bucket; let the service account reader read the store",
    ),
    (
        "missing bucket",
        Evidence(
            "r1",
            pods=[pod(ended(1), init=True)],
            logs={(POD, "storage-initializer"): "NotFound: 404 The specified bucket does not exist"},
        ),
        f"the model was not brought to {POD}: storage-initializer exited with 1: NotFound: 404 The specified "
        "bucket does "
        "not exist; check the bucket",
    ),
    (
        "missing key",
        Evidence("r1", pods=[pod(waiting("CrashLoopBackOff"), ended(1, message="no key models-2026"), init=True)]),
        f"the model was not brought to {POD}: storage-initializer exited with 1: no key models-2026; check that "
        "the secret "
        "or KMS key the model is encrypted with exists",
    ),
    (
        "init container out of memory",
        Evidence("r1", pods=[pod(ended(137, "OOMKilled"), init=True)]),
        f"{POD} ran out of memory: storage-initializer needs more than its limit of 4Gi",
    ),
    (
        "scheduling: processors and taints",
        Evidence(
            "r1",
            pods=[
                unschedulable(
                    "0/5 nodes are available: 3 Insufficient cpu, 3 Insufficient nvidia.com/gpu, 2 node(s) had "
                    "untolerated "
                    "taint {headrace.dev/pool: batch}."
                )
            ],
        ),
        f"no node can take {POD}: 0/5 nodes are available: 3 Insufficient cpu, 3 Insufficient nvidia.com/gpu, 2 "
        "node(s) "
        "had untolerated taint {headrace.dev/pool: batch}; add nodes or lower the recipe's publish.cpu, "
        "publish.gpus; the "
        "pool's tolerations in the environment must name the taint",
    ),
    (
        "scheduling: selector",
        Evidence(
            "r1", pods=[unschedulable("0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.")]
        ),
        f"no node can take {POD}: 0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector; "
        "no node "
        "has the labels of the pool's node_selector",
    ),
    (
        "volume",
        Evidence("r1", pods=[pod()], events=[warning("FailedMount", 'configmap "ca" not found')]),
        f'{POD} cannot mount a volume: configmap "ca" not found; create what is missing',
    ),
    (
        "readiness probe",
        Evidence(
            "r1",
            pods=[pod({"running": {}})],
            events=[warning("Unhealthy", "Readiness probe failed: connection refused")],
        ),
        f"{POD} runs and does not answer: Readiness probe failed: connection refused; the model may still be loading",
    ),
    (
        "quota",
        Evidence("r1", events=[refused(QUOTA)]),
        "the quota tenant-a is used up: r1 needs requests.nvidia.com/gpu=1, used is requests.nvidia.com/gpu=4 of "
        "requests.nvidia.com/gpu=4; lower the resources",
    ),
    (
        "quota, seen in the deployment only",
        Evidence(
            "r1",
            deployments=[{"status": {"conditions": [{"type": "ReplicaFailure", "status": "True", "message": QUOTA}]}}],
            denied=["events"],
        ),
        "the quota tenant-a is used up: r1 needs",
    ),
    (
        "admission webhook",
        Evidence("r1", events=[refused('admission webhook "validate.kyverno.svc" denied the request: no latest tags')]),
        "the webhook validate.kyverno.svc refuses the pods of r1: no latest tags",
    ),
    (
        "service account",
        Evidence(
            "r1",
            events=[refused('pods "x" is forbidden: error looking up service account: serviceaccount "m" not found')],
        ),
        "the pods of r1 need the service account m, which does not exist; create it",
    ),
    (
        "policy",
        Evidence(
            "r1", events=[refused('pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot')]
        ),
        'no pod of r1 can be made: Error creating: pods "x" is forbidden: violates PodSecurity "restricted:latest"',
    ),
    (
        "no runtime",
        Evidence("r1", status={"modelStatus": {"lastFailureInfo": {"reason": "NoSupportingRuntime", "message": "no"}}}),
        "KServe has no runtime for the model's format; install one",
    ),
    (
        "KServe's own trouble",
        Evidence(
            "r1", events=[warning("InternalError", "fails to reconcile predictor: x", "InferenceService", "chat")]
        ),
        "KServe reports InternalError: fails to reconcile predictor: x",
    ),
    (
        "condition",
        Evidence("r1", status={"conditions": [{"type": "PredictorReady", "status": "False", "message": "no route."}]}),
        "KServe reports PredictorReady: no route",
    ),
    (
        "may not look",
        Evidence("r1", denied=["pods", "events"]),
        "why is not known: this account may not list pods, events in the service's namespace; give it get and list",
    ),
    (
        "still fetching",
        Evidence("r1", pods=[pod({"running": {}}, init=True)]),
        f"{POD} is still fetching the model (storage-initializer runs); give it a longer deadline",
    ),
    (
        "still loading",
        Evidence("r1", pods=[pod({"running": {}})]),
        f"{POD} runs and is still loading the model; give it a longer deadline",
    ),
    ("all is well", Evidence("r1", pods=[pod({"running": {}}, ready=True)]), ""),
    ("a container that has recovered", Evidence("r1", pods=[pod({"running": {}}, ended(1), ready=True)]), ""),
]


@pytest.mark.parametrize(("evidence", "sentence"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_reason_has_one_sentence(evidence: Evidence, sentence: str) -> None:
    said = diagnose(evidence)
    assert said.startswith(sentence) and bool(said) == bool(sentence), said
    assert "\n" not in said and not said.endswith(".")


def test_the_pod_that_is_ready_does_not_hide_the_one_that_is_not() -> None:
    pods = [pod({"running": {}}, ready=True, name="a"), pod(ended(3), name="b")]
    assert diagnose(Evidence("r1", pods=pods)).startswith("b crashed")


def test_the_plane_explains_itself() -> None:
    assert explain(Serving(mode="plane", api="http://127.0.0.1:1"), "chat", "r1") == ""


@pytest.fixture
def namespace(cluster: client.ApiClient) -> Iterator[str]:
    """A namespace of a test's own."""
    core = client.CoreV1Api(cluster)
    name = core.create_namespace({"metadata": {"generateName": "diagnose-"}}).metadata.name
    yield name
    core.delete_namespace(name)


def serving(namespace: str) -> Serving:
    return Serving(mode="standard", namespace=namespace)


def place(cluster: client.ApiClient, namespace: str, described: dict[str, Any]) -> None:
    """Create a pod and write its status, as kubelet does."""
    core = client.CoreV1Api(cluster)
    wanted = {**described, "metadata": {**described["metadata"], "namespace": namespace}}
    core.create_namespaced_pod(namespace, wanted)
    core.patch_namespaced_pod_status(wanted["metadata"]["name"], namespace, {"status": wanted["status"]})


def tell(cluster: client.ApiClient, namespace: str, event: dict[str, Any]) -> None:
    event["metadata"]["namespace"] = event["involvedObject"]["namespace"] = namespace
    client.CoreV1Api(cluster).create_namespaced_event(namespace, event)


def test_the_reason_is_found_by_the_labels_that_kserve_gives(cluster: client.ApiClient, namespace: str) -> None:
    assert explain(serving(namespace), "chat", "r1") == ""
    other = pod(ended(3), name="chat-r2-predictor-1")
    other["metadata"]["labels"]["app"] = "isvc.chat-r2-predictor"
    place(cluster, namespace, other)
    assert explain(serving(namespace), "chat", "r1") == "", "another revision's trouble is not ours"
    place(cluster, namespace, pod(waiting("CrashLoopBackOff"), ended(137, "OOMKilled"), restarts=1))
    assert "needs more than its limit of 4Gi" in explain(serving(namespace), "chat", "r1")
    tell(cluster, namespace, refused(QUOTA))
    assert "exited with 3" in explain(serving(namespace), "chat", "r2")


def test_knative_s_pods_are_found_by_the_revision_s_annotation(cluster: client.ApiClient, namespace: str) -> None:
    described = pod(waiting("ErrImagePull", "unauthorized"), name="chat-predictor-00001-deployment-1")
    described["metadata"] |= {"labels": {SERVICE_LABEL: "chat"}, "annotations": {REVISION: "r1"}}
    place(cluster, namespace, described)
    assert "cannot pull the image" in explain(serving(namespace), "chat", "r1")
    assert explain(serving(namespace), "chat", "r9") == ""


def test_what_kept_pods_from_being_made_is_found_in_the_replica_set_s_events(
    cluster: client.ApiClient, namespace: str
) -> None:
    tell(cluster, namespace, refused(QUOTA))
    assert explain(serving(namespace), "chat", "r1").startswith("the quota tenant-a is used up")


def test_a_missing_permission_is_the_sentence(
    cluster: client.ApiClient, namespace: str, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = [{"apiGroups": ["serving.kserve.io"], "resources": ["*"], "verbs": ["get", "list"]}]
    rbac = client.RbacAuthorizationV1Api(cluster)
    rbac.create_namespaced_role(namespace, {"metadata": {"name": "limited"}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "limited", "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "limited"}
    rbac.create_namespaced_role_binding(
        namespace, {"metadata": {"name": "limited"}, "roleRef": reference, "subjects": [subject]}
    )
    core = client.CoreV1Api(cluster)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "limited"}})
    token = core.create_namespaced_service_account_token("limited", namespace, {"spec": {"audiences": []}}).status.token
    limited = yaml.safe_load(kubeconfig.read_text())
    limited["users"][0]["user"] = {"token": token}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(limited))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert explain(serving(namespace), "chat", "r1") == (
        "why is not known: this account may not list deployments, pods, events in the service's namespace; give it get "
        "and list on them"
    )


def test_an_api_that_is_away_is_no_second_error(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = Serving(mode="standard", api="http://127.0.0.1:1")
    assert explain(serving, "chat", "r1").startswith(
        "why is not known: the Kubernetes API at http://127.0.0.1:1 does not"
    )
