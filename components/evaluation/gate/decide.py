"""Apply the gate to evidence: `release` or `hold`, with a verdict for the record."""

from dataclasses import asdict
from pathlib import Path

from components.common.ledger import canonical
from components.common.report import Report
from components.common.step import Context, Outcome
from components.evaluation.evidence import Evidence
from components.evaluation.gate.judge import RELEASE, Verdict, judge
from components.evaluation.gate.options import Gate

VERDICT = "verdict.json"


def run(evidence: Path, verdict: Path, options: Gate, context: Context) -> Outcome:
    """Judge the evidence.

    Args:
        evidence: What the benchmark wrote.
        verdict: `verdict.json`: the decision, each finding, and the evidence it rests on.
        options: The demands.
        context: The run.
    """
    measured = Evidence.read(evidence)
    judged = judge(measured, options)
    record = {
        "decision": judged.decision,
        "sentence": judged.sentence,
        "findings": [asdict(finding) for finding in judged.findings],
        "evidence": measured.record(),
    }
    (verdict / VERDICT).write_bytes(canonical(record))
    failed = sum(not finding.passed for finding in judged.findings)
    return Outcome(
        counts_in=1,
        counts_out=1,
        metrics={"released": float(judged.decision == RELEASE), "demands_failed": failed},
        report=_report(judged),
        decision=judged.decision,
    )


def _report(judged: Verdict) -> Report:
    report = Report("Gate", judged.sentence)
    report.metrics({"decision": judged.decision, "demands": len(judged.findings)})
    rows = [
        {
            "metric": finding.metric,
            "rule": finding.rule.replace("_", " "),
            "threshold": finding.threshold,
            "value": "not measured" if finding.value is None else f"{finding.value:.3g}",
            "interval": "" if finding.interval is None else "[{:.3f}, {:.3f}]".format(*finding.interval),
            "with confidence": finding.certain,
            "items": finding.items,
            "met": finding.passed,
        }
        for finding in judged.findings
    ]
    return report.table(rows, "Demands")
