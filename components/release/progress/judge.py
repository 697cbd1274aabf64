"""From looks to a verdict with its reasons: a pure function of what was seen, so that a killed analysis goes on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from pydantic import BaseModel, ConfigDict

from components.release.progress.options import Progress, Proportion, Quantile
from components.release.progress.sequential import (
    ODDS,
    SPENT,
    Block,
    Capital,
    Counts,
    bet_on_breach,
    bet_on_harmless,
    bet_on_worse,
    confidence_sequence,
    start,
)

TRIALS, FAILURES, EVERYTHING = "trials", "failures", "+Inf"
"""Names of cells: a proportion has the first two, a histogram one per bucket's bound, of which the last is `+Inf`."""

QUANTILES = (0.5, 0.75, 0.9, 0.95)
"""Quantiles of the stable revision at which a distribution is compared: a regression may be anywhere."""
HISTORY = 1000.0
"""Requests that the stable revision's past before the analysis counts for; it only guides the bets."""
ENOUGH = 20.0
"""Requests of the stable revision from which its quantiles are guessed."""
_ROUNDING = 1e-9

Cells = Mapping[str, float]
Series = Mapping[str, Cells]
Counters = Mapping[str, Mapping[str, Series]]
"""Signal → revision → series → cell → how far its counter is. A series is a process, whose counters restart with it."""


class Look(BaseModel):
    """What was seen at one moment."""

    model_config = ConfigDict(frozen=True)

    number: int
    at: float
    share: int
    stable: str
    candidate: str
    counters: dict[str, dict[str, dict[str, dict[str, float]]]]


class Action(StrEnum):
    """What follows from the looks so far."""

    WAIT = "wait"
    """Not enough is known."""
    ADVANCE = "advance"
    """Give the candidate the next share."""
    PROMOTE = "promote"
    """Make it the stable revision."""
    ABORT = "abort"
    """Take all requests from it."""
    HOLD = "hold"
    """Leave it as it is and call somebody."""


@dataclass(frozen=True)
class Verdict:
    """What to do, the share that the candidate then has, and why."""

    action: Action
    share: int
    reason: str


@dataclass(frozen=True)
class Standing:
    """How one signal stands.

    Attributes:
        name: The signal.
        threshold: What a request must not exceed, for a distribution; 0 for a share of failures.
        candidate: The candidate's requests and failures.
        stable: The stable revision's.
        worse: Logarithm of the evidence that the candidate is worse.
        breach: Logarithm of the evidence that it breaks the objective.
        harmless: Logarithm of the evidence that it is not worse by the tolerance.
        needed: Whether a promotion needs it.
    """

    name: str
    threshold: float
    candidate: tuple[float, float]
    stable: tuple[float, float]
    worse: float
    breach: float
    harmless: float
    needed: bool


@dataclass(frozen=True)
class Point:
    """One look, as it is plotted.

    Attributes:
        number: Number of the look.
        at: When it was, in seconds since 1970.
        share: The candidate's share in percent.
        requests: The candidate's requests so far.
        against: Logarithm of all signals' pooled evidence that the candidate is worse.
        standings: Each signal.
    """

    number: int
    at: float
    share: int
    requests: float
    against: float
    standings: tuple[Standing, ...]

    @property
    def harmless(self) -> float:
        """Logarithm of the least evidence among the signals that a promotion needs."""
        needed = [standing.harmless for standing in self.standings if standing.needed]
        return min(needed) if needed else -math.inf


