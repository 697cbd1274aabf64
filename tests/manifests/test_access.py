"""Access on a real API server: every account can do what it must, and nothing else."""

import json
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from components.release.rights import PERSON, STEPS, TRAINING, Right

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

PIPELINES, SERVING = "headrace-prod", "headrace-prod-serving"
DATA, RELEASE, ROLLOUT = (
    f"system:serviceaccount:{PIPELINES}:headrace-{name}" for name in ("data", "release", "rollout")
)
PREDICTOR = f"system:serviceaccount:{SERVING}:headrace-predictor"
VIEWERS, MANAGERS = "headrace-prod-viewers@example.com", "headrace-prod-release-managers@example.com"

RUN = {("argoproj.io", "workflowtaskresults"): "create patch", ("", "configmaps", "kfp-launcher"): "get"}

TRAIN = {
    ("trainer.kubeflow.org", "trainjobs"): "create delete get",
    ("", "pods"): "get list",
    ("", "pods/log"): "get",
}
"""A training on several nodes."""


def granted(rights: Iterable[Right]) -> dict[tuple[str, ...], str]:
    """What `components/release/rights.py` lists, as the API server says it: (API group, resource[, name]) and verbs."""
    found: dict[tuple[str, ...], str] = {}
    for right in rights:
        resource, _, group = right.resource.partition(".")
        name = right.name.format(service="assistant", account="headrace-predictor")
        key = (group, resource, name) if name else (group, resource)
        found[key] = " ".join([*found.get(key, "").split(), *right.verbs])
    return found


MAY: dict[tuple[str, str], dict[tuple[str, ...], str]] = {
    (DATA, PIPELINES): RUN,
    (DATA, SERVING): {},
    (RELEASE, PIPELINES): RUN | TRAIN,
    (RELEASE, SERVING): granted(STEPS["publish"]),
    (ROLLOUT, PIPELINES): RUN,
    (ROLLOUT, SERVING): granted(STEPS["progress"]),
    (PREDICTOR, PIPELINES): {},
    (PREDICTOR, SERVING): {},
}
"""All that an account may do in a namespace: (API group, resource[, name]) and verbs."""

EVERYBODY = {("authorization.k8s.io", "selfsubjectaccessreviews"), ("authorization.k8s.io", "selfsubjectrulesreviews")}


def test_what_the_doctor_asks_for_a_training_is_what_it_is_granted() -> None:
    assert granted(TRAINING) == TRAIN


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


def test_a_release_manager_changes_what_a_rollout_changes_and_may_take_a_service_away(
    caller: Callable[..., Caller],
) -> None:
    seeing = {"get", "list", "watch"}
    may = {key: set(verbs.split()) for key, verbs in caller("someone", MANAGERS).rules(SERVING).items()}
    changes = {key: verbs - seeing for key, verbs in may.items() if verbs - seeing}
    needed = granted([*PERSON, Right("inferenceservices.serving.kserve.io", ("delete",))])
    wanted = {key: set(verbs.split()) - seeing for key, verbs in needed.items()}
    assert changes == {key: verbs for key, verbs in wanted.items() if verbs}
    for key, verbs in needed.items():
        assert set(verbs.split()) & seeing <= may[key[:2]], key


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
ROUTES = f"/apis/gateway.networking.k8s.io/v1/namespaces/{SERVING}/httproutes"
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{SERVING}/networkpolicies"
ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{SERVING}/rolebindings"


def test_viewers_look_and_release_managers_change(caller: Callable[..., Caller]) -> None:
    release, viewer, manager = caller(RELEASE), caller("someone", VIEWERS), caller("someone", MANAGERS)
    assert release.status("POST", SERVICES, SERVICE) == 201
    for path in (SERVICES, f"{CORE}/pods", f"{CORE}/resourcequotas"):
        assert (viewer.status("GET", path), manager.status("GET", path)) == (200, 200)
    code, seen = manager.send("GET", f"{SERVICES}/assistant")
    assert code == 200
    assert viewer.status("PUT", f"{SERVICES}/assistant", seen) == 403
    assert manager.status("PUT", f"{SERVICES}/assistant", seen) == 200
    assert manager.status("DELETE", f"{SERVICES}/assistant") == 200
    launcher = f"/api/v1/namespaces/{PIPELINES}/configmaps/kfp-launcher"
    assert [caller(user).status("GET", launcher) for user in (DATA, RELEASE, ROLLOUT)] == [200, 200, 200]


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
        *((user, "", "PUT", f"{SERVICES}/other", SERVICE) for user in (RELEASE, ROLLOUT)),
        *((user, "", "GET", SERVICES, None) for user in (RELEASE, ROLLOUT)),
        *((user, "", "PUT", f"{CORE}/configmaps/headrace-dashboards", {}) for user in (RELEASE, ROLLOUT)),
        *((user, "", "PUT", f"{ROUTES}/assistant", {}) for user in (RELEASE, ROLLOUT)),
        *((user, "", "DELETE", f"{ROUTES}/assistant", None) for user in (RELEASE, ROLLOUT)),
        *((user, "", "PATCH", f"{POLICIES}/default-deny", {}) for user in (RELEASE, ROLLOUT)),
        (ROLLOUT, "", "POST", POLICIES, {}),
        ("someone", MANAGERS, "PUT", f"{POLICIES}/default-deny", {}),
        ("someone", MANAGERS, "PUT", f"{CORE}/configmaps/headrace-dashboards", {}),
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
