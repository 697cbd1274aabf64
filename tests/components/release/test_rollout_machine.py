"""Rollouts in every order, with processes that die half-way, against KServe as its source has it.

Whatever happens: no request goes to a revision that does not answer, and an aborted candidate gets no request until
somebody says so.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release import steps
from components.release.manifest import Manifest
from components.release.rollout import Rollout, State
from components.release.steps import Steps
from tests.components.release.controller import KnativeModel, StandardModel


class Killed(BaseException):
    """The process that rolls out is gone."""


class World:
    """A namespace in memory: every look at it lets the controller do one step."""

    namespace = "default"

    def __init__(self, model: StandardModel | KnativeModel) -> None:
        self.model = model
        self.service: Manifest | None = None
        self.writes_left = 1_000
        self.pins: dict[str, Any] = {}

    def names(self) -> list[str]:
        return ["chat"]

    def get(self, name: str) -> Manifest | None:
        if self.service is None:
            return None
        self.model.step(self.service)
        return {**self.service, "status": self.model.status(self.service)}

    def change(self, name: str, edit: Callable[[Manifest | None], Manifest]) -> Manifest:
        wanted = edit(self.service)
        if wanted != self.service:
            if not self.writes_left:
                raise Killed
            self.writes_left -= 1
            self.service = wanted
        return wanted

    def deployments(self, service: str) -> list[dict[str, Any]]:
        assert isinstance(self.model, StandardModel)
        return self.model.deployments(service)

    def revisions(self, service: str) -> list[dict[str, Any]]:
        assert isinstance(self.model, KnativeModel)
        return self.model.revisions()

    def route(self, name: str) -> dict[str, Any] | None:
        assert isinstance(self.model, StandardModel)
        return self.model.http_route(name) if name == "chat" else self.pins.get(name)

    def apply_route(self, name: str, wanted: dict[str, Any] | None) -> None:
        self.pins = {name: wanted} if wanted else {}


def manifest(name: str, replicas: int) -> Manifest:
    predictor = {"name": name, "minReplicas": replicas, "model": {"storageUri": f"gs://models/{name}"}}
    metadata = {"name": "chat", "namespace": "default", "uid": "1", "annotations": {}}
    return {"apiVersion": "v", "kind": "InferenceService", "metadata": metadata, "spec": {"predictor": predictor}}


class Rollouts(RuleBasedStateMachine):
    """Publications, decisions and deaths in any order; subclasses say which mode."""

    mode: Any
    model: Any

    @initialize(replicas=st.integers(1, 4))
    def first(self, replicas: int) -> None:
        self.world = World(self.model())
        serving = Serving(mode=self.mode, parent_gateway="kserve/gateway" if self.mode == "standard" else "")
        self.rollout = Steps(serving, self.world, self.world, "chat", 5)  # type: ignore[arg-type]
        self.aborted: set[str] = set()
        self.count = 1
        self.rollout.introduce(manifest("r1", replicas), 10)

    @contextmanager
    def command(self, dies_after: int) -> Iterator[None]:
        self.world.writes_left = dies_after
        with suppress(Killed):
            yield
        self.world.writes_left = 1_000

    def ordered(self, name: str) -> None:
        """Somebody says that a revision may have requests."""
        self.aborted.discard(name)
        self.world.model.served.clear()

    @rule(percent=st.integers(0, 100), fails=st.booleans(), replicas=st.integers(1, 4), dies=st.integers(0, 9))
    def publish(self, percent: int, fails: bool, replicas: int, dies: int) -> None:
        self.count += 1
        name = f"r{self.count}"
        if fails:
            self.world.model.failing.add(name)
        before = self.rollout.status()
        with self.command(dies):
            try:
                self.rollout.introduce(manifest(name, replicas), percent)
                assert not fails
            except HeadraceError as error:
                assert fails or before.candidate in self.world.model.failing, error
                assert "does not become ready" in str(error)
        if before.candidate and self.rollout.status().candidate == name:
            self.aborted.add(before.candidate)
        if fails:
            self.aborted.add(name)
        self.world.model.served.clear()

    @rule()
    def publish_the_same_again(self) -> None:
        candidate = self.rollout.status().candidate
        if candidate and candidate in self.aborted and candidate not in self.world.model.failing:
            with suppress(HeadraceError):
                self.rollout.introduce(manifest(candidate, 1), 50)
            assert self.rollout.status().wanted == 0

    @precondition(lambda self: self.rollout.status().candidate)
    @rule(percent=st.integers(1, 100), dies=st.integers(0, 9))
    def set_percent(self, percent: int, dies: int) -> None:
        candidate = self.rollout.status().candidate
        if candidate not in self.world.model.failing:
            self.ordered(candidate)
            with self.command(dies):
                assert self.rollout.set_percent(percent).observed == percent
                assert self.rollout.set_percent(percent).observed == percent, "pressed twice"
            return
        with pytest.raises(HeadraceError, match="does not become ready"):
            self.rollout.set_percent(percent)

    @rule(dies=st.integers(0, 9))
    def promote(self, dies: int) -> None:
        before = self.rollout.status()
        if before.candidate in self.world.model.failing:
            with pytest.raises(HeadraceError, match="does not become ready"):
                self.rollout.promote()
            return
        self.ordered(before.candidate)
        with self.command(dies):
            done = self.rollout.promote()
            assert (done.state, done.stable) == (State.SETTLED, before.candidate or before.stable)
            assert _shares(self.rollout.promote()) == _shares(done), "pressed twice"

    @rule(dies=st.integers(0, 9))
    def rollback(self, dies: int) -> None:
        before = self.rollout.status()
        leaves = before.stable if not before.candidate or before.candidate == before.previous else before.candidate
        self.ordered(before.previous)
        with self.command(dies):
            try:
                done = self.rollout.rollback()
            except HeadraceError as error:
                assert "nothing to go back to" in str(error) or before.previous in self.world.model.failing, error
                return
            if not before.returned:
                assert leaves != done.stable
                self.aborted.add(leaves)
            assert _shares(self.rollout.rollback()) == _shares(done), "pressed twice"
        self.world.model.served.clear()

    @rule()
    def time_passes(self) -> None:
        for _ in range(3):
            self.rollout.status()

    @invariant()
    def nothing_has_failed(self) -> None:
        if hasattr(self, "world"):
            self.rollout.status()
            assert self.world.model.faults == []
            stable = self.rollout.status().stable
            assert not (self.world.model.served - {stable}) & self.aborted


def _shares(rollout: Rollout) -> tuple[str, str, int]:
    return rollout.stable, rollout.candidate, rollout.observed


class InStandardMode(Rollouts):
    mode = "standard"
    model = StandardModel


class InKnativeMode(Rollouts):
    mode = "knative"
    model = KnativeModel


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world moves when it is looked at, and has no pods that could be asked why."""
    monkeypatch.setattr(steps, "_POLL_SECONDS", 0)
    monkeypatch.setattr(steps, "explain", lambda *_: "")


