"""A rollout: one service, its stable revision, its candidate, and the candidate's share of the requests.

Every change follows one path, on the plane and on a cluster: read the InferenceService, write the wanted one with
optimistic locking, and wait until the new split is *observed*. Each operation may be repeated: what is already so is
left alone.
"""

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.release.manifest import PREFIX, Manifest
from components.release.services import InferenceServices

PREVIOUS = f"{PREFIX}/previous"
"""Annotation with the predictor that was stable before the last promotion."""

PAUSED = f"{PREFIX}/paused"
"""Annotation that keeps automation from giving a candidate more traffic; its value says who paused it and why."""

_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.5


class State(StrEnum):
    """Where a rollout stands."""

    SETTLED = "settled"
    """One revision serves everything."""
    CHANGING = "changing"
    """What is wanted is not observed yet."""
    CANARY = "canary"
    """The candidate serves its share."""
    ROLLED_BACK = "rolled back"
    """The candidate runs and gets no traffic."""


@dataclass(frozen=True)
class Rollout:
    """What is wanted of a service and what is observed.

    Attributes:
        service: Name of the InferenceService.
        stable: Name of the stable revision.
        candidate: Name of the canary revision, empty if there is none.
        wanted: The candidate's wanted share in percent.
        observed: Its observed share.
        applied: The gateway splits requests as wanted.
        ready: The revisions that answer.
        crashing: The revisions that keep dying and will not become ready by waiting.
        previous: The revision that a rollback without a candidate returns to, empty if there is none.
        reason: Why something is not ready, empty if all is well.
        paused: Why nothing moves on by itself, empty if it may.
    """

    service: str
    stable: str
    candidate: str
    wanted: int
    observed: int
    applied: bool
    ready: tuple[str, ...]
    crashing: tuple[str, ...]
    previous: str
    reason: str
    paused: str = ""

    @property
    def state(self) -> State:
        """Where the rollout stands."""
        if not self.applied:
            return State.CHANGING
        if not self.candidate:
            return State.SETTLED
        return State.CANARY if self.wanted else State.ROLLED_BACK


class RolloutBackend(Protocol):
    """One service's rollout, whoever realises it. Each operation may be repeated, and waits until it is observed."""

    service: str

    def status(self) -> Rollout:
        """Observe the rollout."""

    def introduce(self, manifest: Manifest, percent: int) -> Rollout:
        """Put a new revision before its users, all of them if it is the first."""

    def set_percent(self, percent: int) -> Rollout:
        """Give the candidate a share of the requests."""

    def promote(self) -> Rollout:
        """Make the candidate the stable revision."""

    def rollback(self) -> Rollout:
        """Take the requests away from what was rolled out last."""

    def pause(self, reason: str) -> Rollout:
        """Keep automation from giving the candidate more traffic; it may still take it away."""

    def resume(self) -> Rollout:
        """Let automation go on."""


def connect(environment: Environment, service: str = "", deadline_seconds: float = 120) -> RolloutBackend:
    """Connect to a service's rollout, by the way its environment serves.

    Args:
        environment: Where it is served.
        service: Name of the InferenceService; may be left out when the namespace has only one.
        deadline_seconds: How long to wait for a change to be observed.

    Raises:
        UsageError: It is not clear which service is meant, or the mode is not known.
    """
    return StandardRollout(environment, service, deadline_seconds)


