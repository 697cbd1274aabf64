"""What is seen of a service beside its manifest, read the way each mode shows it; pure functions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.release.diagnose import REVISION
from components.release.manifest import Manifest
from components.release.notes import ASSIGNMENT, PAUSED, RETURNED, note
from components.release.pins import assigned_by
from components.release.rollout import Rollout

_CRASHED = ("CrashLoopBackOff", "ProgressDeadlineExceeded")


@dataclass(frozen=True)
class View:
    """What is seen of a service.

    Attributes:
        split: Share of the requests by revision, as the gateway applies it; None while no gateway says.
        replicas: Replicas that answer, by revision.
        troubles: Why a revision does not answer, or the gateway does not split.
        crashing: The revisions that will not become ready by waiting.
        assignment: How users are kept on a revision, as the gateway applies it; None where it cannot be seen.
        pin: How to reach the candidate whatever its share.
    """

    split: Mapping[str, int] | None
    replicas: Mapping[str, int]
    troubles: Mapping[str, str] = field(default_factory=dict)
    crashing: tuple[str, ...] = ()
    assignment: str | None = None
    pin: str = ""


def rollout_of(
    manifest: Manifest,
    view: View,
    *,
    stable: str,
    candidate: str,
    wanted: int,
    replicas: int,
    previous: str,
) -> Rollout:
    """Compare what is wanted of a service with what is seen.

    Args:
        manifest: The service, with its notes.
        view: What is seen.
        stable: Name of the stable revision.
        candidate: Name of the candidate, empty if there is none.
        wanted: The candidate's wanted share.
        replicas: The candidate's wanted replicas.
        previous: Name of the revision that was stable before.
    """
    split = view.split or {}
    expected = {name: share for name, share in ((stable, 100 - wanted), (candidate, wanted)) if share}
    assignment = note(manifest, ASSIGNMENT)
    kept = view.assignment is None or view.assignment == assignment
    concerned = [name for name in (stable, candidate, "") if name in view.troubles]
    return Rollout(
        service=manifest["metadata"]["name"],
        stable=stable,
        candidate=candidate,
        wanted=wanted,
        observed=split.get(candidate, 0) if candidate else 0,
        applied=view.split is not None and split == expected and kept,
        ready=tuple(name for name in (stable, candidate) if view.replicas.get(name)),
        crashing=tuple(name for name in view.crashing if name in (stable, candidate)),
        previous=previous,
        reason="; ".join(view.troubles[name] for name in concerned),
        paused=note(manifest, PAUSED),
        replicas=dict(view.replicas),
        complete=not candidate or view.replicas.get(candidate, 0) >= replicas,
        strays=tuple(sorted(name for name in split if name not in (stable, candidate))),
        returned=note(manifest, RETURNED),
        assignment=assignment,
        pin=view.pin if candidate else "",
    )


def on_plane(manifest: Manifest) -> View:
    """Read the plane's status: it reports the split that Envoy applies, and runs one process per revision."""
    spec, status = manifest["spec"], manifest.get("status") or {}
    candidates = {entry["predictor"]["name"]: entry["predictor"] for entry in spec.get("canary") or []}
    stable = spec["predictor"].get("name", "")
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    traffic = status.get("components", {}).get("predictor", {}).get("traffic")
    ready = {entry["name"]: entry["ready"] for entry in status.get("canaryStatuses") or []}
    ready[stable] = conditions.get("PredictorReady", {}).get("status") == "True"
    troubles, crashing = {}, []
    for kind, name in (("PredictorReady", stable), ("CanaryPredictorReady", next(iter(candidates), ""))):
        condition = conditions.get(kind, {})
        if condition.get("status", "True") != "True":
            troubles[name] = str(condition.get("message") or condition.get("reason", ""))
            crashing += [name] if condition.get("reason") in _CRASHED else []
    return View(
        split=None if traffic is None else _shares({e["revisionName"]: e.get("percent", 0) for e in traffic}),
        # One process stands for all the replicas that a manifest asks for.
        replicas={name: candidates.get(name, {}).get("minReplicas", 1) for name, is_ready in ready.items() if is_ready},
        troubles=troubles,
        crashing=tuple(crashing),
        assignment=(status.get("annotations") or {}).get(ASSIGNMENT, ""),
        pin="header x-headrace-revision",
    )


