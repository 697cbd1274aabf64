"""Apply the gate to evidence: `release` or `hold`, with a verdict for the record."""

from dataclasses import asdict
from pathlib import Path

from components.common.ledger import canonical
from components.common.report import Report, display
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.evaluation.evidence import CANDIDATE, Evidence, merge
from components.evaluation.gate.judge import RELEASE, Verdict, judge
from components.evaluation.gate.options import Gate
from components.evaluation.incumbent.identity import measured_of
from components.evaluation.ratings.stored import read_stored
from components.evaluation.serving import Serving
from components.model.versions import SCORES

VERDICT = "verdict.json"


def run(
    benchmark: Path,
    retrieval: Path,
    redteam: Path,
    serving: Path,
    verdict: Path,
    options: Gate,
    context: Context,
) -> Outcome:
    """Judge the evidence.

    Args:
        benchmark: Evidence of the benchmark.
        retrieval: Evidence of search, and of answers with what it finds.
        redteam: Evidence of the red team.
        serving: The candidate against the model that serves now.
        verdict: `verdict.json`: the decision, each finding, and the evidence it rests on; `scores.json`.
        options: The demands.
        context: The run.
    """
    evidence = merge(map(Evidence.read, (benchmark, retrieval, redteam)))
    compared = Serving.read(serving)
    if options.ratings:
        candidate = measured_of(benchmark, CANDIDATE)
        evidence = merge([evidence, read_stored(options.ratings, candidate, store_of(context.environment))])
    judged = judge(evidence, compared, options)
    record = {
        "decision": judged.decision,
        "sentence": judged.sentence,
        "findings": [asdict(finding) for finding in judged.findings],
        "evidence": evidence.record(),
        "serving": compared.record(),
    }
    (verdict / VERDICT).write_bytes(canonical(record))
    (verdict / SCORES).write_bytes(canonical(evidence.scores))
    failed = sum(not finding.passed for finding in judged.findings)
    return Outcome(
        counts_in=1,
        counts_out=1,
        metrics={"released": float(judged.decision == RELEASE), "demands_failed": failed},
        report=_report(judged, evidence, compared, options),
        decision=judged.decision,
    )


def _report(judged: Verdict, evidence: Evidence, compared: Serving, options: Gate) -> Report:
    report = Report("Gate", judged.sentence)
    failed = sum(not finding.passed for finding in judged.findings)
    report.metrics({"decision": judged.decision, "demands": len(judged.findings), "not met": failed})
    rows = [
        {
            "metric": finding.metric,
            "rule": finding.rule.replace("_", " "),
            "threshold": finding.threshold,
            "measured": "not measured" if finding.value is None else f"{finding.value:.3g}",
            "interval": "" if finding.interval is None else "[{:.3f}, {:.3f}]".format(*finding.interval),
            "level": f"{finding.level:.2%}" if finding.interval else "",
            "with confidence": finding.certain,
            "items": finding.items,
            "met": finding.passed,
        }
        for finding in judged.findings
    ]
    report.table(rows, "Demands")
    report.text(_chance(len(rows), evidence.confidence, options))
    report.table([metric.row() for metric in evidence.metrics], "Everything that was measured")
    for name, why in sorted(evidence.off.items()):
        report.text(f"{name} was not measured: {why}.")
    report.text(f"Serving now: {compared.sentence}.")
    against = [metric.row("serving") for metric in compared.evidence.metrics]
    return report.table(against, "Candidate against the serving model") if against else report


def _chance(demands: int, confidence: float, options: Gate) -> str:
    """Say what several demands do to the chance of being wrong."""
    if options.adjust != "none":
        return (
            f"{demands} demands, with intervals widened ({options.adjust}) so that all findings hold together with "
            f"{display(100 * confidence)} % confidence."
        )
    return (
        f"{demands} demands, all of which must be met: a candidate that truly misses one of them passes with a chance "
        f"of at most {display(round(50 * (1 - confidence), 2))} %, however many there are. A good candidate is held "
        "the more easily the more demands there are."
    )
