"""Count what a dataset version holds, in one pass: by column, by source, by score, by length, and its n-grams."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.documents import read_batches
from components.data.card.options import Declared
from components.data.card.sketch import Ngrams
from components.data.mask.personal import LABELS
from components.data.mix.tokens import count_words
from components.data.scores import read_scores

DESCRIBED = ("kind", "domain", "language", "license", "confidentiality", "pii")
"""Columns by whose values documents and tokens are counted, beside the source."""
SCORES = ("quality", "perplexity")
"""Scores that data/filter writes into the metadata."""
NGRAM = 8
"""Words in the n-grams that versions are compared by: long enough not to be common turns of phrase."""

_TAGS = ("source_class", "terms", "terms_sha256", "terms_changed")
_MASK = re.compile(rf"\[({'|'.join(sorted(set(LABELS.values())))})_\d+\]")
_KERNEL_BYTES = 8_000_000


@dataclass
class Amount:
    """Documents, and the tokens in them."""

    documents: int = 0
    tokens: int = 0

    def add(self, documents: int, tokens: int) -> None:
        """Count more of them."""
        self.documents += documents
        self.tokens += tokens


@dataclass
class SourceFacts:
    """One declared source: what is declared, and what of it is in the version."""

    name: str
    declared: Declared | None
    amount: Amount = field(default_factory=Amount)
    parts: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    licenses: Counter[str] = field(default_factory=Counter)
    terms: set[str] = field(default_factory=set)
    evidence: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)


@dataclass
class Facts:
    """What a dataset version holds.

    Attributes:
        documents: Number of documents.
        size: Bytes of text.
        counts: By column and value.
        sources: By declared source, the largest first.
        lengths: Tokens of each document.
        scores: By score; the documents that have it.
        masks: By label of a mask: documents that have it, and (as tokens) how often it stands there.
        oldest: First retrieval.
        newest: Last retrieval.
        words: Different words among all, case and punctuation aside.
        ngrams: Runs of `NGRAM` words.
    """

    documents: int = 0
    size: int = 0
    counts: dict[str, dict[str, Amount]] = field(default_factory=dict)
    sources: list[SourceFacts] = field(default_factory=list)
    lengths: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: dict[str, np.ndarray] = field(default_factory=dict)
    masks: dict[str, Amount] = field(default_factory=dict)
    oldest: datetime | None = None
    newest: datetime | None = None
    words: Ngrams = field(default_factory=lambda: Ngrams(1))
    ngrams: Ngrams = field(default_factory=lambda: Ngrams(NGRAM))

    @property
    def tokens(self) -> int:
        """Tokens of all documents."""
        return int(self.lengths.sum())


def take_facts(documents: Path, declared: Sequence[Declared], progress: Callable[[float, float, str], None]) -> Facts:
    """Count a dataset's documents.

    Args:
        documents: Its parts.
        declared: What is declared of the sources.
        progress: Told how far it is.
    """
    facts = Facts()
    counts: dict[str, dict[str, Amount]] = {name: defaultdict(Amount) for name in ("source", *DESCRIBED)}
    sources: dict[str, SourceFacts] = {}
    lengths: list[np.ndarray] = []
    scores: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    columns = ["text", "source", *DESCRIBED, "metadata", "retrieved_at"]
    for batch in read_batches(documents, columns):
        text, metadata = batch.column("text"), batch.column("metadata")
        tokens = count_words(text)
        lengths.append(tokens)
        for name, values in counts.items():
            for (value,), amount in _totals([batch.column(name)], tokens):
                values[value].add(amount.documents, amount.tokens)
        tags = [_tag(metadata, name) for name in _TAGS]
        for row, amount in _totals([batch.column("source"), batch.column("license"), *tags], tokens):
            _add_source(sources, declared, row, amount)
        for name, found in scores.items():
            written = read_scores(metadata, name)
            found.append(written[~np.isnan(written)])
        _count_masks(facts, batch)
        for data, offsets in contents(text):
            facts.words.add(data, offsets)
            facts.ngrams.add(data, offsets)
        facts.documents += batch.num_rows
        facts.size += pc.sum(pc.binary_length(text)).as_py() or 0
        bounds = pc.min_max(batch.column("retrieved_at")).as_py()
        facts.oldest = min(filter(None, (facts.oldest, bounds["min"])), default=None)
        facts.newest = max(filter(None, (facts.newest, bounds["max"])), default=None)
        progress(facts.documents, 0, "counting")
    facts.counts = {name: dict(sorted(values.items(), key=_largest)) for name, values in counts.items()}
    facts.sources = sorted(sources.values(), key=lambda source: (-source.amount.tokens, source.name))
    facts.lengths = np.concatenate(lengths) if lengths else facts.lengths
    facts.scores = {name: np.concatenate(found) for name, found in scores.items() if found}
    facts.masks = dict(sorted(facts.masks.items(), key=_largest))
    return facts


def declaration_of(source: str, declared: Sequence[Declared]) -> Declared | None:
    """Find the declaration that a document's source belongs to: the one of its name, or of the folder it is in."""
    fitting = [one for one in declared if source == one.id or source.startswith(f"{one.id}/")]
    return max(fitting, key=lambda one: len(one.id), default=None)


