"""Access on a real API server: every account can do what it must, and nothing else."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

Rendered = Callable[[str], list[dict[str, Any]]]

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

PIPELINES, SERVING = "headrace-prod", "headrace-prod-serving"

NOT_SERVED = {"Gateway", "PodMonitor", "PrometheusRule"}
"""Kinds whose resource definitions the API server of the tests does not have."""

DATA, RELEASE, ROLLOUT = (
    f"system:serviceaccount:{PIPELINES}:headrace-{name}" for name in ("data", "release", "rollout")
)
PREDICTOR = f"system:serviceaccount:{SERVING}:headrace-predictor"
VIEWERS, MANAGERS = "headrace-prod-viewers@example.com", "headrace-prod-release-managers@example.com"

READ = "get list"
RUN = {("argoproj.io", "workflowtaskresults"): "create patch", ("", "configmaps", "kfp-launcher"): "get"}
CHANGE = "get list create patch update"
ROUTES = "get list create update delete"
SEE = {("", "events"): READ, ("", "pods"): READ, ("", "pods/log"): "get", ("", "configmaps"): "get create update"}
MAY: dict[tuple[str, str], dict[tuple[str, ...], str]] = {
    (DATA, PIPELINES): RUN,
    (DATA, SERVING): {},
    (RELEASE, PIPELINES): RUN,
    (RELEASE, SERVING): {
        ("serving.kserve.io", "inferenceservices"): f"{CHANGE} watch",
        ("policy", "poddisruptionbudgets"): CHANGE,
        ("networking.k8s.io", "networkpolicies"): CHANGE,
        ("gateway.networking.k8s.io", "httproutes"): ROUTES,
        ("", "serviceaccounts", "headrace-predictor"): "get",
        ("apps", "deployments"): READ,
        ("apps", "replicasets"): READ,
        **SEE,
    },
    (ROLLOUT, PIPELINES): RUN,
    (ROLLOUT, SERVING): {
        ("serving.kserve.io", "inferenceservices"): "get list watch patch update",
        ("gateway.networking.k8s.io", "httproutes"): ROUTES,
        ("apps", "deployments"): READ,
        **SEE,
    },
    (PREDICTOR, PIPELINES): {},
    (PREDICTOR, SERVING): {},
}
"""All that an account may do in a namespace: (API group, resource[, name]) and verbs."""

EVERYBODY = {("authorization.k8s.io", "selfsubjectaccessreviews"), ("authorization.k8s.io", "selfsubjectrulesreviews")}


class Caller:
    """Somebody who sends requests to the API server."""

    def __init__(self, api: client.ApiClient, user: str, group: str = "") -> None:
        self._api = api
        self._headers = {"Impersonate-User": user, "Accept": "application/json"}
        if group:
            self._headers["Impersonate-Group"] = group

    def send(
        self, method: str, path: str, body: Any = None, kind: str = "application/json"
    ) -> tuple[int, dict[str, Any]]:
        try:
            answer = self._api.call_api(
                path,
                method,
                header_params={**self._headers, "Content-Type": kind},
                body=body,
                auth_settings=["BearerToken"],
                response_type="object",
            )
        except client.ApiException as error:
            return error.status or 0, json.loads(error.body or "{}")
        return answer[1], answer[0]

    def status(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> int:
        return self.send(method, path, body, kind)[0]

    def rules(self, namespace: str) -> dict[tuple[str, ...], str]:
        """Everything the API server lets the caller do in a namespace, by its own account."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace},
        }
        code, answer = self.send("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", review)
        assert code == 201, answer
        assert not answer["status"]["incomplete"]
        found: dict[tuple[str, ...], str] = {}
        for rule in answer["status"]["resourceRules"]:
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for name in rule.get("resourceNames") or [""]:
                        key = (group, resource, name) if name else (group, resource)
                        found[key] = " ".join([*found.get(key, "").split(), *rule["verbs"]])
        return {key: verbs for key, verbs in found.items() if key not in EVERYBODY}


