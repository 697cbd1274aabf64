"""The steps of a rollout: the same in every mode, each written, then waited for until it is observed.

What a step writes is a pure function of what is seen (`standard`, `knative`); this module only reads, writes and waits.
"""

import time
from collections.abc import Callable
from typing import Protocol

from components.common.environment import Serving
from components.common.errors import HeadraceError, UsageError
from components.release import knative, standard
from components.release.cluster import Cluster
from components.release.diagnose import explain
from components.release.manifest import DEPLOYMENT_MODE, Manifest, inherited
from components.release.notes import INTRODUCING, edited, note, noted, unless_same
from components.release.observed import View, in_knative_mode, in_standard_mode, on_plane
from components.release.pins import BY_GROUP, GROUP, HEADER, PIN, pin_route, pin_route_name
from components.release.rollout import Rollout

_POLL_SECONDS = 0.02
_LONGEST_POLL_SECONDS = 0.5
_MODES = {"RawDeployment": "standard", "Standard": "standard", "Serverless": "knative", "Knative": "knative"}


class Edits(Protocol):
    """How one mode reads a rollout from a manifest, and writes its steps: the modules `standard` and `knative`."""

    def observe(self, manifest: Manifest, view: View) -> Rollout:
        """Read a rollout."""

    def introduced(self, seen: Manifest | None, manifest: Manifest) -> Manifest:
        """Add a candidate without traffic."""

    def enlarged(self, seen: Manifest, candidate: str, percent: int, running: int) -> Manifest:
        """Give the candidate the replicas for a share."""

    def with_percent(self, seen: Manifest, candidate: str, percent: int) -> Manifest:
        """Set the candidate's share."""

    def promoted(self, seen: Manifest, candidate: str) -> Manifest:
        """Make the candidate stable."""

    def recalled(self, seen: Manifest) -> Manifest:
        """Start the previous revision again."""

    def returned(self, seen: Manifest) -> Manifest:
        """Make the recalled revision stable."""


class Services(Protocol):
    """The InferenceServices of a namespace, each with its notes: on a cluster `NotedServices`."""

    namespace: str

    def names(self) -> list[str]:
        """Return their names."""

    def get(self, name: str) -> Manifest | None:
        """Return one."""

    def change(self, name: str, edit: Callable[[Manifest | None], Manifest]) -> Manifest:
        """Change one."""


