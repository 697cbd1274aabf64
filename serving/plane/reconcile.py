"""What the plane should do next: a pure function of the manifests and of what is seen to run.

An InferenceService names one stable predictor and any number of canaries. Each becomes a revision, which is one
predictor process and one Envoy cluster. Traffic moves only onto revisions that are ready, so a change of manifest is
never a failed request: until a newcomer is ready, its share stays where it was.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from components.release.notes import ASSIGNMENT, note

Manifest = dict[str, Any]


class Service(NamedTuple):
    """An InferenceService's name."""

    namespace: str
    name: str


class Revision(NamedTuple):
    """One predictor of a service. The fingerprint tells two models apart that were published under one name."""

    service: Service
    name: str
    fingerprint: str

    @property
    def cluster(self) -> str:
        """Name of the Envoy cluster, and of everything else that belongs to the revision."""
        return f"{self.service.namespace}.{self.service.name}.{self.name}.{self.fingerprint}"


@dataclass(frozen=True)
class Wanted:
    """A service as its manifest describes it; `assignment` says how users keep the revision they once got."""

    stable: Revision
    weights: Mapping[Revision, int]
    predictors: Mapping[Revision, Manifest]
    assignment: str = ""


@dataclass(frozen=True)
class Route:
    """How the gateway splits the requests of a service; `stable` holds the share of revisions not ready yet."""

    stable: Revision
    weights: Mapping[Revision, int]
    assignment: str = ""


@dataclass(frozen=True)
class Plan:
    """The difference between wanted and seen."""

    start: Mapping[Revision, Manifest]
    routes: Mapping[Service, Route]
    retire: frozenset[Revision]


def service_of(manifest: Manifest) -> Service:
    """Return the name of the service that a manifest describes."""
    return Service(manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def read(manifest: Manifest) -> Wanted:
    """Read what an (already validated) InferenceService asks for."""
    service, spec = service_of(manifest), manifest["spec"]
    canaries = spec.get("canary") or []
    stable = _revision(service, spec["predictor"])
    weights = {_revision(service, canary["predictor"]): int(canary["trafficPercent"]) for canary in canaries}
    predictors = {_revision(service, canary["predictor"]): canary["predictor"] for canary in canaries}
    return Wanted(
        stable=stable,
        weights={stable: 100 - sum(weights.values()), **weights},
        predictors={stable: spec["predictor"], **predictors},
        assignment=note(manifest, ASSIGNMENT),
    )


def route(wanted: Wanted, current: Route | None, ready: Collection[Revision]) -> Route | None:
    """Split a service's requests over the revisions that can take them.

    A revision that already has traffic keeps it while it restarts. The share of a canary that is not ready goes to the
    stable revision; the share of a stable revision that is not ready goes to the one that was stable until now.

    Returns:
        The split, or None while nothing can serve.
    """
    routed = {revision for revision, weight in current.weights.items() if weight} if current else set()
    able = {revision for revision in wanted.weights if revision in ready or revision in routed}
    if wanted.stable in able:
        stable = wanted.stable
    elif current:
        stable = current.stable
    else:
        return None
    weights = {stable: 0}
    for revision, weight in wanted.weights.items():
        holder = revision if revision in able else stable
        weights[holder] = weights.get(holder, 0) + weight
    return Route(stable, weights, wanted.assignment)


def plan(
    wanted: Mapping[Service, Wanted],
    running: Collection[Revision],
    ready: Collection[Revision],
    current: Mapping[Service, Route],
) -> Plan:
    """Compare wanted with seen.

    Args:
        wanted: What the manifests ask for.
        running: Revisions that have a process.
        ready: Those of them that answer.
        current: The split that the gateway has now.

    Returns:
        Processes to start, the split to apply, and the revisions that are of no use once it is applied.
    """
    routes = {service: route(want, current.get(service), ready) for service, want in wanted.items()}
    applied = {service: split for service, split in routes.items() if split}
    start = {
        revision: predictor
        for want in wanted.values()
        for revision, predictor in want.predictors.items()
        if revision not in running
    }
    needed = {revision for want in wanted.values() for revision in want.predictors}
    needed |= {revision for split in applied.values() for revision in split.weights}
    return Plan(start, applied, frozenset(running) - needed)


def _revision(service: Service, predictor: Manifest) -> Revision:
    # A canary's model has the name of its container, which it loses when it becomes stable: it is no other model.
    model = {field: value for field, value in predictor["model"].items() if field != "name"}
    canonical = json.dumps(model, sort_keys=True, ensure_ascii=False)
    return Revision(service, predictor.get("name", ""), hashlib.sha256(canonical.encode()).hexdigest()[:8])
