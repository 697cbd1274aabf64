import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from components.evaluation.intervals import bootstrap, mcnemar, newcombe, order_statistics, wilson

counts = st.integers(0, 200)


@given(counts, st.integers(1, 200), st.sampled_from([0.8, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(successes: int, more: int, confidence: float) -> None:
    reference = binomtest(successes, successes + more).proportion_ci(confidence, "wilson")
    assert wilson(successes, successes + more, confidence) == pytest.approx(tuple(reference), abs=1e-9)


@given(counts, counts)
def test_mcnemar_agrees_with_the_exact_binomial_test(gained: int, lost: int) -> None:
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected)


@given(counts, counts, counts, counts)
def test_newcombe_holds_the_difference_and_turns_with_the_sides(
    gained: int, lost: int, both: int, neither: int
) -> None:
    low, high = newcombe(gained, lost, both, neither, 0.95)
    trials = gained + lost + both + neither
    difference = (gained - lost) / trials if trials else 0
    assert -1 - 1e-9 <= low <= difference + 1e-9
    assert difference - 1e-9 <= high <= 1 + 1e-9
    assert newcombe(lost, gained, both, neither, 0.95) == pytest.approx((-high, -low))


def test_newcombe_covers_as_promised() -> None:
    """900 of 1,000 simulated comparisons at the 90 % level, give or take three standard errors."""
    import numpy as np

    generator = np.random.default_rng(0)
    cells = [0.35, 0.05, 0.4, 0.2]  # gained, lost, both, neither
    covered = 0
    for drawn in generator.multinomial(60, cells, size=1000):
        low, high = newcombe(*(int(count) for count in drawn), 0.9)
        covered += low <= cells[0] - cells[1] <= high
    assert 870 <= covered <= 960


def test_bootstrap_is_seeded_and_narrows_with_more_questions() -> None:
    few, many = [0.0, 0.5, 1.0, 0.25], [0.0, 0.5, 1.0, 0.25] * 50
    assert bootstrap(few, 0.95, 500, seed=3) == bootstrap(few, 0.95, 500, seed=3)
    widths = [high - low for low, high in (bootstrap(scores, 0.95, 500, seed=3) for scores in (few, many))]
    assert widths[1] < widths[0] / 4


def test_a_quantile_lies_between_two_scores_as_often_as_is_said() -> None:
    generator = np.random.default_rng(5)
    for count, quantile in ((20, 0.5), (100, 0.95), (2_000, 0.95)):
        true = -math.log(1 - quantile)
        ends = [order_statistics(generator.exponential(size=count), quantile, 0.95) for _ in range(300)]
        assert 0.92 < np.mean([low <= true <= high for low, high in ends]) <= 1
        assert np.mean([high - low for low, high in ends]) < 4
    assert order_statistics([3, 1, 2], 0.5, 0.95) == (1, 3)
