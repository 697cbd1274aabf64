"""What a person sees of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from components.common.report import Report


def write_report(training: Mapping[str, Any], dropped: Mapping[str, int], tracked: str) -> Report:
    """Show how a model was tuned.

    Args:
        training: What stands in `training.json`.
        dropped: Pairs left out, by reason.
        tracked: Name of the run in MLflow.
    """
    losses, options = training["losses"], training["options"]
    report = Report(
        "Tuning",
        f"{training['base']} learned {training['pairs']:,} pairs in {training['steps']:,} steps, by "
        f"{options['method']}; loss {losses[0]:.3g} → {training['final_loss']:.3g}",
    )
    learns, weights = training["weights"]["trained"], training["weights"]["all"]
    report.metrics(
        {
            "pairs": training["pairs"],
            "steps": training["steps"],
            "final loss": training["final_loss"],
            "% of the weights learned": 100 * learns / weights,
        }
    )
    report.figure(loss_curve(losses), "Loss")
    report.table([{"option": name, "value": value} for name, value in options.items()], "Options")
    if dropped:
        report.bars(dropped, "Pairs left out")
    return report.text(f"Recorded in MLflow as {tracked}.")


def loss_curve(losses: Sequence[float]) -> Figure:
    """Draw the loss of each step."""
    figure = Figure(figsize=(7, 2.8))
    axes = figure.add_subplot()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=1.2)
    axes.set(xlabel="step", ylabel="loss of the batch", ylim=(0, None))
    return figure
