"""Verdicts are a function of the looks: who is aborted, who climbs, who is held, and what a restart changes."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from components.common.errors import UsageError
from components.common.recipes import check_recipe
from components.release.progress.judge import Action, Analysis, Look, odds
from components.release.progress.options import Latency, Progress, Proportion, Signals

BOUNDS = [round(0.1 * 1.2**i, 4) for i in range(20)]
QUIET: dict[str, Any] = {"use": False}


def only(**signals: Any) -> Signals:
    chosen = dict.fromkeys(("errors", "latency", "first_token", "format_errors"), QUIET) | signals
    return Signals.model_validate(chosen)


class Traffic:
    """Counters of two revisions as they would be read, with real randomness and a fixed seed."""

    def __init__(
        self,
        stable: float = 0.01,
        candidate: float = 0.01,
        slower: float = 1.0,
        seed: int = 0,
        spread: float = 0.5,
    ) -> None:
        self.rates = {"old": stable, "new": candidate}
        self.spread = {"old": 0.5, "new": spread}
        self.slower = {"old": 1.0, "new": slower}
        self.random = np.random.default_rng(seed)
        self.errors = {name: {"trials": 0.0, "failures": 0.0} for name in self.rates}
        self.seconds = {name: dict.fromkeys([*(str(b) for b in BOUNDS), "+Inf"], 0.0) for name in self.rates}
        self.number, self.at = 0, 0.0
        self.serve(2000, 0)

    def serve(self, requests: int, share: int) -> None:
        dealt = self.random.binomial(requests, share / 100)
        for name, number in (("new", dealt), ("old", requests - dealt)):
            self.errors[name]["trials"] += number
            self.errors[name]["failures"] += self.random.binomial(number, self.rates[name])
            seconds = self.random.lognormal(-0.7, self.spread[name], number) * self.slower[name]
            for bound in self.seconds[name]:
                self.seconds[name][bound] += float((seconds <= float(bound)).sum())

    def restart(self, name: str) -> None:
        self.errors[name] = dict.fromkeys(self.errors[name], 0.0)
        self.seconds[name] = dict.fromkeys(self.seconds[name], 0.0)

    def look(self, share: int) -> Look:
        self.number, self.at = self.number + 1, self.at + 10
        counters = {
            "errors": {name: {"p": dict(cells)} for name, cells in self.errors.items()},
            "latency": {name: {"p": dict(cells)} for name, cells in self.seconds.items()},
        }
        return Look(number=self.number, at=self.at, share=share, stable="old", candidate="new", counters=counters)


def play(traffic: Traffic, options: Progress, share: int = 10, looks: int = 200, requests: int = 500) -> Analysis:
    """Do what the verdicts say until there is an end."""
    analysis = Analysis(options)
    analysis.add(traffic.look(share))
    for _ in range(looks):
        traffic.serve(requests, share)
        verdict = analysis.add(traffic.look(share))
        if verdict.action in (Action.ABORT, Action.PROMOTE, Action.HOLD):
            break
        share = verdict.share
    return analysis


def shares(analysis: Analysis) -> list[int]:
    seen = [point.share for point in analysis.points]
    return [share for share, before in zip(seen, [None, *seen], strict=False) if share != before]


def test_a_harmless_candidate_climbs_with_its_evidence_and_is_promoted() -> None:
    analysis = play(Traffic(), Progress(min_seconds_per_step=20, signals=only(errors={}, latency={})))
    assert (analysis.verdict.action, analysis.verdict.share) == (Action.PROMOTE, 100)
    assert shares(analysis) == [10, 25, 50]
    assert "20 : 1 was asked for" in analysis.verdict.reason
    last = {}
    for point in analysis.points:
        last[point.share] = point.harmless
    assert analysis.log_promote / 3 <= last[10] and 2 * analysis.log_promote / 3 <= last[25]


def test_a_share_lasts_as_long_as_it_should() -> None:
    options = Progress(min_seconds_per_step=300, signals=only(errors={"tolerance": 0.5}))
    analysis = play(Traffic(), options, looks=200)
    at = {point.share: point.at for point in reversed(analysis.points)}
    assert at[25] - at[10] >= 300 and at[50] - at[25] >= 300


@pytest.mark.parametrize(
    ("traffic", "says"),
    [
        (Traffic(candidate=0.04), "errors"),
        (Traffic(slower=1.3), "latency above"),
        (Traffic(candidate=1.0), "errors 100"),
    ],
)
def test_a_worse_candidate_is_aborted_and_the_reason_says_by_what(traffic: Traffic, says: str) -> None:
    analysis = play(traffic, Progress(signals=only(errors={}, latency={}), min_seconds_per_step=600))
    assert (analysis.verdict.action, analysis.verdict.share) == (Action.ABORT, 0)
    assert analysis.verdict.reason.startswith(says)
    assert analysis.points[-1].requests < 1200


def test_the_reason_is_given_at_the_quantile_where_the_candidate_is_worse() -> None:
    analysis = play(Traffic(slower=1.5, spread=0.05), Progress(signals=only(latency={}), min_seconds_per_step=600))
    assert analysis.verdict.action == Action.ABORT
    said = re.search(r"above (\S+) s (\S+) % of .* stable (\S+) %", analysis.verdict.reason)
    assert said and float(said[2]) > float(said[3]), "it is better beyond stable's p95, and slower at the median"
    assert float(said[1]) < analysis.points[-1].standings[0].threshold


def test_a_candidate_that_fails_only_later_is_still_caught() -> None:
    traffic = Traffic()
    options = Progress(signals=only(errors={}), min_seconds_per_step=1e6, max_requests=10**6)
    analysis = Analysis(options)
    analysis.add(traffic.look(10))
    for number in range(200):
        traffic.rates["new"] = 0.01 if number < 80 else 0.05
        traffic.serve(500, 10)
        if analysis.add(traffic.look(10)).action == Action.ABORT:
            break
    assert 80 < number < 130


def test_an_objective_aborts_a_candidate_that_is_no_worse_than_a_bad_stable() -> None:
    bad = {"stable": 0.05, "candidate": 0.05}
    assert play(Traffic(**bad), Progress(signals=only(errors={}), max_requests=2000)).verdict.action == Action.HOLD
    strict = Progress(signals=only(errors={"objective": 0.02}), max_requests=2000)
    assert play(Traffic(**bad), strict).verdict.action == Action.ABORT
    slow = Progress(signals=only(latency={"objective": 0.6, "tolerance": 0.9}), min_seconds_per_step=1e6)
    assert play(Traffic(), slow).verdict.action == Action.ABORT


def test_at_the_limit_it_is_held_and_says_what_is_known_least() -> None:
    options = Progress(max_requests=300, signals=only(errors={"tolerance": 0.001}, latency={}))
    analysis = play(Traffic(), options)
    assert (analysis.verdict.action, analysis.verdict.share) == (Action.HOLD, 10)
    assert "the least is known about errors" in analysis.verdict.reason


def test_an_optional_signal_is_needed_once_it_is_seen() -> None:
    further = {"judged_quality": Proportion(trials="a_total", failures="b_total", optional=True).model_dump()}
    options = Progress(signals=only(errors={}, further=further), min_seconds_per_step=0)
    assert play(Traffic(), options).verdict.action == Action.PROMOTE

    class Judged(Traffic):
        """Judges find every third answer of the candidate bad, and every tenth of the stable revision."""

        def look(self, share: int) -> Look:
            look = super().look(share)
            judged = {
                name: {"p": {"trials": cells["trials"] // 10, "failures": cells["trials"] // 10 * part // 30}}
                for (name, cells), part in zip(sorted(self.errors.items()), (10, 3), strict=True)
            }
            return look.model_copy(update={"counters": look.counters | {"judged_quality": judged}})

    analysis = play(Judged(), options)
    assert analysis.verdict.action == Action.ABORT
    assert analysis.verdict.reason.startswith("judged quality")


def test_a_restarted_process_and_a_new_one_add_only_what_they_count_from_then_on() -> None:
    traffic, analysis = Traffic(), Analysis(Progress(signals=only(errors={}, latency={})))
    analysis.add(traffic.look(50))
    traffic.serve(100, 50)
    analysis.add(traffic.look(50))
    before = analysis.points[-1].standings[0].candidate[0]
    traffic.restart("new")
    traffic.serve(100, 50)
    grown = traffic.errors["new"]["trials"]
    analysis.add(traffic.look(50))
    assert analysis.points[-1].standings[0].candidate[0] == before + grown
    look = traffic.look(50)
    look.counters["errors"]["new"]["another"] = {"trials": 10**6, "failures": 10**6}
    analysis.add(look)
    assert analysis.points[-1].standings[0].candidate[0] == before + grown


def test_the_same_looks_give_the_same_verdict_whoever_reads_them() -> None:
    options = Progress(signals=only(errors={}, latency={}), min_seconds_per_step=0)
    analysis = play(Traffic(seed=4), options)
    again = Analysis(options)
    for look in analysis.looks:
        again.add(Look.model_validate_json(look.model_dump_json()))
    assert again.verdict == analysis.verdict
    assert again.points == analysis.points


def test_histograms_with_other_buckets_are_compared_at_the_bounds_they_share() -> None:
    class Coarse(Traffic):
        """The stable revision is an older server that counts in half as many buckets."""

        def look(self, share: int) -> Look:
            look = super().look(share)
            cells = look.counters["latency"]["old"]["p"]
            for bound in BOUNDS[::2]:
                del cells[str(bound)]
            return look

    assert play(Coarse(slower=1.5), Progress(signals=only(latency={}))).verdict.action == Action.ABORT


def test_odds_are_readable() -> None:
    assert [odds(x) for x in (0, np.log(134.4), -np.log(2), 99, -np.inf)] == [
        "1 : 1", "134 : 1", "1 : 2", "over 1,000,000 : 1", "under 1 : 1,000,000"
    ]  # fmt: skip


def wrong() -> Iterator[tuple[dict[str, Any], str]]:
    yield {"steps": [5, 25]}, "end with 100"
    yield {"steps": [50, 25, 100]}, "ascending"
    yield {"steps": [0, 100]}, "ascending"
    yield {"signals": dict.fromkeys(("errors", "latency", "first_token", "format_errors"), QUIET)}, "at least one"
    yield {"signals": {"errors": {"trials": "rate(x[5m])"}}}, "without functions"
    yield {"signals": {"further": {"latency": {"trials": "a", "failures": "b"}}}}, "is a signal already"
    yield {"signals": {"eror": {}}}, "did you mean errors"


@pytest.mark.parametrize(("progress", "says"), list(wrong()))
def test_wrong_options_are_refused_with_their_field(progress: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=r"release\.progress") as refused:
        check_recipe({"release": {"progress": progress}}, "recipe")
    assert says in str(refused.value)


def test_a_single_field_of_a_signal_can_be_changed() -> None:
    recipe = check_recipe({"release": {"progress": {"signals": {"latency": {"tolerance": 0.1}}}}}, "recipe")
    changed = recipe.release.progress.signals.latency
    assert (changed.tolerance, changed.buckets) == (0.1, Latency().buckets)