class StandardRollout:
    """Rollouts of an InferenceService in Standard mode: `spec.predictor` is stable, `spec.canary[0]` the candidate."""

    def __init__(self, environment: Environment, service: str = "", deadline_seconds: float = 120) -> None:
        """Connect to a service.

        Args:
            environment: Where it is served.
            service: Name of the InferenceService; may be left out when the namespace has only one.
            deadline_seconds: How long to wait for a change to be observed.

        Raises:
            UsageError: The environment serves in another mode, or it is not clear which service is meant.
        """
        if environment.serving.mode == "knative":
            raise UsageError("serving.mode knative: spec.canary is a matter of Standard mode; use plane or standard")
        self._services = InferenceServices(environment.serving)
        self._deadline = deadline_seconds
        self.service = service or self._only_service()

    def status(self) -> Rollout:
        """Observe the rollout.

        Raises:
            HeadraceError: There is no such service.
        """
        return observe(self._existing())

    def introduce(self, manifest: Manifest, percent: int) -> Rollout:
        """Put a new revision before its users: all of them if it is the first, a share of them otherwise.

        A revision that is stable or candidate already is left as it is. Another candidate is replaced.

        Args:
            manifest: The service with the new revision as its predictor.
            percent: The new revision's share when there is a stable one.
        """
        self._services.change(self.service, lambda seen: introduced(seen, manifest, percent))
        return self._wait(manifest["spec"]["predictor"]["name"])

    def set_percent(self, percent: int) -> Rollout:
        """Give the candidate a share of the requests.

        Raises:
            HeadraceError: There is no candidate, or its share is not observed within the deadline.
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"{percent} %: a share is from 0 to 100")
        candidate = self.status().candidate
        if not candidate:
            raise HeadraceError(f"{self.service} has no candidate to give {percent} % to; publish a model first")
        return self._give(candidate, percent)

    def promote(self) -> Rollout:
        """Make the candidate the stable revision; without a candidate nothing changes.

        The candidate serves everything before the old revision goes, so no request is without a server.
        """
        rollout = self.status()
        if not rollout.candidate:
            return rollout
        self._give(rollout.candidate, 100)
        self._change(lambda seen: promoted(seen, rollout.candidate))
        return self._wait(rollout.candidate)

    def rollback(self) -> Rollout:
        """Take the requests away from what was rolled out last.

        With a candidate: its share becomes 0 at once, and it keeps running, so that it can be looked at through the
        gateway's revision header and be given traffic again. Without one: the revision that was stable before the last
        promotion becomes stable again, and the promoted one stays as a candidate at 0 %. Repeated, it changes nothing.

        Raises:
            HeadraceError: There is nothing to go back to.
        """
        rollout = self.status()
        if not rollout.candidate:
            if not rollout.previous:
                raise HeadraceError(
                    f"{rollout.stable} is the only revision {self.service} ever had: nothing to go back to"
                )
            self._change(recalled)
            rollout = self.status()
        if rollout.candidate != rollout.previous:
            return self._give(rollout.candidate, 0)
        self._wait(rollout.previous)
        self._give(rollout.previous, 100)
        self._change(returned)
        return self._wait(rollout.previous)

    def pause(self, reason: str) -> Rollout:
        """Keep automation from giving the candidate more traffic; it may still take it away."""
        self._change(lambda seen: annotated(seen, PAUSED, reason))
        return self.status()

    def resume(self) -> Rollout:
        """Let automation go on."""
        self._change(lambda seen: annotated(seen, PAUSED, ""))
        return self.status()

    def _give(self, candidate: str, percent: int) -> Rollout:
        self._change(lambda seen: with_percent(seen, candidate, percent))
        return self._wait(candidate if percent else "")

    def _only_service(self) -> str:
        names = self._services.names()
        if len(names) == 1:
            return names[0]
        known = f"say which: {', '.join(names)}" if names else "publish a model first"
        raise UsageError(f"namespace {self._services.namespace} has {len(names)} services; {known}")

    def _existing(self) -> Manifest:
        manifest = self._services.get(self.service)
        if manifest is None:
            raise HeadraceError(
                f"no InferenceService {self.service} in namespace {self._services.namespace}; publish a model first"
            )
        return manifest

    def _change(self, edit: Callable[[Manifest], Manifest]) -> None:
        self._services.change(self.service, lambda seen: edit(seen if seen is not None else self._existing()))

    def _wait(self, needed: str) -> Rollout:
        """Wait until the wanted split is observed and a revision, if one is needed for it, answers."""
        end = time.monotonic() + self._deadline
        pause = _POLL_SECONDS
        while True:
            rollout = self.status()
            if rollout.applied and (not needed or needed in rollout.ready):
                return rollout
            if needed in rollout.crashing:
                raise HeadraceError(f"{self.service} does not become ready: {rollout.reason}")
            if time.monotonic() > end:
                why = (
                    rollout.reason or f"{rollout.candidate or rollout.stable} has {rollout.observed} % of the requests"
                )
                raise HeadraceError(f"{self.service} was not ready within {self._deadline:.0f} s: {why}")
            time.sleep(pause)
            pause = min(_LONGEST_POLL_SECONDS, pause * 1.2)


def observe(manifest: Manifest) -> Rollout:
    """Read a rollout from an InferenceService and its status."""
    spec, status = manifest["spec"], manifest.get("status") or {}
    canary = (spec.get("canary") or [{}])[0]
    stable, candidate = spec["predictor"].get("name", ""), canary.get("predictor", {}).get("name", "")
    wanted = canary.get("trafficPercent", 0)
    conditions = {condition["type"]: condition for condition in status.get("conditions") or []}
    statuses = {entry["name"]: entry for entry in status.get("canaryStatuses") or []}
    seen = statuses.get(candidate, {})
    split = _split(status)
    expected = {name: share for name, share in ((stable, 100 - wanted), (candidate, wanted)) if share}
    current = status.get("observedGeneration", 0) >= manifest["metadata"].get("generation", 0)
    applied = split == expected if split is not None else seen.get("trafficPercent", 0) == wanted
    holders = {"PredictorReady": stable, "CanaryPredictorReady": candidate}
    troubles = {
        name: condition
        for kind, name in holders.items()
        if (condition := conditions.get(kind, {})).get("status", "True") != "True"
    }
    answering = {stable: conditions.get("Ready", {}).get("status") == "True", candidate: bool(seen.get("ready"))}
    return Rollout(
        service=manifest["metadata"]["name"],
        stable=stable,
        candidate=candidate,
        wanted=wanted,
        observed=split.get(candidate, 0) if split is not None else seen.get("trafficPercent", 0),
        applied=current and applied,
        ready=tuple(name for name, answers in answering.items() if answers),
        crashing=tuple(name for name, trouble in troubles.items() if trouble.get("reason") == "CrashLoopBackOff"),
        previous=_previous(manifest).get("name", ""),
        reason="; ".join(str(trouble.get("message") or trouble.get("reason", "")) for trouble in troubles.values()),
        paused=(manifest["metadata"].get("annotations") or {}).get(PAUSED, ""),
    )


def introduced(seen: Manifest | None, manifest: Manifest, percent: int) -> Manifest:
    """Add a manifest's predictor to a service as its candidate, or as its first revision."""
    if seen is None:
        return manifest
    new = manifest["spec"]["predictor"]
    if new["name"] in _names(seen):
        return seen
    wanted = _with_canary(seen, new, percent)
    wanted["metadata"].get("annotations", {}).pop(PREVIOUS, None)
    return wanted


