"""What a dataset holds that can be taught: counted in whole, and of each kind enough kept to choose from."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.documents import CONFIDENTIALITY, count_documents, read_batches
from components.common.step import Context
from components.data.curate.facts import find_facts, language_of
from components.data.curate.options import Curate
from components.data.curate.turns import TURN, Turn, find_turns
from components.data.curate.wordings import Fact
from components.data.feedback import GOOD, rating

INHERITED = ("source", "url", "retrieved_at", "domain", "license", "confidentiality", "pii", "subjects")
"""Columns that a pair has from the document it comes from."""

_COLUMNS = ("id", "text", "messages", "kind", "language", "metadata", *INHERITED)

Said = Fact | Turn
Stratum = tuple[str, str]


@dataclass(frozen=True)
class Found:
    """A fact or a turn, the document it comes from, and its place in the draw."""

    said: Said
    document: dict[str, Any]
    draw: bytes


class Survey:
    """The facts and turns of a dataset; memory is bounded by what may be chosen, not by the dataset."""

    def __init__(self, options: Curate) -> None:
        self.documents = 0
        self.without = 0
        self.confidential = 0
        self.rated_low = 0
        self.found: Counter[Stratum] = Counter()
        self.ambiguous: set[bytes] = set()
        self._options = options
        self._answers: dict[bytes, bytes] = {}
        self._kept: dict[Stratum, dict[bytes, Found]] = defaultdict(dict)

    def add(self, said: Said, document: dict[str, Any], draw: bytes) -> None:
        """Take note of a fact or turn; the same question with another answer makes it ambiguous."""
        answer = hashlib.sha256(said.answer.casefold().encode()).digest()[:8]
        stratum = (str(said.kind), said.language)
        if self._answers.setdefault(draw, answer) != answer:
            self.ambiguous.add(draw)
        kept = self._kept[stratum]
        if draw in kept:
            if document["id"] < kept[draw].document["id"]:
                kept[draw] = Found(said, document, draw)
            return
        self.found[stratum] += 1
        kept[draw] = Found(said, document, draw)
        room = 8 * (self._options.turns if stratum[0] == TURN else self._options.facts)
        if len(kept) > 2 * room:
            for late in sorted(kept)[room:]:
                del kept[late]

    def facts(self) -> dict[Stratum, list[Found]]:
        """The unambiguous facts of each kind and language in the order of the draw."""
        return {stratum: found for stratum, found in self._drawn() if stratum[0] != TURN}

    def turns(self) -> dict[Stratum, list[Found]]:
        """The unambiguous turns of each language in the order of the draw."""
        return {stratum: found for stratum, found in self._drawn() if stratum[0] == TURN}

    def strata(self) -> set[Stratum]:
        """The kinds and languages of the facts."""
        return {stratum for stratum in self._kept if stratum[0] != TURN}

    def drawn(self, stratum: Stratum) -> set[bytes]:
        """Places in the draw that were kept of a kind and language, those of ambiguous facts too."""
        return set(self._kept.get(stratum, ()))

    def _drawn(self) -> Iterator[tuple[Stratum, list[Found]]]:
        for stratum, kept in sorted(self._kept.items()):
            yield stratum, [kept[draw] for draw in sorted(kept) if draw not in self.ambiguous]


def survey(dataset: Path, options: Curate, context: Context) -> Survey:
    """Look for facts and turns in a dataset version.

    Args:
        dataset: The dataset version.
        options: What to look for.
        context: The run.
    """
    total = count_documents(dataset)
    korean = _korean_packages(dataset)
    seen = Survey(options)
    ceiling = CONFIDENTIALITY.index(options.max_confidentiality)
    for row in _rows(dataset):
        seen.documents += 1
        if CONFIDENTIALITY.index(row["confidentiality"]) > ceiling:
            seen.confidential += 1
            continue
        if _ends_badly(row):
            seen.rated_low += 1
            continue
        metadata = dict(row["metadata"])
        language = "ko" if metadata.get("package", "") in korean else language_of(row)
        said: list[Said] = [
            *find_facts(row, language, options.answer_words),
            *find_turns(row, language, options.turn_words, options.answer_words),
        ]
        document = {
            **{name: row[name] for name in ("id", *INHERITED)},
            "kind": row["kind"],
            "language": row["language"],
            "quality": float(metadata.get("quality", 1)),
        }
        for one in said:
            seen.add(one, document, draw(options.seed, one.key))
        seen.without += not said
        if seen.documents % 1000 == 0:
            context.progress(seen.documents, total, "looking for facts")
    return seen


def _ends_badly(row: Mapping[str, Any]) -> bool:
    """Tell whether a dialogue ends with an answer that people did not find good: nothing to learn from."""
    return bool(row["messages"]) and row["messages"][-1]["role"] == "assistant" and rating(row) < GOOD


def draw(seed: int, key: str) -> bytes:
    """A place in the draw that depends on the seed and on what is drawn, not on the order it is found in."""
    return hashlib.sha256(f"{seed}\x1f{key}".encode()).digest()[:16]


def _rows(dataset: Path) -> Iterator[dict[str, Any]]:
    for batch in read_batches(dataset, _COLUMNS):
        yield from batch.to_pylist()


def _korean_packages(dataset: Path) -> set[str]:
    """Packages whose description is Korean: their metadata, though English, is asked about in Korean."""
    found: set[str] = set()
    for batch in read_batches(dataset, ["language", "metadata"]):
        for language, metadata in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            if language.startswith("ko"):
                fields = dict(metadata)
                found |= {fields["package"]} if fields.get("item") == "readme" and "package" in fields else set()
    return found