class Analysis:
    """The fold over looks. `add` them in order; nothing else changes it."""

    def __init__(self, options: Progress) -> None:
        """Begin without a look.

        Args:
            options: Steps, bounds and signals.
        """
        self._options = options
        used = options.signals.used()
        bets = len(used) + sum(signal.objective > 0 for signal in used.values())
        self.log_abort = math.log(1 / options.false_abort)
        self.log_abort_each = math.log(bets / options.false_abort)
        self.log_promote = math.log(1 / options.false_promote)
        self._bets = bets
        self._signals = {name: _Comparison(name, signal, self.log_abort_each) for name, signal in used.items()}
        self._meter = _Meter()
        self._step_began = 0.0
        self.looks: list[Look] = []
        self.points: list[Point] = []
        self.verdict = Verdict(Action.WAIT, 0, "nothing was seen yet")

    def add(self, look: Look) -> Verdict:
        """Take a look into account."""
        first = not self.looks
        if first or look.share != self.looks[-1].share:
            self._step_began = look.at
        for name, comparison in self._signals.items():
            revisions = look.counters.get(name, {})
            grown = {
                role: self._meter.grown((name, revision), revisions.get(revision, {}))
                for role, revision in (("candidate", look.candidate), ("stable", look.stable))
            }
            if first:
                comparison.remember(_total(revisions.get(look.stable, {})))
            else:
                comparison.add(grown["candidate"], grown["stable"])
        self.looks.append(look)
        self.points.append(self._point(look))
        self.verdict = self._judge(look, self.points[-1])
        return self.verdict

    def expired(self, now: float) -> bool:
        """Tell whether the time for a decision is over."""
        return bool(self.looks) and now - self.looks[0].at > self._options.max_seconds

    def _point(self, look: Look) -> Point:
        standings = tuple(comparison.standing() for comparison in self._signals.values())
        capital = [standing.worse for standing in standings]
        capital += [
            standing.breach
            for standing, comparison in zip(standings, self._signals.values(), strict=True)
            if comparison.signal.objective
        ]
        return Point(
            number=look.number,
            at=look.at,
            share=look.share,
            requests=max(standing.candidate[0] for standing in standings),
            against=float(np.logaddexp.reduce(capital)) - math.log(self._bets),
            standings=standings,
        )

    def _judge(self, look: Look, point: Point) -> Verdict:
        if point.against >= self.log_abort - _ROUNDING:
            worst = max(point.standings, key=lambda standing: max(standing.worse, standing.breach))
            if worst.worse >= worst.breach:
                worst = self._signals[worst.name].at_its_worst()
            return Verdict(Action.ABORT, 0, f"{describe(worst)}: {odds(point.against)} that it is worse")
        below = [step for step in self._options.steps if step < 100]
        passed = sum(step <= look.share for step in below)
        demanded = self.log_promote * passed / len(below)
        if (
            point.harmless >= demanded - _ROUNDING
            and look.at - self._step_began >= self._options.min_seconds_per_step - _ROUNDING
        ):
            share = next(step for step in self._options.steps if step > look.share) if look.share < 100 else 100
            reason = f"{odds(point.harmless)} that no signal is worse by its tolerance, {odds(demanded)} was asked for"
            return Verdict(Action.PROMOTE if share == 100 else Action.ADVANCE, share, reason)
        if point.requests >= self._options.max_requests:
            slow = min(
                (standing for standing in point.standings if standing.needed), key=lambda standing: standing.harmless
            )
            reason = (
                f"no decision after {point.requests:,.0f} requests of the candidate; "
                f"the least is known about {describe(slow)}"
            )
            return Verdict(Action.HOLD, look.share, reason)
        return Verdict(Action.WAIT, look.share, "not enough is known yet")


def describe(standing: Standing) -> str:
    """Say what was seen of a signal."""
    rates = [
        f"{100 * failures / trials if trials else 0:.2f} % of {trials:,.0f}"
        for trials, failures in (standing.candidate, standing.stable)
    ]
    above = f" above {standing.threshold:.3g} s" if standing.threshold else ""
    return f"{standing.name.replace('_', ' ')}{above} {rates[0]} requests, stable {rates[1]}"


def odds(log_evidence: float) -> str:
    """Write evidence as odds."""
    if log_evidence > math.log(1e6):
        return "over 1,000,000 : 1"
    if log_evidence < -math.log(1e6):
        return "under 1 : 1,000,000"
    if log_evidence < 0:
        return f"1 : {math.exp(-log_evidence):,.3g}"
    return f"{math.exp(log_evidence):,.3g} : 1"


def intervals(standing: Standing, alpha: float) -> dict[str, tuple[float, float]]:
    """Bound both revisions' rates, for all looks at once."""
    return {
        role: confidence_sequence(*counts, alpha)
        for role, counts in (("candidate", standing.candidate), ("stable", standing.stable))
    }


