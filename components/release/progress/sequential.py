"""Bets on two streams of successes and failures that stay fair however often one looks.

Everything here is pure and works on arrays, so that the analysis of one rollout and the simulation of thousands run
the same code. Requests come in blocks, the difference between two looks: the candidate failed `f_c` of `n_c`, the
stable revision `f_s` of `n_s`. Evidence against a hypothesis is the capital of somebody who bets against it: it
starts at 1, and each block multiplies it by something whose expectation under the hypothesis is at most 1. So it is a
supermartingale, and by Ville's inequality it ever reaches `1/α` with probability at most `α`: one may look after
every request, stop at will and go on at will.

**Against "no worse" (`bet_on_worse`).** The gateway deals requests to the revisions at random. If the revision makes
no difference to any request, then, given the sizes and the block's total of failures, `f_c` is hypergeometric,
whatever the rates are and however they drift or differ from request to request. So nothing has to be estimated. A bet
on an odds ratio `r` multiplies the stake by `r^f_c / E₀[r^f_c]`, Fisher's noncentral hypergeometric likelihood ratio,
which has expectation 1. For odds ratios below 1 (a candidate that is better) the distribution of `f_c` has a
decreasing likelihood ratio to the hypothesis' own and the multiplier increases in `f_c`, so its expectation is
smaller. With a margin the hypothesis is the noncentral distribution at that odds ratio. An absolute objective is the
same bet on the binomial distribution at the objective.

Capital above the bound is worth nothing, since the analysis stops there. So the multiplier is capped at what reaches
the bound, and the probability this frees is given back as a factor `b ≥ 1` on the rest, chosen so that
`E₀[min(b·multiplier, cap)] = 1`; the capped multiplier still increases in `f_c`, so the argument above holds (Fischer
and Ramdas, arXiv 2410.16076). It saves about a tenth of the requests.

**Against "worse by the tolerance" (`bet_on_harmless`).** Here the hypothesis is `p_c ≥ p_s + δ`, a difference and not
a ratio, because what users feel is a share of requests. A bet names rates `(a, b)` with `a < b + δ`, fixed before the
block is seen, and multiplies its stake by the likelihood ratio of `(a, b)` against `(q + δ, q)`, where `q` minimises
`n_c KL(a ‖ q + δ) + n_s KL(b ‖ q)`: the reverse information projection onto the hypothesis' border (Turner, Ly and
Grünwald, arXiv 2106.02693). Let the true rates be `(x + δ, x)`. Given the sizes the ratio's expectation is `A(x +
δ)^n_c · B(x)^n_s`, with `A(u) = u·a/(q + δ) + (1 - u)(1 - a)/(1 - q - δ)` and `B(v) = v·b/q + (1 - v)(1 - b)/(1 -
q)`, both linear. So its logarithm is concave in `x`; at `x = q` it is 0, and its slope there is minus the derivative
of the minimised divergence, which is 0, because the minimum is interior: the divergence is infinite at the ends.
Hence the expectation is at most 1 on the border. As `a ≤ q + δ` and `q ≤ b`, `A` falls and `B` rises, so it is at
most 1 inside the hypothesis too. Requests of one block need not share one rate: the expectation is a product of
factors linear in each request's rate, which for a given mean is largest when all are equal. So it is enough that the
hypothesis holds for each block's mean rates, however they drift.

**What is mixed.** A mean of stakes with fixed weights is such a capital again. It runs over several alternatives,
because the size of a regression is not known, and over the moments at which a stake is put down, because a candidate
that was good at 5 % of the traffic may fail at 50 %; in `judge` also over quantiles and signals.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]

ODDS = {1.5: 0.15, 2.5: 0.4, 5.0: 0.4, 20.0: 0.05}
"""Odds ratios of failing that are bet on, and the capital put on each; chosen by simulation (README)."""
SPENT = {0.0: 0.4, 0.3: 0.3, 0.6: 0.3}
"""Shares of the tolerance that a harmless candidate is bet to use up, and the capital put on each."""
AT_ONCE = 0.8
"""Capital that is bet from the first block on; the rest is put down as requests come in."""
HALF_LATER = 400.0
"""Requests of the candidate by which half of that rest is put down."""

_BISECTIONS = 40
_ROUNDING = 1e-9


class Counts(NamedTuple):
    """Requests and the failures among them; arrays whose last axis, if any, is that of independent analyses."""

    trials: Array
    failures: Array


class Block(NamedTuple):
    """What happened between two looks."""

    candidate: Counts
    stable: Counts


@dataclass(frozen=True)
class Capital:
    """What a bettor owns: one stake per alternative, and what has not been put down yet.

    Attributes:
        stakes: Logarithms of the stakes, the alternatives on the last axis.
        seen: Requests of the candidate so far.
    """

    stakes: Array
    seen: Array

    @property
    def log(self) -> Array:
        """Logarithm of the evidence."""
        return np.logaddexp(_log_sum(self.stakes), np.log(_reserve(self.seen)))


def start(alternatives: dict[float, float], shape: tuple[int, ...] = ()) -> Capital:
    """Own 1, spread over alternatives.

    Args:
        alternatives: Weight of each; they sum to 1.
        shape: Shape of a batch of analyses.
    """
    stakes = np.log(AT_ONCE * np.array(list(alternatives.values())))
    return Capital(np.broadcast_to(stakes, (*shape, len(alternatives))), np.zeros(shape))


def bet_on_worse(capital: Capital, block: Block, log_bound: float, margin: float = 1.0) -> Capital:
    """Bet that the candidate fails more often than the stable revision.

    Args:
        capital: What is owned, spread over `ODDS`.
        block: What happened.
        log_bound: Logarithm of the capital at which the analysis stops.
        margin: Odds ratio that is still no worse.
    """
    (n_c, f_c), (n_s, f_s) = block
    failures = f_c + f_s
    support = _support(np.minimum(n_c, failures))
    rest = failures[..., None] - support
    possible = (support <= np.minimum(n_c, failures)[..., None]) & (rest <= n_s[..., None])
    rest = np.where(possible, rest, 0)
    k = np.where(possible, support, 0)
    weights = _log_choose(n_c[..., None], k) + _log_choose(n_s[..., None], rest) + k * math.log(margin)
    null = np.where(possible, weights, -np.inf)
    return _tilt(capital, block.candidate, null - _log_sum(null)[..., None], log_bound)


def bet_on_breach(capital: Capital, candidate: Counts, log_bound: float, objective: float) -> Capital:
    """Bet that the candidate fails more often than an objective allows; arguments as in `bet_on_worse`."""
    n, _ = candidate
    support = _support(n)
    possible = support <= n[..., None]
    k = np.where(possible, support, 0)
    odds = math.log(objective) - math.log1p(-objective)
    weights = _log_choose(n[..., None], k) + k * odds + n[..., None] * math.log1p(-objective)
    return _tilt(capital, candidate, np.where(possible, weights, -np.inf), log_bound)


def bet_on_harmless(capital: Capital, block: Block, reference: Array, tolerance: float) -> Capital:
    """Bet that the candidate's rate of failures exceeds the stable revision's by less than a tolerance.

    Args:
        capital: What is owned, spread over `SPENT`.
        block: What happened.
        reference: The stable revision's rate, estimated from earlier blocks.
        tolerance: The difference that is not harmless any more.
    """
    capital = _put_down(capital, block.candidate.trials, SPENT)
    stable = np.clip(reference[..., None], 1e-4, 1 - 1e-4)
    bet = np.minimum(stable + tolerance * np.array(list(SPENT)), 1 - 1e-5)
    counts = [Counts(trials[..., None], failures[..., None]) for trials, failures in block]
    q = _project(counts[0].trials, counts[1].trials, bet, stable, tolerance)
    informative = (counts[0].trials > 0) & (counts[1].trials > 0) & (bet < stable + tolerance - _ROUNDING)
    gained = _log_ratio(counts[0], bet, q + tolerance) + _log_ratio(counts[1], stable, q)
    return Capital(capital.stakes + np.where(informative, gained, 0.0), capital.seen)


def confidence_sequence(trials: float, failures: float, alpha: float) -> tuple[float, float]:
    """Bound a rate for all sample sizes at once: where a uniform mixture does not beat the rate by `1/α`."""
    if not trials:
        return 0.0, 1.0
    mixture = math.lgamma(failures + 1) + math.lgamma(trials - failures + 1) - math.lgamma(trials + 2)

    def excess(p: float) -> float:
        likelihood = (failures * math.log(p) if failures else 0.0) + (
            (trials - failures) * math.log1p(-p) if trials > failures else 0.0
        )
        return mixture - likelihood + math.log(alpha)

    def border(outside: float, inside: float) -> float:
        for _ in range(_BISECTIONS):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
        return inside

    estimate = failures / trials
    low = border(0.0, estimate) if failures else 0.0
    return low, border(1.0, estimate) if failures < trials else 1.0


def _tilt(capital: Capital, candidate: Counts, log_null: Array, log_bound: float) -> Capital:
    """Bet on odds ratios times a null distribution on 0, 1, 2, …, and waste nothing above the bound."""
    capital = _put_down(capital, candidate.trials, ODDS)
    tilts = np.log(np.array(list(ODDS)))
    outcomes = np.arange(log_null.shape[-1], dtype=float)[:, None] * tilts
    norms = np.stack([_log_sum(log_null + outcomes[:, i]) for i in range(len(tilts))], -1)
    gained = candidate.failures[..., None] * tilts - norms
    stakes, reserve, before = capital.stakes + gained, np.log(_reserve(capital.seen)), capital.log
    # The whole capital after each possible outcome, relative to what it is now.
    after = outcomes - norms[..., None, :] + capital.stakes[..., None, :]
    multiplier = np.logaddexp(_log_sum(after), reserve[..., None]) - before[..., None]
    cap = np.maximum(log_bound - before, 0.0)
    null = np.exp(log_null)
    kept = np.cumsum(null * np.exp(np.minimum(multiplier, 700.0)), -1)
    tail = np.maximum(1.0 - np.cumsum(null, -1), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        boosts = np.where(kept > _ROUNDING, (1.0 - np.exp(cap)[..., None] * tail) / kept, 1.0)
    boost = np.log(np.maximum(boosts.max(-1), 1.0))
    own = np.logaddexp(_log_sum(stakes), reserve) - before
    # What is in reserve takes no part: the boost goes to the stakes as if the whole capital had it.
    wanted = np.minimum(own + boost, cap) + before
    with np.errstate(divide="ignore"):
        factor = np.log(np.maximum(np.exp(wanted) - np.exp(reserve), 0.0)) - _log_sum(stakes)
    changed = ((boost > _ROUNDING) | (own > cap)) & (cap > _ROUNDING)
    return Capital(stakes + np.where(changed, factor, 0.0)[..., None], capital.seen)


def _put_down(capital: Capital, trials: Array, alternatives: dict[float, float]) -> Capital:
    seen = capital.seen + trials
    released = _reserve(capital.seen) - _reserve(seen)
    with np.errstate(divide="ignore"):
        added = np.log(released)[..., None] + np.log(np.array(list(alternatives.values())))
    return Capital(np.logaddexp(capital.stakes, added), seen)


def _reserve(seen: Array) -> Array:
    return (1 - AT_ONCE) * HALF_LATER / (HALF_LATER + seen)


def _project(n_c: Array, n_s: Array, bet: Array, stable: Array, tolerance: float) -> Array:
    """Find the `q` of the border `(q + δ, q)` that is nearest to the bet, weighed by the block's sizes."""
    low, high = np.maximum(bet - tolerance, 0.0), np.minimum(stable, 1.0 - tolerance)
    for _ in range(_BISECTIONS):
        q = (low + high) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            u = q + tolerance
            slope = n_c * (u - bet) / (u * (1 - u)) + n_s * (q - stable) / (q * (1 - q))
        high, low = np.where(slope > 0, q, high), np.where(slope > 0, low, q)
    return (low + high) / 2


def _log_ratio(counts: Counts, bet: Array, null: Array) -> Array:
    return counts.failures * np.log(bet / null) + (counts.trials - counts.failures) * np.log((1 - bet) / (1 - null))


def _support(largest: Array) -> Array:
    return np.arange(int(np.max(largest, initial=0)) + 1, dtype=float)


def _log_choose(n: Array, k: Array) -> Array:
    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)


def _log_sum(values: Array) -> Array:
    """Add what is given by logarithms; SciPy's own takes ten times as long for a handful of numbers."""
    top = np.max(values, -1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.sum(np.exp(values - top), -1)) + top[..., 0]
