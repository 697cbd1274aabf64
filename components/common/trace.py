"""Answer "what is in it?" and "where did it go?" from the ledger, in both directions."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from components.common.documents import read_batches
from components.common.errors import UsageError
from components.common.ledger import Ledger, local_copy, record_ids

SHORTEST = 8
"""Fewest characters of a hash that name something."""


@dataclass(frozen=True)
class Link:
    """One step execution on the way, with what it has to do with the subject."""

    entry: str
    stage: str
    heads: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Trace:
    """The answer: what the subject is, what it was made from, what was made of it; each in order of making."""

    subject: str
    kind: str
    found: list[Link]
    made_from: list[Link]
    went_into: list[Link]

    def heads(self, kind: str) -> list[str]:
        """The signed heads of a kind (`datasets`, `models`, `publications`) that the subject is in or went into."""
        links = [*self.found, *self.went_into]
        return list(dict.fromkeys(head for link in links for head in link.heads if head.startswith(f"{kind}/")))


def trace(ledger: Ledger, subject: str) -> Trace:
    """Trace a document, dataset, model, served revision or ledger entry.

    Args:
        ledger: The ledger to read.
        subject: A document id, a version (`datasets/corpus/<hash>`, or only its hash), the name of a served revision,
            or the hash of an entry or artifact; the first eight characters of a hash are enough.

    Raises:
        UsageError: The ledger does not know the subject.
    """
    if len(subject) < SHORTEST:
        raise UsageError(f"{subject!r} is too short to name anything; give at least {SHORTEST} characters of it")
    entries = dict(ledger.entries())
    heads = _heads_by_entry(ledger)
    named = [name for name, entry in entries.items() if _is_named(subject, name, entry, heads.get(name, ()))]
    if named:
        kind = _kind(subject, [head for name in named for head in heads.get(name, ())])
        notes = dict.fromkeys(named, "")
        went_into = _closure(named, _children(entries))
    else:
        notes = _holding(ledger, entries, subject)
        if not notes:
            raise UsageError(f"{subject!r} is no document, version, revision or entry in this ledger")
        kind = "document"
        went_into = downstream(entries, notes)
    parents = {name: [made["entry"] for made in entry["inputs"].values()] for name, entry in entries.items()}
    order = _order(entries, parents)
    removed = _removed(ledger)

    def links(names: Iterable[str]) -> list[Link]:
        chosen = sorted(set(names), key=order.__getitem__)
        said = {name: notes.get(name) or removed.get(name, "") for name in chosen}
        return [Link(name, entries[name]["stage"], tuple(heads.get(name, ())), said[name]) for name in chosen]

    found = set(notes)
    made_from = set() if kind == "document" else _closure(named, parents)
    return Trace(subject, kind, links(found), links(made_from - found), links(set(went_into) - found))


def downstream(entries: dict[str, dict[str, Any]], holding: Iterable[str]) -> set[str]:
    """Everything that was made of entries that hold a record: what holds it too, and what does not list its records."""
    held = set(holding)
    opaque = {name for name, entry in entries.items() if not _has_records(entry)}
    children = {name: [c for c in made if c in held or c in opaque] for name, made in _children(entries).items()}
    return _closure(held, children)


def versions_before(ledger: Ledger, entries: Iterable[str], kind: str) -> list[str]:
    """Names of the signed versions that entries are or were made from, sorted.

    Args:
        ledger: The ledger to read.
        entries: Names of entries; what is none is passed over.
        kind: `datasets`, `models` or `publications`.
    """
    known = dict(ledger.entries())
    parents = {name: [made["entry"] for made in entry["inputs"].values()] for name, entry in known.items()}
    heads = _heads_by_entry(ledger)
    found = {head for name in _closure(entries, parents) for head in heads.get(name, ())}
    return sorted(head for head in found if head.startswith(f"{kind}/"))


def documents_of(ledger: Ledger, answer: Trace) -> list[str]:
    """Ids of the documents in the dataset versions that a traced subject is, or was made from, sorted.

    Raises:
        UsageError: It leads back to no dataset version, or no copy of one is left.
    """
    links = [link for link in [*answer.found, *answer.made_from] if _is_dataset(link)]
    if not links:
        raise UsageError(f"{answer.kind} {answer.subject} leads back to no dataset version")
    entries, ids = dict(ledger.entries()), set()
    for link in links:
        with_records = {name for name, output in entries[link.entry]["outputs"].items() if "records" in output}
        for place in ledger.locations(link.entry):
            if place["output"] not in with_records:
                continue
            with local_copy(place["uri"], ledger.vault) as folder:
                found = record_ids(folder) if folder else []
            if found:
                ids.update(found)
                break
        else:
            raise UsageError(f"no copy of {link.heads[0]} is left{f': {link.note}' if link.note else ''}")
    return sorted(ids)


def _is_dataset(link: Link) -> bool:
    return any(head.startswith("datasets/") for head in link.heads)


def _heads_by_entry(ledger: Ledger) -> dict[str, list[str]]:
    heads: dict[str, list[str]] = {}
    for head in ledger.heads():
        heads.setdefault(head["entry"], []).append(head["head"])
    return heads


def _removed(ledger: Ledger) -> dict[str, str]:
    """Entries of which no copy is left because they were removed on purpose: when, and why."""
    notes: dict[str, str] = {}
    gone: dict[str, set[str]] = {}
    for removal in ledger.removals():
        notes[removal["entry"]] = f"removed {removal['signed_at'][:10]}: {removal['reason']}"
        gone.setdefault(removal["entry"], set()).add(removal["uri"])
    return {
        name: note for name, note in notes.items() if {place["uri"] for place in ledger.locations(name)} <= gone[name]
    }


def _is_named(subject: str, name: str, entry: dict[str, Any], heads: Iterable[str]) -> bool:
    digests = [output["digest"] for output in entry["outputs"].values()]
    return (
        name.startswith(subject)
        or any(digest.startswith(subject) for digest in digests)
        or any(
            head == subject or subject in head.split("/") or head.split("/")[-1].startswith(subject) for head in heads
        )
    )


def _kind(subject: str, heads: list[str]) -> str:
    kinds = {"datasets": "dataset", "models": "model", "publications": "revision"}
    named = [head for head in heads if subject in head or head.split("/")[-1].startswith(subject)]
    return kinds.get(named[0].split("/")[0], "version") if named else "entry"


def _has_records(entry: dict[str, Any]) -> bool:
    return any("records" in output for output in entry["outputs"].values())


def _holding(ledger: Ledger, entries: dict[str, dict[str, Any]], document: str) -> dict[str, str]:
    """Find the entries whose outputs hold a document, or records derived from it."""
    holding = {}
    for name, entry in entries.items():
        if not _has_records(entry):
            continue
        notes = []
        for place in ledger.locations(name):
            if "records" not in entry["outputs"][place["output"]]:
                continue
            with local_copy(place["uri"], ledger.vault) as path:
                own, derived = _count(path, document) if path else (0, 0)
            if own:
                notes.append(f"in {place['output']}")
            if derived:
                notes.append(f"{derived} derived in {place['output']}")
        if notes:
            holding[name] = ", ".join(dict.fromkeys(notes))
    return holding


def _count(path: Path, document: str) -> tuple[int, int]:
    own = derived = 0
    for batch in read_batches(path, ["id", "parents"]):
        own += pc.sum(pc.starts_with(batch.column("id"), document)).as_py() or 0
        parents = pc.list_flatten(batch.column("parents"))
        rows = pc.list_parent_indices(batch.column("parents"))
        hits = rows.filter(pc.starts_with(parents.cast(pa.string()), document)) if len(parents) else rows
        derived += len(pc.unique(hits))
    return own, derived


def _children(entries: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {name: [] for name in entries}
    for name, entry in entries.items():
        for made in entry["inputs"].values():
            if made["entry"] in children:
                children[made["entry"]].append(name)
    return children


def _closure(start: Iterable[str], edges: dict[str, list[str]]) -> set[str]:
    reached: set[str] = set()
    pending = list(start)
    while pending:
        name = pending.pop()
        if name in edges and name not in reached:
            reached.add(name)
            pending += edges[name]
    return reached


def _order(entries: dict[str, dict[str, Any]], parents: dict[str, list[str]]) -> dict[str, tuple[int, str, str]]:
    """Depth in the chain, then stage and name, so that every listing reads in order of making."""
    depth: dict[str, int] = {}

    def measure(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((measure(parent) for parent in parents[name] if parent in entries), default=0)
        return depth[name]

    return {name: (measure(name), entry["stage"], name) for name, entry in entries.items()}
