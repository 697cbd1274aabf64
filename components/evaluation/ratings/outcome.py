"""What people's ratings come to: evidence for the gate, feedback to train on, and how far the raters can be trusted."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np

from components.common.report import Report
from components.evaluation.evidence import BASE, CANDIDATE, Evidence, weigh
from components.evaluation.ratings import agreement
from components.evaluation.ratings.agreement import Estimate
from components.evaluation.ratings.scales import HIGHEST, LOWEST, NAMES, SCALES
from components.evaluation.ratings.sheets import Ratings
from components.evaluation.ratings.study import Origin, Study

ODD = 0.5
"""Points by which a rater must rate higher or lower than the others, with confidence, to be called severe or mild."""


@dataclass(frozen=True)
class Rules:
    """Level, resamples and seed of the intervals."""

    confidence: float = 0.95
    resamples: int = 1000
    seed: int = 17


@dataclass(frozen=True)
class Rater:
    """How one rater compares with the others, over all scales.

    Attributes:
        name: The rater.
        answers: How many answers they rated.
        tau: Kendall's τ-b with the mean of the others.
        severity: Points above the others.
        drift: Points from the first answer to the last.
        remarks: What is odd, in words; empty when nothing is.
    """

    name: str
    answers: int
    tau: Estimate
    severity: Estimate
    drift: Estimate
    remarks: tuple[str, ...]


def evidence_of(key: Mapping[str, Origin], ratings: Mapping[str, Ratings], rules: Rules) -> Evidence:
    """Turn ratings into evidence: `ratings.<scale>`, the mean over the raters of each item's answer.

    Items of which an answer has not been rated are left out of that scale.

    Args:
        key: Whose answers were rated.
        ratings: By rater.
        rules: Level of the intervals.
    """
    metrics, scores = [], {CANDIDATE: {}, BASE: {}}  # type: ignore[var-annotated]
    for scale in NAMES:
        given: dict[str, dict[str, list[int]]] = {CANDIDATE: {}, BASE: {}}
        for rated in ratings.values():
            for answer, values in rated.items():
                if scale in values:
                    given[key[answer].arm].setdefault(key[answer].item, []).append(values[scale])
        both = sorted(given[CANDIDATE].keys() & given[BASE].keys())
        if not both:
            continue
        name = f"ratings.{scale}"
        for arm, items in given.items():
            scores[arm][name] = {item: fmean(items[item]) for item in both}
        candidate, base = scores[CANDIDATE][name], scores[BASE][name]
        metrics.append(weigh(name, candidate, base, rules, task="ratings", unit=f"of {HIGHEST}"))
    off = {} if metrics else {"ratings": "nobody has rated both answers to an item yet"}
    return Evidence(rules.confidence, metrics, scores if metrics else {}, off)


def feedback_of(study: Study, ratings: Mapping[str, Ratings]) -> str:
    """Write every rated answer as JSON Lines that `headrace import` takes: prompt, completion, rating.

    The rating is the mean of usefulness and correctness over the raters, rounded.
    """
    lines = []
    for name, answer in study.answers.items():
        given = [rated.get(name, {}) for rated in ratings.values()]
        values = [each[scale] for each in given for scale in NAMES[:2] if scale in each]
        if values and answer.answer.strip():
            rating = math.floor(fmean(values) + 0.5)
            record = {"prompt": answer.question, "completion": answer.answer, "rating": rating}
            lines.append(json.dumps(record, ensure_ascii=False))
    return "".join(f"{line}\n" for line in sorted(lines))


def table_of(key: Mapping[str, Origin], ratings: Mapping[str, Ratings], scale: str) -> tuple[np.ndarray, list[str]]:
    """Ratings on a scale, answers by raters, NaN where there is none; and the item of each row."""
    answers = sorted({answer for rated in ratings.values() for answer in rated})
    table = [[rated.get(answer, {}).get(scale, math.nan) for rated in ratings.values()] for answer in answers]
    return np.array(table, float).reshape(len(answers), len(ratings)), [key[answer].item for answer in answers]


def judge_raters(key: Mapping[str, Origin], ratings: Mapping[str, Ratings], rules: Rules) -> list[Rater]:
    """Compare each rater with the others, over all scales at once.

    Args:
        key: Whose answers were rated.
        ratings: By rater, in the order in which answers were rated.
        rules: Level of the intervals.
    """
    tables = [table_of(key, ratings, scale) for scale in NAMES]
    table, items = np.concatenate([part for part, _ in tables]), [item for _, part in tables for item in part]
    # The scales of one answer move together: each on its own would make a trend look surer than it is.
    scales = np.stack([part for part, _ in tables])
    rated_on = np.count_nonzero(~np.isnan(scales), axis=0)
    whole = np.where(rated_on > 0, np.nansum(scales, axis=0) / np.maximum(rated_on, 1), math.nan)
    answers = sorted({answer for rated in ratings.values() for answer in rated})
    draws = (rules.confidence, rules.resamples, rules.seed)
    found = []
    for number, (name, rated) in enumerate(ratings.items()):
        order = {answer: position / max(1, len(rated) - 1) for position, answer in enumerate(rated)}
        positions = np.array([order.get(answer, math.nan) for answer in answers])
        tau = agreement.estimate(table, items, partial(agreement.tau_with_others, rater=number), *draws)
        severity = agreement.estimate(table, items, partial(agreement.severity, rater=number), *draws)
        drift = agreement.drift(whole, number, positions, rules.confidence)
        among = agreement.tau(np.delete(table, number, axis=1))
        found.append(Rater(name, len(rated), tau, severity, drift, _remarks(tau, severity, drift, among)))
    return found


def report_of(
    study: Study, key: Mapping[str, Origin], ratings: Mapping[str, Ratings], evidence: Evidence, rules: Rules
) -> Report:
    """Write what was rated, how far raters agree, and whose ratings are odd."""
    done = sum(len(rated) for rated in ratings.values())
    asked = sum(map(len, study.orders.values()))
    report = Report("Ratings", f"{done:,} of {asked:,} answers rated by {len(ratings)} people, blind to the model")
    report.metrics(
        {"answers": len(study.answers), "raters": len(ratings), "rated": done, "items left out": study.left_out}
    )
    report.table([metric.row() for metric in evidence.metrics], f"From {LOWEST} to {HIGHEST}, higher is better")
    for why in evidence.off.values():
        report.text(f"No evidence: {why}.")
    draws = (rules.confidence, rules.resamples, rules.seed)
    rows = []
    for scale in SCALES:
        table, items = table_of(key, ratings, scale.name)
        measures = {"Kendall's τ": agreement.tau, "Krippendorff's α": agreement.alpha}
        found = {name: agreement.estimate(table, items, measure, *draws) for name, measure in measures.items()}
        rows.append({"scale": scale.title["en"], **{name: _words(value) for name, value in found.items()}})
    report.table(rows, f"Agreement, {rules.confidence:.0%} intervals over the items")
    report.text(
        "1 is agreement and 0 is chance. Krippendorff asks for an α of 0.8, and takes 0.667 for tentative conclusions."
    )
    report.table(
        [
            {
                "rater": rater.name,
                "answers": rater.answers,
                "τ with the others": _words(rater.tau),
                "above the others": _words(rater.severity),
                "drift, first to last": _words(rater.drift),
                "remarks": "; ".join(rater.remarks) or "none",
            }
            for rater in judge_raters(key, ratings, rules)
        ],
        "Raters",
    )
    return report


def _remarks(tau: Estimate, severity: Estimate, drift: Estimate, among: float) -> tuple[str, ...]:
    found = []
    if severity.known and not (severity.interval[0] < ODD and severity.interval[1] > -ODD):
        found.append(f"rates {'higher' if severity.value > 0 else 'lower'} than the others")
    if tau.known and tau.interval[1] < among:
        found.append("agrees less with the others than these with each other")
    if drift.known and (drift.interval[0] > 0 or drift.interval[1] < 0):
        found.append(f"drifts {'up' if drift.value > 0 else 'down'}")
    return tuple(found)


def _words(found: Estimate) -> str:
    if not found.known:
        return "not determined"
    return f"{found.value:.2f} [{found.interval[0]:.2f}, {found.interval[1]:.2f}]"


def write(folder: Path, report: Report, evidence: Evidence, feedback: str) -> None:
    """Write `report.html`, `evidence/` and `feedback.jsonl` into a study's folder."""
    (folder / "report.html").write_text(report.html(), "utf-8")
    (folder / "evidence").mkdir(exist_ok=True)
    evidence.write(folder / "evidence")
    (folder / "feedback.jsonl").write_text(feedback, "utf-8")
