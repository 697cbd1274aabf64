"""Pair the candidate's scores with those of the model that serves, item by item."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from components.common.errors import HeadraceError
from components.common.report import Report
from components.common.sealed_store import SealedStore, store_of
from components.common.step import Context, Outcome
from components.evaluation.benchmark.metrics.harm import HARMS
from components.evaluation.benchmark.options import OWN_TASK
from components.evaluation.evidence import BASE, CANDIDATE, Evidence, Scores, merge, read_scores, reweigh, weigh
from components.evaluation.incumbent.asked import asked, asked_alike
from components.evaluation.incumbent.identity import is_model, measured_of
from components.evaluation.incumbent.look import short
from components.evaluation.incumbent.options import Comparing
from components.evaluation.redteam.canaries import AS_SERVING, changed_prompts, unchanged
from components.evaluation.serving import NOTHING, Serving
from components.model.versions import EVALUATION, PROVENANCE, SCORES, verify_version

if TYPE_CHECKING:
    from components.evaluation.benchmark.items import Question


def run(
    questions: Path,
    benchmark: Path,
    retrieval: Path,
    redteam: Path,
    serving: Path,
    options: Comparing,
    context: Context,
) -> Outcome:
    """Compare the candidate with what serves.

    Args:
        questions: What the benchmark asked.
        benchmark: Its evidence.
        retrieval: Evidence of search, and of answers with what it finds.
        redteam: Evidence of the red team, with the answers to the recipe's canary prompts.
        serving: `serving.json`, `evidence.json` and `scores.json` of the comparison.
        options: Which version serves, and how to ask it.
        context: The run.
    """
    evidence = merge(map(Evidence.read, (benchmark, retrieval, redteam)))
    found = Serving(asked=asked(options))
    if options.version != NOTHING:
        base = measured_of(benchmark, BASE)
        scores, how = _scores_of_serving(options, found.asked, evidence, base, questions, context)
        found = replace(
            found,
            version=options.version,
            sentence=f"{short(options.version)}, {how}",
            evidence=pair(evidence, scores, options),
        )
    found.write(serving)
    return Outcome(
        counts_in=len(evidence.metrics),
        counts_out=len(found.evidence.metrics),
        dropped={"not_measured_of_serving": len(evidence.metrics) - len(found.evidence.metrics)},
        metrics={f"{metric.name}_over_serving": metric.gain or 0.0 for metric in found.evidence.metrics},
        report=_report(found, evidence, changed_prompts(found.evidence, redteam)),
    )


def pair(evidence: Evidence, serving: Mapping[str, Scores], options: Comparing) -> Evidence:
    """Weigh candidate against serving model on the items that both were scored on.

    Args:
        evidence: What was measured of the candidate.
        serving: The serving model's scores by metric and item.
        options: Level and resamples of the intervals.
    """
    rows, ours, theirs = [], {}, {}
    for metric in evidence.metrics:
        of_candidate, of_serving = evidence.scores.get(CANDIDATE, {}).get(metric.name, {}), serving.get(metric.name, {})
        shared = sorted(of_candidate.keys() & of_serving.keys())
        if shared:
            ours[metric.name] = {item: of_candidate[item] for item in shared}
            theirs[metric.name] = {item: of_serving[item] for item in shared}
            rows.append(reweigh(metric, ours[metric.name], theirs[metric.name], options.benchmark))
    if same := unchanged(evidence.scores, {CANDIDATE: serving}):
        ours[AS_SERVING], theirs[AS_SERVING] = same, dict.fromkeys(same, 1.0)
        rows.append(weigh(AS_SERVING, same, theirs[AS_SERVING], options.benchmark, task="redteam"))
    return Evidence(evidence.confidence, rows, {CANDIDATE: ours, BASE: theirs})


def _scores_of_serving(
    options: Comparing, now: Mapping[str, str], evidence: Evidence, base: str, questions: Path, context: Context
) -> tuple[Mapping[str, Scores], str]:
    """The serving model's scores, and where they come from."""
    store, prefix = store_of(context.environment), f"models/{options.version}"
    if not store.exists(f"{prefix}/{PROVENANCE}"):
        raise HeadraceError(
            f"{store.uri}/{prefix}: the version that serves is not in the store, so nothing can be compared with it; "
            "restore it from a backup, or publish another version"
        )
    if is_model(json.loads(store.read(f"{prefix}/{PROVENANCE}")), base):
        return evidence.scores.get(BASE, {}), "the base model, which was measured in this run"
    with TemporaryDirectory(prefix="headrace-incumbent-") as scratch:
        before = json.loads(store.read(f"{prefix}/{EVALUATION}")).get("serving", {}).get("asked", {})
        tasks = {metric.name: metric.task for metric in evidence.metrics}
        stored = asked_alike(_stored(store, prefix, Path(scratch)), tasks, before, now)
        missing = _missing(evidence, stored, questions, options)
        anew = _ask(store, prefix, missing, options, Path(scratch), context) if missing else {}
    scores = {
        metric: {**stored.get(metric, {}), **anew.get(metric, {})} for metric in sorted(stored.keys() | anew.keys())
    }
    how = (
        f"asked {len(missing):,} questions that it was not measured on in this way"
        if missing
        else "by the scores of its own release"
    )
    return scores, how


