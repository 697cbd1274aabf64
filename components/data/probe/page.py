"""The report of a probe: both sides, their measures, where and what the difference is, and what to do next."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.common.report import Report
from components.data.probe.draw import SIDES, Asked, Drawn
from components.data.probe.findings import LESS_IS_BETTER, WORDS, Advice, Measure, Result, Side, per_cost
from components.data.probe.options import Probing
from components.data.probe.pictures import changes_figure, groups_figure, losses_figure
from components.data.probe.weigh import FEWEST, Difference, Gain, interval, small, verdict


def page(result: Result, advice: Advice, sides: Mapping[str, Side], drawn: Drawn, options: Probing) -> Report:
    """Write the report; every table and plot has the sides in one order, and the second less the first.

    Args:
        result: What was found.
        advice: What follows.
        sides: The two sides.
        drawn: What they were trained on and asked.
        options: How it was measured.
    """
    first, second = (sides[side].name for side in SIDES)
    between = f"{second} − {first}"
    score = WORDS[options.score]
    report = Report(f"Probe: {second} against {first}", advice.sentence)
    tiles: dict[str, Any] = {
        f"{score}, {between}": f"{result.measures[options.score].change.value:+.3f}",
        "seeds": options.seeds,
        "questions": len(drawn.questions),
        "withheld facts": len(drawn.withheld),
    }
    if options.compare == "versions":
        tiles |= {"new documents": result.bill.documents, f"cost ({options.unit})": result.bill.total}
    report.metrics(tiles)
    report.table([_side_row(sides[side]) for side in SIDES], "The two sides")
    report.table([measure_row(name, measure, sides) for name, measure in result.measures.items()], "Measures")
    report.figure(
        changes_figure(_by_scale(result, between), [_label(name) for name in LESS_IS_BETTER]),
        "Differences by measure, each seed as a dot",
    )
    report.figure(
        losses_figure({sides[side].name: [trial.losses for trial in sides[side].trials] for side in SIDES}),
        "Loss of training, each seed",
    )
    if result.held:
        report.table(
            [_held_row(which, *found, sides) for which, found in result.held.items()],
            f"{score} by who was trained on the fact",
        )
    report.heading("Where it counts, and what it costs" if options.compare == "versions" else "Where it counts")
    report.table([_group_row(gain, sides, options) for gain in result.gains], f"{score} by group", limit=200)
    if options.compare == "versions":
        _price(report, result, options)
    report.heading("What to collect next" if options.compare == "versions" else "Which selection to keep")
    report.text(advice.recommendation)
    report.table(list(_examples(result, sides, drawn, options)), f"Examples: {score} of answers, mean of the seeds")
    report.heading("How it was measured")
    return report.text(_method(drawn, sides, options))


def measure_row(name: str, measure: Measure, sides: Mapping[str, Side]) -> dict[str, Any]:
    """Write a measure of both sides; the difference of perplexities is their ratio.

    Args:
        name: The measure.
        measure: Its values.
        sides: The two sides.
    """
    value, low, high = (math.exp(end) for end in (measure.change.value, measure.change.low, measure.change.high))
    ratio = f"× {value:.3f} [{low:.3f}, {high:.3f}]"
    return {
        "measure": _label(name),
        "base model": f"{measure.base:.3f}",
        sides["present"].name: _spread(measure.present),
        sides["proposed"].name: _spread(measure.proposed),
        "difference": ratio if name == "perplexity" else interval(measure.change),
        "verdict": verdict(measure.change, more_is_better=name not in LESS_IS_BETTER),
    }


def _price(report: Report, result: Result, options: Probing) -> None:
    if judged := [gain for gain in result.gains if gain.per_cost]:
        title = f"What a group's new documents add to {WORDS[options.score]} for each {options.unit}"
        report.figure(groups_figure(judged, options.unit), title)
    report.table(
        [
            {"measure": _label(name), f"difference per {options.unit}": interval(change, small)}
            for name, change in per_cost(result).items()
        ],
        f"Differences for each {options.unit} that the new documents cost; perplexity in nats a token",
    )
    report.table(
        [
            {"source": group, "new documents": paid.documents, f"cost ({options.unit})": round(paid.total, 2)}
            for group, paid in result.sources.items()
        ],
        "New documents by source",
    )
    if result.removed:
        report.text(f"{result.removed:,} documents of the present version are not in the proposed one.")


def _label(measure: str) -> str:
    return f"{WORDS[measure]}{' (less is better)' if measure in LESS_IS_BETTER else ''}"


def _by_scale(result: Result, between: str) -> dict[str, dict[str, Difference]]:
    """The differences, perplexity aside: as a log it has no bounds and would press the others flat."""
    changes = {_label(name): measure.change for name, measure in result.measures.items()}
    perplexity = {name: changes.pop(name) for name in [_label("perplexity")]}
    return {f"{between}, as a share": changes, f"{between}, in nats a token": perplexity}


def _side_row(side: Side) -> dict[str, Any]:
    return {
        "side": side.name,
        "dataset version": side.version,
        "documents": side.documents,
        "pairs chosen": side.selection,
        "pairs": side.pairs,
        "steps of a training": len(side.trials[0].losses),
    }


def _held_row(which: str, questions: int, change: Difference | None, sides: Mapping[str, Side]) -> dict[str, Any]:
    return {
        "trained on by": "both" if which == "both" else f"{sides[which].name} only",
        "questions": questions,
        **_apart(change, sides),
    }


def _group_row(gain: Gain, sides: Mapping[str, Side], options: Probing) -> dict[str, Any]:
    row = {"by": gain.by, "group": gain.group or "(none)", "questions": gain.questions, **_apart(gain.change, sides)}
    if options.compare == "versions":
        row |= {
            "new documents": gain.bill.documents,
            f"cost ({options.unit})": round(gain.bill.total, 2),
            f"adds per {options.unit}": interval(gain.per_cost, small) if gain.per_cost else "",
        }
    return row


def _apart(change: Difference | None, sides: Mapping[str, Side]) -> dict[str, str]:
    """Both sides, their difference and what it comes to, in the order of every table."""
    if change is None:
        few = f"fewer than {FEWEST} questions"
        return {sides["present"].name: "", sides["proposed"].name: "", "difference": few, "verdict": ""}
    return {
        sides["present"].name: f"{change.present:.3f}",
        sides["proposed"].name: f"{change.proposed:.3f}",
        "difference": interval(change),
        "verdict": verdict(change),
    }


def _examples(result: Result, sides: Mapping[str, Side], drawn: Drawn, options: Probing) -> list[dict[str, Any]]:
    means = {
        name: np.mean([trial.scores[options.score] for trial in side.trials], axis=0) for name, side in sides.items()
    }
    apart = means["proposed"] - means["present"]
    shown: list[tuple[int, Asked]] = [
        (number, drawn.questions[number]) for number in np.argsort(-np.abs(apart), kind="stable")
    ]
    return [
        {
            "question": asked.question,
            "expected": asked.expected,
            **({"trained on by": sides[asked.held].name if asked.held in SIDES else asked.held} if result.held else {}),
            **{sides[side].name: round(float(means[side][number]), 2) for side in SIDES},
            "difference": round(float(apart[number]), 2),
        }
        for number, asked in shown
        if asked.quotable
    ][: options.examples]


def _method(drawn: Drawn, sides: Mapping[str, Side], options: Probing) -> str:
    first, second = (sides[side] for side in SIDES)
    asked = {
        "versions": "all facts that a side was trained on, in a wording that none was trained on. Perplexity is that "
        "of the answers to facts of documents that no side was trained on.",
        "selection": "one fact of each document that was withheld from both before either selection was made, because "
        "a selection that is asked about its own choice is rated by its own taste. Perplexity is that of the answers "
        "to the same questions.",
    }
    return (
        f"The base model was trained {options.seeds} times on each side with the same settings and seeds, on "
        f"{first.pairs:,} pairs ({first.name}) and {second.pairs:,} pairs ({second.name}). Every model was asked the "
        f"same questions: {asked[options.compare]}\n\n"
        f"Every difference is {second.name} less {first.name}. Exact match and token F1 compare an answer with the "
        "expected one. An answer hallucinates if it has a word with a digit, a capital or more than three letters that "
        "is in neither the question nor the document. It has the right format if it is one line of at most "
        f"{options.curate.answer_words} words without markup, link or template.\n\n"
        f"Intervals are {options.confidence:.0%} intervals by t, from the variance between seeds and between "
        "questions; those of groups hold together (Bonferroni). Where one holds zero there is no evidence of a "
        "difference. ± is the standard deviation between seeds."
    )


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