class Steps:
    """The rollout of one service."""

    def __init__(
        self, serving: Serving, services: Services, cluster: Cluster, service: str, deadline_seconds: float
    ) -> None:
        """Take up the rollout of a service.

        Args:
            serving: Where it is served.
            services: The namespace's services, with their notes.
            cluster: What surrounds them.
            service: Name of the InferenceService; may be empty when the namespace has only one.
            deadline_seconds: How long to wait for each step to be observed.

        Raises:
            UsageError: It is not clear which service is meant.
        """
        self._serving = serving
        self._mode = serving.mode
        self._deadline = deadline_seconds
        self._services = services
        self._cluster = cluster
        self._edits: Edits = knative if self._mode == "knative" else standard
        self.service = service or self._only_service()

    def status(self) -> Rollout:
        """Observe the rollout.

        Raises:
            HeadraceError: There is no such service.
        """
        return self._observe(self._existing())

    def introduce(self, manifest: Manifest, percent: int) -> Rollout:
        """Put a new revision before its users: all of them if it is the first, a share of them otherwise.

        It begins without traffic and gets its share when it answers. A revision that is stable or candidate already
        keeps the share it has, so an aborted one gets none. Another candidate loses its share, then its place.

        Args:
            manifest: The service with the new revision as its predictor.
            percent: The new revision's share when there is a stable one.
        """
        name = manifest["spec"]["predictor"]["name"]
        if seen := self._services.get(self.service):
            self._check_mode(seen)
            self._make_room(seen, manifest["spec"]["predictor"])
        stored = self._services.change(self.service, lambda seen: self._edits.introduced(seen, manifest))
        rollout = self._wait(name, lambda rollout: name in rollout.ready)
        if note(stored, INTRODUCING) == name:
            return self._give(name, percent, rollout, introducing=True)
        return self._wait(name, lambda rollout: rollout.applied) if not rollout.applied else rollout

    def set_percent(self, percent: int, since: Rollout | None = None) -> Rollout:
        """Give the candidate a share of the requests.

        Args:
            percent: The share.
            since: What was seen when it was decided, if that is a while ago.

        Raises:
            HeadraceError: There is no candidate, its share is not observed within the deadline, or somebody else has
                decided since.
        """
        if not 0 <= percent <= 100:
            raise UsageError(f"{percent} %: a share is from 0 to 100")
        seen = since or self._with_candidate(f"to give {percent} % to")
        return self._give(seen.candidate, percent, seen)

    def promote(self, since: Rollout | None = None) -> Rollout:
        """Make the candidate the stable revision; without a candidate nothing changes.

        The candidate has as many replicas as the stable revision, then serves everything, and only then the old
        revision goes, so no request is without a server. Users who kept a revision keep it until then.

        Args:
            since: What was seen when it was decided, if that is a while ago.
        """
        rollout = since or self.status()
        candidate = rollout.candidate
        if not candidate:
            return rollout if rollout.applied else self._wait(rollout.stable, lambda rollout: rollout.applied)
        try:
            self._give(candidate, 100, rollout, assignment="")
            self._change(lambda seen: self._edits.promoted(seen, candidate))
        except HeadraceError:
            if self.status().stable != candidate:
                raise  # otherwise somebody else has promoted it meanwhile
        return self._wait(candidate, lambda rollout: rollout.applied and candidate in rollout.ready)

    def rollback(self) -> Rollout:
        """Take the requests away from what was rolled out last.

        With a candidate: its share becomes 0 at once, and it keeps running, so that it can be looked at and be given
        traffic again. Without one: the revision that was stable before the last promotion is started, and becomes
        stable again when it answers. Repeated, it changes nothing.

        Raises:
            HeadraceError: There is nothing to go back to.
        """
        rollout = self.status()
        if self._mode == "knative" and rollout.candidate and rollout.strays:
            self._change(lambda seen: knative.restored(seen, rollout.strays[0]))
            rollout = self.status()
        if not rollout.candidate:
            if rollout.returned:
                return rollout
            if not rollout.previous:
                raise HeadraceError(
                    f"{rollout.stable} is the only revision {self.service} ever had: nothing to go back to"
                )
            self._change(self._edits.recalled)
            rollout = self.status()
        previous = rollout.previous
        if rollout.candidate != previous:
            return self._give(rollout.candidate, 0, rollout)
        self._give(previous, 100, rollout)
        self._change(self._edits.returned)
        return self._wait(previous, lambda rollout: rollout.applied and rollout.stable == previous)

    def pause(self, reason: str) -> Rollout:
        """Keep automation from giving the candidate more traffic; it may still take it away."""
        self._note(paused=reason)
        return self.status()

    def resume(self) -> Rollout:
        """Let automation go on."""
        self._note(paused="")
        return self.status()

    def assign(self, assignment: str, percent: int) -> Rollout:
        """Give the candidate a share of the users, each of whom keeps the revision.

        Args:
            assignment: `header NAME` or `cookie`; empty: users keep nothing, and requests are split again.
            percent: The candidate's share.

        Raises:
            UsageError: Nobody here can do that.
        """
        rollout = self.status()
        if not assignment and not rollout.assignment:
            return rollout
        candidate = self._with_candidate("to share users with").candidate
        self._check_assignment(assignment, percent)
        return self._give(candidate, percent, rollout, assignment=assignment)

    def _give(
        self,
        candidate: str,
        percent: int,
        since: Rollout,
        *,
        introducing: bool = False,
        assignment: str | None = None,
    ) -> Rollout:
        if percent:
            running = self._wait(candidate, lambda rollout: candidate in rollout.ready).replicas
            self._change(
                lambda seen: self._edits.enlarged(seen, candidate, percent, running.get(self._observe(seen).stable, 0))
            )
            self._wait(candidate, lambda rollout: candidate in rollout.ready and rollout.complete)

        def edit(seen: Manifest) -> Manifest:
            if introducing and note(seen, INTRODUCING) != candidate:
                return seen  # somebody has decided about it since
            self._check_undecided(seen, since, percent)
            wanted = self._edits.with_percent(seen, candidate, percent)
            return wanted if assignment is None else _noted(wanted, assignment=assignment)

        self._change(edit)
        return self._wait(
            candidate, lambda rollout: rollout.applied and (not percent or candidate in rollout.ready), percent
        )

    def _with_candidate(self, purpose: str) -> Rollout:
        rollout = self.status()
        if rollout.candidate:
            return rollout
        back = ""
        if rollout.previous:
            keeps = "" if self._mode == "knative" else f" and keeps {rollout.stable} as one"
            back = f", or use `headrace rollout rollback`, which returns to {rollout.previous}{keeps}"
        raise HeadraceError(f"{self.service} has no candidate {purpose}; publish a model first{back}")

    def _make_room(self, seen: Manifest, new: Manifest) -> None:
        """Take the share of a candidate that will be replaced: its pods go before its route does."""
        rollout = self._observe(seen)
        if new["name"] in (rollout.stable, rollout.candidate):
            return
        if self._mode == "standard" and (fields := inherited(seen["spec"]["predictor"], new)):
            raise HeadraceError(
                f"{new['name']} leaves out what {rollout.stable} sets, and KServe would copy it into a candidate: "
                f"{', '.join(fields)}; publish with a value of its own"
            )
        if rollout.candidate and rollout.wanted:
            self._give(rollout.candidate, 0, rollout)

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
        self._check_mode(manifest)
        return manifest

    def _check_mode(self, manifest: Manifest) -> None:
        said = (manifest.get("status") or {}).get("deploymentMode") or (
            manifest["metadata"].get("annotations") or {}
        ).get(DEPLOYMENT_MODE, "")
        mode = _MODES.get(said, self._mode)
        if self._mode != "plane" and mode != self._mode:
            raise UsageError(
                f"InferenceService {self.service} was made in {said} mode, which cannot change; "
                f"set serving.mode: {mode} in the environment"
            )

    def _check_assignment(self, assignment: str, percent: int) -> None:
        if not 1 <= percent <= 99 and assignment:
            raise UsageError(f"{percent} %: an A/B test needs users on both sides, from 1 to 99")
        if not assignment:
            return
        header = assignment.removeprefix("header ")
        if not HEADER.fullmatch(header) or header == PIN:
            why = "names a revision already" if header == PIN else "is no name of a request header"
            raise UsageError(f"--by-header {header!r} {why}; take the one that names the user, such as x-user")
        if self._mode == "plane":
            return
        if self._mode == "knative":
            raise UsageError(
                "Knative splits requests, not users: a sticky A/B test needs serving.mode standard; the candidate "
                "alone is reached at its own address, see `headrace rollout status`"
            )
        if assignment != BY_GROUP:
            raise UsageError(
                f"a cluster's gateway cannot keep users by {assignment}: have whoever stands in front of it send "
                f"{GROUP}: candidate or stable, and use --by-header {GROUP}"
            )
        if not self._serving.parent_gateway:
            raise UsageError(
                "an A/B test adds a route: set serving.parent_gateway of the environment to NAMESPACE/NAME"
            )

    def _change(self, edit: Callable[[Manifest], Manifest]) -> None:
        stored = self._services.change(self.service, lambda seen: edit(seen if seen is not None else self._existing()))
        if self._mode == "standard" and self._serving.parent_gateway:
            wanted = pin_route(stored, self._cluster.route(self.service), self._serving.parent_gateway)
            self._cluster.apply_route(pin_route_name(self.service), wanted)

    def _note(self, **changes: str) -> None:
        self._services.change(self.service, lambda seen: _noted(seen or self._existing(), **changes))

    def _observe(self, manifest: Manifest) -> Rollout:
        return self._edits.observe(manifest, self._view(manifest))

    def _view(self, manifest: Manifest) -> View:
        if self._mode == "plane":
            return on_plane(manifest)
        if self._mode == "knative":
            return in_knative_mode(manifest, self._cluster.revisions(self.service))
        return in_standard_mode(
            manifest,
            self._cluster.route(self.service),
            self._cluster.route(pin_route_name(self.service)),
            self._cluster.deployments(self.service),
        )

    def _wait(self, revision: str, reached: Callable[[Rollout], bool], percent: int | None = None) -> Rollout:
        """Wait until a state is observed.

        Args:
            revision: The revision concerned.
            reached: Whether a rollout is in the state.
            percent: The share that the revision was given, if somebody else could give it another meanwhile.

        Raises:
            HeadraceError: It is not reached within the deadline, cannot be, or somebody else wants another.
        """
        end = time.monotonic() + self._deadline
        pause = _POLL_SECONDS
        while True:
            rollout = self.status()
            if rollout.stable != revision:
                self._check_undisturbed(rollout, revision, percent)
            if reached(rollout):
                return rollout
            if revision in rollout.crashing and percent != 0:
                raise HeadraceError(f"{self.service} does not become ready: {self._why(rollout, revision)}")
            if self._mode == "knative" and rollout.candidate and rollout.strays:
                raise HeadraceError(
                    f"{self.service}: Knative sends requests to {', '.join(rollout.strays)}, which is neither stable "
                    f"nor candidate; `headrace rollout rollback` brings {rollout.stable} back"
                )
            if time.monotonic() > end:
                why = self._why(rollout, revision)
                raise HeadraceError(f"{self.service} was not ready within {self._deadline:.0f} s: {why}")
            time.sleep(pause)
            pause = min(_LONGEST_POLL_SECONDS, pause * 1.2)

    def _check_undecided(self, seen: Manifest, since: Rollout, percent: int) -> None:
        """Refuse to give traffic by a decision that somebody else's has overtaken; taking it away is never refused."""
        now = self._edits.observe(seen, View(split=None, replicas={}))
        if not percent:
            return
        if now.wanted not in (since.wanted, percent):
            what = f"{now.candidate} had {since.wanted} %, and somebody else made it {now.wanted} % meanwhile"
        elif now.paused and not since.paused and percent > now.wanted:
            what = f"somebody has paused the rollout meanwhile ({now.paused})"
        else:
            return
        raise HeadraceError(f"{self.service}: {what}; look at `headrace rollout status` and decide again")

    def _check_undisturbed(self, rollout: Rollout, candidate: str, percent: int | None) -> None:
        if rollout.candidate != candidate:
            what = f"the candidate was {candidate} and is {rollout.candidate or 'gone'} now"
        elif percent is not None and rollout.wanted != percent:
            what = f"{candidate} was given {percent} %, and somebody else made it {rollout.wanted} % meanwhile"
        else:
            return
        raise HeadraceError(f"{self.service}: {what}; look at `headrace rollout status` and decide again")

    def _why(self, rollout: Rollout, revision: str) -> str:
        known = "" if revision in rollout.ready else explain(self._serving, self.service, revision)
        share = f"{rollout.candidate or rollout.stable} has {rollout.observed if rollout.candidate else 100} % "
        return known or rollout.reason or f"{share}of the requests"


def _noted(seen: Manifest, **changes: str) -> Manifest:
    wanted = edited(seen)
    noted(wanted, **changes)
    return unless_same(seen, wanted)
