"""The report of an alignment."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from components.common.report import Report, display
from components.evaluation.evidence import Metric
from components.model.align.measure import Standing
from components.model.align.preferences import Preferences, questions
from components.model.versions import QUOTABLE

_MEANINGS = {
    "preferred": "preferred: the chosen answer is likelier than the rejected one, by the mean log-probability of its "
    "tokens, so that a short answer is not likelier for being short.",
    "exact": "exact: the model's own answer is the right one, compared as in evaluation; JSON and calls by value.",
    "kept_format": "kept format: the model's own answer keeps the format it was asked in.",
    "reward": "reward: what the model's own answer earns, from 0 to 1; nothing where the format is violated.",
}


def write_report(
    record: Mapping[str, Any],
    metrics: Sequence[Metric],
    read: Preferences,
    before: Standing,
    after: Standing,
    tracked: str,
) -> Report:
    """Describe an alignment.

    Args:
        record: What `alignment.json` says.
        metrics: Before and after, item by item.
        read: The preferences.
        before: The tuned model on the held-out ones.
        after: The aligned model.
        tracked: Where the run is recorded.
    """
    first = metrics[0]
    report = Report(
        "Alignment",
        f"{record['method']} on {record['trained_on']:,} preferences: {first.name.replace('_', ' ')} "
        f"{display(first.base_value)} → {display(first.value)} on {first.n:,} held-out ones",
    )
    report.metrics({metric.name.replace("_", " "): metric.value for metric in metrics} | {"steps": record["steps"]})
    names = {"base": "tuned", "candidate": "aligned"}
    report.table(
        [
            {**{names.get(key, key): value for key, value in metric.row().items()}, "items": metric.n}
            for metric in metrics
        ],
        f"Tuned against aligned, {record['options']['confidence']:.0%} intervals",
    )
    report.text("\n\n".join(_MEANINGS[metric.name] for metric in metrics))
    if model := record.get("reward_model"):
        low, high = model["interval"]
        report.text(
            f"The reward model finds the chosen answer better in {model['accuracy']:.3f} [{low:.3f}, {high:.3f}] of "
            f"{model['held_out']:,} held-out pairs; one half is chance."
        )
        report.figure(_figure(model["curves"]), "Training of the reward model")
    report.figure(_figure(record["curves"]), "Training")
    if kl := record["curves"].get("kl"):
        report.text(f"Divergence from the tuned model at the last step: {kl[-1]:.4f} nats a token.")
    if record[QUOTABLE]:
        report.table(_examples(read, before, after, record["options"]["examples"]), "Held-out questions", limit=50)
    else:
        report.text("Answers are not shown: it is not known that all that the model was trained on may be quoted.")
    if read.dropped:
        report.bars(read.dropped, "Preferences left out")
    report.table([{"option": name, "value": str(value)} for name, value in record["options"].items()], "Options")
    return report.text(f"Recorded in MLflow as {tracked}.")


def _figure(curves: Mapping[str, Sequence[float]]) -> Figure:
    """One small picture for each curve, side by side."""
    shown = list(curves)[:6]
    figure = Figure(figsize=(7, 2.2 * -(-len(shown) // 2)), layout="constrained")
    for number, name in enumerate(shown):
        axes = figure.add_subplot(-(-len(shown) // 2), 2, number + 1)
        axes.plot(range(1, len(curves[name]) + 1), curves[name], linewidth=1.1)
        axes.set(title=name.replace("_", " "), xlabel="step")
    return figure


def _examples(read: Preferences, before: Standing, after: Standing, most: int) -> list[dict[str, str]]:
    """Questions whose answer changed first."""
    posed = [one for one in questions(read.held_out) if one.id in after.answers and one.quotable]
    posed.sort(key=lambda one: before.answers[one.id] == after.answers[one.id])
    return [
        {
            "asked": one.prompt[-1]["content"],
            "right": one.chosen,
            "tuned model": before.answers[one.id],
            "aligned model": after.answers[one.id],
        }
        for one in posed[:most]
    ]
