"""Erase a person: find, note what goes, clear it, look again, say so.

The order makes being killed harmless. Until the first record of tombstones is written nothing has changed. From then on
nothing that goes can be ingested again, and the record lists every place to clear, so that whoever goes on clears the
same places whatever is left of them. A case is closed by its certificate, which is written when nothing is found any
more.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from components.common import audit, subjects, tombstones
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.keys import erasure_key, subject_key
from components.common.sealed_store import store_of
from components.operations.backup.take import carry_to_backups
from components.operations.erase.certificate import certified
from components.operations.erase.clear import Case, clear
from components.operations.erase.find import Found, search
from components.operations.erase.ground import Ground, Kind, Place
from components.operations.erase.match import Matcher, readings
from components.operations.erase.request import Request, unseal

Progress = Callable[[str], None]
_ORDER = list(Kind)


@dataclass(frozen=True)
class Erasure:
    """A case, in the environment that it concerns.

    Attributes:
        environment: Where it is carried out.
        name: The case.
        key: The key under which people are named.
        request: What was asked for; None where only what was noted is known, as after a restore.
    """

    environment: Environment
    name: str
    key: bytes
    request: Request | None

    @property
    def ground(self) -> Ground:
        """What the environment keeps now."""
        return Ground(self.environment)

    def matcher(self) -> Matcher:
        """What is looked for: what the request names, and what the case has noted already."""
        known = tombstones.of_records(store_of(self.environment), self.key, self.name)
        if self.request is None:
            return Matcher(known)
        identifiers = frozenset().union(*map(readings, self.request.identifiers))
        # Whoever else stands in a text of theirs is not looked for: only ids are taken from what was noted.
        return Matcher(replace(known, people=frozenset()), identifiers, frozenset(self.request.documents))

    def records(self) -> list[Mapping[str, Any]]:
        """What the case has noted, in order."""
        return list(tombstones.records(store_of(self.environment), self.key, self.name))


def open_request(environment: Environment, sealed: bytes) -> Erasure:
    """Open a sealed request in memory; nothing of it is written or printed.

    Raises:
        HeadraceError: It was sealed to another key.
    """
    request = unseal(sealed, erasure_key(environment))
    key = subject_key(environment)
    return Erasure(environment, subjects.case(key, request.content()), key, request)


def look(erasure: Erasure, progress: Progress = lambda note: None) -> Found:
    """Say where the person is found; nothing is changed."""
    return search(erasure.ground, erasure.matcher(), progress)


def erase(erasure: Erasure, progress: Progress = lambda note: None) -> None:
    """Erase; when it was interrupted, go on with it. Doing it again when all is done changes nothing.

    Without a request, what the case has noted is erased again, wherever it came back.

    Raises:
        HeadraceError: A hold forbids it, something cannot be read, or something is left that only a person can clear.
    """
    found = look(erasure, progress)
    if erasure.request:
        note_reads(erasure, found, "headrace erase run")
    ground = erasure.ground
    _respect_holds(ground, found)
    _note(erasure, ground, found)
    case = Case(erasure.name, erasure.matcher())
    for place in sorted(
        _noted_places(erasure, ground) | set(found.places), key=lambda place: (_ORDER.index(place.kind), place.uri)
    ):
        if place.kind != Kind.MODEL:
            progress(f"clearing {place.kind}")
            clear(ground, case, place)
    progress("looking again")
    left = look(erasure, progress)
    if left.places:
        raise HeadraceError(
            f"{describe(left)}; run `headrace erase run` again, and if it stays, remove it by hand: a model version "
            "whose files name a person must be withdrawn"
        )


def replay(environment: Environment, progress: Progress = lambda note: None) -> list[str]:
    """Erase again what was ever erased: for a store that was restored, before anybody reads it.

    The tombstones must be in the store: `tombstones.carry` brings those that were noted since the backup was made.
    A record is known again by its id, its text, and by addresses and numbers in it; a place by where it was.

    Args:
        environment: Its store is cleared, and its home if it has one.
        progress: Told what is being done.

    Returns:
        The cases that were replayed.

    Raises:
        HeadraceError: As `erase`; nothing may be read until it has succeeded.
    """
    key = subject_key(environment)
    cases = tombstones.cases(store_of(environment))
    for case in cases:
        erase(Erasure(environment, case, key, None), progress)
    return cases


def note_reads(erasure: Erasure, found: Found, what: str) -> None:
    """Note in the audit log what a search for a person read; of a place whose name tells of them, not where it is."""
    store, matcher = store_of(erasure.environment), erasure.matcher()
    for place, (grades, sources) in sorted(found.read.items(), key=lambda item: item[0].uri):
        why = f"request {erasure.request.reference}" if erasure.request else f"case {erasure.name}"
        uri = "" if matcher.is_in(place.uri) else place.uri
        audit.note(store, audit.Read(what, uri, why, grades=grades, sources=sources))


def describe(found: Found) -> str:
    """Where a person is found, in one line that names nobody."""
    kinds = {kind: sum(place.kind == kind for place in found.places) for kind in Kind}
    parts = [f"{count} × {kind}" for kind, count in kinds.items() if count]
    return f"found in {', '.join(parts)}" if parts else "found nowhere"


def _note(erasure: Erasure, ground: Ground, found: Found) -> None:
    """Write down what goes, unless it stands there already."""
    matcher = erasure.matcher()
    wanted: dict[str, set[str]] = {
        "documents": {subjects.document(erasure.key, name) for name in found.documents | matcher.documents},
        "texts": {subjects.text(erasure.key, revision) for revision in found.texts},
        "people": set(matcher.people),
    }
    before = erasure.records()
    known = {name: {one for record in before for one in record[name]} for name in wanted}
    noted = {place["name"] for record in before for place in record["places"]}
    fresh = {name: sorted(values - known[name]) for name, values in wanted.items()}
    names = {place: subjects.place(erasure.key, ground.name_of(place.uri)) for place in found.places}
    places = {place: records for place, records in found.places.items() if names[place] not in noted}
    if before and not any(fresh.values()) and not places:
        return
    statement = {
        "case": erasure.name,
        "number": len(before),
        "reference": erasure.request.reference if erasure.request else before[0]["reference"],
        "key": subjects.key_id(erasure.key),
        **fresh,
        "records": len(fresh["documents"]),
        "places": _listed(erasure, ground, places),
        "sources": dict(sorted(found.sources.items())),
        "models": found.models,
        "revisions": found.revisions,
        "noted_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    signed = ground.ledger.sign(statement)
    ground.store.write(f"{tombstones.PREFIX}{erasure.name}/{len(before):06}.json", signed, if_absent=True)
    carry_to_backups(erasure.environment)


def _listed(erasure: Erasure, ground: Ground, places: Mapping[Place, int]) -> list[dict[str, Any]]:
    """Places as they are noted; one whose own name tells of the person is found again by searching."""
    matcher = erasure.matcher()
    stages: dict[str, set[str]] = {}
    entries = dict(ground.ledger.entries())
    for uri, (entry, _) in ground.copies.items():
        stages.setdefault(ground.place_of(uri).uri, set()).add(entries[entry]["stage"])
    return [
        {
            "kind": place.kind.value,
            "name": subjects.place(erasure.key, ground.name_of(place.uri)),
            "where": "" if matcher.is_in(place.uri) else ground.name_of(place.uri),
            "records": records,
            "stage": ", ".join(sorted(stages.get(place.uri, ()))),
        }
        for place, records in sorted(places.items(), key=lambda item: (_ORDER.index(item[0].kind), item[0].uri))
    ]


def _noted_places(erasure: Erasure, ground: Ground) -> set[Place]:
    """What the case has noted and must be cleared, found there now or not."""
    records = erasure.records()
    if erasure.request:  # what was certified is gone; a place of the same name may be another's now
        return {
            place for record in records[certified(ground.store, erasure.name) :] for place in _places(ground, record)
        }
    names = {place["name"] for record in records for place in record["places"]}
    there = {file.place for file in ground.files()}
    return {place for place in there if subjects.place(erasure.key, ground.name_of(place.uri)) in names}


def _places(ground: Ground, record: Mapping[str, Any]) -> Iterable[Place]:
    return (Place(Kind(place["kind"]), ground.uri_of(place["where"])) for place in record["places"] if place["where"])


def _respect_holds(ground: Ground, found: Found) -> None:
    """Refuse to erase what somebody ordered to keep: whether law or case goes first is a person's decision."""
    held: dict[str, str] = {}
    for key in ground.store.list("holds/"):
        hold = json.loads(ground.store.read(key))
        if not hold.get("until") or date.fromisoformat(hold["until"]) >= datetime.now(UTC).date():
            held |= dict.fromkeys(hold["entries"], key.removeprefix("holds/").removesuffix(".json"))
    names = {
        held[entry]
        for uri, (entry, _) in ground.copies.items()
        if entry in held and ground.place_of(uri) in found.places
    }
    if names:
        raise HeadraceError(
            f"held by {', '.join(sorted(names))}: what is to be erased is kept for a case; nothing was changed. Decide "
            "which goes first, and remove the hold with `headrace gc hold remove` before erasing"
        )
