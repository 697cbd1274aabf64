"""The plots of a probe's report."""

from collections.abc import Collection, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.data.probe.weigh import Difference, Gain, verdict

_SIDES = ("#1f6f8b", "#e07a3f")
_VERDICTS = {"better": "#3f7d3e", "worse": "#b0413e", "no evidence of a difference": "#8a979e"}
"""Not the colours of the sides: what is proposed is not better for being proposed."""


def losses_figure(losses: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Loss of each step of each training, a colour for each side."""
    figure = Figure(figsize=(7, 2.8))
    axes = figure.add_subplot()
    for (name, runs), color in zip(losses.items(), _SIDES, strict=True):
        for number, run in enumerate(runs):
            axes.plot(range(1, len(run) + 1), run, linewidth=1, color=color, label="" if number else name)
    axes.set(xlabel="step", ylabel="loss of the batch", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def changes_figure(changes: Mapping[str, Mapping[str, Difference]], less_is_better: Collection[str]) -> Figure:
    """Differences of the measures with their intervals, and each seed as a dot.

    Args:
        changes: For each scale, as it is called, the differences by measure, in the words of the report.
        less_is_better: Measures that are better the lower they are.
    """
    sizes = [len(one) for one in changes.values()]
    figure = Figure(figsize=(7, 0.8 * len(sizes) + 0.42 * sum(sizes)), layout="constrained")
    for axes, (scale, of) in zip(figure.subplots(len(sizes), height_ratios=sizes), changes.items(), strict=True):
        for place, change in enumerate(of.values()):
            axes.plot(change.by_seed, [place] * len(change.by_seed), "o", color="#5d6f79", markersize=3, alpha=0.5)
        verdicts = [verdict(change, more_is_better=name not in less_is_better) for name, change in of.items()]
        _bars(axes, list(of), list(of.values()), verdicts)
        axes.set(xlabel=scale)
    return figure


def groups_figure(gains: Sequence[Gain], unit: str) -> Figure:
    """What each group adds for each unit of cost."""
    figure = Figure(figsize=(7, 0.8 + 0.42 * len(gains)))
    axes = figure.add_subplot()
    changes = [gain.per_cost for gain in gains if gain.per_cost]
    _bars(axes, [f"{gain.by} {gain.group}" for gain in gains], changes, list(map(verdict, changes)))
    axes.set(xlabel=f"difference per {unit}")
    return figure


def _bars(axes: Axes, names: Sequence[str], changes: Sequence[Difference], verdicts: Sequence[str]) -> None:
    for place, (change, said) in enumerate(zip(changes, verdicts, strict=True)):
        axes.plot([change.low, change.high], [place, place], color=_VERDICTS[said], linewidth=2)
        axes.plot([change.value], [place], "D", color=_VERDICTS[said], markersize=6)
    for said in (name for name in _VERDICTS if name in verdicts):
        axes.plot([], [], "D-", color=_VERDICTS[said], label=said)
    axes.axvline(0, color="#1d2b33", linewidth=0.8)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