def in_standard_mode(
    manifest: Manifest,
    route: Mapping[str, Any] | None,
    pins: Mapping[str, Any] | None,
    deployments: Sequence[Mapping[str, Any]],
) -> View:
    """Read KServe's HTTPRoute, our own that pins, and the Deployments.

    `canaryStatuses` repeats what is wanted and `observedGeneration` is a Deployment's, so neither says what is so.
    """
    service = manifest["metadata"]["name"]
    replicas, troubles, crashing = {}, {}, []
    for deployment in deployments:
        name = revision_of(service, deployment["metadata"]["name"])
        status = deployment.get("status") or {}
        replicas[name] = status.get("availableReplicas", 0)
        for condition in status.get("conditions") or []:
            if condition["status"] == "False" and condition["type"] in ("Available", "Progressing", "ReplicaFailure"):
                troubles[name] = f"revision {name}: {condition.get('message') or condition.get('reason')}"
                crashing += [name] if condition.get("reason") in _CRASHED else []
    split, trouble = _routed(service, route)
    conditions = (manifest.get("status") or {}).get("conditions") or []
    refused = [c["message"] for c in conditions if c.get("reason") == "ReconcileFailed" and c.get("message")]
    troubles |= {"": text} if (text := "; ".join([*refused, *([trouble] if trouble else [])])) else {}
    return View(
        split=split,
        replicas=replicas,
        troubles=troubles,
        crashing=tuple(crashing),
        assignment=assigned_by(pins) if pins else "",
        pin="header x-headrace-revision" if pins else "",
    )


def in_knative_mode(manifest: Manifest, revisions: Sequence[Mapping[str, Any]]) -> View:
    """Read the split from the service's status, and whose each Knative revision is from its annotation.

    A revision answers, as far as traffic is concerned, when it is the latest ready one: only that one gets the share.
    """
    status = ((manifest.get("status") or {}).get("components") or {}).get("predictor") or {}
    names = {
        revision["metadata"]["name"]: (revision["metadata"].get("annotations") or {}).get(REVISION, "")
        for revision in revisions
    }
    shares: dict[str, int] = {}
    for target in status.get("traffic") or []:
        name = names.get(target.get("revisionName", ""), target.get("revisionName", ""))
        shares[name] = shares.get(name, 0) + target.get("percent", 0)
    split = None if status.get("traffic") is None else _shares(shares)
    # A revision may have been made twice under one name; the manifest means the newer.
    own = (manifest["spec"]["predictor"].get("annotations") or {}).get(REVISION, "")
    newest = max((r for r in revisions if names[r["metadata"]["name"]] == own), key=_number, default=None)
    answers = newest is not None and newest["metadata"]["name"] == status.get("latestReadyRevision")
    troubles = {}
    if newest and (ready := _condition(newest, "Ready")).get("status") == "False":
        troubles[own] = f"revision {own}: {ready.get('message') or ready.get('reason')}"
    tagged = [target["url"] for target in status.get("traffic") or [] if target.get("tag") == "latest"]
    return View(
        split=split,
        replicas={**{name: 1 for name in split or {} if name != own}, **({own: 1} if answers else {})},
        troubles=troubles,
        crashing=tuple(troubles),
        pin=f"address {tagged[0]}" if tagged else "",
    )


def revision_of(service: str, predictor: str) -> str:
    """Return the revision whose Deployment or Service KServe gives a name to."""
    return predictor.removesuffix("-predictor").removeprefix(service).removeprefix("-")


def _routed(service: str, route: Mapping[str, Any] | None) -> tuple[dict[str, int] | None, str]:
    if route is None:
        return None, (
            f"there is no HTTPRoute {service}: KServe makes it when the first revision is ready and "
            "ingress.enableGatewayApi of inferenceservice-config is true"
        )
    generation, parents = route["metadata"].get("generation", 0), (route.get("status") or {}).get("parents") or []
    if not parents:
        return None, f"no gateway has taken HTTPRoute {service} yet"
    for parent in parents:
        for condition in parent.get("conditions") or []:
            if condition.get("observedGeneration", 0) < generation:
                return None, f"the gateway has not read the latest HTTPRoute {service} yet"
            if condition["status"] != "True" and condition["type"] in ("Accepted", "ResolvedRefs", "Programmed"):
                return None, f"the gateway does not apply HTTPRoute {service}: {condition.get('message', '')}"
    splits = []
    for rule in route["spec"].get("rules") or []:
        weights: dict[str, int] = {}
        for backend in rule.get("backendRefs") or []:
            name = revision_of(service, backend["name"])
            weights[name] = weights.get(name, 0) + backend.get("weight", 1)
        total = sum(weights.values())
        splits.append(_shares({name: round(100 * weight / total) for name, weight in weights.items()}) if total else {})
    if not splits or any(split != splits[0] for split in splits):
        return None, f"the rules of HTTPRoute {service} do not agree on a split"
    return splits[0], ""


def _shares(shares: Mapping[str, int]) -> dict[str, int]:
    return {name: share for name, share in shares.items() if share}


def _condition(item: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = (item.get("status") or {}).get("conditions") or []
    return next((condition for condition in conditions if condition["type"] == kind), {})


def _number(revision: Mapping[str, Any]) -> int:
    return int((revision["metadata"].get("labels") or {}).get("serving.knative.dev/configurationGeneration", 0))