@pytest.fixture(scope="module")
def applied(kubeconfig: Path, rendered: Rendered) -> list[dict[str, Any]]:
    """The overlay prod on the API server, as far as it serves its kinds."""
    documents = [item for item in rendered("prod") if item["kind"] not in NOT_SERVED]
    assert len(documents) + len(NOT_SERVED) == len(rendered("prod"))
    command = ["kubectl", "--kubeconfig", kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-"]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    ran = subprocess.run(command, input=listed, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return documents


@pytest.fixture(scope="module")
def caller(kubeconfig: Path, applied: list[dict[str, Any]]) -> Iterator[Callable[..., Caller]]:
    with config.new_client_from_config(str(kubeconfig)) as api:
        yield lambda user, group="": Caller(api, user, group)


def lost(sent: Any, stored: Any, path: str = "") -> Iterator[str]:
    """Fields that were sent and not kept: the API server drops what a resource definition does not know."""
    if isinstance(sent, dict) and isinstance(stored, dict):
        for field, value in sent.items():
            yield from lost(value, stored[field], f"{path}.{field}") if field in stored else [f"{path}.{field}"]
    elif isinstance(sent, list) and isinstance(stored, list):
        for one, other in zip(sent, stored, strict=True):
            yield from lost(one, other, f"{path}[]")
    elif sent != stored:
        yield f"{path}: {sent!r} became {stored!r}"


def test_nothing_that_is_applied_is_dropped(kubeconfig: Path, applied: list[dict[str, Any]]) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": applied})
    command = ["kubectl", "--kubeconfig", kubeconfig, "get", "--output", "json", "-f", "-"]
    ran = subprocess.run(command, input=listed, capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)["items"]
    assert len(found) == len(applied)
    for sent, kept in zip(applied, found, strict=True):
        where = f"{sent['kind']} {sent['metadata']['name']}"
        assert kept["metadata"]["name"] == sent["metadata"]["name"]
        assert list(lost({**sent, "apiVersion": ""}, {**kept, "apiVersion": ""}, where)) == []


def test_a_misspelt_field_is_noticed(kubeconfig: Path, applied: list[dict[str, Any]]) -> None:
    (storage,) = (item for item in applied if item["kind"] == "ClusterStorageContainer")
    wrong = {**storage, "metadata": {"name": "misspelt"}, "spec": {**storage["spec"], "suportedUris": ["gs://"]}}
    command = ["kubectl", "--kubeconfig", kubeconfig, "create", "--validate=false", "--output", "json", "-f", "-"]
    try:
        ran = subprocess.run(command, input=json.dumps(wrong), capture_output=True, text=True, check=True)
        assert list(lost(wrong, json.loads(ran.stdout))) == [".spec.suportedUris"]
    finally:
        command[3:] = ["delete", "clusterstoragecontainer", "misspelt"]
        subprocess.run(command, capture_output=True, check=True)


@pytest.mark.parametrize(("user", "namespace"), MAY)
def test_an_account_may_do_exactly_this(caller: Callable[..., Caller], user: str, namespace: str) -> None:
    found = {key: sorted(set(verbs.split())) for key, verbs in caller(user).rules(namespace).items()}
    assert found == {key: sorted(verbs.split()) for key, verbs in MAY[user, namespace].items()}


@pytest.mark.parametrize("user", [DATA, RELEASE, ROLLOUT, PREDICTOR])
@pytest.mark.parametrize("namespace", ["default", "kube-system"])
def test_an_account_may_do_nothing_elsewhere(caller: Callable[..., Caller], user: str, namespace: str) -> None:
    assert caller(user).rules(namespace) == {}


SERVICES = f"/apis/serving.kserve.io/v1beta1/namespaces/{SERVING}/inferenceservices"
SERVICE = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "assistant", "namespace": SERVING},
    "spec": {"predictor": {"model": {"modelFormat": {"name": "huggingface"}, "storageUri": "gs://b/m"}}},
}
MERGE = "application/merge-patch+json"
LABEL = {"metadata": {"labels": {"seen": "yes"}}}
BUDGET = {
    "apiVersion": "policy/v1beta1",
    "kind": "PodDisruptionBudget",
    "metadata": {"name": "assistant"},
    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}},
}
ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "assistant-ab"},
    "spec": {"parentRefs": [{"name": "kserve-ingress-gateway", "namespace": "kserve"}]},
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "more"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "headrace-release", "namespace": PIPELINES}],
}
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "intruder"},
    "spec": {"containers": [{"name": "a", "image": "a"}]},
}
CORE = f"/api/v1/namespaces/{SERVING}"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SERVING}/rolebindings"