class _Meter:
    """Turns counters that restart into what was added since the look before."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], dict[str, Cells]] = {}

    def grown(self, whose: tuple[str, str], series: Series) -> Cells:
        known = self._last.setdefault(whose, {})
        added: list[Cells] = []
        for name, cells in series.items():
            # A process seen for the first time may have been counting for days.
            if name in known:
                before = known[name]
                restarted = any(value < before.get(cell, 0.0) for cell, value in cells.items())
                added.append({c: v - (0.0 if restarted else before.get(c, 0.0)) for c, v in cells.items()})
            known[name] = cells
        return _sum(added)


@dataclass
class _Comparison:
    """One signal's evidence."""

    name: str
    signal: Proportion | Quantile
    log_bound: float
    _past: dict[str, dict[str, float]] = field(default_factory=lambda: {"candidate": {}, "stable": {}})
    _history: Cells = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._quantiles = QUANTILES if isinstance(self.signal, Quantile) else ()
        places = max(1, len(self._quantiles))
        self._log_bound_each = self.log_bound + math.log(places)
        self._worse = start(ODDS, (places,))
        self._breach = start(ODDS)
        self._harmless = start(SPENT)

    def remember(self, cells: Cells) -> None:
        """Take the stable revision's past as a guide."""
        total = cells.get(self._all, 0.0)
        self._history = {cell: value * min(1.0, HISTORY / total) for cell, value in cells.items()} if total else {}

    def add(self, candidate: Cells, stable: Cells) -> None:
        """Bet on a block; what is bet was decided by the blocks before."""
        guide = _sum([cells for cells in (self._history, self._past["stable"]) if cells])
        thresholds = self._thresholds(guide, candidate, stable, self._quantiles)
        if thresholds:
            self._worse = bet_on_worse(
                self._worse, self._block(candidate, stable, thresholds), self._log_bound_each, self.signal.margin
            )
        judged = self._thresholds(guide, candidate, stable, (self._quantile,))
        if judged and guide.get(self._all, 0.0) >= ENOUGH:
            block = _single(self._block(candidate, stable, judged))
            trials, failures = self._count(guide, judged[0])
            reference = np.array((failures + 0.5) / (trials + 1.0))
            self._harmless = bet_on_harmless(self._harmless, block, reference, self.signal.tolerance)
        self._bet_on_breach(candidate)
        for role, cells in (("candidate", candidate), ("stable", stable)):
            past = self._past[role]
            for cell, value in cells.items():
                past[cell] = past.get(cell, 0.0) + value

    def standing(self) -> Standing:
        """Say how it stands, at the quantile that a promotion is about."""
        return self._standing_at(self._quantile)

    def at_its_worst(self) -> Standing:
        """Say how it stands, at the quantile with the most evidence against the candidate."""
        return self._standing_at(self._quantiles[int(np.argmax(self._worse.log))] if self._quantiles else 0.0)

    def _standing_at(self, quantile: float) -> Standing:
        guide = _sum([cells for cells in (self._history, self._past["stable"]) if cells])
        found = self._thresholds(guide, self._past["candidate"], self._past["stable"], (quantile,))
        threshold = found[0] if found else ""
        counts = {role: self._count(cells, threshold) for role, cells in self._past.items()}
        return Standing(
            name=self.name,
            threshold=float(threshold) if self._quantiles and threshold else 0.0,
            candidate=counts["candidate"],
            stable=counts["stable"],
            worse=_mean(self._worse),
            breach=float(self._breach.log) if self.signal.objective else -math.inf,
            harmless=float(self._harmless.log),
            needed=not self.signal.optional or any(trials for trials, _ in counts.values()),
        )

    @property
    def _all(self) -> str:
        return EVERYTHING if isinstance(self.signal, Quantile) else TRIALS

    @property
    def _quantile(self) -> float:
        return self.signal.quantile if isinstance(self.signal, Quantile) else 0.0

    def _thresholds(self, guide: Cells, candidate: Cells, stable: Cells, quantiles: tuple[float, ...]) -> list[str]:
        """Choose the bounds just above the stable revision's quantiles, among those that both revisions count."""
        if not isinstance(self.signal, Quantile):
            return [FAILURES]
        bounds = _bounds(guide, candidate or guide, stable or guide)
        total = guide.get(EVERYTHING, 0.0)
        if total < ENOUGH or not bounds:
            return []
        return [next((b for b in bounds if guide[b] >= quantile * total), bounds[-1]) for quantile in quantiles]

    def _count(self, cells: Cells, threshold: str) -> tuple[float, float]:
        total = cells.get(self._all, 0.0)
        if not isinstance(self.signal, Quantile):
            return total, min(total, cells.get(FAILURES, 0.0))
        return total, max(0.0, total - cells.get(threshold, total))

    def _block(self, candidate: Cells, stable: Cells, thresholds: list[str]) -> Block:
        def counts(cells: Cells) -> Counts:
            pairs = np.array([self._count(cells, threshold) for threshold in thresholds], float)
            return Counts(pairs[:, 0], pairs[:, 1])

        return Block(counts(candidate), counts(stable))

    def _bet_on_breach(self, candidate: Cells) -> None:
        if not self.signal.objective or not candidate:
            return
        objective, threshold = self.signal.objective, FAILURES
        if isinstance(self.signal, Quantile):
            bounds = [bound for bound in _bounds(candidate) if float(bound) >= objective]
            if not bounds:
                return
            objective, threshold = 1 - self.signal.quantile, bounds[0]
        counts = _single(self._block(candidate, candidate, [threshold])).candidate
        self._breach = bet_on_breach(self._breach, counts, self.log_bound, objective)


def _mean(capital: Capital) -> float:
    return float(np.logaddexp.reduce(capital.log)) - math.log(len(capital.log))


def _single(block: Block) -> Block:
    return Block(*(Counts(counts.trials[0], counts.failures[0]) for counts in block))


def _bounds(*histograms: Cells) -> list[str]:
    common = set.intersection(*(set(cells) for cells in histograms)) - {EVERYTHING}
    return sorted(common, key=float)


def _total(series: Series) -> Cells:
    return _sum(list(series.values()))


def _sum(parts: list[Cells]) -> dict[str, float]:
    """Add cell by cell; bounds that only some processes count are left out."""
    kept = [cells for cells in parts if cells]
    if not kept:
        return {}
    common = set.intersection(*(set(cells) for cells in kept))
    return {cell: sum(cells[cell] for cells in kept) for cell in kept[0] if cell in common}
