"""Probe a dataset version: train a small model on it and on the present one, and say what the new data is worth."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.common.documents import DocumentWriter, read_batches
from components.common.ledger import canonical
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.card.version import read_name
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


@dataclass(frozen=True)
class Measure:
    """A measure of base model, present and proposed side: values by seed, and the difference of the two sides."""

    base: float
    present: tuple[float, ...]
    proposed: tuple[float, ...]
    change: Difference


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        name: What the report calls it: present or proposed, or the selection.
        version: Its dataset version, as NAME/HASH.
        documents: Documents of that version.
        selection: How its pairs were chosen.
        pairs: What it was trained on.
        trials: What came of it, by seed.
    """

    name: str
    version: str
    documents: int
    selection: str
    pairs: int
    trials: Sequence[Trial]


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
class Advice:
    """What a probe says.

    Attributes:
        decision: What it came to in a word: `better`, `worse`, `unclear`.
        sentence: The same in a sentence, with the interval.
        recommendation: What to collect next, or which selection to keep.
    """

    decision: str
    sentence: str
    recommendation: str


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
    versions = {"present": read_name(present), "proposed": read_name(proposed)}
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
    came = {side: [trained[side, seed] for seed in seeds] for side in SIDES}
    result = weigh(untrained, came, drawn, present, proposed, options)
    sides = _sides(versions, drawn, came, options)
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
        decision=advice.decision,
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
    for which in ("both", *SIDES) if options.compare == "versions" else ():
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


def advise(result: Result, options: Probing) -> Advice:
    """Say what the probe came to, and what to do next."""
    change = result.measures[options.score].change
    first, second = _names(options)
    came = verdict(change)
    said = f"{_WORDS[options.score]}, {second} against {first}: {_interval(change)}."
    if not change.certain:
        more = "model.curate.facts" if options.compare == "versions" else "probe.withheld"
        half = (change.high - change.low) / 2
        return Advice(
            "unclear",
            f"No evidence of a difference in {said} Differences below {half:.2f} cannot be told with so many seeds and "
            f"questions; raise probe.seeds or {more} to see smaller ones.",
            _next(result, options, came),
        )
    return Advice(came, f"{came.capitalize()} in {said}", _next(result, options, came))


def _next(result: Result, options: Probing, came: str) -> str:
    if options.compare == "selection":
        chosen = options.curate.selection
        return {
            "better": f"Keep selection {chosen}: it teaches more than as many pairs chosen by lot.",
            "worse": f"Choose by lot: selection {chosen} teaches less than as many pairs chosen by lot.",
        }.get(came, f"Nothing here speaks for selection {chosen} or against it; by lot is the simpler choice.")
    winner = best(result.gains)
    if not (winner and winner.per_cost):
        return "No source, kind or language certainly adds to it for what it costs, so nothing says which to collect."
    gain = winner.per_cost
    return (
        f"Collect more of {winner.by} {winner.group}: it adds {_interval(gain, _small)} to "
        f"{_WORDS[options.score]} per {options.unit}, most among the groups that certainly add."
    )


def _names(options: Probing) -> tuple[str, str]:
    """What the sides are called."""
    return ("present", "proposed") if options.compare == "versions" else ("random", options.curate.selection)


