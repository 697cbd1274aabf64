"""The plots of a probe's report."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from components.data.probe.weigh import Difference, Gain

_COLORS = ("#5d6f79", "#e07a3f")


def losses_figure(losses: Mapping[str, Sequence[Sequence[float]]]) -> Figure:
    """Loss of each step of each training, a colour for each side."""
    figure = Figure(figsize=(7, 2.8))
    axes = figure.add_subplot()
    for (name, runs), color in zip(losses.items(), _COLORS, strict=True):
        for number, run in enumerate(runs):
            axes.plot(range(1, len(run) + 1), run, linewidth=1, color=color, label="" if number else name)
    axes.set(xlabel="step", ylabel="loss of the batch", ylim=(0, None))
    axes.legend(frameon=False)
    return figure


def changes_figure(changes: Mapping[str, Difference], words: Mapping[str, str]) -> Figure:
    """Changes of the measures with their intervals, and each seed as a dot."""
    figure = Figure(figsize=(7, 0.6 + 0.42 * len(changes)))
    axes = figure.add_subplot()
    for place, change in enumerate(changes.values()):
        axes.plot(change.by_seed, [place] * len(change.by_seed), "o", color=_COLORS[0], markersize=4, alpha=0.6)
    _bars(axes, [words.get(name, name) for name in changes], list(changes.values()))
    axes.set(xlabel="change; perplexity in nats a token")
    return figure


def groups_figure(gains: Sequence[Gain], unit: str) -> Figure:
    """What each group adds for each unit of cost."""
    figure = Figure(figsize=(7, 0.6 + 0.42 * len(gains)))
    axes = figure.add_subplot()
    _bars(axes, [f"{gain.by} {gain.group}" for gain in gains], [gain.per_cost for gain in gains if gain.per_cost])
    axes.set(xlabel=f"change per {unit}")
    return figure


def _bars(axes: Axes, names: Sequence[str], changes: Sequence[Difference]) -> None:
    for place, change in enumerate(changes):
        color = _COLORS[1] if change.certain else _COLORS[0]
        axes.plot([change.low, change.high], [place, place], color=color, linewidth=2)
        axes.plot([change.value], [place], "D", color=color, markersize=6)
    axes.axvline(0, color="#1d2b33", linewidth=0.8)
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
