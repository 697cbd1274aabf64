"""The analysis of a canary against the default analyses of Flagger, Argo Rollouts and Kayenta, on the same traffic.

Each peer's rule is written from its source, with the values of its own documentation:

- Flagger (`pkg/controller/scheduler.go`, `scheduler_metrics.go`;
  `docs/gitbook/tutorials/istio-progressive-delivery.md`): every minute the success rate of the last minute must be
  at least 99 % and the 99th percentile of the last 30 s at most 500 ms; a passed check adds 10 % of the traffic,
  five failed ones roll back, and after a passed check at 50 % the canary is promoted.
- Argo Rollouts (`analysis/analysis.go`, `docs/features/analysis.md`): 20, 40, 60, 80 % for ten minutes each; from
  40 % on a measurement every five minutes of `irate`, the last two scrapes, must be at least 0.95, and more than
  `failureLimit: 3` failed ones abort.
- Kayenta (`kayenta-judge/…/NetflixACAJudge.scala`, `MannWhitneyClassifier.scala`,
  `kayenta-mannwhitney/…/MannWhitney.scala`): canary and a baseline of the same size, one value a minute; a metric
  is High if the Mann-Whitney interval of the shift at 98 % lies above a quarter of the estimated shift; judged
  every ten minutes for an hour on all minutes so far; a score under 75 fails at once, and at the end one of at
  least 95 passes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from numpy.random import Generator
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm, rankdata

from components.release.progress.judge import QUANTILES, Action, Analysis, Look
from components.release.progress.options import Progress
from components.release.progress.sequential import ODDS, SPENT, Block, Counts, bet_on_harmless, bet_on_worse, start
from serving.predictor.metrics import _SECONDS

RATE = 20
"""Requests a second, to both revisions."""
MEDIAN, SIGMA = 0.13, 0.5
"""Lognormal seconds: the 99th percentile is 416 ms, and 541 ms when 30 % slower: Flagger's 500 ms lie between."""


class Case(NamedTuple):
    """Error rates of both revisions, and how much slower the canary is."""

    stable: float
    canary: float
    slower: float = 1.0


class End(NamedTuple):
    """Whether it was aborted, after how many requests of the canary and how many seconds."""

    aborted: bool
    requests: float
    seconds: float


CASES = {
    "no worse, 0.5 % errors": Case(0.005, 0.005),
    "no worse, 1 % errors": Case(0.01, 0.01),
    "errors 0.5 % → 1.5 %": Case(0.005, 0.015),
    "errors 1 % → 3 %": Case(0.01, 0.03),
    "30 % slower": Case(0.005, 0.005, 1.3),
}


def headrace(case: Case, random: Generator) -> End:
    """The analysis with its default options, a look every ten seconds."""
    quiet = {"use": False}
    options = Progress.model_validate({"signals": {"first_token": quiet, "format_errors": quiet}})
    edges = np.array(_SECONDS)
    cells = [*(f"{bound:g}" for bound in _SECONDS), "+Inf"]
    chances = {
        name: np.diff(ndtr((np.log(edges) - math.log(MEDIAN * slower)) / SIGMA), prepend=0.0, append=1.0)
        for name, slower in (("old", 1.0), ("new", case.slower))
    }
    errors = {name: np.zeros(2) for name in chances}
    seconds = {name: np.zeros(len(cells)) for name in chances}

    def serve(number: int, share: int) -> None:
        dealt = int(random.binomial(number, share / 100))
        for name, requests, rate in (("new", dealt, case.canary), ("old", number - dealt, case.stable)):
            errors[name] += [requests, random.binomial(requests, rate)]
            seconds[name] += random.multinomial(requests, chances[name])

    def look(number: int, share: int) -> Look:
        counters = {
            "errors": {n: {"p": dict(zip(("trials", "failures"), e.tolist(), strict=True))} for n, e in errors.items()},
            "latency": {n: {"p": dict(zip(cells, np.cumsum(s).tolist(), strict=True))} for n, s in seconds.items()},
        }
        return Look(number=number, at=10.0 * number, share=share, stable="old", candidate="new", counters=counters)

    serve(RATE * 600, 0)
    analysis, share = Analysis(options), 5
    analysis.add(look(0, share))
    for number in range(1, 10**6):
        serve(RATE * 10, share)
        verdict = analysis.add(look(number, share))
        if verdict.action in (Action.ABORT, Action.PROMOTE, Action.HOLD):
            break
        share = verdict.share
    return End(verdict.action == Action.ABORT, analysis.points[-1].requests, 10.0 * number)


