"""What a probe's numbers say: pure functions from scores to differences, costs and a recommendation.

A difference has an interval by t from two sources of chance: which seeds, and which questions. With D the differences
by seed and question, var = var(means by seed) / seeds + var(means by question) / questions, degrees of freedom after
Welch and Satterthwaite. Chance that is of neither alone is counted in both, so the interval is wide rather than narrow.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
from scipy.special import stdtrit

from components.data.probe.options import Cost

PROBE = "probe.json"
"""In the evidence: every measure, difference, cost and group."""

FEWEST = 6
"""Questions below which a group is not judged: were its questions alike to change either way, all of five would change
the same way in one of 16 cases, all of six in one of 32."""

Groups = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """By how much the proposed side is above the present one.

    Attributes:
        present: Mean of the present side.
        proposed: Mean of the proposed side.
        value: Mean difference, proposed less present.
        low: Lower end of its interval.
        high: Upper end.
        by_seed: Mean difference of each seed.
    """

    present: float
    proposed: float
    value: float
    low: float
    high: float
    by_seed: tuple[float, ...]

    @property
    def certain(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0

    def times(self, factor: float) -> "Difference":
        """The difference in another unit; the factor is above zero."""
        present, proposed, value, low, high = (
            one * factor for one in (self.present, self.proposed, self.value, self.low, self.high)
        )
        return Difference(present, proposed, value, low, high, tuple(one * factor for one in self.by_seed))


@dataclass(frozen=True)
class Bill:
    """What the new documents cost.

    Attributes:
        documents: How many there are.
        total: What they cost.
    """

    documents: int
    total: float


@dataclass(frozen=True)
class NewDocument:
    """A sort of documents that the present version does not hold."""

    source: str
    kind: str
    language: str


@dataclass(frozen=True)
class Gain:
    """What a group of documents adds to the score, beside what it costs.

    Attributes:
        by: What makes the group: source, kind or language.
        group: The group.
        questions: Questions that its documents answer.
        change: Difference on these questions; None where they are too few to judge.
        share: Their share of all questions: times the change it is what the group adds to the score.
        bill: What its new documents cost.
    """

    by: str
    group: str
    questions: int
    change: Difference | None
    share: float
    bill: Bill

    @property
    def per_cost(self) -> Difference | None:
        """What the group adds to the score for each unit of cost; None where that is not known."""
        if self.change is None or not self.bill.total:
            return None
        return self.change.times(self.share / self.bill.total)


def difference(present: np.ndarray, proposed: np.ndarray, confidence: float) -> Difference:
    """Set two sides against each other.

    Args:
        present: Scores by seed and question.
        proposed: Scores of the same seeds and questions.
        confidence: Level of the interval.
    """
    apart = proposed - present
    seeds, questions = apart.shape
    by_seed, by_question = apart.mean(axis=1), apart.mean(axis=0)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    of_questions = float(by_question.var(ddof=1)) / questions if questions > 1 else math.inf
    value, variance = float(apart.mean()), of_seeds + of_questions
    half = 0.0
    if math.isinf(variance):
        half = math.inf
    elif variance > 0:
        freedom = variance**2 / (of_seeds**2 / (seeds - 1) + of_questions**2 / (questions - 1))
        half = float(stdtrit(freedom, (1 + confidence) / 2)) * math.sqrt(variance)
    means = float(present.mean()), float(proposed.mean())
    return Difference(*means, value, value - half, value + half, tuple(float(one) for one in by_seed))


def group_of(source: str, costs: Sequence[Cost]) -> str:
    """Name the group of a source: the cost pattern that it fits, or where that is `*` what comes before its first /."""
    fitting = next((cost.source for cost in costs if fnmatchcase(source, cost.source)), "*")
    return source.partition("/")[0] if fitting == "*" else fitting


def bill(
    new: Mapping[NewDocument, int], known_sources: Iterable[str], costs: Sequence[Cost]
) -> dict[NewDocument, Bill]:
    """Cost of the new documents of each sort; a source's licence is shared out among its new documents.

    Args:
        new: How many there are of each sort.
        known_sources: Sources that the present version holds documents of.
        costs: What documents cost.
    """
    known, of_source = set(known_sources), Counter[str]()
    for document, number in new.items():
        of_source[document.source] += number
    bills = {}
    for document, number in new.items():
        cost = next((cost for cost in costs if fnmatchcase(document.source, cost.source)), Cost(document=0))
        licence = 0.0 if document.source in known else cost.licence * number / of_source[document.source]
        bills[document] = Bill(number, cost.document * number + licence)
    return bills


def total(bills: Iterable[Bill]) -> Bill:
    """Add up what documents cost."""
    every = list(bills)
    return Bill(sum(one.documents for one in every), math.fsum(one.total for one in every))


def gains(
    present: np.ndarray,
    proposed: np.ndarray,
    questions: Sequence[Groups],
    new: Sequence[tuple[Groups, Bill]],
    confidence: float,
) -> list[Gain]:
    """Judge every group; the error that the confidence leaves is shared out among those judged (Bonferroni).

    A kind or language that everything is of leaves no choice, and is left out.

    Args:
        present: Scores by seed and question.
        proposed: Scores of the same seeds and questions.
        questions: Groups of each question's document, by what makes them.
        new: What the new documents of each sort cost, and the groups of these.
        confidence: Level that holds for all groups together.
    """
    numbers: dict[tuple[str, str], list[int]] = {}
    for number, groups in enumerate(questions):
        for by, group in groups.items():
            numbers.setdefault((by, group), []).append(number)
    for groups, _ in new:
        for by, group in groups.items():
            numbers.setdefault((by, group), [])
    choices = Counter(by for by, _ in numbers)
    numbers = {group: asked for group, asked in numbers.items() if group[0] == "source" or choices[group[0]] > 1}
    judged = sum(len(asked) >= FEWEST for asked in numbers.values())
    level = 1 - (1 - confidence) / max(1, judged)
    found = []
    for (by, group), asked in sorted(numbers.items()):
        change = difference(present[:, asked], proposed[:, asked], level) if len(asked) >= FEWEST else None
        paid = total(cost for groups, cost in new if groups[by] == group)
        found.append(Gain(by, group, len(asked), change, len(asked) / len(questions), paid))
    return found


def best(gains: Iterable[Gain]) -> Gain | None:
    """The group that adds most for its cost among those that certainly add; None if none does."""
    sure = [gain for gain in gains if gain.per_cost and gain.per_cost.low > 0]
    return max(sure, key=lambda gain: gain.per_cost.value if gain.per_cost else 0.0, default=None)


def verdict(change: Difference, *, more_is_better: bool = True) -> str:
    """Say in words what a difference comes to."""
    if not change.certain:
        return "no evidence of a difference"
    return "better" if (change.value > 0) == more_is_better else "worse"


def interval(change: Difference, write: Callable[[float], str] = "{:+.3f}".format) -> str:
    """Write a difference with its interval.

    Args:
        change: The difference.
        write: How to write a number.
    """
    return f"{write(change.value)} [{write(change.low)}, {write(change.high)}]"


def small(value: float) -> str:
    """Two digits that count, never as a power of ten."""
    return np.format_float_positional(value + 0.0, precision=2, unique=False, fractional=False, trim="-", sign=True)
