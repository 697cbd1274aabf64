import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from components.evaluation.benchmark.options import Benchmark
from components.evaluation.evidence import Evidence, Metric, weigh
from components.evaluation.gate.decide import run
from components.evaluation.gate.judge import Verdict
from components.evaluation.gate.judge import judge as decide
from components.evaluation.gate.options import Gate, Threshold
from components.evaluation.serving import Serving


def evidence(items: int = 60, **fields: Any) -> Evidence:
    metric = {"name": "exact_match", "task": "held_out", "value": 0.8, "interval": (0.7, 0.9)}
    metric |= {"base_value": 0.3, "base_interval": (0.2, 0.4), "gain": 0.5, "gain_interval": (0.3, 0.6)}
    return Evidence(0.95, [Metric(**{**metric, "n": items, **fields})])


def demand(rule: str, value: float, certain: bool = False, metric: str = "exact_match", **more: Any) -> Gate:
    return Gate(thresholds=[Threshold(metric=metric, rule=rule, value=value, certain=certain, **more)])  # type: ignore[arg-type]


def judge(found: Evidence, options: Gate, serving: Serving | None = None) -> Verdict:
    return decide(found, serving or Serving(), options)


def against(gain: float, interval: tuple[float, float], **fields: Any) -> Serving:
    return Serving("tiny/1", "tiny 1", evidence(gain=gain, gain_interval=interval, **fields))


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
    assert judge(evidence(items=5), demand("min", 0.5, min_items=5)).decision == "release"


@pytest.mark.parametrize(
    ("gain", "interval", "certain", "decision"),
    [
        (0.0, (-0.06, 0.06), True, "release"),
        (0.0, (-0.12, 0.12), True, "hold"),
        (0.0, (-0.12, 0.12), False, "release"),
        (-0.11, (-0.2, 0.0), False, "hold"),
        (0.3, (0.1, 0.4), True, "release"),
    ],
)
def test_a_candidate_may_be_worse_than_what_serves_by_the_margin_at_most(
    gain: float, interval: tuple[float, float], certain: bool, decision: str
) -> None:
    asked = demand("not_worse_than_serving", 0.1, certain)
    assert judge(evidence(), asked, against(gain, interval)).decision == decision


def test_where_lower_is_better_a_gain_and_a_loss_turn_round() -> None:
    worse = against(0.3, (0.2, 0.4), higher_is_better=False)
    held = judge(evidence(), demand("not_worse_than_serving", 0.1, True), worse)
    assert held.sentence == (
        "Held: gain of exact_match over the serving model is -0.3, with confidence at least -0.4, below -0.1."
    )
    fewer = evidence(gain=-0.5, gain_interval=(-0.6, -0.3), higher_is_better=False)
    assert judge(fewer, demand("min_gain_over_base", 0.25, True)).decision == "release"


def test_where_nothing_serves_nothing_can_be_worse_and_the_verdict_says_so() -> None:
    verdict = judge(evidence(), demand("not_worse_than_serving", 0.1))
    assert verdict.sentence == ("Released: exact_match has no serving model to be compared with: nothing serves yet.")


def test_what_was_not_measured_of_the_serving_model_is_not_met() -> None:
    serving = Serving("tiny/1", "tiny 1", Evidence(0.95, []))
    verdict = judge(evidence(), demand("not_worse_than_serving", 0.1), serving)
    assert verdict.decision == "hold"
    assert "exact_match was not measured of the serving model" in verdict.sentence


def test_an_evaluation_that_was_switched_off_is_the_reason() -> None:
    found = Evidence(0.95, evidence().metrics, off={"redteam": "evaluation.redteam.enabled is false"})
    verdict = judge(found, demand("max", 0.1, metric="redteam.attack_success"))
    assert "was not measured: evaluation.redteam.enabled is false" in verdict.sentence


def test_a_margin_below_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="is a margin, 0 or more"):
        Threshold(metric="exact_match", rule="not_worse_than_serving", value=-0.1)


def test_ratings_are_never_held_against_what_serves() -> None:
    with pytest.raises(ValidationError, match="never beside what serves"):
        Threshold(metric="ratings.usefulness", rule="not_worse_than_serving", value=0.1)