LIMITS = settings(max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))


def candidate_of(replicas: int) -> tuple[World, Steps]:
    """A service of several replicas in Standard mode, whose candidate has 10 % and must grow to get more."""
    world = World(StandardModel())
    serving = Serving(mode="standard", parent_gateway="kserve/gateway")
    rollout = Steps(serving, world, world, "chat", 5)  # type: ignore[arg-type]
    rollout.introduce(manifest("r1", replicas), 10)
    rollout.introduce(manifest("r2", replicas), 10)
    return world, rollout


@pytest.mark.parametrize(
    ("act", "says", "share"),
    [
        (lambda person: person.rollback(), "r2 had 10 %, and somebody else made it 0 % meanwhile", 0),
        (lambda person: person.pause("a complaint"), r"somebody has paused .* meanwhile \(a complaint\)", 10),
    ],
)
@pytest.mark.parametrize("move", [lambda rollout: rollout.set_percent(50), lambda rollout: rollout.promote()])
def test_who_waits_for_replicas_gives_no_traffic_against_a_person_s_word(
    monkeypatch: pytest.MonkeyPatch,
    move: Callable[[Steps], Rollout],
    act: Callable[[Steps], Any],
    says: str,
    share: int,
) -> None:
    world, automation = candidate_of(4)
    person = Steps(Serving(mode="standard"), world, world, "chat", 5)  # type: ignore[arg-type]
    wait = automation._wait
    pressed: list[Rollout] = []

    def while_waiting(*arguments: Any) -> Rollout:
        if not pressed:
            pressed.append(act(person))
        return wait(*arguments)

    monkeypatch.setattr(automation, "_wait", while_waiting)
    with pytest.raises(HeadraceError, match=says):
        move(automation)
    assert (person.status().candidate, person.status().wanted) == ("r2", share)


def test_a_candidate_that_keeps_dying_is_rolled_back_without_a_complaint() -> None:
    world, rollout = candidate_of(1)
    late, step = iter(range(9)), world.model.step
    world.model.step = lambda manifest: None if next(late, None) is not None else step(manifest)  # type: ignore[method-assign]
    world.model.failing.add("r2")
    assert (rollout.status().crashing, rollout.status().observed) == (("r2",), 10)
    assert rollout.rollback().observed == 0


def test_users_who_keep_a_revision_are_let_go_before_it_ends() -> None:
    halfway = 0
    for writes in range(6):
        world, rollout = candidate_of(2)
        rollout.assign("header x-headrace-group", 50)
        assert "x-headrace-group" in str(world.pins)
        world.writes_left = writes
        with suppress(Killed):
            rollout.promote()
        if rollout.status().observed == 100:
            halfway += 1
            assert "x-headrace-group" not in str(world.pins)
    assert halfway


@pytest.mark.parametrize("machine", [InStandardMode, InKnativeMode])
def test_no_order_of_events_sends_a_request_where_nobody_answers_or_nobody_wanted(machine: type[Rollouts]) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(machine, settings=LIMITS)
