"""The gate's judgement: a pure function from evidence and thresholds to a verdict with its reasons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from components.evaluation.evidence import BASE, CANDIDATE, Evidence, Interval, Metric, reweigh
from components.evaluation.gate.options import Gate, Threshold
from components.evaluation.serving import NOTHING, Serving

RELEASE = "release"
HOLD = "hold"


@dataclass(frozen=True)
class Finding:
    """One demand and how it came out.

    Attributes:
        metric: What was measured.
        rule: `min`, `max`, `min_gain_over_base` or `not_worse_than_serving`.
        threshold: The bound.
        certain: Whether the interval's unfavourable end had to meet it.
        items: On how many items it was measured.
        value: What was measured; None when it was not. Of a gain or a comparison, how much better the candidate is.
        interval: Its confidence interval.
        level: The interval's level.
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
    level: float
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


@dataclass(frozen=True)
class _Level:
    confidence: float
    resamples: int
    seed: int


def judge(evidence: Evidence, serving: Serving, options: Gate) -> Verdict:
    """Decide on a release. Every demand must be met; what was not measured, or on too few items, is not met.

    Args:
        evidence: What was measured of the candidate and the base.
        serving: The candidate against the model that serves now.
        options: The demands.
    """

    def find(threshold: Threshold, sharing: int = 1) -> Finding:
        """Look at one demand; the error is shared out among so many."""
        level = _Level(1 - (1 - evidence.confidence) / sharing, options.resamples, options.seed)
        least = threshold.min_items or options.min_items
        if threshold.rule == "not_worse_than_serving" and serving.version == NOTHING:
            words = f"{threshold.metric} has no serving model to be compared with: {serving.sentence}"
            return _finding(threshold, None, None, None, level.confidence, True, words)
        return _find(threshold, serving.evidence if _is_comparison(threshold) else evidence, level, least)

    findings = _all_together(options, find)
    return Verdict(RELEASE if all(finding.passed for finding in findings) else HOLD, findings)


def _all_together(options: Gate, find: Callable[..., Finding]) -> list[Finding]:
    """Look at every demand, at levels that hold for all findings together if the options ask for it.

    Holm 1979: those found met at the level for all that are open are met, and the others share the error anew.
    """
    unadjusted = [find(threshold) for threshold in options.thresholds]
    wide = [number for number, finding in enumerate(unadjusted) if finding.certain and finding.value is not None]
    if options.adjust == "none" or not wide:
        return unadjusted
    found, unmet = dict(enumerate(unadjusted)), wide
    while unmet:
        sharing = len(unmet) if options.adjust == "holm" else len(wide)
        looked = {number: find(options.thresholds[number], sharing) for number in unmet}
        found |= looked
        still = [number for number in unmet if not looked[number].passed]
        if options.adjust == "bonferroni" or len(still) == len(unmet):
            break
        unmet = still
    return [found[number] for number in sorted(found)]


def _is_comparison(threshold: Threshold) -> bool:
    return threshold.rule == "not_worse_than_serving"


def _find(threshold: Threshold, evidence: Evidence, level: _Level, least: int) -> Finding:
    metric = next((metric for metric in evidence.metrics if metric.name == threshold.metric), None)
    if metric is not None and level.confidence != evidence.confidence and threshold.certain:
        metric = _widened(metric, evidence, level)
        if metric is None:
            words = f"{threshold.metric} has no scores by item, so its interval cannot be widened (`adjust`)"
            return _finding(threshold, None, None, None, level.confidence, False, words)
    value, interval = _measured(threshold, metric)
    if metric is None or value is None or interval is None:
        return _finding(threshold, None, None, None, level.confidence, False, _unmeasured(threshold, evidence))
    if metric.n < least:
        words = f"{threshold.metric} was measured on {metric.n} items, fewer than {least}"
        return _finding(threshold, metric, value, interval, level.confidence, False, words)
    weakest = interval[threshold.rule == "max"] if threshold.certain else value
    bound = -threshold.value if _is_comparison(threshold) else threshold.value
    passed = weakest <= bound if threshold.rule == "max" else weakest >= bound
    words = _sentence(threshold, value, weakest, bound, passed)
    return _finding(threshold, metric, value, interval, level.confidence, passed, words)


def _widened(metric: Metric, evidence: Evidence, level: _Level) -> Metric | None:
    scores = evidence.scores.get(CANDIDATE, {}).get(metric.name)
    return reweigh(metric, scores, evidence.scores.get(BASE, {}).get(metric.name), level) if scores else None


def _measured(threshold: Threshold, metric: Metric | None) -> tuple[float | None, Interval | None]:
    """Return what a rule looks at; a gain counts upwards where lower is better, too."""
    if metric is None:
        return None, None
    if threshold.rule in ("min", "max"):
        return metric.value, metric.interval
    if metric.gain is None or metric.gain_interval is None or metric.higher_is_better:
        return metric.gain, metric.gain_interval
    low, high = metric.gain_interval
    return -metric.gain, (-high, -low)


def _finding(
    threshold: Threshold,
    metric: Metric | None,
    value: float | None,
    interval: Interval | None,
    level: float,
    passed: bool,
    sentence: str,
) -> Finding:
    asked = (threshold.metric, threshold.rule, threshold.value, threshold.certain, metric.n if metric else 0)
    return Finding(*asked, value, interval, round(level, 6), passed, sentence)


def _unmeasured(threshold: Threshold, evidence: Evidence) -> str:
    off = next((why for name, why in evidence.off.items() if threshold.metric.startswith(f"{name}.")), "")
    of = " of the serving model" if _is_comparison(threshold) else ""
    why = f": {off}" if off else ""
    return f"{threshold.metric} was not measured{of}{why} ({threshold.rule} {threshold.value:g})"


def _sentence(threshold: Threshold, value: float, weakest: float, bound: float, passed: bool) -> str:
    measured = {
        "min_gain_over_base": f"gain of {threshold.metric} over the base",
        "not_worse_than_serving": f"gain of {threshold.metric} over the serving model",
    }.get(threshold.rule, threshold.metric)
    sure = f", with confidence {'at most' if threshold.rule == 'max' else 'at least'} {weakest:.3g}" * threshold.certain
    relation = {
        ("max", True): "not above",
        ("max", False): "above",
    }.get((threshold.rule, passed), "not below" if passed else "below")
    return f"{measured} is {value:.3g}{sure}, {relation} {bound:g}"
