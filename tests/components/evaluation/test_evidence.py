"""Evidence: scores of the same items become metrics, and files that hold what was put into them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.errors import HeadraceError
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.evidence import Evidence, Metric, merge, weigh

LEVEL = Benchmark(resamples=500)
RIGHT = {f"item-{number}": float(number < 40) for number in range(50)}
WRONG = {f"item-{number}": float(number < 10) for number in range(50)}


def test_scores_of_0_and_1_are_a_share_with_mcnemars_test() -> None:
    metric = weigh("exact_match", RIGHT, WRONG, LEVEL, task="held_out")
    assert (metric.value, metric.base_value, metric.gain, metric.n) == (0.8, 0.2, 0.6, 50)
    assert (metric.gained, metric.lost) == (30, 0)
    assert metric.p_value == pytest.approx(2 * 0.5**30, rel=1e-4)
    assert metric.gain_interval and metric.gain_interval[0] > 0.4


def test_a_quantile_is_compared_over_the_same_items() -> None:
    slow = {str(number): float(number) for number in range(100)}
    fast = {item: seconds / 2 for item, seconds in slow.items()}
    metric = weigh("p95", fast, slow, LEVEL, task="load", higher_is_better=False, unit="s", quantile=0.95)
    assert metric.value == pytest.approx(np.quantile(list(fast.values()), 0.95), rel=1e-5)
    assert metric.gain == pytest.approx(-metric.value, rel=1e-5)
    assert metric.gain_interval and metric.gain_interval[1] < -40
    assert metric.p_value is None


def test_a_count_that_happens_to_be_0_or_1_is_no_share() -> None:
    metric = weigh("claims", RIGHT, WRONG, LEVEL, task="t", unit="claims")
    assert (metric.value, metric.gained, metric.p_value) == (0.8, None, None)


def test_without_a_base_there_is_no_gain() -> None:
    metric = weigh("pii", {"a": 0.5, "b": 0.25}, None, LEVEL, task="redteam")
    assert metric.value == 0.375
    assert (metric.base_value, metric.gain, metric.gain_interval) == (None, None, None)
    assert metric.row()["base"] == metric.row()["gain"] == "not measured"


@given(st.dictionaries(st.text(max_size=5), st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=12))
def test_the_order_of_items_changes_nothing_and_sides_turn(pairs: dict[str, tuple[float, float]]) -> None:
    new, old = ({item: pair[side] for item, pair in pairs.items()} for side in (0, 1))
    level = Benchmark(resamples=100)
    metric = weigh("m", new, old, level, task="t")
    backwards = [dict(reversed(side.items())) for side in (new, old)]
    assert weigh("m", *backwards, level, task="t") == metric
    turned = weigh("m", old, new, level, task="t")
    assert turned.gain == pytest.approx(-(metric.gain or 0), abs=1e-4)
    assert (turned.value, turned.base_value) == (metric.base_value, metric.value)


@pytest.mark.parametrize(
    ("candidate", "base", "message"),
    [
        ({}, {}, "exact_match has no item"),
        ({"a": 1.0}, {"b": 1.0}, "item a was scored for one of the models only"),
        ({"a": float("nan")}, {"a": 1.0}, "score of item a is nan"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(candidate: dict, base: dict, message: str) -> None:
    with pytest.raises(HeadraceError, match=message):
        weigh("exact_match", candidate, base, LEVEL, task="held_out")


def test_what_is_written_is_read_back_and_the_same_every_time(tmp_path: Path) -> None:
    found = Evidence(
        0.95,
        [weigh("exact_match", RIGHT, WRONG, LEVEL, task="held_out")],
        {"candidate": {"exact_match": RIGHT}, "base": {"exact_match": WRONG}},
        {"retrieval": "there is no index"},
    )
    found.write(tmp_path)
    written = (tmp_path / "evidence.json").read_bytes()
    assert Evidence.read(tmp_path) == found
    Evidence.read(tmp_path).write(tmp_path)
    assert (tmp_path / "evidence.json").read_bytes() == written
    assert set(json.loads((tmp_path / "scores.json").read_text())) == {"candidate", "base"}


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n", 0, r"metrics\.0\.n"),
        ("interval", [0.9, 0.1], r"metrics\.0\.interval: an interval is \[low, high\]"),
        ("valeu", 1, r"metrics\.0\.valeu: there is no such field"),
    ],
)
def test_a_file_that_is_no_evidence_is_refused_by_field(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    Evidence(0.95, [weigh("exact_match", RIGHT, WRONG, LEVEL, task="held_out")]).write(tmp_path)
    written = json.loads((tmp_path / "evidence.json").read_text())
    written["metrics"][0][field] = value
    (tmp_path / "evidence.json").write_text(json.dumps(written))
    with pytest.raises(HeadraceError, match=message):
        Evidence.read(tmp_path)


def metric(name: str) -> Metric:
    return weigh(name, RIGHT, WRONG, LEVEL, task="held_out")


def test_evidence_of_several_evaluations_is_put_together() -> None:
    one = Evidence(0.95, [metric("exact_match")], {"candidate": {"exact_match": RIGHT}})
    other = Evidence(0.95, [metric("redteam.refusal")], {"candidate": {"redteam.refusal": WRONG}, "base": {}})
    nothing = Evidence(0.9, [], off={"retrieval": "there is no index"})
    together = merge([one, other, nothing])
    assert [row.name for row in together.metrics] == ["exact_match", "redteam.refusal"]
    assert together.scores["candidate"] == {"exact_match": RIGHT, "redteam.refusal": WRONG}
    assert together.off == {"retrieval": "there is no index"}
    assert together.confidence == 0.95


def test_two_metrics_of_a_name_and_two_levels_are_refused() -> None:
    with pytest.raises(HeadraceError, match="metric exact_match is measured by two evaluations"):
        merge([Evidence(0.95, [metric("exact_match")])] * 2)
    with pytest.raises(HeadraceError, match=r"levels 0\.9, 0\.95; set the same `confidence`"):
        merge([Evidence(0.95, [metric("one")]), Evidence(0.9, [metric("other")])])