def contents(text: pa.Array) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give a column's UTF-8 bytes with the bounds of its texts, some megabytes at a time."""
    _, offsets, data = text.buffers()
    bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    content = np.frombuffer(data if data is not None else b"", np.uint8)
    begin = 0
    while begin < len(text):
        stop = int(np.searchsorted(bounds, bounds[begin] + _KERNEL_BYTES, "right")) - 1
        stop = min(max(stop, begin + 1), len(text))
        yield content, bounds[begin : stop + 1]
        begin = stop


def _tag(metadata: pa.Array, key: str) -> pa.Array:
    return pc.map_lookup(metadata, key, "first")


def _totals(columns: Sequence[pa.Array], tokens: np.ndarray) -> Iterator[tuple[tuple[str, ...], Amount]]:
    """Count documents and tokens by the combinations of values of some columns."""
    values = [pc.fill_null(column.cast(pa.string()), "") for column in columns]
    encoded = pc.binary_join_element_wise(*values, "\0").dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    documents = np.bincount(codes, minlength=len(encoded.dictionary))
    sums = np.bincount(codes, tokens, len(encoded.dictionary)).astype(np.int64)
    for joined, number, total in zip(encoded.dictionary.to_pylist(), documents.tolist(), sums.tolist(), strict=True):
        yield tuple(joined.split("\0")), Amount(number, total)


def _add_source(
    sources: dict[str, SourceFacts], declared: Sequence[Declared], row: tuple[str, ...], amount: Amount
) -> None:
    part, license_, source_class, terms, evidence, changed = row
    declaration = declaration_of(part, declared)
    name = declaration.id if declaration else part
    source = sources.setdefault(name, SourceFacts(name, declaration))
    source.amount.add(amount.documents, amount.tokens)
    source.parts.add(part)
    source.licenses[license_] += amount.documents
    for value, among in (
        (source_class, source.classes),
        (terms, source.terms),
        (evidence, source.evidence),
        (changed, source.changed),
    ):
        if value:
            among.add(value)


def _count_masks(facts: Facts, batch: pa.RecordBatch) -> None:
    """Count the masks that stand in masked texts, by label."""
    for text in batch.column("text").filter(pc.equal(batch.column("pii"), "masked")).to_pylist():
        for label, number in Counter(_MASK.findall(text)).items():
            facts.masks.setdefault(label, Amount()).add(1, number)


def _largest(item: tuple[str, Amount]) -> tuple[int, int, str]:
    return -item[1].documents, -item[1].tokens, item[0]
