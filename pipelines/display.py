"""Show how a run is getting on: one line per step, with a bar on a terminal and plain lines elsewhere."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from pipelines.local_run import StepRun

_MARKS = {"done": "[green]✓", "cached": "[cyan]≡", "failed": "[red]✗"}


class Display:
    """A watcher that draws on the real standard output, whatever the steps' output is diverted to.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.__stdout__)
        self._total = 0
        self._number = 0
        self._running: dict[int, tuple[int, TaskID]] = {}
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing and leave the terminal as it was."""
        self._bars.stop()

    def begin(self, total: int) -> None:
        """See `Watcher.begin`."""
        self._total, self._number = total, 0

    def say(self, text: str) -> None:
        """Print a line of its own above the bar."""
        self.console.print(text, highlight=False, no_wrap=True, overflow="ellipsis", crop=False)

    def started(self, step: StepRun) -> None:
        """See `Watcher.started`."""
        number = self._count()
        description = f"{number:>2}/{self._total} {step.name}"
        self._running[id(step)] = number, self._bars.add_task(description, total=None, note="")

    def progressed(self, step: StepRun, done: float, total: float, note: str) -> None:
        """See `Watcher.progressed`."""
        _, bar = self._running[id(step)]
        self._bars.update(bar, completed=done, total=total, note=escape(note))

    def finished(self, step: StepRun) -> None:
        """See `Watcher.finished`."""
        if step.state == "cached":
            number = self._count()
        else:
            number, bar = self._running.pop(id(step))
            self._bars.remove_task(bar)
        took = "reused" if step.state == "cached" else f"{step.seconds:6.1f} s"
        self.say(f"{_MARKS[step.state]} {number:>2}/{self._total} {step.name:<19}[/] {took:>9}  {_summary(step)}")

    def _count(self) -> int:
        """Number a step; a loop may have more of them than the pipeline shows."""
        self._number += 1
        self._total = max(self._total, self._number)
        return self._number


def _summary(step: StepRun) -> str:
    """The two or three numbers that say what a step did."""
    metrics = step.metrics
    if not metrics:
        return ""
    shown = []
    if metrics.get("records_out"):
        dropped = sum(value for name, value in metrics.items() if name.startswith("dropped_"))
        shown.append(f"{int(metrics['records_out']):,} out" + (f", {int(dropped):,} dropped" if dropped else ""))
    known = {"records_in", "records_out", "seconds", "peak_mib"}
    extra = [name for name in metrics if name not in known and not name.startswith("dropped_")]
    shown += [f"{name.replace('_', ' ')} {metrics[name]:.3g}" for name in extra[:3]]
    return "[dim]" + " · ".join(shown) + "[/]"
