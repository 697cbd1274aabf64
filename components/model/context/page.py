"""What a person sees of needles in haystacks."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from components.common.report import Report
from components.model.context.needle import Cell, rows, tally


def add_needles(report: Report, sides: Mapping[str, Sequence[Cell]], confidence: float) -> None:
    """Show which facts were found, by length and by depth.

    Args:
        report: The page.
        sides: Cells by what was asked, such as `before` and `after`.
        confidence: Level of the intervals.
    """
    report.heading("Facts in long texts")
    counts = {side: tally(iter(cells)) for side, cells in sides.items()}
    said = ", ".join(f"{side} training {found} of {asked}" for side, (found, asked) in counts.items())
    report.text(
        f"Found {said}. The texts are documents of the training; intervals are Wilson's at {confidence:.0%}, and wide "
        "where little was asked."
    )
    report.figure(heatmap(sides), "Share of facts found")
    for by in ("length", "depth", "language"):
        table = [{"asked of": side, **row} for side, cells in sides.items() for row in rows(cells, by, confidence)]
        report.table(table, f"By {by}")


def heatmap(sides: Mapping[str, Sequence[Cell]]) -> Figure:
    """Draw the share of facts found by length and depth, side by side."""
    figure = Figure(figsize=(3.6 * len(sides), 2.8), layout="constrained")
    grid = figure.subplots(1, len(sides), squeeze=False)[0]
    for axes, (side, cells) in zip(grid, sides.items(), strict=True):
        lengths = sorted({cell.length for cell in cells})
        depths = sorted({cell.depth for cell in cells})
        shares = np.zeros((len(depths), len(lengths)))
        for row, depth in enumerate(depths):
            for column, length in enumerate(lengths):
                found, asked = tally(cell for cell in cells if (cell.depth, cell.length) == (depth, length))
                shares[row, column] = found / asked
                axes.text(column, row, f"{found}/{asked}", ha="center", va="center", fontsize=8)
        axes.imshow(shares, vmin=0, vmax=1, cmap="RdYlGn", alpha=0.6, aspect="auto")
        axes.set(title=side, xlabel="tokens", ylabel="depth")
        axes.set_xticks(range(len(lengths)), [f"{length:,}" for length in lengths])
        axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        axes.grid(visible=False)
    return figure
