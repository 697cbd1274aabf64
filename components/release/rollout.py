"""A rollout: one service, its stable revision, its candidate, and the candidate's share of the requests.

Every change follows one path, on the plane and on a cluster: read the InferenceService, write the wanted one with
optimistic locking, and wait until the new split is *observed*. Each operation may be repeated: what is already so is
left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from components.common.environment import Environment
from components.release.manifest import Manifest


class State(StrEnum):
    """Where a rollout stands."""

    SETTLED = "settled"
    """One revision serves everything."""
    CHANGING = "changing"
    """What is wanted is not observed yet."""
    CANARY = "canary"
    """The candidate serves its share."""
    STANDING_BY = "standing by"
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
        replicas: How many replicas answer, by revision.
        complete: The candidate has all the replicas it should have now.
        strays: Revisions that get requests although they are neither stable nor candidate.
        returned: The revision that the last rollback took away, where it does not stay as a candidate.
        assignment: How users keep the revision they once got: `header NAME`, `cookie`, or empty: they do not.
        pin: How to reach the candidate whatever its share: a request header or an address.
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
    replicas: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True
    strays: tuple[str, ...] = ()
    returned: str = ""
    assignment: str = ""
    pin: str = ""

    @property
    def state(self) -> State:
        """Where the rollout stands."""
        if not self.applied:
            return State.CHANGING
        if not self.candidate:
            return State.SETTLED
        return State.CANARY if self.wanted else State.STANDING_BY

    @property
    def strategy(self) -> str:
        """What kind of rollout this is, in a person's words; empty while one revision serves everything."""
        if not self.candidate:
            return ""
        if self.assignment:
            return "A/B"
        return "canary" if 0 < self.wanted < 100 else "blue-green"


class RolloutBackend(Protocol):
    """One service's rollout, whoever realises it. Each operation may be repeated, and waits until it is observed."""

    service: str

    def status(self) -> Rollout:
        """Observe the rollout."""

    def introduce(self, manifest: Manifest, percent: int) -> Rollout:
        """Put a new revision before its users, all of them if it is the first."""

    def set_percent(self, percent: int, since: Rollout | None = None) -> Rollout:
        """Give the candidate a share of the requests, unless somebody else has decided since."""

    def promote(self, since: Rollout | None = None) -> Rollout:
        """Make the candidate the stable revision, unless somebody else has decided since."""

    def rollback(self) -> Rollout:
        """Take the requests away from what was rolled out last."""

    def pause(self, reason: str) -> Rollout:
        """Keep automation from giving the candidate more traffic; it may still take it away."""

    def resume(self) -> Rollout:
        """Let automation go on."""

    def assign(self, assignment: str, percent: int) -> Rollout:
        """Give the candidate a share of the users, who keep it by `header NAME` or `cookie`; empty ends that."""


def connect(environment: Environment, service: str = "", deadline_seconds: float = 120) -> RolloutBackend:
    """Connect to a service's rollout, by the way its environment serves.

    Args:
        environment: Where it is served.
        service: Name of the InferenceService; may be left out when the namespace has only one.
        deadline_seconds: How long to wait for a change to be observed.

    Raises:
        UsageError: It is not clear which service is meant.
    """
    # These modules build on this one.
    from components.release.cluster import Cluster
    from components.release.notes import open_services
    from components.release.steps import Steps

    services = open_services(environment.serving)
    return Steps(environment.serving, services, Cluster(services.api), service, deadline_seconds)
