"""The loop: observe, judge, act, until the candidate is promoted, aborted, held or taken out of our hands."""

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from components.common.environment import Environment
from components.common.errors import GateHold, HeadraceError, Interrupted, UsageError
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.operations.notify.channels import alert
from components.release.progress.judge import Action, Analysis, Look, Point, Verdict
from components.release.progress.options import Progress
from components.release.progress.record import Conclusion, Ending, Record
from components.release.progress.report import compose
from components.release.progress.signals import Source, source_of
from components.release.rollout import Rollout, RolloutBackend, connect

PLANE_LOOK_SECONDS = 0.5
"""Longest time between looks on the plane, where reading costs nothing."""
PATIENCE_SECONDS = 180.0
"""How long an API that does not answer is asked again; meanwhile the traffic stays as it is."""
_RETRY_SECONDS = 0.5
_LONGEST_SILENCE_SECONDS = 60.0
_NOT_AT_RANDOM = "an A/B test is on: users keep their revision, so requests are not dealt at random"

Result = TypeVar("Result")
Watch = Callable[[Analysis, Rollout], None]


@dataclass(frozen=True)
class Finished:
    """How it ended, where the report is ('' if there was nothing to analyse), and what was seen."""

    conclusion: Conclusion
    service: str
    stable: str
    candidate: str
    location: str
    report: Report
    points: tuple[Point, ...] = ()


def run(rollout: Path, options: Progress, context: Context) -> Outcome:
    """Move a candidate's share step by step, or back to 0.

    Args:
        rollout: `conclusion.json`: how it ended and what was seen of each signal.
        options: Steps, bounds, signals.
        context: The environment says where it is served and what counts.

    Raises:
        HeadraceError: The service or the counters cannot be read for minutes.
    """

    def watch(analysis: Analysis, seen: Rollout) -> None:
        point = analysis.points[-1]
        context.progress(point.share, 100, f"{point.requests:,.0f} requests, {analysis.verdict.reason}")

    def page(sentence: str) -> None:
        alert(context.environment, "page", f"Rollout of {options.service or 'the only service'}", sentence)

    finished = progress(context.environment, options, page, watch)
    last = finished.points[-1] if finished.points else None
    conclusion = {
        **finished.conclusion.model_dump(mode="json"),
        "service": finished.service,
        "stable": finished.stable,
        "candidate": finished.candidate,
        "report": finished.location,
        "signals": [dataclasses.asdict(standing) for standing in last.standings] if last else [],
    }
    text = json.dumps(_finite(conclusion), indent=2, ensure_ascii=False)
    (rollout / "conclusion.json").write_text(text + "\n", "utf-8")
    return Outcome(
        counts_in=len(finished.points),
        counts_out=len(finished.points),
        metrics={
            "percent": float(finished.conclusion.share),
            "requests": last.requests if last else 0.0,
            "seconds_to_act": finished.conclusion.seconds,
        },
        report=finished.report,
        decision=str(finished.conclusion.ending),
    )


def progress(
    environment: Environment,
    options: Progress,
    page: Callable[[str], object],
    watch: Watch = lambda analysis, rollout: None,
    source: Source | None = None,
    backend: RolloutBackend | None = None,
) -> Finished:
    """Analyse a service's candidate until it is decided.

    Args:
        environment: Where it is served, what counts its requests, and where looks are stored.
        options: Steps, bounds, signals.
        page: Called once with a sentence when the candidate is aborted or held, after the traffic has moved.
        watch: Called after each look.
        source: Where counters are read, if not where the environment says.
        backend: Who moves the traffic, if not whom the environment says.

    Raises:
        HeadraceError: The service or the counters cannot be read for minutes; the candidate keeps its share.
    """
    rollouts = backend or connect(environment, options.service)
    seen = rollouts.status()
    record = Record(store_of(environment), seen.service, seen.candidate or seen.stable)
    ended = record.conclusion()
    # An analysis that was killed between acting and saying so still has to say so.
    unfinished = not ended and bool(record.looks())
    if not seen.candidate and not unfinished:
        return _nothing(seen, f"{seen.stable} serves everything; there is no candidate")
    if ended and ended.share == seen.wanted and ended.ending in (Ending.ABORTED, Ending.HELD):
        _tell(page, record, ended, seen.service, seen.candidate)
        reason = f"{seen.candidate} was {ended.ending} before: {ended.reason}"
        report = Report("Rollout", reason).text(f"The report of that analysis: {_address(record, environment)}")
        conclusion = ended.model_copy(update={"reason": reason})
        return Finished(conclusion, seen.service, seen.stable, seen.candidate, _address(record, environment), report)
    if not seen.wanted and not unfinished:
        return _nothing(seen, f"{seen.candidate} has no traffic; `headrace rollout set N` gives it some")
    if seen.assignment and not unfinished:
        return _nothing(seen, f"{_NOT_AT_RANDOM}; `headrace rollout ab stop` ends the test")
    if ended:
        record.begin_another()
    return _Loop(environment, options, page, watch, source or source_of(environment, options), rollouts, record).run()


