"""Standard mode, on a cluster and on the plane: `spec.predictor` is stable, `spec.canary[0]` the candidate.

Pure functions from the service seen to the service wanted. KServe takes a canary's replicas away from the stable
revision, and does so at once, before the new ones answer; so a candidate is enlarged in a step of its own, during which
the stable revision asks for as many more as it would lose.
"""

import json
import math
from typing import Any

from components.common.errors import HeadraceError
from components.release.manifest import PREFIX, Manifest, as_canary, as_stable
from components.release.notes import PREVIOUS, SCALE, edited, note, noted, unless_same
from components.release.observed import View, rollout_of
from components.release.rollout import Rollout

REPLICAS = f"{PREFIX}/replicas"
"""Annotation of a revision that has been a candidate: the replicas it was published with."""


def observe(manifest: Manifest, view: View) -> Rollout:
    """Read a rollout from an InferenceService and what is seen around it."""
    canary = (manifest["spec"].get("canary") or [{}])[0]
    candidate = canary.get("predictor", {})
    return rollout_of(
        manifest,
        view,
        stable=manifest["spec"]["predictor"].get("name", ""),
        candidate=candidate.get("name", ""),
        wanted=canary.get("trafficPercent", 0),
        replicas=candidate.get("minReplicas", 1),
        previous=_previous(manifest).get("name", ""),
    )


def introduced(seen: Manifest | None, manifest: Manifest) -> Manifest:
    """Add a manifest's predictor to a service as its candidate without traffic, or as its first revision.

    A revision that is stable or candidate already is left as it is. Another candidate is replaced.
    """
    if seen is None:
        return manifest
    new = manifest["spec"]["predictor"]
    if new["name"] in _names(seen):
        return seen
    wanted = edited(seen)
    _restore_scale(wanted)
    wanted["spec"]["canary"] = [_canary(new)]
    noted(wanted, introducing=new["name"], previous="", assignment="", returned="")
    return wanted


def enlarged(seen: Manifest, candidate: str, percent: int, running: int) -> Manifest:
    """Give the candidate the replicas that a share needs, before it has the share.

    Args:
        seen: The service.
        candidate: Name of the candidate.
        percent: The share it is to have.
        running: Replicas of the stable revision that answer now; its autoscaler may have made many.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    check_candidate(seen, candidate)
    now = seen["spec"]["canary"][0]["predictor"].get("minReplicas", 1)
    needed = _size(max(_scale(seen).get("minReplicas", 1), running), percent)
    if needed <= now:
        return seen
    wanted = edited(seen)
    noted(wanted, scale=json.dumps(_scale(seen), sort_keys=True))
    stable, canary = wanted["spec"]["predictor"], wanted["spec"]["canary"][0]["predictor"]
    canary["minReplicas"] = needed
    _ask_for(stable, stable.get("minReplicas", 1) + needed - now)
    return wanted


def with_percent(seen: Manifest, candidate: str, percent: int) -> Manifest:
    """Set the candidate's share; with a smaller one it also gets fewer replicas, and without one no users keep it.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    check_candidate(seen, candidate)
    wanted = edited(seen)
    canary = wanted["spec"]["canary"][0]
    own = _restore_scale(wanted).get("minReplicas", 1)
    if percent < canary["trafficPercent"] or not percent:
        smaller = min(canary["predictor"].get("minReplicas", 1), _size(own, percent))
        canary["predictor"] = {**canary["predictor"], "minReplicas": smaller}
    canary["trafficPercent"] = percent
    size = canary["predictor"].get("minReplicas", 1)
    if size > own:  # KServe refuses a canary with more replicas than the stable revision asks for
        noted(wanted, scale=json.dumps(_scale(seen), sort_keys=True))
        _ask_for(wanted["spec"]["predictor"], size)
    noted(wanted, introducing="", **({} if percent else {"assignment": ""}))
    return unless_same(seen, wanted)


def promoted(seen: Manifest, candidate: str) -> Manifest:
    """Make a candidate that serves everything stable, and remember who was.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile, or taken requests from this one.
    """
    check_candidate(seen, candidate)
    _check_whole(seen)
    wanted = edited(seen)
    _restore_scale(wanted)
    spec = wanted["spec"]
    previous = json.dumps(spec["predictor"], sort_keys=True, ensure_ascii=False)
    noted(wanted, previous=previous, introducing="", assignment="", returned="")
    spec["predictor"], spec["canary"] = _stable(spec["canary"][0]["predictor"]), []
    return wanted


