"""What a person sees of a training."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from components.common.report import Report
from components.model.tune.loop import Fitted
from components.model.tune.options import EPOCHS_BEFORE_MEMORISING


def write_report(training: Mapping[str, Any], fitted: Fitted, dropped: Mapping[str, int], tracked: str) -> Report:
    """Show how a model was tuned.

    Args:
        training: What stands in `training.json`.
        fitted: How the steps went.
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
            "s a step": fitted.seconds_per_step,
        }
    )
    report.figure(loss_curve(losses, fitted.validation, fitted.kept_step), "Loss")
    report.text("\n\n".join(course(fitted, training["validation"]["records"], options["epochs"])))
    examples = training["examples"]
    report.table(
        [
            {"what": "dialogues, their answer scored", "count": examples["dialogues"]},
            {"what": "texts, scored whole", "count": examples["texts"]},
            {"what": "of both, split into chunks", "count": examples["split"]},
            {"what": "sequences", "count": examples["sequences"]},
            {"what": "rows that those not validated on make", "count": examples["rows"]},
            {"what": "% of the rows' room that is text", "count": 100 * examples["fill"]},
        ],
        "What it learned from",
    )
    report.table([vars(seen) for seen in fitted.seen], "Records that each epoch saw")
    report.table([{"option": name, "value": value} for name, value in options.items()], "Options")
    if dropped:
        report.bars(dropped, "Pairs left out")
    return report.text(f"Recorded in MLflow as {tracked}.")


def course(fitted: Fitted, validated: int, epochs: int) -> list[str]:
    """Say in sentences what happened on the way.

    Args:
        fitted: How the steps went.
        validated: Records of the validation set.
        epochs: Passes that were asked for.
    """
    said = []
    if fitted.validation:
        step, best = min(fitted.validation, key=lambda one: one[1])
        said.append(
            f"{validated:,} records were validated on instead; their loss was lowest after step {step:,}: {best:.3g}."
        )
    else:
        said.append("Nothing was validated on, so nothing says whether the model overfits.")
    if fitted.stopped:
        said.append(
            f"It overfitted: the validation loss did not fall any more, so training stopped after step "
            f"{len(fitted.losses):,} and the weights of step {fitted.kept_step:,} were kept."
        )
    elif fitted.kept_step < len(fitted.losses):
        said.append(f"Later steps made it worse: the weights of step {fitted.kept_step:,} were kept.")
    if epochs > EPOCHS_BEFORE_MEMORISING:
        said.append(f"{epochs} epochs were asked for by name: the model is meant to recite what it was trained on.")
    if fitted.resumed_at:
        said.append(f"An earlier attempt was interrupted; this one went on after step {fitted.resumed_at:,}.")
    for step in fitted.damaged:
        said.append(f"The checkpoint of step {step:,} was damaged and has been removed.")
    return said


def loss_curve(losses: Sequence[float], validation: Sequence[tuple[int, float]] = (), kept: int = 0) -> Figure:
    """Draw the loss of each step, of each validation, and the step whose weights were kept."""
    figure = Figure(figsize=(7, 2.8))
    axes = figure.add_subplot()
    axes.plot(range(1, len(losses) + 1), losses, linewidth=1.2, label="batch")
    if validation:
        axes.plot(*zip(*validation, strict=True), marker="o", markersize=3.5, linewidth=1.2, label="validation")
    if 0 < kept < len(losses):
        axes.axvline(kept, linewidth=0.8, linestyle="--", color="#777777", label="kept")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axes.legend(frameon=False)
    return figure
