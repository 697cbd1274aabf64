"""Knative mode: one predictor in the manifest, `canaryTrafficPercent` of the requests for it, the rest for the last
revision that had all of them.

Pure functions from the service seen to the service wanted. KServe's rules make the order matter:

- The percentage belongs to the latest *ready* revision. Until a new one is ready that is the one before it, which may
  be one that was rolled back; so a candidate begins at 0 and gets its share when it is seen to be the latest ready one.
- Without the percentage the latest revision gets everything; so it is taken away only when the candidate serves
  everything already, and never after a rollback.
- The manifest does not say what the stable revision was made from; so that is noted while there is a candidate.
"""

import copy
import json
from typing import Any

from components.common.errors import HeadraceError
from components.release.diagnose import REVISION
from components.release.manifest import DEPLOYMENT_MODE, Manifest
from components.release.notes import PREVIOUS, STABLE, STRAY, edited, note, noted, unless_same
from components.release.observed import View, rollout_of
from components.release.rollout import Rollout

_PERCENT = "canaryTrafficPercent"
_TAGS = "serving.kserve.io/enable-tag-routing"


def observe(manifest: Manifest, view: View) -> Rollout:
    """Read a rollout from an InferenceService and what is seen around it."""
    stable, candidate = stable_predictor(manifest), _candidate(manifest)
    return rollout_of(
        manifest,
        view,
        stable=_name(stable),
        candidate=_name(candidate) if candidate else "",
        wanted=candidate.get(_PERCENT, 0),
        replicas=1,
        previous=_name(_previous(manifest)),
    )


def introduced(seen: Manifest | None, manifest: Manifest) -> Manifest:
    """Make a manifest's predictor a service's candidate without traffic, or its first revision.

    A revision that is stable or candidate already is left as it is. Another candidate is replaced.
    """
    new = _unnamed(manifest["spec"]["predictor"])
    if seen is None:
        wanted = copy.deepcopy(manifest)
        wanted["spec"]["predictor"] = new
        annotations = wanted["metadata"].setdefault("annotations", {})
        annotations |= {DEPLOYMENT_MODE: "Knative", _TAGS: "true"}
        return wanted
    if _name(new) in (_name(stable_predictor(seen)), _name(_candidate(seen))):
        return seen
    wanted = edited(seen)
    noted(wanted, stable=_json(stable_predictor(seen)), introducing=_name(new), previous="", assignment="", returned="")
    wanted["spec"]["predictor"] = {**new, _PERCENT: 0}
    return wanted


def enlarged(seen: Manifest, candidate: str, percent: int, running: int) -> Manifest:
    """Leave the number of replicas to Knative's autoscaler."""
    check_candidate(seen, candidate)
    return seen


def with_percent(seen: Manifest, candidate: str, percent: int) -> Manifest:
    """Set the candidate's share.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    check_candidate(seen, candidate)
    wanted = edited(seen)
    wanted["spec"]["predictor"][_PERCENT] = percent
    noted(wanted, introducing="")
    return unless_same(seen, wanted)


def promoted(seen: Manifest, candidate: str) -> Manifest:
    """Make a candidate that serves everything stable, and remember who was.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile, or taken requests from this one.
    """
    check_candidate(seen, candidate)
    _check_whole(seen)
    wanted = edited(seen)
    noted(wanted, previous=_json(stable_predictor(seen)), stable="", introducing="", returned="")
    del wanted["spec"]["predictor"][_PERCENT]
    return wanted


def recalled(seen: Manifest) -> Manifest:
    """Make the revision that was stable before a candidate, without traffic yet."""
    previous = _previous(seen)
    if _candidate(seen) or not previous:
        return seen
    wanted = edited(seen)
    noted(wanted, stable=_json(stable_predictor(seen)))
    wanted["spec"]["predictor"] = {**previous, _PERCENT: 0}
    return wanted


def returned(seen: Manifest) -> Manifest:
    """Make the recalled revision stable. What it replaces cannot stay as a candidate: a manifest has one predictor.

    Raises:
        HeadraceError: Somebody has taken the requests from it meanwhile.
    """
    if not _candidate(seen) or _name(_candidate(seen)) != _name(_previous(seen)):
        return seen
    _check_whole(seen)
    wanted = edited(seen)
    noted(wanted, returned=_name(stable_predictor(seen)), stable="", previous="", stray="")
    del wanted["spec"]["predictor"][_PERCENT]
    return wanted


def restored(seen: Manifest, stray: str) -> Manifest:
    """Bring the stable revision back as a recalled one, when KServe sends its requests to another.

    KServe takes a share below 100 % that it sees before the new revision exists for a rollback, and returns to the
    revision before the stable one.
    """
    wanted = edited(seen)
    stable = stable_predictor(seen)
    noted(wanted, previous=_json(stable), stray=stray, introducing="")
    wanted["spec"]["predictor"] = {**stable, _PERCENT: 0}
    return wanted


def check_candidate(seen: Manifest, candidate: str) -> None:
    """Refuse to act on a candidate that is not the one that was looked at.

    Raises:
        HeadraceError: Somebody has published another candidate meanwhile.
    """
    now = _name(_candidate(seen)) if _candidate(seen) else ""
    if now != candidate:
        raise HeadraceError(
            f"{seen['metadata']['name']}: the candidate was {candidate} and is {now or 'gone'} now; "
            "look at `headrace rollout status` and decide again"
        )


def _unnamed(predictor: Manifest) -> Manifest:
    """Move a revision's name to an annotation: KServe makes another Knative service of every predictor name."""
    annotations = {**(predictor.get("annotations") or {}), REVISION: predictor["name"]}
    return {**{field: value for field, value in predictor.items() if field != "name"}, "annotations": annotations}


def _name(predictor: Manifest) -> str:
    return (predictor.get("annotations") or {}).get(REVISION, "")


def stable_predictor(seen: Manifest) -> dict[str, Any]:
    """Return the stable predictor; without a percentage it is the manifest's, whatever an interruption left noted."""
    predictor, kept = seen["spec"]["predictor"], note(seen, STABLE)
    if kept and _PERCENT in predictor:
        stable = json.loads(kept)
        if (stray := note(seen, STRAY)) and _name(stable) == _name(predictor):
            return {"annotations": {REVISION: stray}}
        return stable
    return {field: value for field, value in predictor.items() if field != _PERCENT}


def _candidate(seen: Manifest) -> dict[str, Any]:
    predictor = seen["spec"]["predictor"]
    return predictor if _name(stable_predictor(seen)) != _name(predictor) else {}


def _previous(seen: Manifest) -> dict[str, Any]:
    previous = json.loads(note(seen, PREVIOUS) or "{}")
    return {} if _name(previous) == _name(stable_predictor(seen)) else previous


def _check_whole(seen: Manifest) -> None:
    predictor = seen["spec"]["predictor"]
    if predictor.get(_PERCENT) != 100:
        raise HeadraceError(
            f"{seen['metadata']['name']}: somebody gave {_name(predictor)} {predictor.get(_PERCENT)} % meanwhile; "
            "look at `headrace rollout status` and decide again"
        )


def _json(predictor: Manifest) -> str:
    return json.dumps(predictor, sort_keys=True, ensure_ascii=False)