def recalled(seen: Manifest) -> Manifest:
    """Start the revision that was stable before, without traffic yet."""
    previous = _previous(seen)
    if seen["spec"].get("canary") or not previous:
        return seen
    wanted = edited(seen)
    wanted["spec"]["canary"] = [_canary(previous)]
    return wanted


def returned(seen: Manifest) -> Manifest:
    """Make the recalled revision stable, and keep the one it replaces as a candidate without traffic.

    Raises:
        HeadraceError: Somebody has taken the requests from it meanwhile.
    """
    previous = _previous(seen).get("name", "")
    if previous not in _names(seen)[1:]:
        return seen
    _check_whole(seen)
    wanted = edited(seen)
    _restore_scale(wanted)
    spec = wanted["spec"]
    spec["predictor"], spec["canary"] = _stable(spec["canary"][0]["predictor"]), [_canary(spec["predictor"])]
    noted(wanted, previous="", assignment="")
    return wanted


def check_candidate(seen: Manifest, candidate: str) -> None:
    """Refuse to act on a candidate that is not the one that was looked at.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    now = [canary["predictor"]["name"] for canary in seen["spec"].get("canary") or []]
    if now[:1] != [candidate]:
        raise HeadraceError(
            f"{seen['metadata']['name']}: the candidate was {candidate} and is {now[0] if now else 'gone'} now; "
            "look at `headrace rollout status` and decide again"
        )


def _canary(predictor: Manifest) -> dict[str, Any]:
    """Describe a candidate without traffic: one replica, which can be looked at."""
    annotations, replicas = predictor.get("annotations") or {}, predictor.get("minReplicas", 1)
    if replicas > 1 and REPLICAS not in annotations:
        predictor = {**predictor, "annotations": {**annotations, REPLICAS: str(replicas)}}
    return {"trafficPercent": 0, "predictor": {**as_canary(predictor), "minReplicas": 1}}


def _stable(canary: Manifest) -> Manifest:
    """Describe a candidate as the stable revision, with no fewer replicas than it was published with.

    The annotation stays, because a pod template that changes restarts every pod.
    """
    stable, published = as_stable(canary), int((canary.get("annotations") or {}).get(REPLICAS, 1))
    return {**stable, "minReplicas": max(stable.get("minReplicas", 1), published)}


def _size(replicas: int, percent: int) -> int:
    return max(1, math.ceil(replicas * percent / 100))


def _scale(seen: Manifest) -> dict[str, int]:
    """Return the stable revision's own bounds, whatever it asks for at the moment."""
    if kept := note(seen, SCALE):
        return json.loads(kept)
    predictor = seen["spec"]["predictor"]
    return {field: predictor[field] for field in ("minReplicas", "maxReplicas") if field in predictor}


def _restore_scale(wanted: Manifest) -> dict[str, int]:
    scale = _scale(wanted)
    if note(wanted, SCALE):
        predictor = wanted["spec"]["predictor"]
        for field in ("minReplicas", "maxReplicas"):
            predictor.pop(field, None)
        predictor.update(scale)
        noted(wanted, scale="")
    return scale


def _ask_for(stable: dict[str, Any], replicas: int) -> None:
    stable["minReplicas"] = replicas
    if stable.get("maxReplicas"):
        stable["maxReplicas"] = max(stable["maxReplicas"], replicas)


def _check_whole(seen: Manifest) -> None:
    canary = seen["spec"]["canary"][0]
    if canary["trafficPercent"] != 100:
        raise HeadraceError(
            f"{seen['metadata']['name']}: somebody gave {canary['predictor']['name']} {canary['trafficPercent']} % "
            "meanwhile; look at `headrace rollout status` and decide again"
        )


def _names(manifest: Manifest) -> list[str]:
    spec = manifest["spec"]
    return [spec["predictor"].get("name", "")] + [entry["predictor"]["name"] for entry in spec.get("canary") or []]


def _previous(manifest: Manifest) -> dict[str, Any]:
    """Return the predictor that was stable before; one that is stable now was noted by a promotion cut short."""
    previous = json.loads(note(manifest, PREVIOUS) or "{}")
    return {} if previous.get("name") == manifest["spec"]["predictor"].get("name") else previous
