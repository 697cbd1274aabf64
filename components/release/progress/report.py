"""What an analysis saw, for a person: the end, each signal, the plot of the evidence against its bounds."""

import math
from datetime import UTC, datetime

import numpy as np
from matplotlib.figure import Figure

from components.common.report import Report
from components.release.progress.judge import Analysis, Point, Standing, intervals, odds
from components.release.progress.options import Progress
from components.release.progress.record import Conclusion, Ending

_SENTENCES = {
    Ending.PROMOTED: "{candidate} was promoted over {stable}",
    Ending.ABORTED: "{candidate} was aborted: all requests are back on {stable}",
    Ending.HELD: "{candidate} is held at {share} %: somebody has to decide",
    Ending.OVERTAKEN: "The analysis of {candidate} stopped, because somebody else acted",
    Ending.NOTHING: "Nothing to analyse",
}
_WORSE, _HARMLESS = "#b3261e", "#1f6f8b"
_LOG10 = math.log(10)


def compose(
    analysis: Analysis, conclusion: Conclusion, service: str, stable: str, candidate: str, options: Progress
) -> Report:
    """Make the report of an analysis that has ended."""
    outcome = _SENTENCES[conclusion.ending].format(candidate=candidate, stable=stable, share=conclusion.share)
    report = Report(f"Rollout of {service}", outcome)
    report.text(_capital(conclusion.reason) + ".")
    if not analysis.points:
        return report
    last = analysis.points[-1]
    report.metrics(
        {
            "outcome": str(conclusion.ending),
            "candidate's share, %": conclusion.share,
            "candidate's requests": int(last.requests),
            "looks": conclusion.looks,
            "seconds": round(last.at - analysis.looks[0].at, 1),
            "seconds from the deciding look to its effect": conclusion.seconds,
        }
    )
    confidence = 1 - options.false_abort
    report.table(
        [_row(standing, options) for standing in last.standings],
        f"What was seen; intervals hold at all looks together, with {100 * confidence:.3g} % confidence each",
    )
    report.figure(_plot(analysis, options, conclusion), "Evidence against its bounds, and the candidate's share")
    report.table(_crossings(analysis), "When a bound was crossed")
    report.text(
        f"Evidence is the capital of somebody who bets against a hypothesis, starting with 1. Worse: evidence pooled "
        f"over the signals ever reaches {1 / options.false_abort:,.3g} : 1 against a candidate that is no worse with a "
        f"probability of at most {options.false_abort:.3g}. Harmless: one that is worse by a signal's tolerance is "
        f"ever promoted with a probability of at most {options.false_promote:.3g}."
    )
    return report


def _row(standing: Standing, options: Progress) -> dict[str, object]:
    bounds = intervals(standing, options.false_abort)
    cells: dict[str, object] = {"signal": standing.name.replace("_", " ")}
    cells["fails if"] = f"above {standing.threshold:.3g} s" if standing.threshold else "it is one"
    for role, (trials, failures) in (("candidate", standing.candidate), ("stable", standing.stable)):
        low, high = (100 * bound for bound in bounds[role])
        seen = f"{100 * failures / trials:.2f} %" if trials else "nothing seen"
        cells[role] = f"{seen} of {trials:,.0f}, in [{low:.2f}, {high:.2f}] %"
    cells["evidence: worse"] = odds(max(standing.worse, standing.breach))
    cells["evidence: harmless"] = odds(standing.harmless) if standing.needed else "not needed"
    return cells


def _crossings(analysis: Analysis) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for before, point in zip([None, *analysis.points], analysis.points, strict=False):
        if before and point.share != before.share:
            rows.append(_crossing(point, f"share {before.share} % → {point.share} %", analysis))
    aborted = next((point for point in analysis.points if point.against >= analysis.log_abort - 1e-9), None)
    promoted = next((point for point in analysis.points if point.harmless >= analysis.log_promote - 1e-9), None)
    if aborted:
        rows.append(_crossing(aborted, f"worse: {odds(analysis.log_abort)}", analysis))
    if promoted:
        rows.append(_crossing(promoted, f"harmless: {odds(analysis.log_promote)}", analysis))
    return sorted(rows, key=lambda row: str(row["look"]).zfill(9))


def _crossing(point: Point, what: str, analysis: Analysis) -> dict[str, object]:
    return {
        "what": what,
        "look": point.number,
        "time (UTC)": datetime.fromtimestamp(point.at, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "seconds": round(point.at - analysis.looks[0].at, 1),
        "candidate's requests": int(point.requests),
    }


def _plot(analysis: Analysis, options: Progress, conclusion: Conclusion) -> Figure:
    points = analysis.points
    requests = [point.requests for point in points]
    seconds = [point.at - points[0].at for point in points]
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    evidence, share = figure.subplots(2, 1, height_ratios=[3, 1])
    for colour, label, values in (
        (_WORSE, "worse, all signals", [point.against for point in points]),
        (_HARMLESS, "harmless, least", [point.harmless for point in points]),
    ):
        evidence.plot(requests, [_log10(value) for value in values], color=colour, lw=2, label=label)
    for index, standing in enumerate(points[-1].standings):
        if not standing.needed:
            continue
        name = standing.name.replace("_", " ")
        style = ("--", "-.", ":", (0, (1, 3)))[index % 4]
        evidence.plot(requests, [_log10(p.standings[index].worse) for p in points], ls=style, color=_WORSE, lw=0.8)
        evidence.plot(
            requests,
            [_log10(p.standings[index].harmless) for p in points],
            ls=style,
            color=_HARMLESS,
            lw=0.8,
            label=f"{name} alone",
        )
    evidence.axhline(_log10(analysis.log_abort), color=_WORSE, alpha=0.6)
    place = {"xycoords": ("axes fraction", "data"), "va": "bottom", "fontsize": 8}
    evidence.annotate("abort", (0.995, _log10(analysis.log_abort)), ha="right", **place)
    below = [step for step in options.steps if step < 100]
    for passed, step in enumerate(below, 1):
        height = _log10(analysis.log_promote * passed / len(below))
        following = options.steps[options.steps.index(step) + 1]
        evidence.axhline(height, color=_HARMLESS, alpha=0.35, lw=0.8)
        label = "promote" if following == 100 else f"{following} %"
        evidence.annotate(label, (0.005, height), **place)
    evidence.set(xlabel="requests of the candidate", ylabel="evidence, powers of ten")
    bottom, top = evidence.get_ylim()
    evidence.set_ylim(max(-4.0, bottom), min(1.8 * _log10(max(analysis.log_abort, analysis.log_promote)), top))
    evidence.legend(fontsize=8, loc="best")
    seconds += [seconds[-1] + conclusion.seconds, 1.03 * seconds[-1] + conclusion.seconds]
    shares = [*(point.share for point in points), conclusion.share, conclusion.share]
    share.step(seconds, shares, where="post", color="#5b8c5a", lw=2)
    share.set(xlabel="seconds", ylabel="share, %", ylim=(-3, 103))
    return figure


def _log10(evidence: float) -> float:
    return float(np.clip(evidence / _LOG10, -12, 12)) if not math.isinf(evidence) or evidence > 0 else float("nan")


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
