"""What was erased at a person's request, as keyed hashes: it may not come back, and the list tells nothing of anybody.

A case leaves numbered signed records under `tombstones/<case>/`. The first is written before anything is deleted, so
from then on nothing that is being erased can be ingested; later ones hold what was found later. Beside the hashes a
record lists the places to clear, which is what an interrupted erasure goes on with.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.common import subjects
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.keys import subject_key
from components.common.sealed_store import store_of
from components.common.store import Store

PREFIX = "tombstones/"


@dataclass(frozen=True)
class Tombstones:
    """Hashes of everything that may not come back.

    Attributes:
        key: The key they were made with.
        documents: Of ids.
        texts: Of revisions of texts in which an identifier stood.
        people: Of identifiers.
    """

    key: bytes = b""
    documents: frozenset[str] = field(default_factory=frozenset)
    texts: frozenset[str] = field(default_factory=frozenset)
    people: frozenset[str] = field(default_factory=frozenset)

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.documents or self.texts or self.people)

    def has_document(self, identifier: str) -> bool:
        """Whether a document was erased."""
        return bool(self.documents) and subjects.document(self.key, identifier) in self.documents

    def has_text(self, revision: str) -> bool:
        """Whether a text was erased, wherever it came from."""
        return bool(self.texts) and subjects.text(self.key, revision) in self.texts

    def has_person(self, kind: str, canonical: str) -> bool:
        """Whether an identifier is that of somebody who was erased."""
        return bool(self.people) and subjects.subject(self.key, kind, canonical) in self.people


def load_tombstones(environment: Environment) -> Tombstones:
    """Read everything that may not come back.

    Raises:
        HeadraceError: A record cannot be read, or was made with another key, so that nobody can tell what may come in.
    """
    store = store_of(environment)
    first = next(store.list(PREFIX), None)
    return of_records(store, subject_key(environment)) if first else Tombstones()


def of_records(store: Store, key: bytes, case: str = "") -> Tombstones:
    """Read the tombstones of a store, or of one case in it."""
    found: dict[str, set[str]] = {"documents": set(), "texts": set(), "people": set()}
    for record in records(store, key, case):
        for name, known in found.items():
            known.update(record[name])
    return Tombstones(key, **{name: frozenset(known) for name, known in found.items()})


def cases(store: Store) -> list[str]:
    """The names of all cases, sorted."""
    return sorted({key.split("/")[1] for key in store.list(PREFIX)})


def carry(source: Store, target: Store) -> int:
    """Bring the records that one store has and another lacks, as to a backup or from one; returns how many.

    Stores that were parted may have given one number to two records: what comes takes the next that is free.
    """
    count = 0
    for case in cases(source):
        held = {target.read(key) for key in target.list(f"{PREFIX}{case}/")}
        for key in source.list(f"{PREFIX}{case}/"):
            if (data := source.read(key)) not in held:
                number = int(key.rpartition("/")[2].removesuffix(".json"))
                while not target.write(f"{PREFIX}{case}/{number:06}.json", data, if_absent=True):
                    number += 1
                count += 1
    return count


def records(store: Store, key: bytes, case: str = "") -> Iterator[Mapping[str, Any]]:
    """Every record in order, its signature unverified.

    Raises:
        HeadraceError: One cannot be read, or was made with another key.
    """
    for name in store.list(f"{PREFIX}{case}/" if case else PREFIX):
        where = f"{store.uri}/{name}"
        try:
            record = json.loads(store.read(name))
            made_with = record["key"]
        except (ValueError, LookupError, TypeError) as error:
            raise HeadraceError(
                f"{where} is damaged; restore it from a backup, for it says what may not come back"
            ) from error
        if made_with != subjects.key_id(key):
            raise HeadraceError(
                f"{where} was made with the key {made_with}, and subjects.key is {subjects.key_id(key)}; restore "
                "the key, for without it nobody can tell what may not come back"
            )
        yield record
