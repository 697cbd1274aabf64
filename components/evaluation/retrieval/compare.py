"""The retrievers beside each other: every measure of every one, and how far each is behind the best."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from components.evaluation.evidence import Level, Metric, Scores, weigh
from components.evaluation.retrieval.corpus import Corpus, Gold
from components.evaluation.retrieval.items import Item
from components.evaluation.retrieval.measures import Needs, measures
from components.evaluation.retrieval.options import Retrieval, Retriever
from components.evaluation.retrieval.search import RETRIEVERS, Search


@dataclass(frozen=True)
class Ranked:
    """What a retriever came to.

    Attributes:
        scores: By measure and question.
        first: The first chunks for each question.
        needed: For each question the chunks that meet its needs, the first ranked first.
        seconds: How long each search took.
    """

    scores: Mapping[str, Scores]
    first: Mapping[str, Sequence[int]]
    needed: Mapping[str, Sequence[int]]
    seconds: Mapping[str, float]


def find_needs(corpus: Corpus, items: Sequence[Item]) -> dict[str, tuple[Needs, Gold]]:
    """What each question needs, for those that the corpus can answer."""
    found = {item.id: corpus.needs(item.parents, item.answer) for item in items}
    return {name: needs for name, needs in found.items() if needs is not None}


def rank_all(
    search: Search,
    items: Sequence[Item],
    needs: Mapping[str, tuple[Needs, Gold]],
    options: Retrieval,
    progress: Callable[[int, int, str], None],
) -> dict[Retriever, Ranked]:
    """Search for every question in every way.

    Args:
        search: The corpus.
        items: The questions.
        needs: What each needs.
        options: Cutoffs, chunks to hand over.
        progress: Called with the number of searches, how many there will be, and a note.
    """
    wanted = measures(options.cutoffs)
    total = len(RETRIEVERS) * len(items)
    found = {}
    for number, retriever in enumerate(RETRIEVERS):
        scores: dict[str, dict[str, float]] = {name: {} for name in wanted}
        first, needed, seconds = {}, {}, {}
        progress(number * len(items), total, f"searching, {retriever}")
        for item in items:
            began = perf_counter()
            ranking = search.rank(item.question, item.language, retriever).tolist()
            seconds[item.id] = perf_counter() - began
            own = needs[item.id][0]
            for name, measure in wanted.items():
                scores[name][item.id] = measure(ranking, own)
            first[item.id] = ranking[: options.context_chunks]
            meeting = frozenset().union(*own)
            needed[item.id] = [chunk for chunk in ranking if chunk in meeting]
        found[retriever] = Ranked(scores, first, needed, seconds)
    return found


def weigh_retrievers(ranked: Mapping[Retriever, Ranked], level: Level) -> list[dict[str, Any]]:
    """Every measure of every retriever with its interval, and how far it is behind the best in that measure.

    Returns:
        One mapping for each retriever and measure: `retriever`, `measure`, `value`, `interval`, `behind`,
        `behind_interval` (paired over the questions), and `best`.
    """
    rows = []
    for name in next(iter(ranked.values())).scores:
        means = {retriever: float(np.mean(list(one.scores[name].values()))) for retriever, one in ranked.items()}
        best = max(means, key=lambda retriever: means[retriever])
        for retriever, one in ranked.items():
            against = weigh(name, ranked[best].scores[name], one.scores[name], level, task="search")
            rows.append(
                {
                    "retriever": retriever,
                    "measure": name,
                    "value": against.base_value,
                    "interval": against.base_interval,
                    "best": best,
                    "behind": against.gain,
                    "behind_interval": (0.0, 0.0) if retriever == best else against.gain_interval,
                }
            )
    return rows


def search_metrics(chosen: Ranked, level: Level) -> list[Metric]:
    """The measures of the retriever that hands over the context, as evidence; no model has a part in them."""
    return [weigh(f"retrieval.{name}", scores, None, level, task="search") for name, scores in chosen.scores.items()]


def quantile(values: Sequence[float], share: float) -> float:
    """A quantile of some seconds."""
    return float(np.quantile(np.asarray(values), share))
