"""The bounds hold: exactly, block by block, and over thousands of analyses that peek at every look."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, hypergeom, nchypergeom_fisher

from components.release.progress.sequential import (
    ODDS,
    SPENT,
    Array,
    Block,
    Capital,
    Counts,
    bet_on_breach,
    bet_on_harmless,
    bet_on_worse,
    confidence_sequence,
    start,
)

BOUND = math.log(100)
RATES = st.floats(0.001, 0.999)


def capital(alternatives: dict[float, float], seed: int, size: int) -> Capital:
    """Somebody in the middle of an analysis, once for each of `size` outcomes."""
    random = np.random.default_rng(seed)
    stakes = start(alternatives).stakes + random.normal(0, 2, len(alternatives))
    return Capital(np.tile(stakes, (size, 1)), np.full(size, float(random.integers(0, 5000))))


def counts(trials: int, failures: Array) -> Counts:
    return Counts(np.full(len(failures), float(trials)), failures.astype(float))


def mean(probabilities: Array, before: Capital, after: Capital) -> float:
    return float((probabilities * np.exp(after.log - before.log)).sum())


@settings(max_examples=150)
@given(st.integers(1, 40), st.integers(1, 300), st.data(), st.integers(0, 10**6), st.sampled_from([1.0, 1.3]))
def test_a_bet_on_worse_is_exactly_fair_and_unfair_to_who_bets_against_a_better_candidate(
    n_c: int, n_s: int, data: st.DataObject, seed: int, margin: float
) -> None:
    failures = data.draw(st.integers(0, min(80, n_c + n_s)))
    outcomes = np.arange(max(0, failures - n_s), min(n_c, failures) + 1)
    before = capital(ODDS, seed, len(outcomes))
    if before.log[0] >= BOUND:
        return
    block = Block(counts(n_c, outcomes), counts(n_s, failures - outcomes))
    after = bet_on_worse(before, block, BOUND, margin)
    null = nchypergeom_fisher(n_c + n_s, failures, n_c, margin) if margin != 1 else hypergeom(n_c + n_s, failures, n_c)
    assert mean(null.pmf(outcomes), before, after) == pytest.approx(1, abs=1e-6)
    better = nchypergeom_fisher(n_c + n_s, failures, n_c, data.draw(st.floats(0.05, margin)))
    assert mean(better.pmf(outcomes), before, after) <= 1 + 1e-6
    assert (after.log <= BOUND + 1e-9).all(), "capital above the bound would be wasted"


@settings(max_examples=150)
@given(st.integers(1, 200), st.floats(0.001, 0.5), st.just(0.0) | st.floats(1e-9, 1), st.integers(0, 10**6))
def test_a_bet_on_a_breach_is_fair_at_the_objective_and_below(
    n: int, objective: float, below: float, seed: int
) -> None:
    outcomes = np.arange(n + 1)
    before = capital(ODDS, seed, n + 1)
    if before.log[0] >= BOUND:
        return
    after = bet_on_breach(before, counts(n, outcomes), BOUND, objective)
    assert mean(binom(n, objective).pmf(outcomes), before, after) == pytest.approx(1, abs=1e-6)
    assert mean(binom(n, objective * below).pmf(outcomes), before, after) <= 1 + 1e-6


@settings(max_examples=200)
@given(
    st.integers(1, 30), st.integers(1, 40), RATES, st.floats(0.005, 0.3), RATES, st.floats(0, 1), st.integers(0, 10**6)
)
def test_a_bet_on_harmless_is_at_most_fair_on_the_border_and_inside(
    n_c: int, n_s: int, reference: float, tolerance: float, truth: float, beyond: float, seed: int
) -> None:
    stable = truth * (1 - tolerance)
    candidate = stable + tolerance + beyond * (1 - stable - tolerance)
    f_c, f_s = (grid.ravel() for grid in np.meshgrid(np.arange(n_c + 1), np.arange(n_s + 1)))
    before = capital(SPENT, seed, len(f_c))
    after = bet_on_harmless(before, Block(counts(n_c, f_c), counts(n_s, f_s)), np.full(len(f_c), reference), tolerance)
    for p_c in (stable + tolerance, candidate):
        probabilities = binom(n_c, p_c).pmf(f_c) * binom(n_s, stable).pmf(f_s)
        assert mean(probabilities, before, after) <= 1 + 1e-6


def crossings(
    alternatives: dict[float, float], rates: tuple[float, float], bound: float, runs: int, looks: int
) -> Array:
    """Peek at every look of many analyses; returns the candidate's requests at the crossing, infinite for none."""
    random = np.random.default_rng(7)
    state, crossed = start(alternatives, (runs,)), np.full(runs, np.inf)
    past = np.full((2, runs), [[500.0], [500.0 * rates[1]]])
    for look in range(1, looks + 1):
        block = Block(
            counts(50, random.binomial(50, rates[0], runs)), counts(450, random.binomial(450, rates[1], runs))
        )
        if alternatives is ODDS:
            state = bet_on_worse(state, block, bound)
        else:
            state = bet_on_harmless(state, block, past[1] / past[0], 0.01)
            past += [block.stable.trials, block.stable.failures]
        crossed = np.where((state.log >= bound - 1e-9) & np.isinf(crossed), 50 * look, crossed)
    return crossed


def test_peeking_at_every_look_keeps_the_promise_at_the_border() -> None:
    runs = 3000
    for alternatives, rates, risk in ((ODDS, (0.01, 0.01), 0.01), (SPENT, (0.02, 0.01), 0.05)):
        false = np.isfinite(crossings(alternatives, rates, math.log(1 / risk), runs, looks=100)).mean()
        assert false <= risk + 3 * math.sqrt(risk * (1 - risk) / runs)


def test_a_threefold_error_rate_is_caught_within_the_information_limit() -> None:
    # An even bet on the truth gains KL = 0.0113 per request of the candidate: log(100) takes 409 on average.
    assert np.median(crossings(ODDS, (0.03, 0.01), BOUND, 400, looks=60)) <= 417
    assert np.median(crossings(SPENT, (0.01, 0.01), math.log(20), 400, looks=60)) <= 1500


@settings(max_examples=30)
@given(st.integers(0, 400), st.floats(0, 1))
def test_a_confidence_sequence_holds_the_estimate_and_shrinks(trials: int, share: float) -> None:
    failures = round(trials * share)
    low, high = confidence_sequence(trials, failures, 0.05)
    assert 0 <= low <= (failures / trials if trials else 0.5) <= high <= 1
    wide = confidence_sequence(trials, failures, 0.001)
    assert wide[0] <= low + 1e-9 and high <= wide[1] + 1e-9


def test_a_confidence_sequence_covers_a_rate_at_all_looks() -> None:
    random = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        failures = np.cumsum(random.binomial(20, 0.1, 30))
        bounds = [confidence_sequence(20 * (i + 1), int(f), 0.1) for i, f in enumerate(failures)]
        missed += any(not low <= 0.1 <= high for low, high in bounds)
    assert missed <= 200 * 0.1 + 3 * math.sqrt(200 * 0.1 * 0.9)
