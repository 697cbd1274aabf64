"""Why a revision is not ready, in one sentence.

The judgement is a pure function of what the cluster shows; `explain` fetches that by the labels KServe gives to what it
makes. What kubelet, scheduler and registry say is kept in their own words, with what to do about it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release.api import Api, Refused
from components.release.manifest import REVISION, Manifest
from components.release.services import InferenceServices

SERVICE_LABEL = "serving.kserve.io/inferenceservice"
"""Label that KServe gives to everything of a service."""

_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable")
_CONFIGURATION = ("CreateContainerConfigError", "CreateContainerError")
_LOG_LINES = 20


@dataclass(frozen=True)
class Evidence:
    """What a cluster shows of one revision.

    Attributes:
        revision: Its name.
        status: The InferenceService's status.
        deployments: The revision's Deployments.
        pods: Its pods.
        events: Warnings about any of them, about their ReplicaSets and about the InferenceService.
        logs: Last line that a failed container wrote, by pod and container.
        denied: What we may not look at.
    """

    revision: str
    status: Manifest = field(default_factory=dict)
    deployments: Sequence[Manifest] = ()
    pods: Sequence[Manifest] = ()
    events: Sequence[Manifest] = ()
    logs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    denied: Sequence[str] = ()


def diagnose(evidence: Evidence) -> str:
    """Say in one sentence why a revision is not ready, and what to do.

    The surest reason comes first: what the registry, the scheduler or the kernel said about a pod, then what stopped
    pods from being made, then what KServe itself reports.

    Returns:
        The sentence, without a full stop; empty if nothing is wrong that can be seen.
    """
    unready = [pod for pod in evidence.pods if not _is_ready(pod)]
    for examine in (_unpulled, _misconfigured, _failed_to_start, _failed, _unschedulable, _unmounted, _unhealthy):
        for pod in unready:
            for sentence in examine(pod, evidence):
                return sentence
    for sentence in (*_uncreated(evidence), *_rejected(evidence), *_denied(evidence), *_loading(unready)):
        return sentence
    return ""


def explain(serving: Serving, service: str, revision: str) -> str:
    """Look at a cluster and say in one sentence why a revision is not ready.

    It never fails itself: what we may not see is part of the sentence.

    Args:
        serving: Where the service is served.
        service: Name of the InferenceService.
        revision: Name of the revision.

    Returns:
        The sentence; empty on the plane, which says it itself, and where nothing wrong is seen.
    """
    if serving.mode == "plane":
        return ""
    try:
        return diagnose(observe(serving, service, revision))
    except HeadraceError as error:
        return f"why is not known: {error}"


def observe(serving: Serving, service: str, revision: str) -> Evidence:
    """Fetch what a cluster shows of one revision.

    Raises:
        HeadraceError: The API does not answer.
    """
    services = InferenceServices(serving)
    api, namespace = services.api, serving.namespace
    core, apps = client.CoreV1Api(api.client), client.AppsV1Api(api.client)
    denied: list[str] = []
    mine = {"label_selector": f"{SERVICE_LABEL}={service}"}

    def listed(what: str, method: Callable[..., Any], **options: Any) -> list[Manifest]:
        try:
            items = api.read(method, namespace, **options).items
        except Refused as error:
            if error.status != 403:
                raise
            denied.append(what)
            return []
        return [api.client.sanitize_for_serialization(item) for item in items]

    deployments = [
        item
        for item in listed("deployments", apps.list_namespaced_deployment, **mine)
        if _belongs(item, item["spec"]["template"]["metadata"], service, revision)
    ]
    pods = [
        item
        for item in listed("pods", core.list_namespaced_pod, **mine)
        if _belongs(item, item["metadata"], service, revision)
    ]
    names = {item["metadata"]["name"] for item in (*deployments, *pods)}
    sets = tuple(f"{item['metadata']['name']}-" for item in deployments) or (f"{service}-{revision}-predictor-",)
    events = [
        event
        for event in listed("events", core.list_namespaced_event, field_selector="type=Warning")
        if (about := event["involvedObject"].get("name", "")) in names
        or (about == service and event["involvedObject"].get("kind") == "InferenceService")
        or (event["involvedObject"].get("kind") == "ReplicaSet" and about.startswith(sets))
    ]
    return Evidence(
        revision=revision,
        status=(services.get(service) or {}).get("status") or {},
        deployments=deployments,
        pods=sorted(pods, key=lambda pod: pod["metadata"]["name"]),
        events=sorted(events, key=_when, reverse=True),
        logs=_logs(api, core, pods),
        denied=denied,
    )


def _belongs(item: Manifest, template: Manifest, service: str, revision: str) -> bool:
    deployment = f"{service}-{revision}-predictor"
    return (
        item["metadata"]["name"] == deployment
        or (template.get("labels") or {}).get("app") == f"isvc.{deployment}"
        or (template.get("annotations") or {}).get(REVISION) == revision
    )


def _logs(api: Api, core: client.CoreV1Api, pods: Sequence[Manifest]) -> dict[tuple[str, str], str]:
    """Return the last line that each failed container wrote; nothing where logs may not be read."""
    found = {}
    for pod in pods:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        for status in _containers(pod):
            if _death(status) is None:
                continue
            before = "terminated" not in (status.get("state") or {})
            options = {"container": status["name"], "tail_lines": _LOG_LINES, "previous": before}
            try:
                text = api.read(core.read_namespaced_pod_log, name, namespace, **options)
            except HeadraceError:
                continue
            if lines := [line.strip() for line in str(text).splitlines() if line.strip()]:
                found[name, status["name"]] = lines[-1]
    return found


def _unpulled(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for status in _containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _PULL:
            said = _event(evidence, pod, "Failed", "Failed to pull image") or waiting.get("message", "")
            yield (
                f"{_name(pod)} cannot pull the image {status.get('image', '')} of {status['name']}: "
                f"{_plain(said) or waiting['reason']}; check that the image is in the registry and that the service "
                "account may pull it"
            )


def _misconfigured(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for status in _containers(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _CONFIGURATION:
            yield (
                f"{_name(pod)} cannot create its container {status['name']}: {_plain(waiting.get('message', ''))}; "
                "create what is missing in the service's namespace"
            )


def _failed_to_start(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for status in (pod.get("status") or {}).get("initContainerStatuses") or []:
        death = _death(status)
        if death is None:
            continue
        if death.get("reason") == "OOMKilled":
            yield _out_of_memory(pod, status)
            continue
        said = _last_words(pod, status, death, evidence)
        how = f"exited with {death.get('exitCode')}" + (f": {said}" if said else "")
        yield f"the model was not brought to {_name(pod)}: {status['name']} {how}; {_storage_remedy(pod, said)}"


def _failed(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for status in (pod.get("status") or {}).get("containerStatuses") or []:
        death = _death(status)
        if death is None:
            continue
        if death.get("reason") == "OOMKilled":
            yield _out_of_memory(pod, status)
            continue
        restarts = f" {status['restartCount']} times" if status.get("restartCount", 0) > 1 else ""
        for probe in ("startup", "liveness"):
            if _event(evidence, pod, "Unhealthy", f"{probe.capitalize()} probe failed"):
                said = _plain(_event(evidence, pod, "Unhealthy", f"{probe.capitalize()} probe failed"))
                yield (
                    f"{_name(pod)} was stopped{restarts} because its {probe} probe failed: {said}; give the model "
                    "longer to load (publish.probes.start_seconds), or read its log"
                )
        said = _last_words(pod, status, death, evidence)
        last = f"; its last words: {said}" if said else ""
        yield (
            f"{_name(pod)} crashed{restarts}: {status['name']} exited with {death.get('exitCode')}{last}; "
            f"read `kubectl logs --previous {_name(pod)}`"
        )


def _unschedulable(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            said = _plain(condition.get("message", ""))
            yield f"no node can take {_name(pod)}: {said}; {_scheduling_remedy(said)}"


def _unmounted(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for reason in ("FailedMount", "FailedAttachVolume"):
        if said := _event(evidence, pod, reason):
            yield f"{_name(pod)} cannot mount a volume: {_plain(said)}; create what is missing"


def _unhealthy(pod: Manifest, evidence: Evidence) -> Iterator[str]:
    for probe in ("Readiness", "Startup", "Liveness"):
        if said := _event(evidence, pod, "Unhealthy", f"{probe} probe failed"):
            yield (
                f"{_name(pod)} runs and does not answer: {_plain(said)}; the model may still be loading, otherwise "
                f"read `kubectl logs {_name(pod)}`"
            )


def _uncreated(evidence: Evidence) -> Iterator[str]:
    """Yield what kept pods from being made at all: quota, webhooks, policies, a missing service account."""
    said = [event.get("message", "") for event in evidence.events if event.get("reason") == "FailedCreate"]
    for deployment in evidence.deployments:
        for condition in (deployment.get("status") or {}).get("conditions") or []:
            if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
                said.append(condition.get("message", ""))
    for message in map(_plain, said):
        if quota := re.search(r"exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)", message):
            yield (
                f"the quota {quota[1]} is used up: {evidence.revision} needs {quota[2]}, used is {quota[3]} of "
                f"{quota[4]}; lower the resources in the recipe, or ask for a larger quota"
            )
        elif webhook := re.search(r'admission webhook "([^"]+)" denied the request:? ?(.*)', message):
            yield f"the webhook {webhook[1]} refuses the pods of {evidence.revision}: {webhook[2]}"
        elif account := re.search(r'serviceaccount "([^"]+)" not found', message):
            yield (
                f"the pods of {evidence.revision} need the service account {account[1]}, which does not exist; create "
                "it, or correct serving.service_account of the environment"
            )
        elif message:
            yield f"no pod of {evidence.revision} can be made: {message}"


def _rejected(evidence: Evidence) -> Iterator[str]:
    """Yield what KServe itself reports."""
    status = evidence.status
    statuses = [status.get("modelStatus") or {}]
    statuses += [entry.get("modelStatus") or {} for entry in status.get("canaryStatuses") or []]
    for failure in (found.get("lastFailureInfo") or {} for found in statuses):
        if failure.get("reason") == "NoSupportingRuntime":
            yield (
                "KServe has no runtime for the model's format; install one that lists it under supportedModelFormats "
                "(`kubectl get clusterservingruntimes`), or name another in publish.runtime"
            )
        elif failure.get("message"):
            yield f"KServe could not load the model: {_plain(failure['message'])}"
    for event in evidence.events:
        if event.get("involvedObject", {}).get("kind") == "InferenceService" and event.get("message"):
            yield f"KServe reports {event.get('reason', 'a fault')}: {_plain(event['message'])}"
    for condition in status.get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            yield f"KServe reports {condition['type']}: {_plain(condition['message'])}"


def _denied(evidence: Evidence) -> Iterator[str]:
    if evidence.denied:
        yield (
            f"why is not known: this account may not list {', '.join(evidence.denied)} in the service's namespace; "
            "give it get and list on them"
        )


def _loading(unready: Sequence[Manifest]) -> Iterator[str]:
    for pod in unready:
        for status in (pod.get("status") or {}).get("initContainerStatuses") or []:
            if "running" in (status.get("state") or {}):
                yield f"{_name(pod)} is still fetching the model ({status['name']} runs); give it a longer deadline"
        if (pod.get("status") or {}).get("phase") == "Running":
            yield f"{_name(pod)} runs and is still loading the model; give it a longer deadline"


def _containers(pod: Manifest) -> list[Manifest]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _death(status: Manifest) -> Manifest | None:
    """Return how a container ended, None if it did not fail."""
    for state in (status.get("state") or {}, status.get("lastState") or {}):
        ended = state.get("terminated")
        if ended and (ended.get("exitCode") or ended.get("reason") == "OOMKilled"):
            return ended
        if "running" in state and status.get("ready"):
            return None
    return None


def _out_of_memory(pod: Manifest, status: Manifest) -> str:
    spec = pod.get("spec") or {}
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    limits = [
        ((container.get("resources") or {}).get("limits") or {}).get("memory", "")
        for container in containers
        if container["name"] == status["name"]
    ]
    limit = f"its limit of {limits[0]}" if limits and limits[0] else "what its node has"
    return (
        f"{_name(pod)} ran out of memory: {status['name']} needs more than {limit}; raise publish.memory, or lower "
        "the model server's slots and context"
    )


def _last_words(pod: Manifest, status: Manifest, death: Manifest, evidence: Evidence) -> str:
    """Return why a container ended: its termination message, or the last line of its log."""
    lines = [line.strip() for line in str(death.get("message") or "").splitlines() if line.strip()]
    return _plain(lines[-1] if lines else evidence.logs.get((_name(pod), status["name"]), ""))


def _storage_remedy(pod: Manifest, said: str) -> str:
    account = (pod.get("spec") or {}).get("serviceAccountName", "default")
    words = said.lower()
    if re.search(r"\bkeys?\b|decrypt|cipher|kms", words):
        return "check that the secret or KMS key the model is encrypted with exists and may be used"
    if re.search(r"403|forbidden|permission|denied|unauthori[sz]ed|401|credential", words):
        return f"let the service account {account} read the store"
    if re.search(r"404|not found|no such|does not exist|nosuchbucket|no objects", words):
        return "check the bucket and that the version is in it; registering the model again mends it"
    if re.search(r"no space", words):
        return "the model does not fit on the node's disk: raise its ephemeral storage"
    return f"read `kubectl logs {_name(pod)} --all-containers`"


def _scheduling_remedy(said: str) -> str:
    """Say what would help, from the scheduler's own words ("3 Insufficient cpu, 2 node(s) had untolerated taint…")."""
    remedies = []
    if lacking := sorted(set(re.findall(r"Insufficient ([\w./-]+\w)", said))):
        remedies.append(f"add nodes or lower the recipe's {', '.join(_OPTION.get(name, name) for name in lacking)}")
    if "taint" in said:
        remedies.append("the pool's tolerations in the environment must name the taint")
    if re.search(r"node affinity|node selector", said):
        remedies.append("no node has the labels of the pool's node_selector in the environment")
    if "topology spread" in said:
        remedies.append("spread over zones less strictly (publish.placement.zones)")
    return "; ".join(remedies) or "look at `kubectl describe nodes`"


_OPTION = {
    "cpu": "publish.cpu",
    "memory": "publish.memory",
    "nvidia.com/gpu": "publish.gpus",
}


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _event(evidence: Evidence, pod: Manifest, reason: str, beginning: str = "") -> str:
    """Return the newest warning of a kind about a pod."""
    for event in evidence.events:
        message = event.get("message", "")
        about = event.get("involvedObject", {}).get("name")
        if event.get("reason") == reason and about == _name(pod) and message.startswith(beginning):
            return message
    return ""


def _when(event: Manifest) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")


def _name(pod: Manifest) -> str:
    return str(pod["metadata"]["name"])


def _plain(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
