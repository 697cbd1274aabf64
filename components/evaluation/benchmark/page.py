"""The page that shows what was measured."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from components.common.report import Report, display
from components.evaluation.benchmark.assess import Assessed, Assessment
from components.evaluation.benchmark.options import OWN_TASK, Benchmark
from components.evaluation.benchmark.tasks import measure_of
from components.evaluation.evidence import BASE, CANDIDATE, Evidence

_FIRST = {
    "qa": "exact_match",
    "summary": "rougeL",
    "math": "exact_number",
    "reasoning": "sound",
    "json_schema": "valid_schema",
    "function_call": "right_arguments",
    "evidence": "supported",
}
"""The metric of a kind that says whether an answer is right; of others their first."""


def report_of(found: Evidence, assessment: Assessment, options: Benchmark, served: bool) -> Report:
    """Show every metric, the tasks with examples, the judge, speed and what was left out."""
    first = found.metrics[0]
    against = f"{display(first.base_value)} → " if first.base_value is not None else ""
    what = "held-out questions" if first.task == OWN_TASK else f"items of {first.task}"
    report = Report("Benchmark", f"{_words(first.name)} {against}{display(first.value)} on {first.n:,} {what}")
    report.metrics({_words(metric.name): metric.value for metric in found.metrics[:8]})
    rows = [metric.row() | {"items": metric.n} for metric in found.metrics]
    report.table(
        [
            {key: value for key, value in row.items() if first.gain is not None or key not in ("base", "gain")}
            for row in rows
        ],
        f"{'Base against candidate, ' if first.gain is not None else ''}{options.confidence:.0%} intervals",
        limit=500,
    )
    if first.p_value is not None:
        report.text(
            f"{first.gained} questions are right now that the base got wrong, {first.lost} the other way round "
            f"(McNemar p = {first.p_value:.2g})."
        )
    for assessed in assessment.tasks:
        section = report if assessed.name == OWN_TASK else Report(assessed.name, f"Kind {assessed.kind}")
        _show(section, assessed, options)
        if section is not report:
            report.section(section, f"{len(assessed.asked.questions):,} items")
    if assessment.agreements:
        report.table(
            [one.row() for one in assessment.agreements], "How far the judge of claims agrees with people's labels"
        )
    _show_limits(report, assessment, options, served)
    return report.text(
        "Answers are compared after Unicode NFC, case folding, collapsing white space and leaving out quotation marks "
        "and closing punctuation; articles and Korean particles count. Shares have Wilson intervals and, for the gain, "
        "Newcombe's; means have bootstrap intervals, quantiles those of order statistics."
    )


def _show(report: Report, assessed: Assessed, options: Benchmark) -> None:
    rows, arms = assessed.rows(), list(assessed.answers)
    main = _main(assessed)
    if assessed.kind != "lm_eval":
        meanings = {name: measure_of(name).meaning for name in assessed.higher_is_better}
        if assessed.name != OWN_TASK:
            report.table(
                [{"metric": _words(name), "meaning": meaning} for name, meaning in meanings.items()], "Metrics"
            )
    for group in ("kind", "language"):
        if len(values := sorted({row[group] for row in rows})) > 1:
            report.table([_of_group(group, value, rows, main, arms) for value in values], f"By {group}")
    if assessed.left_out:
        report.text(f"Left out, because they are not one number for each item: {', '.join(assessed.left_out)}.")
    most = options.examples if assessed.name == OWN_TASK else options.examples // 3
    quotable = [row for row in rows if row["quotable"]]
    higher = assessed.higher_is_better.get(main, True)
    shown = [_example(row, main, arms) for row in _examples(quotable, main, higher, most)]
    if shown:
        report.table(shown, "Examples, wrong answers first")
    elif not assessed.shown:
        report.text(
            "Examples are not shown: it is not known that all that the models were trained on may be quoted, and they "
            "may repeat it."
        )
    elif rows and not quotable:
        report.text("Examples are not shown: the items must not be quoted.")


def _show_limits(report: Report, assessment: Assessment, options: Benchmark, served: bool) -> None:
    left = [
        {"task": assessed.name, "reason": reason.replace("_", " "), "records": count}
        for assessed in assessment.tasks
        for reason, count in assessed.asked.dropped.items()
    ]
    left += [
        {"task": arm, "reason": "beginning cut off: longer than the context", "records": count}
        for arm, count in assessment.truncated.items()
        if count
    ]
    if left:
        report.table(left, "Left out or cut")
    batch = (
        f"in batches of {options.batch_size}, so that each waits for its batch" if not served else "over the network"
    )
    priced = options.prices.cpu_hour or options.prices.gpu_hour
    cost = (
        f"Cost is the busy time at {options.prices.cpu_hour:g} {options.prices.currency} per core-hour and "
        f"{options.prices.gpu_hour:g} per GPU-hour."
        if priced
        else "No price is given, so no cost is reported."
    )
    report.text(f"Latency was measured {batch}. {cost}")


def _main(assessed: Assessed) -> str:
    names = list(assessed.higher_is_better)
    return _FIRST.get(assessed.kind, names[0] if names else "")


def _of_group(
    group: str, value: str, rows: Sequence[Mapping[str, Any]], main: str, arms: Sequence[str]
) -> dict[str, Any]:
    among = [row for row in rows if row[group] == value]
    scored = {arm: [row[arm][main] for row in among if main in row[arm]] for arm in arms}
    return {
        group: value or "(none)",
        "questions": len(among),
        **{f"{arm} {_words(main)}": fmean(scores) if scores else "" for arm, scores in scored.items()},
    }


def _examples(rows: Sequence[Mapping[str, Any]], main: str, higher: bool, most: int) -> list[Mapping[str, Any]]:
    """Up to half of them wrong ones, the rest from the whole set."""
    wrong = [row for row in rows if not _right(row[CANDIDATE], main, higher)][: most // 2]
    right = [row for row in rows if _right(row[CANDIDATE], main, higher)][: most - len(wrong)]
    return [*wrong, *right]


def _right(answer: Mapping[str, Any], main: str, higher: bool) -> bool:
    return main not in answer or (answer[main] >= 0.5) == higher


def _example(row: Mapping[str, Any], main: str, arms: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"question": _short(row["question"]), "expected": _short(row["answer"])}
    for arm in (BASE, CANDIDATE):
        if arm in arms:
            shown[arm] = _short(row[arm]["answer"])
    score = row[CANDIDATE].get(main, "")
    shown["right" if score in (0.0, 1.0) else _words(main)] = bool(score) if score in (0.0, 1.0) else score
    return shown


def _short(text: str, most: int = 600) -> str:
    return text if len(text) <= most else f"{text[:most]} …"


def _words(metric: str) -> str:
    return metric.replace("_", " ")
