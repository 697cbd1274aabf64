"""Compare base and candidate on the held-out questions and a recipe's tasks, item by item."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from components.common.errors import HeadraceError
from components.common.step import Context, Outcome
from components.evaluation.benchmark.assess import Arms, Assessed, Assessment, assess
from components.evaluation.benchmark.items import Asked, read_questions
from components.evaluation.benchmark.metrics.harm import HARMS
from components.evaluation.benchmark.options import OWN_TASK, Benchmark
from components.evaluation.benchmark.page import report_of
from components.evaluation.benchmark.served import is_url
from components.evaluation.benchmark.speed import price_per_second, weigh_speed
from components.evaluation.benchmark.tasks import measure_of
from components.evaluation.evidence import BASE, CANDIDATE, SAMPLES, Evidence, Metric, weigh

REPLIES = "replies.jsonl"
"""Beside the evidence: seconds and tokens of every answer."""


def run(base: Path, candidate: Path, questions: Path, evidence: Path, options: Benchmark, context: Context) -> Outcome:
    """Measure both models.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        questions: Documents whose messages end with the expected answer.
        evidence: `evidence.json`, `scores.json`, `samples.jsonl` and `replies.jsonl`.
        options: How to ask and to compare.
        context: The run.
    """
    asked = read_questions(questions, options.limit)
    if not asked.questions:
        raise HeadraceError(f"{questions} holds no question that can be asked; curate must hold some out")
    return measure({BASE: base, CANDIDATE: candidate}, asked, evidence, options, context)


def measure(
    arms: Arms,
    questions: Asked | None,
    evidence: Path,
    options: Benchmark,
    context: Context,
    revisions: Mapping[str, str] = {},
) -> Outcome:
    """Ask one or two models everything and write the evidence.

    Args:
        arms: The models: `candidate`, and `base` where there is one.
        questions: Held-out questions; None where there are none.
        evidence: Folder for what was measured.
        options: How to ask and to compare.
        context: The run.
        revisions: By arm, of those served models that are pinned otherwise than the options say.
    """
    served = any(is_url(where) for where in arms.values())
    price_per_second(options.prices, served)  # what is missing is said before anything is asked
    assessment = assess(arms, questions, options, context.progress, revisions)
    found = compare(assessment, options, served)
    found.write(evidence)
    rows = [row for assessed in assessment.tasks for row in assessed.rows()]
    _write_lines(evidence / SAMPLES, rows)
    _write_lines(
        evidence / REPLIES,
        [{"arm": arm, **vars(reply)} for arm, replies in assessment.replies.items() for reply in replies],
    )
    dropped = Counter[str]()
    for assessed in assessment.tasks:
        dropped.update(assessed.asked.dropped)
    metrics: dict[str, float] = {}
    for metric in found.metrics:
        metrics[metric.name] = metric.value
        if metric.base_value is not None and metric.gain is not None:
            metrics |= {f"{metric.name}_base": metric.base_value, f"{metric.name}_gain": metric.gain}
    return Outcome(
        counts_in=sum(assessed.asked.records for assessed in assessment.tasks),
        counts_out=len(rows),
        dropped=dict(dropped),
        metrics=metrics,
        report=report_of(found, assessment, options, served),
    )


def compare(assessment: Assessment, options: Benchmark, served: bool = False) -> Evidence:
    """Turn answers into evidence: every metric with its interval and, where there is a base, its paired gain.

    Args:
        assessment: What was answered.
        options: Level and resamples of the intervals, prices.
        served: Whether a model was asked over the network.
    """
    metrics: list[Metric] = []
    scores: dict[str, dict[str, dict[str, float]]] = {
        arm: {} for arm in (CANDIDATE, *([BASE] if _has_base(assessment) else []))
    }

    def add(name: str, by_arm: dict[str, dict[str, float]], task: str, higher_is_better: bool, unit: str) -> None:
        for arm in scores:
            scores[arm][name] = by_arm[arm]
        pair = (by_arm[CANDIDATE], by_arm.get(BASE))
        metrics.append(weigh(name, *pair, options, task=task, higher_is_better=higher_is_better, unit=unit))

    for assessed in assessment.tasks:
        before = "" if assessed.name == OWN_TASK else f"{assessed.name}."
        for metric, higher in assessed.higher_is_better.items():
            if metric in HARMS and assessed.kind != "open":
                continue
            by_arm = {arm: _scored(assessed, arm, metric, "") for arm in scores}
            if any(by_arm[CANDIDATE]):
                unit = "" if assessed.kind == "lm_eval" else measure_of(metric).unit
                add(f"{before}{metric}", by_arm, assessed.name, higher, unit)
    own = [assessed for assessed in assessment.tasks if assessed.kind != "lm_eval"]
    for metric in HARMS if own else ():
        together = {
            arm: {item: score for one in own for item, score in _scored(one, arm, metric, f"{one.name}/").items()}
            for arm in scores
        }
        add(metric, together, "all answers", measure_of(metric).higher_is_better, "")
    metrics += weigh_speed(assessment.replies, options, served)
    return Evidence(options.confidence, metrics, scores)


def _scored(assessed: Assessed, arm: str, metric: str, before: str) -> dict[str, float]:
    return {
        f"{before}{question.id}": answer.scores[metric]
        for question, answer in zip(assessed.asked.questions, assessed.answers[arm], strict=True)
        if metric in answer.scores
    }


def _has_base(assessment: Assessment) -> bool:
    return BASE in assessment.replies


def _write_lines(path: Path, rows: "list[dict]") -> None:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False, sort_keys=True)}\n" for row in rows), "utf-8")