def flagger(case: Case, random: Generator) -> End:
    """A minute's success rate and half a minute's 99th percentile against fixed thresholds."""
    weight, failed, requests, minute = 10, 0, 0.0, 0
    while True:
        minute += 1
        number = int(random.binomial(RATE * 60, weight / 100))
        requests += number
        success = 100 * (1 - random.binomial(number, case.canary) / number)
        slowest = np.quantile(random.lognormal(math.log(MEDIAN * case.slower), SIGMA, max(1, number // 2)), 0.99)
        if success < 99 or slowest > 0.5:
            failed += 1
            if failed >= 5:
                return End(True, requests, 60.0 * minute)
        elif weight >= 50:
            return End(False, requests, 60.0 * minute)
        else:
            weight += 10


def argo(case: Case, random: Generator) -> End:
    """A quarter of a minute's success rate every five minutes against 0.95."""
    failed, requests = 0, 0.0
    for minute in range(5, 45, 5):
        weight = 20 * (1 + (minute - 1) // 10)
        number = int(random.binomial(RATE * 300, weight / 100))
        requests += number
        if minute <= 10:
            continue
        measured = int(random.binomial(RATE * 15, weight / 100))
        failed += random.binomial(measured, case.canary) / measured > 0.05
        if failed > 3:
            return End(True, requests, 60.0 * minute)
    return End(False, requests, 2400.0)


def kayenta(case: Case, random: Generator) -> End:
    """Mann-Whitney on one value a minute, judged every ten minutes on all minutes so far."""
    values: dict[str, list[list[float]]] = {"canary": [], "baseline": []}
    requests = 0.0
    for minute in range(1, 61):
        for name, rate, slower in (("canary", case.canary, case.slower), ("baseline", case.stable, 1.0)):
            number = int(random.binomial(RATE * 60, 0.1))
            requests += number if name == "canary" else 0
            latency = np.quantile(random.lognormal(math.log(MEDIAN * slower), SIGMA, number), 0.95)
            values[name].append([100 * random.binomial(number, rate) / number, 1000 * float(latency)])
        if minute % 10 == 0:
            canary, baseline = (np.array(values[name]) for name in ("canary", "baseline"))
            passed = [not high(canary[:, metric], baseline[:, metric]) for metric in range(2)]
            score = 100 * sum(passed) / len(passed)
            if score < 75 or (minute == 60 and score < 95):
                return End(True, requests, 60.0 * minute)
    return End(False, requests, 3600.0)


def high(experiment: np.ndarray, control: np.ndarray) -> bool:
    """`MannWhitneyClassifier.compare` for a metric whose increase is bad."""
    if np.array_equal(np.sort(experiment), np.sort(control)) or len(np.union1d(experiment, control)) == 1:
        return False
    n_x, n_y = len(experiment), len(control)
    low, top = experiment.min() - control.max(), experiment.max() - control.min()

    def difference(mu: float, quantile: float) -> float:
        ranks = rankdata(np.concatenate([experiment - mu, control]))
        _, ties = np.unique(ranks, return_counts=True)
        dz = ranks[:n_x].sum() - n_x * (n_x + 1) / 2 - n_x * n_y / 2
        tied = (ties**3.0 - ties).sum() / ((n_x + n_y) * (n_x + n_y - 1))
        return (dz - np.sign(dz) * 0.5) / math.sqrt(n_x * n_y / 12 * (n_x + n_y + 1 - tied)) - quantile

    def root(quantile: float) -> float:
        if difference(low, quantile) <= 0:
            return low
        return top if difference(top, quantile) >= 0 else brentq(difference, low, top, (quantile,), xtol=1e-4)

    lower, estimate = root(-norm.ppf(0.01)), root(0.0)
    return lower > 0.25 * abs(estimate) and experiment.mean() >= control.mean()


METHODS: dict[str, tuple[Callable[[Case, Generator], End], int]] = {
    "Headrace": (headrace, 250),
    "Flagger": (flagger, 2000),
    "Argo Rollouts": (argo, 2000),
    "Kayenta": (kayenta, 120),
}


@pytest.mark.benchmark
def test_decisions_against_named_peers(capsys: pytest.CaptureFixture[str]) -> None:
    aborted: dict[tuple[str, str], float] = {}
    with capsys.disabled():
        print(f"\n{'':24}{'':16}{'aborted':>9}{'median requests':>17}{'seconds':>9}{'   to the end otherwise':>12}")
        for name, case in CASES.items():
            for method, (decide, runs) in METHODS.items():
                random = np.random.default_rng(11)
                ends = [decide(case, random) for _ in range(runs)]
                stopped, others = [e for e in ends if e.aborted], [e for e in ends if not e.aborted]
                aborted[method, name] = len(stopped) / runs

                def median(some: list[End], field: int) -> str:
                    return f"{np.median([end[field] for end in some]):,.0f}" if some else "–"

                print(
                    f"{name:24}{method:16}{100 * len(stopped) / runs:7.1f} %{median(stopped, 1):>17}"
                    f"{median(stopped, 2):>9}{median(others, 1):>12} requests, {median(others, 2)} s"
                )
    for name in list(CASES)[:2]:
        assert aborted["Headrace", name] <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / METHODS["Headrace"][1])
    for name in list(CASES)[2:]:
        assert aborted["Headrace", name] >= 0.95
        assert aborted["Headrace", name] >= max(aborted["Flagger", name], aborted["Argo Rollouts", name]) - 0.05


def first_crossing(
    step: Callable[[object, Generator], tuple[object, np.ndarray]],
    state: object,
    bound: float,
    looks: int,
    per_look: int,
    runs: int,
) -> np.ndarray:
    """Peek at every look of many analyses; returns the canary's requests at the crossing, infinite for none."""
    random, crossed = np.random.default_rng(5), np.full(runs, np.inf)
    for number in range(1, looks + 1):
        state, evidence = step(state, random)
        crossed = np.where((evidence >= bound - 1e-9) & np.isinf(crossed), per_look * number, crossed)
        if np.isfinite(crossed).all():
            break
    return crossed


@pytest.mark.benchmark
def test_bounds_and_requests_at_a_constant_ten_percent(capsys: pytest.CaptureFixture[str]) -> None:
    """One signal, a tenth of the traffic, a look every 50 requests of the canary unless said otherwise."""

    def draw(random: Generator, size: int, rates: tuple[float, ...], runs: int) -> Counts:
        shape = (runs, len(rates)) if len(rates) > 1 else (runs,)
        failures = random.binomial(size, rates if len(rates) > 1 else rates[0], shape)
        return Counts(np.full(shape, float(size)), failures.astype(float))

    def worse(candidate: tuple[float, ...], stable: tuple[float, ...], looks: int, size: int, runs: int, later=0):
        places = len(stable)
        bound = math.log(100)
        seen = [0]

        def step(state, random):  # type: ignore[no-untyped-def]
            seen[0] += 1
            now = candidate if seen[0] > later else stable
            block = Block(draw(random, size, now, runs), draw(random, 9 * size, stable, runs))
            state = bet_on_worse(state, block, bound + math.log(places))
            log = state.log if places == 1 else np.logaddexp.reduce(state.log, axis=-1) - math.log(places)
            return state, log

        shape = (runs, places) if places > 1 else (runs,)
        return first_crossing(step, start(ODDS, shape), bound, looks, size, runs)

    def harmless(candidate: float, stable: float, tolerance: float, looks: int, runs: int):
        past = [np.full(runs, 500.0), np.full(runs, 500 * stable)]

        def step(state, random):  # type: ignore[no-untyped-def]
            block = Block(draw(random, 50, (candidate,), runs), draw(random, 450, (stable,), runs))
            state = bet_on_harmless(state, block, past[1] / past[0], tolerance)
            past[0], past[1] = past[0] + block.stable.trials, past[1] + block.stable.failures
            return state, state.log

        return first_crossing(step, start(SPENT, (runs,)), math.log(20), looks, 50, runs)

    tails = tuple(1 - quantile for quantile in QUANTILES)
    slower = tuple(float(norm.sf(norm.isf(tail) - math.log(1.3) / SIGMA)) for tail in tails)
    false_abort = np.isfinite(worse((0.01,), (0.01,), 200, 50, 6000)).mean()
    false_abort_slow = np.isfinite(worse((0.05,), (0.05,), 200, 50, 3000)).mean()
    false_promote = np.isfinite(harmless(0.02, 0.01, 0.01, 200, 3000)).mean()
    false_promote_tail = np.isfinite(harmless(0.10, 0.05, 0.05, 200, 3000)).mean()
    caught = worse((0.03,), (0.01,), 200, 50, 1000)
    often = worse((0.03,), (0.01,), 500, 10, 500)
    late = worse((0.03,), (0.01,), 200, 50, 300, later=100) - 5000
    slow = worse(slower, tails, 100, 10, 500)
    promoted = harmless(0.01, 0.01, 0.01, 300, 500)
    promoted_tail = harmless(0.05, 0.05, 0.05, 300, 500)
    with capsys.disabled():
        print(
            f"\nfalse aborts in 10,000 requests of the canary, peeking at each look: {100 * false_abort:.2f} % at 1 %, "
            f"{100 * false_abort_slow:.2f} % at 5 % (promised 1 %)"
            f"\nfalse promotions at the tolerance: {100 * false_promote:.1f} % (1 % → 2 %), "
            f"{100 * false_promote_tail:.1f} % (5 % → 10 %) (promised 5 %)"
            f"\nrequests of the canary to catch 1 % → 3 %: median {np.median(caught):.0f}, 90 % within "
            f"{np.quantile(caught, 0.9):.0f}; looking every 10 requests {np.median(often):.0f}; the regression coming "
            f"after 5,000 good requests {np.median(late):.0f}"
            f"\nto catch latencies 30 % longer: median {np.median(slow):.0f}, 90 % within {np.quantile(slow, 0.9):.0f}"
            f"\nto rule out a tolerance of one in a hundred at 1 % errors: median {np.median(promoted):.0f}; "
            f"of 5 % → 10 % beyond the 95th percentile: {np.median(promoted_tail):.0f}"
        )
    assert false_abort <= 0.01 + 3 * math.sqrt(0.01 * 0.99 / 6000)
    assert false_promote <= 0.05
    assert np.median(caught) <= 417 and np.median(often) <= 417
