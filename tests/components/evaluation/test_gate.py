import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluation.evidence import Evidence, Metric
from components.evaluation.gate.decide import run
from components.evaluation.gate.judge import judge
from components.evaluation.gate.options import Gate, Threshold


def evidence(items: int = 60, **fields: Any) -> Evidence:
    metric = {"name": "exact_match", "task": "held_out", "value": 0.8, "interval": (0.7, 0.9)}
    metric |= {"base_value": 0.3, "base_interval": (0.2, 0.4), "gain": 0.5, "gain_interval": (0.3, 0.6)}
    return Evidence(0.95, [Metric(**{**metric, "n": items, **fields})])


def demand(rule: str, value: float, certain: bool = False, metric: str = "exact_match") -> Gate:
    return Gate(thresholds=[Threshold(metric=metric, rule=rule, value=value, certain=certain)])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "value", "certain", "decision"),
    [
        ("min", 0.8, False, "release"),
        ("min", 0.81, False, "hold"),
        ("min", 0.75, True, "hold"),
        ("min", 0.7, True, "release"),
        ("max", 0.8, False, "release"),
        ("max", 0.79, False, "hold"),
        ("max", 0.85, True, "hold"),
        ("min_gain_over_base", 0.5, False, "release"),
        ("min_gain_over_base", 0.4, True, "hold"),
    ],
)
def test_each_rule_on_both_sides_of_its_bound(rule: str, value: float, certain: bool, decision: str) -> None:
    assert judge(evidence(), demand(rule, value, certain)).decision == decision


def test_what_was_not_measured_is_not_met() -> None:
    verdict = judge(evidence(), demand("max", 1, metric="toxicity"))
    assert verdict.decision == "hold"
    assert "toxicity was not measured" in verdict.sentence


def test_too_few_items_decide_nothing() -> None:
    verdict = judge(evidence(items=5), demand("min", 0.5))
    assert verdict.decision == "hold"
    assert verdict.sentence == "Held: exact_match was measured on 5 items, fewer than 20."
    least = [Threshold(metric="exact_match", rule="min", value=0.5, min_items=5)]
    assert judge(evidence(items=5), Gate(thresholds=least)).decision == "release"


def test_one_failing_demand_holds_and_only_it_is_blamed() -> None:
    thresholds = [
        Threshold(metric="exact_match", rule="min", value=0.5),
        Threshold(metric="exact_match", rule="min_gain_over_base", value=0.9),
    ]
    verdict = judge(evidence(), Gate(thresholds=thresholds))
    assert verdict.sentence == "Held: gain of exact_match over the base is 0.5, below 0.9."


def test_the_step_returns_the_decision_and_records_why(tmp_path: Path, context) -> None:
    for name in ("evidence", "verdict"):
        (tmp_path / name).mkdir()
    evidence().write(tmp_path / "evidence")
    options = demand("min", 0.99)
    outcome = run(tmp_path / "evidence", tmp_path / "verdict", options, context("evaluation/gate"))
    assert outcome.decision == "hold"
    verdict = json.loads((tmp_path / "verdict" / "verdict.json").read_text())
    assert [finding["passed"] for finding in verdict["findings"]] == [False]
    assert verdict["findings"][0]["interval"] == [0.7, 0.9]
    assert verdict["sentence"] in outcome.report.html()
