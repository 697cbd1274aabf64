"""What is looked for: evaluation questions as runs of words, and which of them stand in documents.

A question is given away by its own words with its answer after them, by `ngram` words in a row of question or answer,
or, where it is shorter than that, by all its words. A question that was made from documents of the corpus is given
away by its words with its answer only, and never by the documents that it was made from: those are what a model is
meant to learn it from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from components.data.compiled import content
from components.data.decontaminate.items import Item, Questions
from components.data.decontaminate.kernel import Table, sign, windows
from components.data.decontaminate.options import Decontaminate
from components.data.reasons import Reason

PAIR_WORDS = 5
"""Fewest words of a question that is looked for together with its answer."""


class Contaminated(Reason):
    """Why a document does not stay as it is; the first is the strongest."""

    PAIR = "pair", "It has a question of an evaluation set, and its answer after it."
    NGRAM = "ngram", "It has as many words in a row of an evaluation set as the recipe's ngram says."
    QUESTION = "question", "It has a whole question of an evaluation set that is shorter than that."
    PASSAGES = "passages", "It has more such passages than the recipe's max_passages."
    REMAINDER = "remainder", "Without such passages too little is left of it."


WAYS = (Contaminated.PAIR, Contaminated.NGRAM, Contaminated.QUESTION)
_PAIR, _NGRAM, _QUESTION = range(3)
_BATCH = 4_096


@dataclass(frozen=True)
class Hits:
    """Runs of words found in a batch, one value for each.

    Attributes:
        rows: Document.
        runs: Which run.
        first: Its first byte in the document.
        end: The byte behind it.
    """

    rows: np.ndarray
    runs: np.ndarray
    first: np.ndarray
    end: np.ndarray

    def where(self, chosen: np.ndarray) -> "Hits":
        """Choose some of them."""
        return Hits(self.rows[chosen], self.runs[chosen], self.first[chosen], self.end[chosen])


class Patterns:
    """The runs of words of evaluation sets.

    Args:
        sets: The sets.
        options: How long runs are.
    """

    def __init__(self, sets: Sequence[Questions], options: Decontaminate) -> None:
        self.items: list[Item] = [item for one in sets for item in one.items]
        self.set_of = np.repeat(np.arange(len(sets)), [len(one.items) for one in sets])
        runs = _runs(self.items, options)
        order = np.lexsort((runs["item"], *(runs[name] for name in _WHAT[::-1])))
        runs = {name: values[order] for name, values in runs.items()}
        new = np.ones(len(order), bool)
        new[1:] = np.logical_or.reduce([runs[name][1:] != runs[name][:-1] for name in _WHAT])
        first = np.flatnonzero(new)
        self.ways = runs["way"][first]
        self._item, self._bounds = runs["item"], np.r_[first, len(order)]
        columns = [runs[name][first] for name in ("key", "length", "hash", "answer_length", "answer_hash")]
        self._table = Table(tuple(dict.fromkeys((PAIR_WORDS, options.ngram))), *columns)
        self.sought = np.zeros(len(self.items), bool)
        self.sought[self._item] = True

    def __len__(self) -> int:
        """How many different runs there are."""
        return len(self.ways)

    def items_of(self, run: int) -> np.ndarray:
        """Number the items that a run belongs to."""
        return self._item[self._bounds[run] : self._bounds[run + 1]]

    def find(self, text: pa.Array, ids: Sequence[str]) -> Hits:
        """Find the runs in a batch, but not a question in the document that it was made from.

        Args:
            text: The texts, as large strings.
            ids: The documents' ids.
        """
        hits = Hits(*self._table.find(*content(text)))
        paired = np.flatnonzero(self.ways[hits.runs] == _PAIR)
        own = [
            hit
            for hit in paired
            if all(ids[hits.rows[hit]] in self.items[item].parents for item in self.items_of(hits.runs[hit]))
        ]
        return hits.where(np.setdiff1d(np.arange(len(hits.rows)), own)) if own else hits


_WHAT = ("key", "way", "length", "hash", "answer_length", "answer_hash")
_TYPES = {
    "item": np.int64,
    "way": np.int32,
    "key": np.uint64,
    "length": np.int32,
    "hash": np.uint64,
    "answer_length": np.int32,
    "answer_hash": np.uint64,
}


def _runs(items: Sequence[Item], options: Decontaminate) -> dict[str, np.ndarray]:
    """Write down the runs of all items, some thousands of items at a time."""
    found: dict[str, list[np.ndarray]] = {name: [np.zeros(0, kind)] for name, kind in _TYPES.items()}

    def add(
        item: np.ndarray, way: int, key: np.ndarray, length: np.ndarray, hash_: np.ndarray, *answer: np.ndarray
    ) -> None:
        values = (item, np.full(len(item), way), key, length, hash_, *(answer or (np.zeros(len(item)),) * 2))
        for (name, kind), value in zip(_TYPES.items(), values, strict=True):
            found[name].append(value.astype(kind))

    for begin in range(0, len(items), _BATCH):
        some = items[begin : begin + _BATCH]
        number = np.arange(begin, begin + len(some))
        questions = _column([item.question for item in some])
        asked = sign(*questions, PAIR_WORDS)
        answered = [(row, answer) for row, item in enumerate(some) for answer in item.answers]
        owner = np.array([row for row, _ in answered], np.int64)
        answers = _column([answer for _, answer in answered])
        told = sign(*answers, PAIR_WORDS)

        pairs = np.flatnonzero((asked.halves[owner] >= 2 * PAIR_WORDS) & (told.words > 0))
        rows = owner[pairs]
        add(
            *(number[rows], _PAIR, asked.heads[rows], asked.words[rows], asked.hashes[rows]),
            *(told.words[pairs], told.hashes[pairs]),
        )
        foreign = np.array([not item.parents for item in some], bool)
        alone = foreign & (asked.halves >= 2 * options.min_words) & (asked.halves < 2 * options.ngram)
        add(number[alone], _QUESTION, asked.heads[alone], asked.words[alone], asked.hashes[alone])
        for column, of in ((questions, np.arange(len(some))), (answers, owner)):
            hashes, lengths, texts = windows(*column, options.ngram)
            rows = of[texts]
            free = foreign[rows]
            add(number[rows][free], _NGRAM, hashes[free], lengths[free], hashes[free])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _column(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    return content(pa.array(texts, pa.large_string()))