def test_publishing_and_rollouts_get_through_with_real_requests(caller: Callable[..., Caller]) -> None:
    release, rollout = caller(RELEASE), caller(ROLLOUT)
    assert release.status("POST", SERVICES, SERVICE) == 201
    assert release.status("PATCH", f"{SERVICES}/assistant", LABEL, MERGE) == 200
    assert release.status("POST", f"/apis/policy/v1beta1/namespaces/{SERVING}/poddisruptionbudgets", BUDGET) == 201
    assert release.status("POST", f"/apis/gateway.networking.k8s.io/v1/namespaces/{SERVING}/httproutes", ROUTE) == 201
    for path in ("pods", "events", "serviceaccounts/headrace-predictor"):
        assert release.status("GET", f"{CORE}/{path}") == 200
    code, seen = rollout.send("GET", f"{SERVICES}/assistant")
    assert code == 200
    assert rollout.status("PUT", f"{SERVICES}/assistant", seen) == 200
    assert rollout.status("PATCH", f"{SERVICES}/assistant", LABEL, MERGE) == 200
    launcher = f"/api/v1/namespaces/{PIPELINES}/configmaps/kfp-launcher"
    assert [caller(user).status("GET", launcher) for user in (DATA, RELEASE, ROLLOUT)] == [200, 200, 200]

    viewer, manager = caller("someone", VIEWERS), caller("someone", MANAGERS)
    for path in (SERVICES, f"{CORE}/pods", f"{CORE}/resourcequotas"):
        assert (viewer.status("GET", path), manager.status("GET", path)) == (200, 200)
    assert manager.status("PATCH", f"{SERVICES}/assistant", LABEL, MERGE) == 200
    assert manager.status("DELETE", f"{SERVICES}/assistant") == 200


@pytest.mark.parametrize(
    ("user", "group", "method", "path", "body"),
    [
        *((user, "", "GET", f"{CORE}/secrets", None) for user in (DATA, RELEASE, ROLLOUT, PREDICTOR)),
        *((user, "", "POST", ROLES, BINDING) for user in (DATA, RELEASE, ROLLOUT, PREDICTOR)),
        *((user, "", "POST", f"{CORE}/pods", POD) for user in (DATA, RELEASE, ROLLOUT, PREDICTOR)),
        *((user, "", "POST", f"{CORE}/pods/any/exec", None) for user in (DATA, RELEASE, ROLLOUT, PREDICTOR)),
        *((user, "", "DELETE", f"/api/v1/namespaces/{SERVING}", None) for user in (DATA, RELEASE, ROLLOUT, PREDICTOR)),
        *((user, "", "POST", SERVICES, SERVICE) for user in (DATA, ROLLOUT, PREDICTOR)),
        *((user, "", "DELETE", f"{SERVICES}/assistant", None) for user in (DATA, RELEASE, ROLLOUT, PREDICTOR)),
        (RELEASE, "", "GET", f"{CORE}/serviceaccounts/default", None),
        (DATA, "", "GET", SERVICES, None),
        (PREDICTOR, "", "GET", SERVICES, None),
        (DATA, "", "GET", f"/api/v1/namespaces/{PIPELINES}/configmaps", None),
        (RELEASE, "", "GET", f"/api/v1/namespaces/{PIPELINES}/secrets", None),
        ("someone", VIEWERS, "GET", f"{CORE}/secrets", None),
        ("someone", VIEWERS, "DELETE", f"{SERVICES}/assistant", None),
        ("someone", MANAGERS, "GET", f"{CORE}/secrets", None),
        ("someone", MANAGERS, "POST", ROLES, BINDING),
        ("someone", "", "GET", SERVICES, None),
    ],
)
def test_everything_else_is_refused(
    caller: Callable[..., Caller], user: str, group: str, method: str, path: str, body: Any
) -> None:
    assert caller(user, group).status(method, path, body) == 403