def with_percent(seen: Manifest, candidate: str, percent: int) -> Manifest:
    """Set the candidate's share; when it takes everything it gets the stable revision's replicas.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    _check_candidate(seen, candidate)
    if seen["spec"]["canary"][0]["trafficPercent"] == percent:
        return seen
    wanted = _edited(seen)
    canary = wanted["spec"]["canary"][0]
    canary["trafficPercent"] = percent
    if percent == 100:
        canary["predictor"]["minReplicas"] = wanted["spec"]["predictor"].get("minReplicas", 1)
    return wanted


def promoted(seen: Manifest, candidate: str) -> Manifest:
    """Make the candidate stable, and remember who was.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    _check_candidate(seen, candidate)
    wanted = _edited(seen)
    spec, annotations = wanted["spec"], wanted["metadata"].setdefault("annotations", {})
    annotations[PREVIOUS] = json.dumps(spec["predictor"], sort_keys=True, ensure_ascii=False)
    spec["predictor"], spec["canary"] = spec["canary"][0]["predictor"], []
    return wanted


def recalled(seen: Manifest) -> Manifest:
    """Start the revision that was stable before, without traffic yet."""
    previous = _previous(seen)
    if seen["spec"].get("canary") or not previous:
        return seen
    return _with_canary(seen, previous, 0)


def returned(seen: Manifest) -> Manifest:
    """Make the recalled revision stable, and keep the one it replaces as a candidate without traffic."""
    if _previous(seen).get("name") not in [canary["predictor"]["name"] for canary in seen["spec"].get("canary") or []]:
        return seen
    wanted = _edited(seen)
    spec = wanted["spec"]
    spec["predictor"], spec["canary"] = (
        spec["canary"][0]["predictor"],
        [{"trafficPercent": 0, "predictor": spec["predictor"]}],
    )
    del wanted["metadata"]["annotations"][PREVIOUS]
    return wanted


def annotated(seen: Manifest, key: str, value: str) -> Manifest:
    """Set an annotation of the service; an empty value removes it."""
    wanted = _edited(seen)
    annotations = wanted["metadata"].setdefault("annotations", {})
    annotations.pop(key, None)
    if value:
        annotations[key] = value
    return seen if wanted == _edited(seen) else wanted


def _with_canary(seen: Manifest, predictor: dict[str, Any], percent: int) -> Manifest:
    wanted = _edited(seen)
    wanted["spec"]["canary"] = [{"trafficPercent": percent, "predictor": predictor}]
    # KServe refuses a canary with more replicas than the stable revision.
    stable, replicas = wanted["spec"]["predictor"], predictor.get("minReplicas", 1)
    if stable.get("minReplicas", 1) < replicas:
        stable["minReplicas"] = replicas
    return wanted


def _check_candidate(seen: Manifest, candidate: str) -> None:
    now = [canary["predictor"]["name"] for canary in seen["spec"].get("canary") or []]
    if now[:1] != [candidate]:
        raise HeadraceError(
            f"{seen['metadata']['name']}: the candidate was {candidate} and is {now[0] if now else 'gone'} now; "
            "look at `headrace rollout status` and decide again"
        )


def _edited(seen: Manifest) -> Manifest:
    return copy.deepcopy({field: value for field, value in seen.items() if field != "status"})


def _names(manifest: Manifest) -> list[str]:
    spec = manifest["spec"]
    return [spec["predictor"].get("name", "")] + [entry["predictor"]["name"] for entry in spec.get("canary") or []]


def _previous(manifest: Manifest) -> dict[str, Any]:
    return json.loads((manifest["metadata"].get("annotations") or {}).get(PREVIOUS, "{}"))


def _split(status: dict[str, Any]) -> dict[str, int] | None:
    """Return the observed share per revision, None where the controller does not report it."""
    traffic = status.get("components", {}).get("predictor", {}).get("traffic")
    if traffic is None:
        return None
    split: dict[str, int] = {}
    for target in traffic:
        split[target["revisionName"]] = split.get(target["revisionName"], 0) + target.get("percent", 0)
    return {name: share for name, share in split.items() if share}
