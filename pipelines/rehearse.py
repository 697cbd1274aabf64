"""What follows a publication on a laptop: real traffic, a rollback that takes effect at once, then the promotion.

In a cluster this is the business of the `progress_rollout` pipeline. Here the steps are fixed and watched, so that a
newcomer sees each of them happen.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from components.common.environment import Environment
from components.common.recipes import Traffic
from components.common.report import Report
from components.release.rollout import Rollout, connect
from serving.traffic import Load, Sample


@dataclass(frozen=True)
class Change:
    """A change of the weights: when it was asked for and when it was observed, in seconds of the load."""

    name: str
    asked: float
    observed: float


@dataclass(frozen=True)
class Window:
    """The requests sent between two changes."""

    name: str
    wanted: int
    samples: list[Sample]

    def share(self, revision: str) -> float:
        """Percentage of the answered requests that a revision answered."""
        answered = [sample for sample in self.samples if sample.ok]
        return 100 * sum(sample.revision == revision for sample in answered) / max(1, len(answered))


@dataclass(frozen=True)
class Rehearsal:
    """Everything that happened: who was stable, who came, the changes, and every request."""

    stable: str
    candidate: str
    changes: list[Change]
    windows: list[Window]
    samples: list[Sample]

    @property
    def failed(self) -> int:
        """Requests that were not answered well."""
        return sum(not sample.ok for sample in self.samples)


def rehearse(
    environment: Environment,
    service: str,
    questions: Sequence[str],
    traffic: Traffic,
    progress: Callable[[str, int, int], None],
) -> Rehearsal:
    """Send traffic to a canary, roll it back, bring it again, promote it.

    Args:
        environment: Where it is served.
        service: Name of the InferenceService; its candidate has a share of the requests.
        questions: What to ask.
        traffic: How many requests, how fast.
        progress: Is told the phase, the requests answered in it and how many it has.

    Returns:
        What was seen.
    """
    rollout = connect(environment, service)
    before = rollout.status()
    percent = before.wanted
    changes: list[Change] = []
    windows: list[Window] = []
    load = Load(environment.serving.gateway, service, questions, traffic.concurrency, traffic.max_tokens, traffic.seed)
    with load:

        def observe(name: str, requests: int, wanted: int) -> None:
            since = load.now
            load.wait_for(requests, since, lambda done: progress(name, done, requests))
            windows.append(Window(name, wanted, [sample for sample in load.samples if sample.sent >= since]))

        def change(name: str, act: Callable[[], Rollout]) -> None:
            asked = load.now
            act()
            changes.append(Change(name, asked, load.now))

        observe(f"canary at {percent} %", traffic.requests, percent)
        change("rollback", rollout.rollback)
        observe("rolled back", traffic.requests_after, 0)
        change(f"canary at {percent} % again", lambda: rollout.set_percent(percent))
        observe("canary again", traffic.requests_after, percent)
        change("promotion", rollout.promote)
        observe("promoted", traffic.requests_after, 100)
    return Rehearsal(before.stable, before.candidate, changes, windows, load.samples)


def report_rehearsal(rehearsal: Rehearsal) -> Report:
    """Show a rehearsal: the observed split and latency in every phase, the changes, and each request."""
    promoted = rehearsal.windows[-1].share(rehearsal.candidate)
    report = Report(
        "Rollout",
        f"{rehearsal.candidate} took over from {rehearsal.stable}: {promoted:.0f} % of the requests, "
        f"{rehearsal.failed} failed on the way",
    )
    report.metrics({"Requests": len(rehearsal.samples), "Failed": rehearsal.failed, "Changes": len(rehearsal.changes)})
    report.table([row for window in rehearsal.windows for row in describe(window, rehearsal)], "Observed split")
    report.table(
        [
            {"change": change.name, "seconds until observed": change.observed - change.asked}
            for change in rehearsal.changes
        ],
        "Changes of the weights",
    )
    return report.figure(_timeline(rehearsal), "Every request: when it was sent, how long it took, who answered")


def describe(window: Window, rehearsal: Rehearsal) -> list[dict[str, str | int | float]]:
    """One row per revision: its wanted and observed share and its latency."""
    rows: list[dict[str, str | int | float]] = []
    counts = Counter(sample.revision for sample in window.samples if sample.ok)
    for revision, wanted in ((rehearsal.stable, 100 - window.wanted), (rehearsal.candidate, window.wanted)):
        seconds = [sample.seconds for sample in window.samples if sample.ok and sample.revision == revision]
        rows.append(
            {
                "phase": window.name,
                "revision": revision,
                "wanted %": wanted,
                "observed %": round(window.share(revision), 1),
                "requests": counts[revision],
                "p50 s": round(float(np.quantile(seconds, 0.5)), 3) if seconds else "",
                "p95 s": round(float(np.quantile(seconds, 0.95)), 3) if seconds else "",
            }
        )
    return rows


def _timeline(rehearsal: Rehearsal) -> Figure:
    figure = Figure(figsize=(9, 3.2))
    axes = figure.subplots()
    for revision, label in ((rehearsal.stable, "stable"), (rehearsal.candidate, "canary")):
        points = [sample for sample in rehearsal.samples if sample.revision == revision]
        axes.scatter(
            [sample.sent for sample in points],
            [sample.seconds for sample in points],
            s=10,
            label=f"{label} {revision}",
        )
    for change in rehearsal.changes:
        axes.axvline(change.asked, color="#5d6f79", linewidth=1)
        axes.annotate(change.name, (change.asked, 1.0), xycoords=("data", "axes fraction"), fontsize=8, rotation=20)
    axes.set_xlabel("seconds")
    axes.set_ylabel("latency in seconds")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    return figure
