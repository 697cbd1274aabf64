"""What is searched: the chunks of a dataset version, and which of them each question needs."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from components.common.documents import read_batches
from components.data.excerpt import may_quote
from components.evaluation.benchmark.metrics.answers import normalize
from components.evaluation.retrieval.chunking import cut
from components.evaluation.retrieval.measures import Needs

_COLUMNS = ("id", "text", "language", "metadata", "confidentiality", "pii")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LETTER = r"[^\W_\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]"
"""A letter or digit of a script that puts spaces between words; a Korean particle may follow an answer."""
_DOCUMENTS = 64
"""Documents whose tokens are held at once."""


class Gold(StrEnum):
    """By what it is judged whether a chunk is what a question needs."""

    ANSWER = "answer"
    """It belongs to the question's document and the expected answer stands in it."""
    DOCUMENT = "document"
    """It belongs to the question's document; the answer stands nowhere in that word for word."""


@dataclass(frozen=True)
class Chunk:
    """A part of a document that is found and handed over as one.

    Attributes:
        document: Id of the document.
        place: Its characters in the document's text.
        title: What the document is called.
        headings: The headings above it.
        text: Its text.
        tokens: How many tokens it is long.
        language: The document's.
        quotable: Whether a report may show it.
    """

    document: str
    place: tuple[int, int]
    title: str
    headings: tuple[str, ...]
    text: str
    tokens: int
    language: str
    quotable: bool

    @property
    def told(self) -> str:
        """Its text below what it is about, as it is indexed and handed to a model."""
        about = " › ".join(dict.fromkeys(filter(None, (self.title, *self.headings))))
        return f"{about}\n{self.text}" if about else self.text


@dataclass(frozen=True)
class Corpus:
    """The chunks that are searched.

    Attributes:
        chunks: Each once, however many documents hold the same text.
        owners: For each chunk the documents that hold it.
        documents: Documents in the dataset version.
        indexed: Documents of which at least one chunk is searched.
    """

    chunks: Sequence[Chunk]
    owners: Sequence[frozenset[str]]
    documents: int
    indexed: int

    def needs(self, parents: Iterable[str], answer: str) -> tuple[Needs, Gold] | None:
        """What a question needs: one chunk of its documents.

        Args:
            parents: The documents that the question was made from.
            answer: The expected answer.

        Returns:
            None when none of the documents is in the corpus.
        """
        wanted = frozenset(parents)
        own = [number for number, owners in enumerate(self.owners) if owners & wanted]
        if not own:
            return None
        holding = frozenset(number for number in own if holds(self.chunks[number].text, answer))
        return ([holding], Gold.ANSWER) if holding else ([frozenset(own)], Gold.DOCUMENT)


def holds(text: str, answer: str) -> bool:
    """Tell whether an answer stands in a text, both normalised as answers are, not as a part of another word."""
    wanted = normalize(answer)
    if not wanted:
        return False
    return bool(re.search(rf"(?<!{_LETTER}){re.escape(wanted)}(?!{_LETTER})", normalize(text)))


def read_corpus(dataset: Path, parents: Iterable[str], tokenizer: Tokenizer, size: int, most: int, seed: int) -> Corpus:
    """Chunk a dataset version, or as much of it as may be searched.

    Every chunk of the questions' documents is searched. Where not all others can be, as many are drawn by lot from each
    of the other documents, themselves drawn by lot.

    Args:
        dataset: The dataset version.
        parents: The documents that questions were made from.
        tokenizer: Measures chunks; the tokenizer of the model that will read them.
        size: Most tokens in a chunk.
        most: Most chunks, unless the questions' documents alone have more; 0 for all.
        seed: Seed of the draw.
    """
    identifiers = [name for batch in read_batches(dataset, ["id"]) for name in batch.column(0).to_pylist()]
    asked = frozenset(parents)
    found = list(_chunks(dataset, asked.intersection(identifiers), tokenizer, size))
    others = sorted(set(identifiers) - asked, key=lambda name: _draw(seed, name))
    room = most - len(found) if most else 0
    if others and (room > 0 or not most):
        each = -(-room // len(others)) if most else 0
        wanted = others[: -(-room // each)] if most else others
        drawn = defaultdict(list)
        for chunk in _chunks(dataset, frozenset(wanted), tokenizer, size):
            drawn[chunk.document].append(chunk)
        for name in wanted:
            some = sorted(drawn[name], key=lambda chunk: _draw(seed, f"{name} {chunk.place}"))
            found += some[: each or None]
    return _distinct(found, len(identifiers))


def _distinct(found: Sequence[Chunk], documents: int) -> Corpus:
    kept: dict[str, Chunk] = {}
    owners: dict[str, set[str]] = defaultdict(set)
    for chunk in sorted(found, key=lambda chunk: (chunk.document, chunk.place)):
        kept.setdefault(chunk.told, chunk)
        owners[chunk.told].add(chunk.document)
    return Corpus(
        tuple(kept.values()),
        tuple(frozenset(owners[told]) for told in kept),
        documents,
        len({chunk.document for chunk in found}),
    )


def _chunks(dataset: Path, documents: frozenset[str], tokenizer: Tokenizer, size: int) -> Iterator[Chunk]:
    for batch in read_batches(dataset, _COLUMNS, rows=_DOCUMENTS):
        rows = [row for row in batch.to_pylist() if row["id"] in documents]
        encodings = tokenizer.encode_batch([row["text"] for row in rows], add_special_tokens=False)
        for row, encoding in zip(rows, encodings, strict=True):
            starts = [start for start, _ in encoding.offsets]
            title, quotable = _title(row), may_quote(row)
            for piece in cut(row["text"], starts, size):
                yield Chunk(
                    row["id"],
                    (piece.start, piece.end),
                    title,
                    piece.headings,
                    row["text"][piece.start : piece.end],
                    sum(piece.start <= start < piece.end for start in starts),
                    row["language"],
                    quotable,
                )


def _title(row: Mapping[str, Any]) -> str:
    """What a document is called: its package, title or first main heading; not its address, which masks miss."""
    metadata = dict(row["metadata"])
    named = metadata.get("package") or metadata.get("title") or metadata.get("name")
    if named:
        return named
    heading = _TITLE.search(row["text"])
    return heading[1] if heading else ""


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()
