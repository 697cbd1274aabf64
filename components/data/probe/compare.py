"""Probe a dataset version: train a small model on it and on the present one, and say what the new data is worth."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.common.documents import DocumentWriter, read_batches
from components.common.ledger import canonical
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.probe.draw import SIDES, Asked, Drawn, draw_sides
from components.data.probe.options import Probing
from components.data.probe.pictures import changes_figure, groups_figure, losses_figure
from components.data.probe.trial import Trial, Trials
from components.data.probe.weigh import (
    FEWEST,
    PROBE,
    Bill,
    Difference,
    Gain,
    NewDocument,
    best,
    bill,
    difference,
    gains,
    group_of,
    total,
    verdict,
)

_LESS_IS_BETTER = ("hallucination", "perplexity")
_WORDS = {
    "exact_match": "exact match",
    "token_f1": "token F1",
    "hallucination": "hallucination",
    "format": "format compliance",
    "perplexity": "perplexity",
}
"""Measures in the order in which they are shown."""

_SIDES = {"versions": SIDES, "selection": ("random", "selected")}


@dataclass(frozen=True)
class Measure:
    """A measure of base model, present and proposed side: values by seed, and the difference of the two sides."""

    base: float
    present: tuple[float, ...]
    proposed: tuple[float, ...]
    change: Difference


@dataclass(frozen=True)
class Added:
    """What the proposed version holds that the present one does not.

    Attributes:
        new: How many new documents there are of each sort.
        known_sources: Sources of the present version.
        removed: Documents that only the present version holds.
    """

    new: Mapping[NewDocument, int]
    known_sources: set[str]
    removed: int


@dataclass(frozen=True)
class Result:
    """Everything a probe found."""

    measures: dict[str, Measure]
    held: dict[str, tuple[int, Difference | None]]
    gains: list[Gain]
    bill: Bill
    removed: int
    sources: dict[str, Bill]


def run(
    base: Path,
    present: Path,
    proposed: Path,
    present_pairs: Path,
    proposed_pairs: Path,
    questions: Path,
    withheld: Path,
    evidence: Path,
    options: Probing,
    context: Context,
) -> Outcome:
    """Compare two dataset versions by what a model learns from them.

    Args:
        base: The base model.
        present: The dataset version in use.
        proposed: The dataset version with the new data.
        present_pairs: What the present side was trained on.
        proposed_pairs: What the proposed side was trained on.
        questions: What both were asked.
        withheld: What neither was trained on.
        evidence: `probe.json`.
        options: How to curate, train, ask and judge.
        context: The run.
    """
    drawn = draw_sides(present, proposed, options, context)
    written = {
        present_pairs: drawn.pairs["present"],
        proposed_pairs: drawn.pairs["proposed"],
        questions: [asked.pair for asked in drawn.questions],
        withheld: drawn.withheld,
    }
    for folder, rows in written.items():
        with DocumentWriter(folder) as writer:
            writer.write(rows)
    trials = Trials(base, drawn.questions, drawn.withheld, options, context)
    untrained = trials.base()
    seeds = [options.tune.seed + number for number in range(options.seeds)]
    # A seed's two sides one after the other: what is interrupted can be compared as far as it went.
    trained = {(side, seed): trials.train(side, drawn.pairs[side], seed) for seed in seeds for side in SIDES}
    sides = {side: [trained[side, seed] for seed in seeds] for side in SIDES}
    result = weigh(untrained, sides, drawn, present, proposed, options)
    advice = advise(result, options)
    (evidence / PROBE).write_bytes(canonical(_record(result, advice, sides, drawn, options)))
    score = result.measures[options.score]
    return Outcome(
        counts_in=sum(map(len, drawn.pairs.values())),
        counts_out=len(drawn.questions),
        metrics={
            **{f"{name}_change": measure.change.value for name, measure in result.measures.items()},
            "low": score.change.low,
            "high": score.change.high,
            "cost": result.bill.total,
            "trainings": float(len(trained)),
            "resumed": float(trials.resumed),
        },
        report=_report(result, advice, sides, drawn, options),
        decision=advice[0],
    )


def weigh(
    untrained: Trial,
    sides: Mapping[str, Sequence[Trial]],
    drawn: Drawn,
    present: Path,
    proposed: Path,
    options: Probing,
) -> Result:
    """Turn trials into measures, differences and costs."""
    names = [name for name in _WORDS if name in untrained.scores]
    scores = {
        side: {name: np.array([trial.scores[name] for trial in trials]) for name in names}
        for side, trials in sides.items()
    }
    measures = {
        name: Measure(
            float(np.mean(untrained.scores[name])),
            _by_seed(scores["present"][name]),
            _by_seed(scores["proposed"][name]),
            difference(scores["present"][name], scores["proposed"][name], options.confidence),
        )
        for name in names
    }
    measures["perplexity"] = _perplexity(untrained, sides, options.confidence)
    chosen = {side: scores[side][options.score] for side in SIDES}
    held = {}
    for which in ("both", *SIDES):
        numbers = [number for number, asked in enumerate(drawn.questions) if asked.held == which]
        judged = len(numbers) >= FEWEST
        apart = (chosen["present"][:, numbers], chosen["proposed"][:, numbers])
        change = difference(*apart, options.confidence) if judged else None
        held[which] = (len(numbers), change)
    added = _added(present, proposed)
    bills = bill(added.new, added.known_sources, options.costs)
    new = [(_groups(document, options), paid) for document, paid in bills.items()]
    asked_groups = [
        _groups(NewDocument(asked.source, asked.kind, asked.pair["language"]), options) for asked in drawn.questions
    ]
    groups = gains(chosen["present"], chosen["proposed"], asked_groups, new, options.confidence)
    sources = {
        group: total(paid for of, paid in new if of["source"] == group)
        for group in sorted({of["source"] for of, _ in new})
    }
    return Result(measures, held, groups, total(bills.values()), added.removed, sources)


def advise(result: Result, options: Probing) -> tuple[str, str]:
    """Say what the probe came to, and what to collect next.

    Returns:
        What it came to in a word (`better`, `worse`, `unclear`), and sentences.
    """
    score = _WORDS[options.score]
    change = result.measures[options.score].change
    first, second = _SIDES[options.compare]
    came = verdict(change)
    interval = f"{change.value:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"
    if not change.certain:
        half = (change.high - change.low) / 2
        said = (
            f"No evidence of a difference in {score}: {second} against {first} {interval}. Differences below "
            f"{half:.2f} cannot be told with so many seeds and questions; raise probe.seeds or model.curate.facts to "
            "see smaller ones."
        )
    else:
        said = f"The {second} side is {came} in {score} by {interval}."
    if options.compare == "selection":
        keep = "keep the selection" if came == "better" else "the selection does not earn its place"
        return ("unclear" if not change.certain else came), f"{said} {keep[0].upper()}{keep[1:]}."
    winner = best(result.gains)
    if winner and winner.per_cost:
        gain = winner.per_cost
        advice = (
            f"Collect more of {winner.by} {winner.group}: it adds {gain.value:.2g} [{gain.low:.2g}, {gain.high:.2g}] "
            f"to {score} per {options.unit}, most among the groups that certainly add."
        )
    else:
        advice = (
            "No source, kind or language certainly adds to it for what it costs, so nothing says which to collect next."
        )
    return ("unclear" if not change.certain else came), f"{said} {advice}"


def _by_seed(scores: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in scores.mean(axis=1))


def _perplexity(untrained: Trial, sides: Mapping[str, Sequence[Trial]], confidence: float) -> Measure:
    """Perplexity of the withheld answers; its change is that of the mean loss of a token, in nats."""

    def weighed(trial: Trial) -> np.ndarray:
        losses, tokens = np.array(trial.withheld, float).T
        return losses * len(losses) / tokens.sum()  # the mean over answers is the mean over tokens

    losses = {side: np.array([weighed(trial) for trial in trials]) for side, trials in sides.items()}
    values = {side: tuple(math.exp(value) for value in _by_seed(losses[side])) for side in SIDES}
    return Measure(
        math.exp(float(weighed(untrained).mean())),
        values["present"],
        values["proposed"],
        difference(losses["present"], losses["proposed"], confidence),
    )


def _added(present: Path, proposed: Path) -> Added:
    left: set[bytes] = set()
    known: set[str] = set()
    for batch in read_batches(present, ["id", "source"]):
        left.update(map(bytes.fromhex, batch.column(0).to_pylist()))
        known.update(batch.column(1).to_pylist())
    new = Counter[NewDocument]()
    for batch in read_batches(proposed, ["id", "source", "kind", "language"]):
        for name, *sort in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if (key := bytes.fromhex(name)) in left:
                left.remove(key)
            else:
                new[NewDocument(*sort)] += 1
    return Added(new, known, len(left))


def _groups(document: NewDocument, options: Probing) -> dict[str, str]:
    return {
        "source": group_of(document.source, options.costs),
        "kind": document.kind,
        "language": document.language,
    }


def _record(
    result: Result,
    advice: tuple[str, str],
    sides: Mapping[str, Sequence[Trial]],
    drawn: Drawn,
    options: Probing,
) -> dict[str, Any]:
    names = dict(zip(SIDES, _SIDES[options.compare], strict=True))
    return {
        "decision": advice[0],
        "sentence": advice[1],
        "compare": options.compare,
        "summary": [_measure_row(name, measure, names) for name, measure in result.measures.items()],
        "score": options.score,
        "seeds": options.seeds,
        "confidence": options.confidence,
        "pairs": {side: len(rows) for side, rows in drawn.pairs.items()},
        "questions": len(drawn.questions),
        "withheld": len(drawn.withheld),
        "measures": {name: asdict(measure) for name, measure in result.measures.items()},
        "per_cost": {name: asdict(change) for name, change in _per_cost(result).items()},
        "losses": {side: [trial.losses for trial in trials] for side, trials in sides.items()},
        "held_by": {
            which: {"questions": number, "change": asdict(change) if change else None}
            for which, (number, change) in result.held.items()
        },
        "cost": {**asdict(result.bill), "unit": options.unit},
        "removed_documents": result.removed,
        "groups": [
            {**asdict(gain), "per_cost": asdict(gain.per_cost) if gain.per_cost else None} for gain in result.gains
        ],
    }


def _report(
    result: Result,
    advice: tuple[str, str],
    sides: Mapping[str, Sequence[Trial]],
    drawn: Drawn,
    options: Probing,
) -> Report:
    names = dict(zip(SIDES, _SIDES[options.compare], strict=True))
    report = Report("Probe", advice[1])
    change = result.measures[options.score].change
    tiles: dict[str, Any] = {
        f"change in {_WORDS[options.score]}": f"{change.value:+.3f}",
        "seeds": options.seeds,
        "questions": len(drawn.questions),
        "withheld facts": len(drawn.withheld),
    }
    if options.compare == "versions":
        tiles |= {"new documents": result.bill.documents, f"cost ({options.unit})": result.bill.total}
    report.metrics(tiles)
    report.table([_measure_row(name, measure, names) for name, measure in result.measures.items()], "Measures")
    report.figure(changes_figure(_rising(result), _WORDS), "Change by measure, to the right is better")
    report.figure(
        losses_figure({names[side]: [trial.losses for trial in trials] for side, trials in sides.items()}),
        "Loss of training, each seed",
    )
    report.table(
        [_held_row(which, *found, names) for which, found in result.held.items()],
        f"Change in {_WORDS[options.score]} by who was trained on the fact",
    )
    if options.compare == "versions":
        _price(report, result, options)
    report.table(list(_examples(sides, drawn, names, options)), "Examples")
    return report.text(_method(drawn, names, options))


def _price(report: Report, result: Result, options: Probing) -> None:
    report.heading("What it costs and where it counts")
    report.table(
        [
            {"measure": _WORDS[name], f"change per {options.unit}": _interval(change, "+.2g")}
            for name, change in _per_cost(result).items()
        ],
        "Change for each unit of cost, to the better is above zero",
    )
    report.table(
        [
            {"source": group, "new documents": paid.documents, f"cost ({options.unit})": round(paid.total, 2)}
            for group, paid in result.sources.items()
        ],
        "New documents by source",
    )
    report.table(
        [
            {
                "by": gain.by,
                "group": gain.group or "(none)",
                "new documents": gain.bill.documents,
                f"cost ({options.unit})": round(gain.bill.total, 2),
                "questions": gain.questions,
                "change on them": _interval(gain.change) if gain.change else f"fewer than {FEWEST} questions",
                f"adds per {options.unit}": _interval(gain.per_cost, "+.2g") if gain.per_cost else "",
                "verdict": verdict(gain.change) if gain.change else "",
            }
            for gain in result.gains
        ],
        "Groups",
        limit=200,
    )
    if judged := [gain for gain in result.gains if gain.per_cost]:
        report.figure(groups_figure(judged, options.unit), f"What a group adds to {_WORDS[options.score]} for its cost")
    if result.removed:
        report.text(f"{result.removed:,} documents of the present version are not in the proposed one.")


def _per_cost(result: Result) -> dict[str, Difference]:
    """Changes for each unit of cost, turned so that more is better; none where nothing was paid."""
    paid = result.bill.total
    return {name: change.times(1 / paid) for name, change in _rising(result).items()} if paid else {}


def _rising(result: Result) -> dict[str, Difference]:
    """Changes, turned so that more is better."""
    return {
        name: measure.change.times(-1) if name in _LESS_IS_BETTER else measure.change
        for name, measure in result.measures.items()
    }


def _measure_row(name: str, measure: Measure, names: Mapping[str, str]) -> dict[str, Any]:
    less = name in _LESS_IS_BETTER
    value, low, high = (math.exp(end) for end in (measure.change.value, measure.change.low, measure.change.high))
    change = f"× {value:.3f} [{low:.3f}, {high:.3f}]"
    return {
        "measure": f"{_WORDS[name]}{' (less is better)' if less else ''}",
        "base model": f"{measure.base:.3f}",
        names["present"]: _spread(measure.present),
        names["proposed"]: _spread(measure.proposed),
        "change": change if name == "perplexity" else _interval(measure.change),
        "verdict": verdict(measure.change, more_is_better=not less),
    }


def _held_row(which: str, questions: int, change: Difference | None, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "trained on by": "both" if which == "both" else f"{names[which]} only",
        "questions": questions,
        "change": _interval(change) if change else f"fewer than {FEWEST} questions",
        "verdict": verdict(change) if change else "",
    }


def _examples(
    sides: Mapping[str, Sequence[Trial]], drawn: Drawn, names: Mapping[str, str], options: Probing
) -> list[dict[str, Any]]:
    means = {side: np.mean([trial.scores[options.score] for trial in trials], axis=0) for side, trials in sides.items()}
    order = np.argsort(-np.abs(means["proposed"] - means["present"]), kind="stable")
    shown: list[tuple[int, Asked]] = [(number, drawn.questions[number]) for number in order]
    return [
        {
            "question": asked.question,
            "expected": asked.expected,
            "trained on by": asked.held if asked.held == "both" else names[asked.held],
            **{f"{_WORDS[options.score]}, {names[side]}": round(float(means[side][number]), 2) for side in SIDES},
        }
        for number, asked in shown
        if asked.quotable
    ][: options.examples]


def _method(drawn: Drawn, names: Mapping[str, str], options: Probing) -> str:
    pairs = " and ".join(f"{len(drawn.pairs[side]):,} pairs ({names[side]})" for side in SIDES)
    return (
        f"The base model was trained {options.seeds} times on each side with the same settings and seeds, on {pairs}. "
        "Every model was asked the same questions: all facts that a side was trained on, in a wording that none was "
        "trained on. Perplexity is that of the answers to facts that no side was trained on.\n\n"
        "An answer hallucinates if it has a word with a digit, a capital or more than three letters that is in neither "
        "the question nor the document. It has the right format if it is one line of at most "
        f"{options.curate.answer_words} words without markup, link or template.\n\n"
        f"Intervals are {options.confidence:.0%} intervals by t, from the variance between seeds and between "
        "questions; those of groups hold together (Bonferroni). Where one holds zero there is no evidence of a "
        "difference."
    )


def _interval(change: Difference, form: str = "+.3f") -> str:
    return f"{change.value:{form}} [{change.low:{form}}, {change.high:{form}}]"


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