def _sides(
    versions: Mapping[str, tuple[str, int]], drawn: Drawn, trials: Mapping[str, Sequence[Trial]], options: Probing
) -> dict[str, Side]:
    chosen = (options.curate.selection if options.compare == "versions" else "random", options.curate.selection)
    sides = {}
    for side, name, selection in zip(SIDES, _names(options), chosen, strict=True):
        sides[side] = Side(name, *versions[side], selection, len(drawn.pairs[side]), trials[side])
    return sides


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
    result: Result, advice: Advice, sides: Mapping[str, Side], drawn: Drawn, options: Probing
) -> dict[str, Any]:
    return {
        **asdict(advice),
        "compare": options.compare,
        "summary": [_measure_row(name, measure, sides) for name, measure in result.measures.items()],
        "score": options.score,
        "seeds": options.seeds,
        "confidence": options.confidence,
        "sides": {
            name: {key: value for key, value in vars(side).items() if key != "trials"} for name, side in sides.items()
        },
        "questions": len(drawn.questions),
        "withheld": len(drawn.withheld),
        "measures": {name: asdict(measure) for name, measure in result.measures.items()},
        "per_cost": {name: asdict(change) for name, change in _per_cost(result).items()},
        "losses": {name: [trial.losses for trial in side.trials] for name, side in sides.items()},
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


def _report(result: Result, advice: Advice, sides: Mapping[str, Side], drawn: Drawn, options: Probing) -> Report:
    first, second = (sides[side].name for side in SIDES)
    between = f"{second} − {first}"
    score = _WORDS[options.score]
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
    report.table([_measure_row(name, measure, sides) for name, measure in result.measures.items()], "Measures")
    changes = {_label(name): measure.change for name, measure in result.measures.items()}
    report.figure(
        changes_figure(changes, [_label(name) for name in _LESS_IS_BETTER], between),
        "Differences by measure, each seed as a dot; perplexity in nats a token",
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
        _price(report, result, sides, options)
    report.heading("What to collect next" if options.compare == "versions" else "Which selection to keep")
    report.text(advice.recommendation)
    report.table(list(_examples(sides, drawn, options)), f"Examples: {score} of answers, mean of the seeds")
    report.heading("How it was measured")
    return report.text(_method(drawn, sides, options))


def _price(report: Report, result: Result, sides: Mapping[str, Side], options: Probing) -> None:
    if judged := [gain for gain in result.gains if gain.per_cost]:
        title = f"What a group's new documents add to {_WORDS[options.score]} for each {options.unit}"
        report.figure(groups_figure(judged, options.unit), title)
    report.table(
        [
            {"measure": _label(name), f"difference per {options.unit}": _interval(change, _small)}
            for name, change in _per_cost(result).items()
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


def _per_cost(result: Result) -> dict[str, Difference]:
    """Differences for each unit of cost; none where nothing was paid."""
    paid = result.bill.total
    return {name: measure.change.times(1 / paid) for name, measure in result.measures.items()} if paid else {}


def _label(measure: str) -> str:
    return f"{_WORDS[measure]}{' (less is better)' if measure in _LESS_IS_BETTER else ''}"


def _side_row(side: Side) -> dict[str, Any]:
    steps = [len(trial.losses) for trial in side.trials]
    return {
        "side": side.name,
        "dataset version": side.version,
        "documents": side.documents,
        "pairs chosen": side.selection,
        "pairs": side.pairs,
        "steps of a training": steps[0],
    }


def _measure_row(name: str, measure: Measure, sides: Mapping[str, Side]) -> dict[str, Any]:
    value, low, high = (math.exp(end) for end in (measure.change.value, measure.change.low, measure.change.high))
    ratio = f"× {value:.3f} [{low:.3f}, {high:.3f}]"
    return {
        "measure": _label(name),
        "base model": f"{measure.base:.3f}",
        sides["present"].name: _spread(measure.present),
        sides["proposed"].name: _spread(measure.proposed),
        "difference": ratio if name == "perplexity" else _interval(measure.change),
        "verdict": verdict(measure.change, more_is_better=name not in _LESS_IS_BETTER),
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
            f"adds per {options.unit}": _interval(gain.per_cost, _small) if gain.per_cost else "",
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
        "difference": _interval(change),
        "verdict": verdict(change),
    }


def _examples(sides: Mapping[str, Side], drawn: Drawn, options: Probing) -> list[dict[str, Any]]:
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
            "trained on by": sides[asked.held].name if asked.held in SIDES else asked.held,
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


def _interval(change: Difference, write: Callable[[float], str] = "{:+.3f}".format) -> str:
    return f"{write(change.value)} [{write(change.low)}, {write(change.high)}]"


def _small(value: float) -> str:
    """Two digits that count, never as a power of ten."""
    return np.format_float_positional(value + 0.0, precision=2, unique=False, fractional=False, trim="-", sign=True)


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