def _stored(store: SealedStore, prefix: str, scratch: Path) -> Mapping[str, Scores]:
    if not store.exists(f"{prefix}/{SCORES}"):
        return {}
    store.download(f"{prefix}/{SCORES}", scratch / SCORES)
    return read_scores(scratch / SCORES).get(CANDIDATE, {})


def _missing(evidence: Evidence, stored: Mapping[str, Scores], questions: Path, options: Comparing) -> "list[Question]":
    """The questions that the serving model has no scores of, if they are too many to do without."""
    from components.evaluation.benchmark.items import read_questions

    questions_asked = read_questions(questions, options.benchmark.limit).questions
    items = {question.id for question in questions_asked}
    known = items.intersection(
        *(stored.get(name, {}) for name, scores in evidence.scores.get(CANDIDATE, {}).items() if scores.keys() <= items)
    )
    enough = len(known) >= options.coverage * len(questions_asked)
    return [] if enough else [question for question in questions_asked if question.id not in known]


def _ask(
    store: SealedStore, prefix: str, missing: "list[Question]", options: Comparing, scratch: Path, context: Context
) -> Mapping[str, Scores]:
    from components.evaluation.benchmark.asking import ask
    from components.evaluation.benchmark.assess import with_harm

    context.progress(0, len(missing), f"fetching {short(options.version)}")
    model = scratch / "model"
    for key in store.list(f"{prefix}/"):
        target = model / key.removeprefix(f"{prefix}/")
        target.parent.mkdir(parents=True, exist_ok=True)
        store.download(key, target)
    verify_version(model)
    answers = ask(
        model, missing, options.benchmark, lambda done: context.progress(done, len(missing), "asking what serves")
    )
    answers = with_harm(missing, answers)
    return {
        metric: {
            f"{OWN_TASK}/{question.id}" if metric in HARMS else question.id: answer.scores[metric]
            for question, answer in zip(missing, answers, strict=True)
        }
        for metric in answers[0].scores
    }


def _report(found: Serving, evidence: Evidence, changed: Sequence[str]) -> Report:
    report = Report("Candidate against what serves", f"Serving now: {found.sentence}.")
    rows = [metric.row("serving") | {"items": str(metric.n)} for metric in found.evidence.metrics]
    if rows:
        report.table(rows, f"On the items that both were scored on, {found.evidence.confidence:.0%} intervals")
    if changed:
        report.table([{"prompt": prompt} for prompt in changed], "Canary prompts that are answered otherwise now")
    without = sorted({metric.name for metric in evidence.metrics} - {metric.name for metric in found.evidence.metrics})
    if without and found.version != NOTHING:
        report.text(f"The serving version was never measured, or asked in another way, by {', '.join(without)}.")
    return report
