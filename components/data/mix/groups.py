"""Tell which group a document belongs to, and which language and domain within it."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from components.data.mix.options import Group, Mix

NO_GROUP = "(no group)"
"""Where documents go that none of the recipe's groups takes."""


class Cell(NamedTuple):
    """What documents are drawn by: the weight is the group's; temperatures divide it over languages and domains."""

    group: str
    language: str
    domain: str


@dataclass(frozen=True)
class Traits:
    """What a group may ask of a document."""

    source: str
    source_class: str
    kind: str
    domain: str
    language: str


def takes(group: Group, traits: Traits) -> bool:
    """Tell whether a group takes documents like this: each criterion that it gives must hold."""
    asked: dict[str, Sequence[str]] = {
        "source": group.source,
        "source_class": group.source_class,
        "kind": group.kind,
        "domain": group.domain,
        "language": group.language,
    }
    return all(
        any(fnmatchcase(getattr(traits, name), pattern) for pattern in patterns)
        for name, patterns in asked.items()
        if patterns
    )


def group_of(traits: Traits, groups: Sequence[Group]) -> str:
    """Name the first group that takes documents like this."""
    return next((group.name for group in groups if takes(group, traits)), NO_GROUP)


class Sorter:
    """Sorts documents into cells, deciding once for each combination of values that occurs.

    Args:
        options: How the recipe groups documents.
    """

    def __init__(self, options: Mix) -> None:
        self._groups = options.groups
        self._column, _, self._key = options.by.partition(".")
        self._codes: dict[str, int] = {}
        self._numbers: dict[Cell, int] = {}

    @property
    def columns(self) -> list[str]:
        """What must be read of a document."""
        grouping = ["source", "kind", "metadata"] if self._groups else [self._column]
        return list(dict.fromkeys(["language", "domain", *grouping]))

    @property
    def cells(self) -> list[Cell]:
        """Every cell that was seen, by number."""
        return list(self._numbers)

    def sort(self, batch: pa.RecordBatch) -> list[int]:
        """Give the number of each document's cell."""
        values = [batch.column("language"), batch.column("domain")]
        if self._groups:
            values += [batch.column("source"), batch.column("kind"), _tag(batch, "source_class")]
        else:
            values.append(_tag(batch, self._key) if self._key else batch.column(self._column))
        joined = pc.binary_join_element_wise(*(pc.fill_null(value.cast(pa.string()), "") for value in values), "\0")
        encoded = joined.dictionary_encode()
        codes = [self._number(value) for value in encoded.dictionary.to_pylist()]
        return [codes[index] for index in encoded.indices.to_pylist()]

    def _number(self, joined: str) -> int:
        if joined not in self._codes:
            language, domain, *rest = joined.split("\0")
            if self._groups:
                source, kind, source_class = rest
                group = group_of(Traits(source, source_class, kind, domain, language), self._groups)
            else:
                group = rest[0] or "(none)"
            self._codes[joined] = self._numbers.setdefault(Cell(group, language, domain), len(self._numbers))
        return self._codes[joined]


def _tag(batch: pa.RecordBatch, key: str) -> pa.Array:
    return pc.map_lookup(batch.column("metadata"), key, "first")
