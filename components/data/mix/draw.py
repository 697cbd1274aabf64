"""Draw the mixture: which documents, how often, in which order. Pure functions over a few numbers per document.

Everything random is a hash of a document's id and the seed, so neither the order nor the layout of the input matters,
and a sample stays nearly the same when documents are added.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from components.common.errors import UsageError
from components.data.mix.groups import Cell
from components.data.mix.options import Mix
from components.data.mix.plan import Plan, fill, plan, temper
from components.data.scatter import scatter

Part = TypeVar("Part", Cell, tuple[str, str])


@dataclass(frozen=True)
class Survey:
    """What is known of the documents, one value for each.

    Attributes:
        ids: The first 128 bits of the id, as two columns of numbers.
        cells: The cells that occur.
        cell: Number of the document's cell.
        tokens: Tokens of its text.
        sizes: Bytes of its text.
        scores: By name of a score; not a number where a document has none.
    """

    ids: np.ndarray
    cells: Sequence[Cell]
    cell: np.ndarray
    tokens: np.ndarray
    sizes: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    def totals(self, part: Sequence[str], counted: np.ndarray | None = None) -> dict[str, int]:
        """Sum tokens by a part of the cell, such as each cell's group.

        Args:
            part: What each cell counts for.
            counted: How often each document counts; once when None.
        """
        amounts = self.tokens if counted is None else self.tokens * counted
        sums = np.bincount(self.cell, amounts, len(self.cells)).astype(np.int64)
        totals: dict[str, int] = defaultdict(int)
        for name, amount in zip(part, sums.tolist(), strict=True):
            totals[name] += amount
        return dict(totals)


@dataclass(frozen=True)
class Cut:
    """What a diet did to one group and language."""

    group: str
    language: str
    score: str
    documents: int
    low: int
    high: int
    unscored: int


@dataclass(frozen=True)
class Drawn:
    """The mixture.

    Attributes:
        plan: What was asked of the groups, and what they give.
        copies: How often each document appears.
        keys: A random number for each document.
        starved: Which documents a diet left out.
        cuts: What the diets did.
        asked: Tokens that the temperatures asked of each cell.
    """

    plan: Plan
    copies: np.ndarray
    keys: np.ndarray
    starved: np.ndarray
    cuts: Sequence[Cut]
    asked: Mapping[Cell, float]


def draw(survey: Survey, options: Mix) -> Drawn:
    """Draw a mixture: diet, plan by groups, temperatures within them, then a random sample of each cell.

    Raises:
        UsageError: The options ask for what the documents cannot give at all.
    """
    keys = random_keys(survey.ids, options.seed)
    starved, cuts = diet(survey, keys, options)
    groups = [cell.group for cell in survey.cells]
    stocks = np.bincount(survey.cell[~starved], survey.tokens[~starved], len(survey.cells))
    stock = dict(zip(survey.cells, stocks.astype(np.int64).tolist(), strict=True))
    weights = {group.name: group.weight for group in options.groups} or options.weights
    planned = plan(survey.totals(groups, ~starved), weights, options.tokens, options.repeats)
    stocks_of: dict[str, dict[Cell, int]] = defaultdict(dict)
    for cell, amount in stock.items():
        if amount:
            stocks_of[cell.group][cell] = amount
    asked: dict[Cell, float] = {}
    targets: dict[Cell, float] = defaultdict(float)
    for group, tokens in planned.tokens.items():
        wanted, given = divide(tokens, stocks_of[group], options)
        asked |= wanted
        for cell, amount in given.items():
            targets[_pool(cell, options)] += amount
    copies = np.zeros(len(survey.cell), np.int64)
    order = _random_order(survey, keys)
    for pool, members in _pools(survey, options, order[~starved[order]]):
        copies[members] = choose(survey.tokens[members], targets[pool])
    return Drawn(planned, copies, keys, starved, cuts, asked)


def random_keys(ids: np.ndarray, seed: int) -> np.ndarray:
    """A random number for each document that depends on its id and the seed alone."""
    drawn = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    return scatter(ids[:, 0] ^ drawn)


def diet(survey: Survey, keys: np.ndarray, options: Mix) -> tuple[np.ndarray, list[Cut]]:
    """Choose what to leave out by score, in each group and language by itself: scores do not compare across them.

    Returns:
        Which documents go, and how many of what.

    Raises:
        UsageError: No document has a score that a diet goes by.
    """
    starved = np.zeros(len(survey.cell), bool)
    cuts: list[Cut] = []
    strata = [(cell.group, cell.language) for cell in survey.cells]
    everything = np.arange(len(survey.cell))
    for wanted in options.diet:
        scores = survey.scores[wanted.score]
        if len(scores) and np.isnan(scores).all():
            raise UsageError(
                f"mix.diet: no document has metadata.{wanted.score}; let data/filter measure it, or leave the diet out"
            )
        for (group, language), members in _split(survey, strata, everything):
            scored = members[~np.isnan(scores[members])]
            ranked = scored[np.lexsort((survey.ids[scored, 1], keys[scored], scores[scored]))]
            low, high = int(wanted.lowest * len(ranked)), int(wanted.highest * len(ranked))
            starved[ranked[:low]] = True
            starved[ranked[len(ranked) - high :]] = True
            cuts.append(Cut(group, language, wanted.score, len(members), low, high, len(members) - len(scored)))
    return starved, cuts


def divide(tokens: float, stock: Mapping[Cell, int], options: Mix) -> tuple[dict[Cell, float], dict[Cell, float]]:
    """Divide what a group gives over its languages, and each language's over its domains.

    Args:
        tokens: What the group gives.
        stock: Tokens of each of its cells.
        options: Temperatures and repeats.

    Returns:
        What the temperatures ask of each cell, and what it can give; its siblings make up for the difference.
    """
    languages: dict[str, dict[Cell, int]] = defaultdict(dict)
    for cell, amount in stock.items():
        languages[cell.language][cell] = amount
    totals = {language: float(sum(cells.values())) for language, cells in sorted(languages.items())}
    weights = temper(totals, options.language_temperature)
    given = fill(tokens, weights, {language: amount * options.repeats for language, amount in totals.items()})
    whole = sum(weights.values())
    asked: dict[Cell, float] = {}
    got: dict[Cell, float] = {}
    for language, cells in languages.items():
        domains = {cell.domain: float(amount) for cell, amount in sorted(cells.items())}
        shares = temper(domains, options.domain_temperature)
        amounts = fill(given[language], shares, {name: amount * options.repeats for name, amount in domains.items()})
        for cell in cells:
            asked[cell] = tokens * weights[language] / whole * shares[cell.domain] / sum(shares.values())
            got[cell] = amounts[cell.domain]
    return asked, got


def _pool(cell: Cell, options: Mix) -> Cell:
    """What a cell is drawn together with: temperatures of 1 ask nothing of languages and domains."""
    if options.domain_temperature > 1:
        return cell
    return Cell(cell.group, cell.language if options.language_temperature > 1 else "", "")


def _pools(survey: Survey, options: Mix, order: np.ndarray) -> Iterator[tuple[Cell, np.ndarray]]:
    """The documents of each pool in the order given."""
    return _split(survey, [_pool(cell, options) for cell in survey.cells], order)


def _split(survey: Survey, part: Sequence[Part], order: np.ndarray) -> Iterator[tuple[Part, np.ndarray]]:
    """Split documents by a part of their cell, each part in the order given."""
    names = sorted(set(part))
    number = {name: index for index, name in enumerate(names)}
    of_document = np.array([number[name] for name in part], np.int64)[survey.cell[order]] if len(order) else order
    counts = np.bincount(of_document, minlength=len(names))
    together = order[np.argsort(of_document, kind="stable")]
    yield from zip(names, np.split(together, np.cumsum(counts)[:-1]), strict=True) if names else ()


def _random_order(survey: Survey, keys: np.ndarray) -> np.ndarray:
    """The documents in random order; ids decide where two keys are the same."""
    return np.lexsort((survey.ids[:, 1], survey.ids[:, 0], keys))


def choose(tokens: np.ndarray, target: float) -> np.ndarray:
    """How often each document of a pool appears, so that the tokens come as near to the target as they can.

    Full passes, then the first documents that fit; the gap that is left goes to later ones that fit into it.

    Args:
        tokens: Tokens of the documents, in random order.
        target: Tokens to draw.
    """
    total = int(tokens.sum())
    if not total or target <= 0:
        return np.zeros(len(tokens), np.int64)
    passes, rest = divmod(round(target), total)
    copies = np.full(len(tokens), passes, np.int64)
    last = int(np.searchsorted(np.cumsum(tokens), rest, "right"))
    copies[:last] += 1
    rest -= int(tokens[:last].sum())
    while rest > 0:
        fitting = np.flatnonzero(tokens[last:] <= rest)
        if not len(fitting):
            break
        last += int(fitting[0])
        copies[last] += 1
        rest -= int(tokens[last])
        last += 1
    left = np.flatnonzero(copies == passes)
    if rest > 0 and len(left):  # one that is too long may still be nearer than none
        nearest = left[int(np.argmin(tokens[left]))]
        if 2 * rest > tokens[nearest]:
            copies[nearest] += 1
    return copies


def spread(survey: Survey, drawn: Drawn, options: Mix) -> np.ndarray:
    """Put the copies of the documents in an order in which every stretch of the mixture has the mixture's shares.

    Each pool is a random sequence laid evenly over the whole; a document that appears twice does so far apart.

    Returns:
        For each place of the mixture, the row of the document that stands there.
    """
    rows: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for _, members in _pools(survey, options, _random_order(survey, drawn.keys)):
        most = int(drawn.copies[members].max(initial=0))
        passes = [members[drawn.copies[members] > number] for number in range(most)]
        if not passes:
            continue
        again = [_shuffled(one, drawn.keys, number) for number, one in enumerate(passes)]
        sequence = np.concatenate(again)
        lengths = np.maximum(survey.tokens[sequence], 1)
        numbers = np.concatenate([np.full(len(one), number, np.uint64) for number, one in enumerate(again)])
        within = (scatter(drawn.keys[sequence] + numbers) >> np.uint64(11)) * 2.0**-53  # from 0 to 1
        rows.append(sequence)
        places.append((np.cumsum(lengths) - within * lengths) / lengths.sum())
    if not rows:
        return np.zeros(0, np.int64)
    row, place = np.concatenate(rows), np.concatenate(places)
    return row[np.lexsort((survey.ids[row, 1], survey.ids[row, 0], place))]


def _shuffled(members: np.ndarray, keys: np.ndarray, number: int) -> np.ndarray:
    """Order the documents of a further pass anew."""
    if not number:
        return members
    return members[np.argsort(scatter(keys[members] ^ scatter(np.array([number], np.uint64))), kind="stable")]
