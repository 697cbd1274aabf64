"""KServe's controller as the tests play it: models of what it does, and a thread that writes that to an API.

The models follow KServe 0.21's source: `reconcileCanaryDeployments`, `adjustStableMinReplicasForCanaries` and
`applyCanaryWeights` in Standard mode, `createKnativeService` and `PropagateStatus` in Knative mode.
"""

import contextlib
import json
import math
import threading
import time
from typing import Any, Protocol

from kubernetes import client

REVISION = "headrace.dev/revision"
WHERE = ("serving.kserve.io", "v1beta1")
KNATIVE = ("serving.knative.dev", "v1")
GATEWAY = ("gateway.networking.k8s.io", "v1")


class Model(Protocol):
    """What one service has become."""

    faults: list[str]
    served: set[str]
    failing: set[str]

    def step(self, manifest: dict[str, Any]) -> None:
        """Reconcile once."""

    def status(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Return the status that KServe writes."""


class StandardModel:
    """Deployments and the route of one service. Pods answer one step after they are asked for."""

    def __init__(self) -> None:
        self.replicas: dict[str, int] = {}
        self.available: dict[str, int] = {}
        self.route: dict[str, int] | None = None
        self.failing: set[str] = set()
        self.faults: list[str] = []
        self.served: set[str] = set()
        self.smallest: dict[str, int] = {}

    def step(self, manifest: dict[str, Any]) -> None:
        for name, replicas in self.replicas.items():
            self.available[name] = 0 if name in self.failing else replicas
        spec = manifest["spec"]
        stable, canaries = spec["predictor"], spec.get("canary") or []
        size = stable.get("minReplicas", 1)
        for canary in canaries:
            predictor, percent = canary["predictor"], canary["trafficPercent"]
            if predictor.get("minReplicas", 1) > size:
                self.faults.append(
                    f"the webhook refuses {predictor['minReplicas']} replicas of a canary, more than {size}"
                )
            self.replicas[predictor["name"]] = predictor.get("minReplicas", math.ceil(size * percent / 100))
        ready = [c["predictor"]["name"] for c in canaries if self.available.get(c["predictor"]["name"])]
        expected = {stable["name"], *(canary["predictor"]["name"] for canary in canaries)}
        for name in set(self.replicas) - expected:
            del self.replicas[name]
            self.available.pop(name, None)
        self._check("its Deployment went before its route")
        taken = sum(self.replicas[name] for name in ready)
        self.replicas[stable["name"]] = max(size - taken, 1) if taken else size
        for name, replicas in self.replicas.items():
            self.available[name] = min(self.available.get(name, 0), replicas)
            self.smallest[name] = min(self.smallest.get(name, replicas), replicas)
        if self.available.get(stable["name"]):
            weights = {c["predictor"]["name"]: c["trafficPercent"] for c in canaries if c["predictor"]["name"] in ready}
            self.route = {stable["name"]: 100 - sum(weights.values()), **weights}
        self._check("it does not answer")

    def _check(self, why: str) -> None:
        for name, weight in (self.route or {}).items():
            if weight:
                self.served.add(name)
                if not self.available.get(name) and name not in self.failing:
                    self.faults.append(f"{name} has {weight} % and {why}")

    def status(self, manifest: dict[str, Any]) -> dict[str, Any]:
        spec = manifest["spec"]
        stable, canaries = spec["predictor"]["name"], spec.get("canary") or []
        names = [canary["predictor"]["name"] for canary in canaries]

        def condition(kind: str, true: bool) -> dict[str, Any]:
            return {"type": kind, "status": "True" if true else "False", "severity": "Info"}

        conditions = [condition("PredictorReady", bool(self.available.get(stable)))]
        conditions.append(condition("Ready", bool(self.available.get(stable))))
        if names:
            conditions.append(condition("CanaryPredictorReady", all(self.available.get(name) for name in names)))
        statuses = [
            {
                "name": canary["predictor"]["name"],
                "ready": bool(self.available.get(canary["predictor"]["name"])),
                "trafficPercent": canary["trafficPercent"],  # KServe repeats what is wanted
            }
            for canary in canaries
        ]
        # This is a Deployment's generation, whatever the service's is.
        return {
            "observedGeneration": 1,
            "deploymentMode": "Standard",
            "conditions": conditions,
            "canaryStatuses": statuses,
        }

    def deployments(self, service: str) -> list[dict[str, Any]]:
        def condition(name: str) -> dict[str, Any]:
            if name in self.failing:
                message = f'ReplicaSet "{name}" has timed out progressing.'
                return {
                    "type": "Progressing",
                    "status": "False",
                    "reason": "ProgressDeadlineExceeded",
                    "message": message,
                }
            return {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}

        return [
            {
                "metadata": {"name": f"{service}-{name}-predictor"},
                "spec": {"replicas": replicas},
                "status": {"availableReplicas": self.available.get(name, 0), "conditions": [condition(name)]},
            }
            for name, replicas in sorted(self.replicas.items())
        ]

    def http_route(self, service: str) -> dict[str, Any] | None:
        if self.route is None:
            return None
        backends = [
            {"kind": "Service", "name": f"{service}-{name}-predictor", "port": 80, "weight": weight}
            for name, weight in self.route.items()
        ]
        path = {"type": "RegularExpression", "value": "^/.*$"}
        return {
            "metadata": {"name": service, "generation": 1},
            "spec": {
                "hostnames": [f"{service}.example.com"],
                "rules": [{"matches": [{"path": path}], "backendRefs": backends}],
            },
            "status": {"parents": [accepted(1)]},
        }


class KnativeModel:
    """Knative's configuration and route of one service. A revision is ready one step after it is made.

    Args:
        hasty: The route is reconciled before the configuration, as may happen; KServe then takes a new canary for a
            rollback when the service has been promoted before.
    """

    def __init__(self, hasty: bool = False) -> None:
        self.hasty = hasty
        self.made: list[tuple[str, str]] = []
        self.ready: set[str] = set()
        self.traffic: list[dict[str, Any]] = []
        self.latest_rolled_out = self.previous_rolled_out = ""
        self.failing: set[str] = set()
        self.faults: list[str] = []
        self.served: set[str] = set()

    def step(self, manifest: dict[str, Any]) -> None:
        predictor = manifest["spec"]["predictor"]
        percent = predictor.get("canaryTrafficPercent")
        template = json.dumps({k: v for k, v in predictor.items() if k != "canaryTrafficPercent"}, sort_keys=True)
        for knative, made in self.made:
            if self.name_of(made) not in self.failing:
                self.ready.add(knative)
        if not self.made or self.made[-1][1] != template:
            if self.hasty and self.made:
                self._split(percent)
                self._propagate()
            self.made.append((f"chat-predictor-{len(self.made) + 1:05}", template))
        self._split(percent)
        self._propagate()

    def name_of(self, template: str) -> str:
        return (json.loads(template).get("annotations") or {}).get(REVISION, "")

    @property
    def latest_ready(self) -> str:
        return next((knative for knative, _ in reversed(self.made) if knative in self.ready), "")

    def _split(self, percent: int | None) -> None:
        latest = self.latest_ready
        if not latest:
            return
        targets = [{"revisionName": latest, "latestRevision": True, "percent": 100, "tag": "latest"}]
        if percent is not None and self.latest_rolled_out:
            targets[0]["percent"] = percent
            if percent < 100:
                rest = {"latestRevision": False, "percent": 100 - percent, "tag": "prev"}
                targets.append({"revisionName": self.latest_rolled_out, **rest})
        targets[0]["url"] = "http://latest-chat-predictor.example.com"
        self.traffic = targets
        for target in targets:
            if target["percent"]:
                self.served.add(self.name_of(dict(self.made)[target["revisionName"]]))
                if target["revisionName"] not in self.ready:
                    self.faults.append(f"{target['revisionName']} has {target['percent']} % and is not ready")

    def _propagate(self) -> None:
        shares: dict[str, int] = {}
        for target in self.traffic:
            shares[target["revisionName"]] = shares.get(target["revisionName"], 0) + target["percent"]
        for target in self.traffic:
            if target["revisionName"] != self.latest_ready or not target["latestRevision"]:
                continue
            if self.latest_rolled_out != self.latest_ready:
                if target["percent"] == 100:
                    self.previous_rolled_out, self.latest_rolled_out = self.latest_rolled_out, self.latest_ready
            elif (
                self.latest_ready == self.made[-1][0]
                and target["percent"] < 100 == shares[target["revisionName"]]
                and self.previous_rolled_out
            ):
                self.latest_rolled_out = self.previous_rolled_out

    def status(self, manifest: dict[str, Any]) -> dict[str, Any]:
        predictor = {
            "latestCreatedRevision": self.made[-1][0] if self.made else "",
            "latestReadyRevision": self.latest_ready,
            "latestRolledoutRevision": self.latest_rolled_out,
            "previousRolledoutRevision": self.previous_rolled_out,
            "traffic": self.traffic,
        }
        kept = {key: value for key, value in predictor.items() if value}
        # This is the Knative service's generation, whatever the InferenceService's is.
        return {"observedGeneration": 1, "deploymentMode": "Knative", "components": {"predictor": kept}}

    def revisions(self) -> list[dict[str, Any]]:
        def ready(knative: str, name: str) -> dict[str, Any]:
            if name in self.failing:
                message = "Container failed with: unrecognized arguments: --no_such"
                return {"type": "Ready", "status": "False", "reason": "ExitCode2", "message": message}
            return {"type": "Ready", "status": "True" if knative in self.ready else "Unknown"}

        return [
            {
                "metadata": {
                    "name": knative,
                    "annotations": {REVISION: self.name_of(template)},
                    "labels": {"serving.knative.dev/configurationGeneration": str(number)},
                },
                "status": {"conditions": [ready(knative, self.name_of(template))]},
            }
            for number, (knative, template) in enumerate(self.made, 1)
        ]


def accepted(generation: int) -> dict[str, Any]:
    condition = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "the route is in place",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"parentRef": {"name": "gateway"}, "controllerName": "example.com/gateway", "conditions": [condition]}


class Controller(threading.Thread):
    """Reconciles the services of a namespace of a real API, gateway controller included, until it is stopped."""

    def __init__(self, api: client.ApiClient, namespace: str, models: dict[str, StandardModel | KnativeModel]) -> None:
        super().__init__(daemon=True)
        self.models = models
        self.troubles: list[str] = []
        self._namespace = namespace
        self._apps = client.AppsV1Api(api)
        self._custom = client.CustomObjectsApi(api)
        self._stop_asked = threading.Event()

    def __enter__(self) -> "Controller":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_asked.set()
        self.join()
        assert not self.troubles, self.troubles[0]

    def run(self) -> None:
        while not self._stop_asked.wait(0.02):
            try:
                listed = self._custom.list_namespaced_custom_object(*WHERE, self._namespace, "inferenceservices")
                for manifest in listed["items"]:
                    if model := self.models.get(manifest["metadata"]["name"]):
                        self._reconcile(manifest, model)
                self._accept_routes()
            except client.ApiException as error:
                if error.status not in (404, 409):
                    self.troubles.append(str(error))
            except Exception as error:
                if "refused" not in str(error) and "Connection" not in str(error):
                    self.troubles.append(repr(error))

    def _reconcile(self, manifest: dict[str, Any], model: StandardModel | KnativeModel) -> None:
        name = manifest["metadata"]["name"]
        model.step(manifest)
        if isinstance(model, StandardModel):
            self._deploy(name, model)
        else:
            self._revise(name, model)
        body = {"status": model.status(manifest)}
        where = (*WHERE, self._namespace, "inferenceservices", name)
        if body["status"] != manifest.get("status"):
            self._custom.patch_namespaced_custom_object_status(*where, body)

    def _deploy(self, service: str, model: StandardModel) -> None:
        wanted = {deployment["metadata"]["name"]: deployment for deployment in model.deployments(service)}
        selector = f"serving.kserve.io/inferenceservice={service}"
        there = self._apps.list_namespaced_deployment(self._namespace, label_selector=selector).items
        for deployment in there:
            if deployment.metadata.name not in wanted:
                self._apps.delete_namespaced_deployment(deployment.metadata.name, self._namespace)
        known = {deployment.metadata.name: deployment for deployment in there}
        for name, deployment in wanted.items():
            pods = {"app": name}
            body = {
                "metadata": {"name": name, "labels": {"serving.kserve.io/inferenceservice": service}},
                "spec": {
                    "replicas": deployment["spec"]["replicas"],
                    "selector": {"matchLabels": pods},
                    "template": {
                        "metadata": {"labels": pods},
                        "spec": {"containers": [{"name": "kserve-container", "image": "example.com/predictor"}]},
                    },
                },
            }
            status = {**deployment["status"], "replicas": deployment["spec"]["replicas"]}
            status["readyReplicas"] = status["availableReplicas"]
            if name not in known:
                self._apps.create_namespaced_deployment(self._namespace, body)
            elif known[name].spec.replicas != deployment["spec"]["replicas"]:
                self._apps.patch_namespaced_deployment(
                    name, self._namespace, {"spec": {"replicas": status["replicas"]}}
                )
            seen = known.get(name)
            if seen is None or (seen.status.available_replicas or 0, len(seen.status.conditions or [])) != (
                status["availableReplicas"],
                1,
            ):
                self._apps.patch_namespaced_deployment_status(name, self._namespace, {"status": status})
        if route := model.http_route(service):
            self._write_route(service, route)

    def _write_route(self, service: str, route: dict[str, Any]) -> None:
        where = (*GATEWAY, self._namespace, "httproutes")
        body = {
            "apiVersion": "/".join(GATEWAY),
            "kind": "HTTPRoute",
            "metadata": {"name": service},
            "spec": route["spec"],
        }
        try:
            seen = self._custom.get_namespaced_custom_object(*where, service)
        except client.ApiException:
            self._custom.create_namespaced_custom_object(*where, body)
            return
        if [rule["backendRefs"] for rule in seen["spec"]["rules"]] != [r["backendRefs"] for r in _defaulted(route)]:
            body["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
            self._custom.replace_namespaced_custom_object(*where, service, body)

    def _accept_routes(self) -> None:
        where = (*GATEWAY, self._namespace, "httproutes")
        for route in self._custom.list_namespaced_custom_object(*where)["items"]:
            status = {"parents": [accepted(route["metadata"]["generation"])]}
            if route.get("status") != status:
                name = route["metadata"]["name"]
                self._custom.patch_namespaced_custom_object_status(*where, name, {"status": status})

    def _revise(self, service: str, model: KnativeModel) -> None:
        where = (*KNATIVE, self._namespace, "revisions")
        for revision in model.revisions():
            name = revision["metadata"]["name"]
            labels = {**revision["metadata"]["labels"], "serving.knative.dev/service": f"{service}-predictor"}
            metadata = {**revision["metadata"], "labels": labels}
            body = {"apiVersion": "/".join(KNATIVE), "kind": "Revision", "metadata": metadata}
            with contextlib.suppress(client.ApiException):
                self._custom.create_namespaced_custom_object(*where, body)
            self._custom.patch_namespaced_custom_object(*where, name, {"status": revision["status"]})


def _defaulted(route: dict[str, Any]) -> list[dict[str, Any]]:
    rules = json.loads(json.dumps(route["spec"]["rules"]))
    for rule in rules:
        for backend in rule["backendRefs"]:
            backend.setdefault("group", "")
    return rules


def define_revisions(api: client.ApiClient) -> None:
    """Knative's Revision, of which the tests' server has no definition."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"revisions.{KNATIVE[0]}"},
        "spec": {
            "group": KNATIVE[0],
            "names": {"kind": "Revision", "plural": "revisions", "singular": "revision", "listKind": "RevisionList"},
            "scope": "Namespaced",
            "versions": [{"name": KNATIVE[1], "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    definitions = client.ApiextensionsV1Api(api)
    try:
        definitions.create_custom_resource_definition(body)
    except client.ApiException as error:
        assert error.status == 409
    end = time.monotonic() + 30
    custom = client.CustomObjectsApi(api)
    while True:
        try:
            custom.list_namespaced_custom_object(*KNATIVE, "default", "revisions")
            return
        except client.ApiException:
            assert time.monotonic() < end
            time.sleep(0.1)