def test_by_default_a_candidate_as_good_as_what_serves_is_released_on_sixty_items() -> None:
    demands = Gate().model_copy(update={"thresholds": Gate().thresholds[-1:]})
    now = {str(item): float(item >= 6) for item in range(60)}
    serving = {str(item): float(item < 54) for item in range(60)}
    met = weigh("exact_match", now, serving, Benchmark(), task="held_out")
    assert met.gain == 0 and met.gained == met.lost == 6
    against = Serving("tiny/1", "tiny 1", Evidence(0.95, [met]))
    assert judge(Evidence(0.95, [met]), demands, against).decision == "release"


def scored(*rights: int, items: int = 100) -> Evidence:
    """Evidence of metrics a, b, …, each right on so many items."""
    names = "abcdef"[: len(rights)]
    scores = {
        name: {str(item): float(item < right) for item in range(items)}
        for name, right in zip(names, rights, strict=True)
    }
    metrics = [weigh(name, scores[name], None, Benchmark(), task="t") for name in names]
    return Evidence(0.95, metrics, {"candidate": scores})


def passed(found: Evidence, adjust: str) -> list[bool]:
    thresholds = [Threshold(metric=metric.name, rule="min", value=0.8) for metric in found.metrics]
    return [finding.passed for finding in judge(found, Gate(thresholds=thresholds, adjust=adjust)).findings]  # type: ignore[arg-type]


def test_widened_intervals_hold_together_and_holms_are_no_wider_than_needed() -> None:
    found = scored(990, 829, 500, items=1000)  # far above; above with two demands, not with three; far below
    assert passed(found, "none") == [True, True, False]
    assert passed(found, "bonferroni") == [True, False, False]
    assert passed(found, "holm") == [True, True, False]
    level = judge(found, Gate(thresholds=[Threshold(metric="a", rule="min", value=0.8)], adjust="holm")).findings
    assert level[0].level == 0.95, "one demand shares its error with nobody"


def test_what_has_no_scores_by_item_cannot_be_widened() -> None:
    two = [Threshold(metric="exact_match", rule=rule, value=0.1) for rule in ("min", "min_gain_over_base")]  # type: ignore[arg-type]
    verdict = judge(evidence(), Gate(thresholds=two, adjust="bonferroni"))
    assert "exact_match has no scores by item" in verdict.sentence


def test_one_failing_demand_holds_and_only_it_is_blamed() -> None:
    thresholds = [
        Threshold(metric="exact_match", rule="min", value=0.5),
        Threshold(metric="exact_match", rule="min_gain_over_base", value=0.9, certain=False),
    ]
    verdict = judge(evidence(), Gate(thresholds=thresholds))
    assert verdict.sentence == "Held: gain of exact_match over the base is 0.5, below 0.9."


def test_the_step_returns_the_decision_and_records_why(tmp_path: Path, context) -> None:
    for name in ("benchmark", "retrieval", "redteam", "serving", "verdict"):
        (tmp_path / name).mkdir()
    scored(90).write(tmp_path / "benchmark")
    Evidence(0.95, [], off={"redteam": "switched off"}).write(tmp_path / "redteam")
    against(0.0, (-0.1, 0.1)).write(tmp_path / "serving")
    options = demand("min", 0.99, metric="a")
    Evidence(0.95, [], {}, {"retrieval": "switched off"}).write(tmp_path / "retrieval")
    folders = [tmp_path / name for name in ("benchmark", "retrieval", "redteam", "serving", "verdict")]
    outcome = run(*folders, options, context("evaluation/gate"))
    assert outcome.decision == "hold"
    verdict = json.loads((tmp_path / "verdict" / "verdict.json").read_text())
    assert [finding["passed"] for finding in verdict["findings"]] == [False]
    assert verdict["findings"][0]["items"] == 100
    assert verdict["serving"]["version"] == "tiny/1"
    assert verdict["evidence"]["off"] == {"redteam": "switched off", "retrieval": "switched off"}
    assert json.loads((tmp_path / "verdict" / "scores.json").read_text())["candidate"]["a"]["0"] == 1
    assert verdict["sentence"] in outcome.report.html()
