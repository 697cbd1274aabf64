"""The loop: it acts before it talks, survives being killed, and steps back when a person acts."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.step import Context
from components.release.progress import progress as module
from components.release.progress.judge import Analysis
from components.release.progress.options import Progress
from components.release.progress.progress import Finished, line, progress
from components.release.progress.record import Ending
from components.release.rollout import Rollout

from .conftest import Service

QUIET = {"use": False}
SIGNALS = {"latency": QUIET, "first_token": QUIET, "format_errors": QUIET, "errors": {"tolerance": 0.03}}


def options(**changes: Any) -> Progress:
    return Progress.model_validate({"signals": SIGNALS, "min_seconds_per_step": 0, "look_seconds": 0.001} | changes)


@pytest.fixture
def told() -> list[str]:
    return []


def analyse(place: Environment, service: Service, told: list[str], **changes: Any) -> Finished:
    return progress(place, options(**changes), page=told.append, source=service, backend=service)


def test_a_harmless_candidate_is_promoted_without_a_word(place: Environment, told: list[str]) -> None:
    service = Service()
    finished = analyse(place, service, told)
    assert (finished.conclusion.ending, finished.conclusion.share) == (Ending.PROMOTED, 100)
    assert service.moves == [25, 50, 100]
    assert service.now.stable == "new" and not told
    page = Path(finished.location.removeprefix("file://")).read_text()
    assert "new was promoted over old" in page and "<svg" in page and "share 25 % → 50 %" in page
    assert analyse(place, service, told).conclusion.ending == Ending.NOTHING


def test_a_worse_one_loses_its_traffic_before_anybody_is_told(place: Environment, told: list[str]) -> None:
    service = Service(rates=(0.02, 0.3))
    shares: list[int] = []

    def page(sentence: str) -> None:
        shares.append(service.now.wanted)
        told.append(sentence)

    finished = progress(place, options(), page=page, source=service, backend=service)
    assert (finished.conclusion.ending, service.moves, shares) == (Ending.ABORTED, [0], [0])
    assert told[0].startswith("assistant: new is aborted and has 0 % of the requests: errors ")
    again = analyse(place, service, told)
    assert again.conclusion.ending == Ending.ABORTED and "was aborted before" in again.conclusion.reason
    assert len(told) == 1, "it is said once, however often the schedule asks"

    service.change(wanted=10, observed=10)
    service.rates["new"] = 0.02
    assert analyse(place, service, told).conclusion.ending == Ending.PROMOTED, "a person gave it another chance"


def test_it_is_held_and_paged_once_at_the_limit(place: Environment, told: list[str]) -> None:
    service = Service()
    for _ in range(2):
        finished = analyse(place, service, told, max_requests=100, false_promote=1e-9)
        assert (finished.conclusion.ending, finished.conclusion.share) == (Ending.HELD, 10)
    assert not service.moves and len(told) == 1 and "no decision after" in told[0]
    late = Service()
    late.service = "late"
    late.change(service="late")
    assert analyse(place, late, told, max_seconds=0.01, false_promote=1e-9).conclusion.ending == Ending.HELD


def test_a_killed_analysis_goes_on_where_it_was(place: Environment, told: list[str]) -> None:
    uninterrupted = analyse(place, Service(), told).conclusion
    service = Service()
    service.service = "killed"
    service.change(service="killed")

    class Killed(BaseException):
        """The end of a process."""

    def kill(reads: int) -> None:
        if reads in (3, 6, 7):
            raise Killed

    service.between = kill
    for _ in range(3):
        with pytest.raises(Killed):
            analyse(place, service, told)
    finished = analyse(place, service, told)
    assert (finished.conclusion.ending, finished.conclusion.looks) == (Ending.PROMOTED, uninterrupted.looks)
    assert finished.points[-1].requests > 0 and service.moves == [25, 50, 100]


@pytest.mark.parametrize(("rates", "ending"), [((0.02, 0.3), Ending.ABORTED), ((0.02, 0.02), Ending.PROMOTED)])
def test_killed_between_acting_and_saying_so_it_still_says_so(
    place: Environment, told: list[str], monkeypatch: pytest.MonkeyPatch, rates: tuple[float, float], ending: Ending
) -> None:
    service = Service(rates=rates)
    with monkeypatch.context() as patch:
        patch.setattr(module._Loop, "_finish", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            analyse(place, service, told)
    finished = analyse(place, service, told)
    assert finished.conclusion.ending == ending
    assert len(told) == (ending == Ending.ABORTED)


def test_what_nobody_could_be_told_is_told_by_the_next_attempt(place: Environment, told: list[str]) -> None:
    service = Service(rates=(0.02, 0.3))

    def deaf(sentence: str) -> None:
        raise HeadraceError("the webhook answers 503")

    for _ in range(2):
        with pytest.raises(HeadraceError, match="the webhook answers 503"):
            progress(place, options(), page=deaf, source=service, backend=service)
        assert service.now.wanted == 0
    for _ in range(2):
        assert analyse(place, service, told).conclusion.ending == Ending.ABORTED
    assert len(told) == 1 and "new is aborted and has 0 % of the requests" in told[0]


def test_two_analyses_at_once_share_their_looks(place: Environment, told: list[str]) -> None:
    service = Service(rates=(0.02, 0.3))

    def another(reads: int) -> None:
        if reads == 3:
            service.between = lambda _: None
            assert analyse(place, service, told).conclusion.ending == Ending.ABORTED

    service.between = another
    finished = analyse(place, service, told)
    assert finished.conclusion.ending in (Ending.ABORTED, Ending.OVERTAKEN)
    assert len(told) == 1, "only one of them tells"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda service: service.promote(), "new was promoted by somebody else"),
        (lambda service: service.rollback(), "new was rolled back by somebody else"),
        (lambda service: service.set_percent(40), "new was moved from 10 % to 40 % by somebody else"),
        (lambda service: service.change(candidate="newer"), "new was replaced: newer is the candidate now"),
        (lambda service: service.change(candidate=""), "there is no candidate any more"),
        (lambda service: service.change(assignment="cookie"), "users keep their revision"),
        (lambda service: service.change(stable="other"), "the stable revision was old and is other now"),
    ],
)
def test_when_a_person_acts_it_stops_and_says_so(place: Environment, told: list[str], act: Any, says: str) -> None:
    service = Service()
    service.between = lambda reads: act(service) if reads == 2 else None
    finished = analyse(place, service, told, false_promote=1e-9)
    assert finished.conclusion.ending == Ending.OVERTAKEN
    assert says in finished.conclusion.reason and not told


def test_paused_it_may_still_abort_and_never_moves_up(place: Environment, told: list[str]) -> None:
    service = Service()
    service.pause("release freeze")
    service.between = lambda reads: service.resume() if reads == 40 else None
    finished = analyse(place, service, told)
    assert finished.conclusion.ending == Ending.PROMOTED
    assert {point.share for point in finished.points[:38]} == {10}
    worse = Service(rates=(0.02, 0.5))
    worse.change(service="other", paused="release freeze")
    assert analyse(place, worse, told).conclusion.ending == Ending.ABORTED


def test_a_candidate_that_is_not_ready_gets_no_verdict_and_one_that_keeps_dying_no_traffic(
    place: Environment, told: list[str]
) -> None:
    service = Service()
    service.change(ready=("old",))
    service.between = lambda reads: service.change(ready=("old", "new")) if reads == 40 else None
    finished = analyse(place, service, told)
    assert {point.share for point in finished.points[:38]} == {10} and finished.conclusion.ending == Ending.PROMOTED
    dying = Service()
    dying.change(service="other", crashing=("new",), reason="exited with status 1", ready=("old",))
    finished = analyse(place, dying, told)
    assert (finished.conclusion.ending, dying.now.wanted) == (Ending.ABORTED, 0)
    assert "keeps dying: exited with status 1" in told[0]


def test_an_api_that_is_away_for_a_while_changes_nothing(
    place: Environment, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.001)
    service = Service()

    def away(reads: int) -> None:
        service.broken = 5 if reads % 3 == 0 else 0

    service.between = away
    assert analyse(place, service, told).conclusion.ending == Ending.PROMOTED
    monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.05)
    blind = Service()
    blind.change(service="blind")
    blind.between = lambda reads: setattr(blind, "broken", 10**6) if reads == 2 else None
    with pytest.raises(HeadraceError, match="keeps 10 % of the requests: the API does not answer"):
        analyse(place, blind, told, false_promote=1e-9)
    assert len(told) == 1


def test_without_a_candidate_or_without_traffic_there_is_nothing_to_do(
    place: Environment, told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Service(share=0)
    finished = analyse(place, idle, told)
    assert finished.conclusion.ending == Ending.NOTHING and "headrace rollout set N" in finished.conclusion.reason
    testing = Service()
    testing.change(service="tested", assignment="header x-user")
    finished = analyse(place, testing, told)
    assert finished.conclusion.ending == Ending.NOTHING and "`headrace rollout ab stop`" in finished.conclusion.reason
    idle.change(candidate="")
    monkeypatch.setattr(module, "connect", lambda environment, service: idle)
    folder = tmp_path / "out"
    folder.mkdir()
    outcome = module.run(rollout=folder, options=options(), context=Context("release/progress", place))
    assert outcome.decision == "nothing"
    assert "old serves everything" in json.loads((folder / "conclusion.json").read_text())["reason"]


def test_the_step_leaves_what_it_saw(place: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(rates=(0.02, 0.3))
    monkeypatch.setattr(module, "connect", lambda environment, name: service)
    monkeypatch.setattr(module, "source_of", lambda environment, options: service)
    folder = tmp_path / "out"
    folder.mkdir()
    outcome = module.run(rollout=folder, options=options(), context=Context("release/progress", place))
    assert (outcome.decision, outcome.metrics["percent"]) == ("aborted", 0)
    written = json.loads((folder / "conclusion.json").read_text())
    assert written["ending"] == "aborted" and written["signals"][0]["name"] == "errors"


def test_the_line_says_how_near_each_bound_is(place: Environment, told: list[str]) -> None:
    lines: list[str] = []

    def watch(analysis: Analysis, rollout: Rollout) -> None:
        lines.append(line(analysis, rollout))

    service = Service(rates=(0.02, 0.3))
    progress(place, options(), page=told.append, watch=watch, source=service, backend=service)
    assert lines[0].split() == ["10", "%", "·", "0", "requests", "·", "errors", "↑0", "%", "↓0", "%"]
    assert lines[-1].endswith("↓100 %")
