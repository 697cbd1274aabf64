"""What a probe found: measures of both sides, costs, groups, and what follows from them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from components.common.documents import read_batches
from components.data.probe.draw import SIDES, Drawn
from components.data.probe.options import Probing
from components.data.probe.trial import Trial
from components.data.probe.weigh import (
    FEWEST,
    Bill,
    Difference,
    Gain,
    NewDocument,
    best,
    bill,
    difference,
    gains,
    group_of,
    interval,
    small,
    total,
    verdict,
)

LESS_IS_BETTER = ("hallucination", "perplexity")
"""Measures of what nobody wants."""

WORDS = {
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


def weigh(
    untrained: Trial,
    sides: Mapping[str, Sequence[Trial]],
    drawn: Drawn,
    present: Path,
    proposed: Path,
    options: Probing,
) -> Result:
    """Turn trials into measures, differences and costs.

    Args:
        untrained: The base model's.
        sides: Those of each side, by seed.
        drawn: What was asked.
        present: The dataset version in use.
        proposed: The one with the new data.
        options: Which score counts, and what documents cost.
    """
    names = [name for name in WORDS if name in untrained.scores]
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
        _groups(NewDocument(asked.source, asked.kind, asked.language), options) for asked in drawn.questions
    ]
    groups = gains(chosen["present"], chosen["proposed"], asked_groups, new, options.confidence)
    sources = {
        group: total(paid for of, paid in new if of["source"] == group)
        for group in sorted({of["source"] for of, _ in new})
    }
    return Result(measures, held, groups, total(bills.values()), added.removed, sources)


def advise(result: Result, options: Probing) -> Advice:
    """Say what the probe came to, and what to do next.

    Args:
        result: What was found.
        options: What was compared, and by which score.
    """
    change = result.measures[options.score].change
    first, second = _names(options)
    came = verdict(change)
    said = f"{WORDS[options.score]}, {second} against {first}: {interval(change)}."
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


def per_cost(result: Result) -> dict[str, Difference]:
    """Differences for each unit of cost; none where nothing was paid."""
    paid = result.bill.total
    return {name: measure.change.times(1 / paid) for name, measure in result.measures.items()} if paid else {}


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
        f"Collect more of {winner.by} {winner.group}: it adds {interval(gain, small)} to "
        f"{WORDS[options.score]} per {options.unit}, most among the groups that certainly add."
    )


def name_sides(
    versions: Mapping[str, tuple[str, int]], drawn: Drawn, trials: Mapping[str, Sequence[Trial]], options: Probing
) -> dict[str, Side]:
    """Say what each side is.

    Args:
        versions: Name and documents of each side's dataset version.
        drawn: What they were trained on.
        trials: What came of it.
        options: What was compared.
    """
    by_lot = options.curate.selection if options.compare == "versions" else "random"
    return {
        side: Side(name, *versions[side], selection, len(drawn.pairs[side]), trials[side])
        for side, name, selection in zip(SIDES, _names(options), (by_lot, options.curate.selection), strict=True)
    }


def _names(options: Probing) -> tuple[str, str]:
    """What the sides are called."""
    return ("present", "proposed") if options.compare == "versions" else ("random", options.curate.selection)


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
