"""Standard mode, on a cluster and on the plane: `spec.predictor` is stable, `spec.canary[0]` the candidate.

Pure functions from the service seen to the service wanted. KServe takes the replicas of a canary that answers away from
the stable revision, down to one. So while there is a candidate the stable revision asks for as many more as it would
lose: whoever takes the requests back finds all of its replicas there. And a candidate is enlarged in a step of its own,
before it gets its share.
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


def stable_predictor(manifest: Manifest) -> dict[str, Any]:
    """Return the stable predictor."""
    return manifest["spec"]["predictor"]


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
    _keep_whole(wanted, _scale(wanted).get("minReplicas", 1))
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
    scale = _scale(seen)
    # Without an autoscaler there are more than asked for only while some of them end.
    whole = max(scale.get("minReplicas", 1), running if "maxReplicas" in scale else 0)
    needed = _size(whole, percent)
    if needed <= now:
        return seen
    wanted = edited(seen)
    wanted["spec"]["canary"][0]["predictor"]["minReplicas"] = needed
    _keep_whole(wanted, max(whole, _whole(seen)))
    return wanted


def with_percent(seen: Manifest, candidate: str, percent: int) -> Manifest:
    """Set the candidate's share; with a smaller one it also gets fewer replicas, and without one no users keep it.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    check_candidate(seen, candidate)
    wanted = edited(seen)
    canary = wanted["spec"]["canary"][0]
    whole = _whole(seen) if percent else _scale(seen).get("minReplicas", 1)
    if percent < canary["trafficPercent"] or not percent:
        smaller = min(canary["predictor"].get("minReplicas", 1), _size(whole, percent))
        canary["predictor"] = {**canary["predictor"], "minReplicas": smaller}
    canary["trafficPercent"] = percent
    _keep_whole(wanted, whole)
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
    _keep_whole(wanted, _scale(wanted).get("minReplicas", 1))
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
    _keep_whole(wanted, _scale(wanted).get("minReplicas", 1))
    noted(wanted, previous="", assignment="")
    return wanted


def resettled(seen: Manifest | None, manifest: Manifest) -> Manifest:
    """Give the stable revision other settings, if they are others; its model, and so its name, are the same."""
    if seen is None:
        return manifest
    stable, new = seen["spec"]["predictor"], manifest["spec"]["predictor"]
    if stable.get("name") != new["name"] or not same_model(stable, new):
        return seen
    wanted = edited(seen)
    _restore_scale(wanted)
    # Where it came from is not a setting: another run of the same pipeline restarts nothing.
    if {**new, "annotations": stable.get("annotations")} == wanted["spec"]["predictor"]:
        return seen
    wanted["spec"]["predictor"] = new
    if wanted["spec"].get("canary"):
        _keep_whole(wanted, new.get("minReplicas", 1))
    return wanted


def same_model(stable: Manifest, new: Manifest) -> bool:
    """Say whether two revisions serve the same model version.

    In Standard mode KServe's webhook lets another revision take the stable one's place only if it has another model. So
    the stable model with other settings keeps its revision's name and is changed where it is, pod by pod.
    """
    return (stable.get("model") or {}).get("storageUri") == new["model"]["storageUri"]


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


def _restore_scale(wanted: Manifest) -> None:
    """Have the stable revision ask for what it was published with again."""
    if note(wanted, SCALE):
        predictor, scale = wanted["spec"]["predictor"], _scale(wanted)
        for field in ("minReplicas", "maxReplicas"):
            predictor.pop(field, None)
        predictor.update(scale)
        noted(wanted, scale="")


def _whole(seen: Manifest) -> int:
    """Return the replicas that the stable revision keeps beside its candidate."""
    asked = seen["spec"]["predictor"].get("minReplicas", 1)
    return max(asked - seen["spec"]["canary"][0]["predictor"].get("minReplicas", 1), 1) if note(seen, SCALE) else asked


def _keep_whole(wanted: Manifest, replicas: int) -> None:
    """Have the stable revision ask for so much that it keeps some replicas beside its candidate.

    One of a single replica keeps it anyway. KServe refuses a candidate that asks for more than the stable revision.
    """
    scale, size = _scale(wanted), wanted["spec"]["canary"][0]["predictor"].get("minReplicas", 1)
    _restore_scale(wanted)
    asked = replicas + size if replicas > 1 else size
    if asked > scale.get("minReplicas", 1):
        noted(wanted, scale=json.dumps(scale, sort_keys=True))
        stable = wanted["spec"]["predictor"]
        stable["minReplicas"] = asked
        if stable.get("maxReplicas"):
            stable["maxReplicas"] = max(stable["maxReplicas"], asked)


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
