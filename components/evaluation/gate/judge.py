"""The gate's judgement: a pure function from evidence and thresholds to a verdict with its reasons."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.evaluation.evidence import Evidence, Interval, Metric
from components.evaluation.gate.options import Gate, Threshold

RELEASE = "release"
HOLD = "hold"


@dataclass(frozen=True)
class Finding:
    """One demand and how it came out.

    Attributes:
        metric: What was measured.
        rule: `min`, `max` or `min_gain_over_base`.
        threshold: The bound.
        certain: Whether the interval's unfavourable end had to meet it.
        items: On how many items it was measured.
        value: What was measured; None when the evidence lacks the metric.
        interval: Its confidence interval.
        passed: Whether the demand is met.
        sentence: The finding in words.
    """

    metric: str
    rule: str
    threshold: float
    certain: bool
    items: int
    value: float | None
    interval: Interval | None
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


def judge(evidence: Evidence, options: Gate) -> Verdict:
    """Decide on a release. Every demand must be met; what was not measured, or on too few items, is not met.

    Args:
        evidence: What was measured.
        options: The demands.
    """
    measured = {metric.name: metric for metric in evidence.metrics}
    findings = [
        _find(threshold, measured.get(threshold.metric), threshold.min_items or options.min_items)
        for threshold in options.thresholds
    ]
    return Verdict(RELEASE if all(finding.passed for finding in findings) else HOLD, findings)


def _find(threshold: Threshold, metric: Metric | None, least: int) -> Finding:
    asked = (threshold.metric, threshold.rule, threshold.value, threshold.certain)
    value, interval = _measured(threshold, metric)
    if metric is None or value is None:
        sentence = f"{threshold.metric} was not measured ({threshold.rule} {threshold.value:g})"
        return Finding(*asked, 0, None, None, False, sentence)
    if metric.n < least:
        sentence = f"{threshold.metric} was measured on {metric.n} items, fewer than {least}"
        return Finding(*asked, metric.n, value, interval, False, sentence)
    low, high = interval or (value, value)
    weakest = (high if threshold.rule == "max" else low) if threshold.certain else value
    passed = weakest <= threshold.value if threshold.rule == "max" else weakest >= threshold.value
    return Finding(*asked, metric.n, value, interval, passed, _sentence(threshold, value, weakest, passed))


def _measured(threshold: Threshold, metric: Metric | None) -> tuple[float | None, Interval | None]:
    if metric is None:
        return None, None
    if threshold.rule == "min_gain_over_base":
        return metric.gain, metric.gain_interval
    return metric.value, metric.interval


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
