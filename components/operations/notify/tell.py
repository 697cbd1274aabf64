"""Tell people how a run ended, once."""

from pathlib import Path

from components.common import failures
from components.common.ledger import canonical
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.evaluation.gate.decide import VERDICT
from components.model.versions import read_json
from components.operations.notify.channels import Severity, alert
from components.operations.notify.memory import Memory, Seen
from components.operations.notify.options import Ending

_ENDED_WELL = ("SUCCEEDED", "COMPLETE", "CACHED")
"""How Kubeflow Pipelines calls it: the first in its API and on a laptop, the others in the backend's driver."""
_SILENT = "a step ended without a word: out of memory, out of time, or its node was taken away; see the run"


def tell_ending(notice: Path, options: Ending, context: Context) -> Outcome:
    """Tell people of a run that failed, or that works again.

    Args:
        notice: Directory for `notice.json`.
        options: The run and its end.
        context: Where the run takes place.
    """
    environment = context.environment
    store = store_of(environment)
    failure = failures.read(store, environment.name)
    # The backend may still call a failed run RUNNING when its exit handler asks.
    failed = options.state not in _ENDED_WELL and (options.state != "RUNNING" or failure is not None)
    reason = ""
    if failed:
        reason = f"{failure.step}: {failure.message}" if failure else _SILENT
    outcome = _tell(Seen("failed" if failed else "succeeded", reason, options.run), notice, options, context)
    failures.forget(store, environment.name)  # only now: who could not tell tries again, and needs the reason
    return outcome


def tell_hold(verdict: Path, notice: Path, options: Ending, context: Context) -> Outcome:
    """Tell people of a model that the gate holds.

    Args:
        verdict: What the gate wrote.
        notice: Directory for `notice.json`.
        options: The run.
        context: Where the run takes place.
    """
    sentence = read_json(verdict / VERDICT)["sentence"]
    return _tell(Seen("held", sentence, options.run), notice, options, context)


def _tell(now: Seen, notice: Path, options: Ending, context: Context) -> Outcome:
    environment = context.environment
    subject = options.schedule or options.pipeline or "run"
    memory = Memory(store_of(environment), environment.name, subject)
    before, verdict = memory.advance(now)
    title, text = _words(subject, now, before, verdict)
    link = environment.notify.run_url.replace("{run}", options.run)
    channels: list[str] = []
    if verdict:
        severity: Severity = "page" if verdict == "page" else "notice"
        try:
            channels = alert(environment, severity, title, text, link)
        except Exception:
            memory.take_back(now, before)
            raise
    record = {"subject": subject, "state": now.state, "reason": now.reason, "told": verdict, "channels": channels}
    (notice / "notice.json").write_bytes(canonical(record))
    report = Report(title, text).metrics({"Told": verdict or "nobody, nothing new", "Channels": ", ".join(channels)})
    return Outcome(counts_in=1, counts_out=len(channels), report=report, metrics={"messages": float(len(channels))})


def _words(subject: str, now: Seen, before: Seen | None, verdict: str) -> tuple[str, str]:
    if verdict == "recovered" and before:
        return f"{subject} works again", f"It had failed: {before.reason}"
    if now.state == "failed":
        return f"{subject} failed", now.reason
    if now.state == "held":
        return f"{subject}: the gate holds the model", now.reason
    return f"{subject} succeeded", "Nothing to tell."