class _Loop:
    def __init__(
        self,
        environment: Environment,
        options: Progress,
        page: Callable[[str], object],
        watch: Watch,
        source: Source,
        rollouts: RolloutBackend,
        record: Record,
    ) -> None:
        self._options = options
        self._page = page
        self._watch = watch
        self._source = source
        self._rollouts = rollouts
        self._record = record
        self._pause = options.look_seconds
        if environment.serving.mode == "plane":
            self._pause = min(self._pause, PLANE_LOOK_SECONDS)
        self._analysis = Analysis(options)
        self._seen = rollouts.status()

    def run(self) -> Finished:
        self._catch_up()
        while True:
            if conclusion := self._turn():
                return self._finish(conclusion)
            time.sleep(self._pause)

    def _turn(self) -> Conclusion | None:
        """Observe, judge and act once; returns the end if this was it."""
        analysis = self._analysis
        self._seen = seen = self._patiently(self._rollouts.status)
        if self._promoted(seen):
            return self._conclusion(Ending.PROMOTED, analysis.verdict.reason, 100)
        if overtaken := self._overtaken(seen):
            return self._conclusion(Ending.OVERTAKEN, overtaken, seen.wanted)
        if analysis.verdict.action == Action.ABORT:
            return self._abort(analysis.verdict.reason)
        if seen.candidate in seen.crashing:
            return self._abort(f"{seen.candidate} keeps dying: {seen.reason}")
        counters = self._patiently(lambda: self._source.read(seen.service, [seen.stable, seen.candidate]))
        look = Look(
            number=len(analysis.looks) + 1,
            at=time.time(),
            share=seen.wanted,
            stable=seen.stable,
            candidate=seen.candidate,
            counters=counters,
        )
        if self._says_something(look):
            if not self._record.write(look):
                self._catch_up()
                return None
            analysis.add(look)
            self._watch(analysis, seen)
        verdict = analysis.verdict
        if verdict.action == Action.ABORT:
            return self._abort(verdict.reason)
        if verdict.action == Action.HOLD or analysis.expired(look.at):
            reason = verdict.reason if verdict.action == Action.HOLD else self._too_slow()
            return self._conclusion(Ending.HELD, reason, seen.wanted)
        return None if seen.paused or seen.candidate not in seen.ready else self._advance(verdict)

    def _advance(self, verdict: Verdict) -> Conclusion | None:
        if verdict.action == Action.PROMOTE:
            if self._moved(self._rollouts.promote, up=True):
                return self._conclusion(Ending.PROMOTED, verdict.reason, 100)
        elif verdict.action == Action.ADVANCE and self._seen.wanted != verdict.share:
            self._moved(lambda now: self._rollouts.set_percent(verdict.share, now), up=True)
        return None

    def _abort(self, reason: str) -> Conclusion | None:
        """Take the traffic away; only then is there time for anything else."""
        if not self._moved(lambda now: self._rollouts.set_percent(0, now), up=False):
            return None
        return self._conclusion(Ending.ABORTED, reason, 0)

    def _moved(self, move: Callable[[Rollout], Rollout], up: bool) -> bool:
        """Move traffic; False if that has become somebody else's business, which the next turn will see."""

        def attempt() -> bool:
            now = self._rollouts.status()
            if self._overtaken(now) or (up and now.paused):
                return False
            self._seen = move(now)
            return True

        return self._patiently(attempt)

    def _promoted(self, seen: Rollout) -> bool:
        """Tell whether a promotion that was decided is done, by whichever process."""
        looks = self._analysis.looks
        decided = bool(looks) and self._analysis.verdict.action == Action.PROMOTE
        return decided and not seen.candidate and seen.stable == looks[-1].candidate

    def _overtaken(self, seen: Rollout) -> str:
        """Say what somebody else did, '' if nothing."""
        looks = self._analysis.looks
        if seen.assignment:
            return _NOT_AT_RANDOM
        if not looks:
            return ""
        before = looks[-1]
        if seen.candidate != before.candidate:
            if seen.stable == before.candidate:
                return f"{before.candidate} was promoted by somebody else"
            now = f"{seen.candidate} is the candidate now" if seen.candidate else "there is no candidate any more"
            return f"{before.candidate} was replaced: {now}"
        if seen.stable != before.stable:
            return f"the stable revision was {before.stable} and is {seen.stable} now"
        if seen.wanted in (before.share, self._analysis.verdict.share):
            return ""
        if self._catch_up():
            return self._overtaken(seen)
        how = "rolled back" if not seen.wanted else f"moved from {before.share} % to {seen.wanted} %"
        return f"{before.candidate} was {how} by somebody else"

    def _says_something(self, look: Look) -> bool:
        """Tell whether a look adds to the ones before: a request of the candidate, another share, or time."""
        if not self._analysis.looks:
            return True
        before = self._analysis.looks[-1]
        changed = any(
            look.counters[name].get(look.candidate) != before.counters.get(name, {}).get(look.candidate)
            for name in look.counters
        )
        return changed or look.share != before.share or look.at - before.at >= _LONGEST_SILENCE_SECONDS

    def _catch_up(self) -> bool:
        """Take over the looks that are stored and not known here."""
        found = self._record.looks(len(self._analysis.looks))
        for look in found:
            self._analysis.add(look)
        return bool(found)

    def _patiently(self, ask: Callable[[], Result]) -> Result:
        """Ask again while an API does not answer: what serves goes on as it is."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except HeadraceError as error:
                if isinstance(error, UsageError) or time.monotonic() > end:
                    message = (
                        f"the analysis of {self._seen.candidate} is blind, which keeps {self._seen.wanted} % of the "
                        f"requests: {error}"
                    )
                    try:
                        self._page(message)
                    except HeadraceError as untold:
                        message = f"{message}; and nobody could be told: {untold}"
                    raise HeadraceError(message) from error
            time.sleep(_RETRY_SECONDS)

    def _too_slow(self) -> str:
        requests = self._analysis.points[-1].requests
        return f"no decision after {self._options.max_seconds:,.0f} s and {requests:,.0f} requests of the candidate"

    def _conclusion(self, ending: Ending, reason: str, share: int) -> Conclusion:
        looks = self._analysis.looks
        at = looks[-1].at if looks else time.time()
        return Conclusion(
            ending=ending, reason=reason, share=share, looks=len(looks), at=at, seconds=round(time.time() - at, 3)
        )

    def _finish(self, conclusion: Conclusion) -> Finished:
        first = self._analysis.looks[0] if self._analysis.looks else None
        stable, candidate = (first.stable, first.candidate) if first else (self._seen.stable, self._seen.candidate)
        service = self._seen.service
        first_to_know = self._record.conclude(conclusion)
        try:
            if first_to_know:
                _tell(self._page, self._record, conclusion, service, candidate)
        finally:
            report = compose(self._analysis, conclusion, service, stable, candidate, self._options)
            location = self._record.publish(report.html())
        points = tuple(self._analysis.points)
        return Finished(conclusion, service, stable, candidate, location, report, points)


def _tell(page: Callable[[str], object], record: Record, conclusion: Conclusion, service: str, candidate: str) -> None:
    """Page somebody for an end that needs them, unless that was done; what failed or was killed is done again."""
    if conclusion.ending not in (Ending.ABORTED, Ending.HELD) or record.told:
        return
    share = f"has {conclusion.share} % of the requests"
    page(f"{service}: {candidate} is {conclusion.ending} and {share}: {conclusion.reason}")
    record.tell()


def _nothing(seen: Rollout, reason: str) -> Finished:
    conclusion = Conclusion(ending=Ending.NOTHING, reason=reason, share=seen.wanted, looks=0, at=0.0, seconds=0.0)
    return Finished(conclusion, seen.service, seen.stable, seen.candidate, "", Report("Rollout", reason))


def _address(record: Record, environment: Environment) -> str:
    return f"{environment.store}/{record.key}/report.html"


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def analyse_here(environment: Environment, options: Progress, console: Console, watch: bool = False) -> None:
    """Analyse at a terminal.

    Args:
        environment: Where the service is.
        options: Steps, bounds, signals.
        console: Where to say what happens.
        watch: Show a line for each look; otherwise one line that changes.

    Raises:
        GateHold: The candidate was aborted or is held.
        Interrupted: Somebody stopped it; the next one goes on with what was seen.
    """
    with console.status("looking …") as status:

        def show(analysis: Analysis, rollout: Rollout) -> None:
            text = line(analysis, rollout)
            status.update(text)
            if watch:
                console.print(text, highlight=False, soft_wrap=True)

        try:
            finished = progress(environment, options, lambda sentence: None, show)
        except KeyboardInterrupt as error:
            raise Interrupted("interrupted; the candidate keeps its share, run again to go on") from error
    conclusion = finished.conclusion
    if finished.location:
        console.print(f"report: {finished.location.removeprefix('file://')}", highlight=False, soft_wrap=True)
    ending = "nothing to do" if conclusion.ending == Ending.NOTHING else conclusion.ending
    sentence = f"{finished.service}: {ending}: {conclusion.reason}"
    if conclusion.ending in (Ending.ABORTED, Ending.HELD):
        raise GateHold(sentence)
    console.print(sentence, highlight=False, soft_wrap=True)


def line(analysis: Analysis, rollout: Rollout) -> str:
    """Say in one line where an analysis is: share, requests, and each signal's evidence in percent of its bound."""
    point = analysis.points[-1]
    parts = []
    for standing in point.standings:
        if standing.needed:
            up = _percent(standing.harmless, analysis.log_promote)
            down = _percent(max(standing.worse, standing.breach), analysis.log_abort_each)
            parts.append(f"{standing.name.replace('_', ' ')} ↑{up} ↓{down}")
    state = " · paused" if rollout.paused else "" if rollout.candidate in rollout.ready else " · not ready"
    return f"{point.share:>3} % · {point.requests:>6,.0f} requests · {' · '.join(parts)}{state}"


def _percent(evidence: float, bound: float) -> str:
    return f"{max(0, min(100, round(100 * evidence / bound)))} %"
