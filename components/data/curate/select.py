"""Which candidates are taught: judged by quality, difficulty and diversity, without a model."""

import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import zip_longest

import numpy as np

from components.data.curate.facts import WORD
from components.data.curate.options import Curate, Weights
from components.data.curate.survey import Found, Stratum
from components.data.curate.wordings import Fact

PIECE = 4
"""Characters of the pieces whose share two candidates have in common says how alike they are."""

BINS = 2048
"""Bins that the pieces are hashed into: at fifty pieces a candidate one in forty meets another by chance."""


def choose(candidates: Mapping[Stratum, list[Found]], options: Curate) -> list[Found]:
    """Choose facts within `options.facts`.

    No wording may occur twice: a held-out question that some training pair asks would measure memory of the question.

    Args:
        candidates: Facts of each kind and language, in the order of the draw.
        options: How many, chosen how.
    """
    chosen: list[Found] = []
    taken: set[str] = set()
    for found in ranked(candidates, options, options.facts):
        assert isinstance(found.said, Fact)
        training, held_out = found.said.wordings(options.wordings)
        wordings = {plain(wording) for wording in (*training, held_out)}
        if len(chosen) < options.facts and len(wordings) == options.wordings + 1 and not wordings & taken:
            taken |= wordings
            chosen.append(found)
    return chosen


def ranked(candidates: Mapping[Stratum, list[Found]], options: Curate, most: int) -> list[Found]:
    """Put candidates in the order in which they are chosen.

    Args:
        candidates: Candidates of each kind and language, in the order of the draw.
        options: How to choose.
        most: How many will be chosen.
    """
    if options.selection == "random":
        return sorted((found for some in candidates.values() for found in some), key=lambda found: found.draw)
    if options.selection == "varied":
        orders: Iterable[list[Found]] = map(_varied, candidates.values())
    else:
        orders = (_scored(some, options.weights, most) for some in candidates.values())
    # In turn, so that a rare kind is not drowned by a common one.
    return [found for turn in zip_longest(*orders) for found in turn if found is not None]


def quality(found: Found) -> float:
    """Between 0 and 1: the quality that data/filter gave the document, of an answer in words that are new."""
    answer = found.said.answer
    readable = sum(character.isalnum() or character.isspace() for character in answer) / len(answer)
    asked = set(WORD.findall(found.said.asked.casefold()))
    words = WORD.findall(answer.casefold())
    return float(found.document["quality"]) * readable * sum(word not in asked for word in words) / max(1, len(words))


def difficulty(candidates: list[Found]) -> list[float]:
    """Between 0 and 1 for each: bits of its answer among the answers, as a share of those of one that is unique."""
    answers = [found.said.answer.casefold() for found in candidates]
    counts = Counter(answers)
    most = math.log2(len(answers)) if len(answers) > 1 else 1.0
    return [math.log2(len(answers) / counts[answer]) / most for answer in answers]


def plain(question: str) -> str:
    """A question as it is compared with others."""
    return " ".join(question.casefold().split())


def _varied(facts: list[Found]) -> list[Found]:
    """Put further facts of a document last, and repetitions of an answer.

    A model that always says MIT should not look as if it knew, and one long table is not the whole corpus.
    """
    seen = Counter[str]()
    turns = []
    for found in facts:
        turns.append(seen[found.said.answer] + seen[found.document["id"]])
        seen.update((found.said.answer, found.document["id"]))
    return [found for _, found in sorted(zip(turns, facts, strict=True), key=lambda pair: pair[0])]


def _scored(candidates: list[Found], weights: Weights, most: int) -> list[Found]:
    """Take the best again and again: what it is worth, and how far it is from the nearest one taken (k-centre)."""
    if not candidates:
        return []
    worth = weights.difficulty * np.array(difficulty(candidates))
    worth += weights.quality * np.array([quality(found) for found in candidates])
    sketches = np.stack([_sketch(found.said.gist) for found in candidates])
    sizes = sketches.sum(axis=1)
    nearest = np.zeros(len(candidates))
    left = np.ones(len(candidates), bool)
    order: list[int] = []
    while len(order) < min(most, len(candidates)):
        best = int(np.argmax(np.where(left, worth + weights.diversity * (1 - nearest), -np.inf)))
        shared = sketches @ sketches[best]
        nearest = np.maximum(nearest, shared / (sizes + sizes[best] - shared))
        left[best] = False
        order.append(best)
    return [candidates[number] for number in (*order, *np.flatnonzero(left))]


def _sketch(text: str) -> np.ndarray:
    """Which pieces of characters a text holds, hashed into bins; whole numbers, so that sums are exact."""
    folded = f" {' '.join(text.casefold().split())} ".encode("utf-32-le")
    width = 4 * PIECE
    bins = [zlib.crc32(folded[start : start + width]) % BINS for start in range(0, max(1, len(folded) - width + 4), 4)]
    sketch = np.zeros(BINS, np.float32)
    sketch[bins] = 1
    return sketch
