"""The gate's judgement: a pure function from evidence and thresholds to a verdict with its reasons."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.evaluation.gate.options import Gate, Threshold

RELEASE = "release"
HOLD = "hold"

_MEASURED = {
    "min": ("value", "interval"),
    "max": ("value", "interval"),
    "min_gain_over_base": ("gain", "gain_interval"),
}
"""Which fields of the evidence each rule looks at: the value and its interval."""


@dataclass(frozen=True)
class Finding:
    """One demand and how it came out.

    Attributes:
        metric: What was measured.
        rule: `min`, `max` or `min_gain_over_base`.
        threshold: The bound.
        certain: Whether the interval's unfavourable end had to meet it.
        value: What was measured; None when the evidence lacks the metric.
        interval: Its confidence interval.
        passed: Whether the demand is met.
        sentence: The finding in words.
    """

    metric: str
    rule: str
    threshold: float
    certain: bool
    value: float | None
    interval: tuple[float, float] | None
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """`release` or `hold`, and why."""

    decision: str
    findings: Sequence[Finding]

    @property
    def sentence(self) -> str:
        """Why, in one sentence."""
        failed = [finding for finding in self.findings if not finding.passed]
        if not failed:
            return f"Released: {'; '.join(finding.sentence for finding in self.findings)}."
        return f"Held: {'; '.join(finding.sentence for finding in failed)}."


def judge(evidence: Mapping[str, Any], options: Gate) -> Verdict:
    """Decide on a release. Every demand must be met; what was not measured is not met.

    Args:
        evidence: `questions` and `metrics`, as the benchmark writes them.
        options: The demands.
    """
    measured = {metric["name"]: metric for metric in evidence["metrics"]}
    findings = [_enough(int(evidence["questions"]), options.min_questions)]
    findings += [_find(threshold, measured.get(threshold.metric)) for threshold in options.thresholds]
    return Verdict(RELEASE if all(finding.passed for finding in findings) else HOLD, findings)


def _enough(questions: int, least: int) -> Finding:
    passed = questions >= least
    sentence = f"{questions} questions were asked, {'at least' if passed else 'fewer than'} {least}"
    return Finding("questions", "min", least, False, questions, None, passed, sentence)


def _find(threshold: Threshold, measured: Mapping[str, Any] | None) -> Finding:
    value_field, interval_field = _MEASURED[threshold.rule]
    asked = (threshold.metric, threshold.rule, threshold.value, threshold.certain)
    value = measured.get(value_field) if measured else None
    if measured is None or value is None:
        sentence = f"{threshold.metric} was not measured ({threshold.rule} {threshold.value:g})"
        return Finding(*asked, None, None, False, sentence)
    low, high = measured.get(interval_field) or (value, value)
    weakest = (high if threshold.rule == "max" else low) if threshold.certain else value
    passed = weakest <= threshold.value if threshold.rule == "max" else weakest >= threshold.value
    return Finding(*asked, value, (low, high), passed, _sentence(threshold, value, weakest, passed))


def _sentence(threshold: Threshold, value: float, weakest: float, passed: bool) -> str:
    measured = (
        f"gain of {threshold.metric} over the base" if threshold.rule == "min_gain_over_base" else threshold.metric
    )
    bound = (
        f", with confidence {'at most' if threshold.rule == 'max' else 'at least'} {weakest:.3g}" * threshold.certain
    )
    relation = {
        ("max", True): "not above",
        ("max", False): "above",
    }.get((threshold.rule, passed), "not below" if passed else "below")
    return f"{measured} is {value:.3g}{bound}, {relation} {threshold.value:g}"
