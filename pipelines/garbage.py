"""What can go and what must stay: pure functions from what was found to a verdict with a reason.

Something stays while an environment serves it or may go back to it, while what such a thing was made from leads to it,
while it is younger than the rollback window, and while somebody holds it. Everything else can go.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from components.common.options import Options
from components.release.manifest import Manifest
from components.release.notes import PREVIOUS

_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


HALF = "; half removed: run again to make it whole"


class Hold(Options):
    """A person's order to keep something, whatever else would let it go."""

    subject: str = Field(description="What is kept: a document, dataset, model, revision or ledger entry.")
    entries: list[str] = Field([], description="The ledger entries that the subject names.")
    reason: str = Field(min_length=3, description="Why: a case, an audit, a customer.")
    who: str = Field(min_length=1, description="Who ordered it.")
    until: date | None = Field(None, description="Last day; without one, until the hold is removed.")


class Kind(StrEnum):
    """What something is."""

    DATASET = "dataset"
    MODEL = "model"
    ENCRYPTED = "encrypted model"
    BASE = "converted base model"
    TRIAL = "training of a probe"
    CHECKPOINT = "checkpoint"
    VECTORS = "vectors of chunks"
    CACHE = "cache entry"
    ARTIFACT = "artifact"
    RUN = "run"
    LEFTOVER = "leftover"
    RELEASE = "release"
    IMAGE = "image"


class Fate(StrEnum):
    """What becomes of something."""

    KEEP = "keep"
    GO = "go"
    LIST = "list"
    """Nobody needs it, and removing it is somebody else's: git's, the registry's."""


@dataclass(frozen=True)
class Item:
    """Something that takes space.

    Attributes:
        kind: What it is.
        name: What it is called; below the store or the home.
        group: What it is shown with.
        size: Bytes.
        digest: The version, by which an environment would mention it.
        entries: Ledger entries that made it.
        since: When it was signed or last written, whichever is later.
        begun: An earlier removal of it did not come to its end.
        used: Why a run or another item uses it, empty if none does.
    """

    kind: Kind
    name: str
    group: str
    size: int
    digest: str = ""
    entries: frozenset[str] = frozenset()
    since: datetime | None = None
    begun: bool = False
    used: str = ""


@dataclass(frozen=True)
class Verdict:
    """An item, what becomes of it, and why."""

    item: Item
    fate: Fate
    why: str


@dataclass(frozen=True)
class Needs:
    """What must stay, with the reason: by digest of a version and by ledger entry."""

    digests: dict[str, str] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """What a model version in the store says of its origins."""

    version: str
    dataset: str
    base: str


def mentions(services: Iterable[Manifest], environment: str) -> dict[str, str]:
    """Every digest that an environment's InferenceServices mention anywhere, and in which role.

    Looking for digests rather than for fields keeps what a rollout strategy remembers in a place that is not known
    here.
    """
    found: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service.get("spec") or {}
        parts = {
            "stable": spec.get("predictor"),
            "candidate": spec.get("canary"),
            "previous": (metadata.get("annotations") or {}).get(PREVIOUS),
            "mentioned": {key: value for key, value in service.items() if key != "status"},
        }
        for role, part in parts.items():
            for digest in _DIGEST.findall(json.dumps(part)):
                found.setdefault(digest, f"{role} revision of {metadata['name']} in {environment}")
    return found


def needs(
    entries: Mapping[str, Mapping[str, Any]],
    heads: Sequence[Mapping[str, str]],
    mentioned: Mapping[str, str],
    holds: Mapping[str, Hold],
    models: Sequence[Model],
    today: datetime,
    window_start: datetime | None,
) -> Needs:
    """Follow everything that must stay back to what it was made from.

    Args:
        entries: The ledger's entries by name.
        heads: Its signed heads.
        mentioned: What environments serve, by digest.
        holds: Orders to keep something, by name.
        models: The store's model versions.
        today: Until when holds count.
        window_start: Heads signed since then are kept for a rollback; None: their age keeps none.
    """
    roots: dict[str, str] = {}
    for name, hold in sorted(holds.items()):
        if hold.until is None or hold.until >= today.date():
            until = f" until {hold.until}" if hold.until else ""
            roots |= dict.fromkeys(hold.entries, f"held by {name}{until}: {hold.reason} ({hold.who})")
    for head in heads:
        digest = head["head"].rpartition("/")[2]
        if why := mentioned.get(digest) or mentioned.get(head["entry"]):
            roots.setdefault(head["entry"], why)
        elif window_start and datetime.fromisoformat(head["signed_at"]) >= window_start:
            roots.setdefault(head["entry"], f"{head['head'].partition('/')[0]} head signed {head['signed_at'][:10]}")
    roots = {digest: why for digest, why in mentioned.items() if digest in entries} | roots
    reached = _backwards(roots, entries)
    digests = dict(mentioned)
    for head in heads:
        if why := reached.get(head["entry"]):
            digests.setdefault(head["head"].rpartition("/")[2], why)
    by_version = {model.version: model for model in models}
    for version, why in list(digests.items()):
        if made := by_version.get(version):
            origin = f"went into {version[:8]}, {why}"
            if made.dataset:
                digests.setdefault(made.dataset, origin)
            for model in models:
                if not model.dataset and model.base == made.base:
                    digests.setdefault(model.version, f"base of {version[:8]}, {why}")
    return Needs(digests, reached)


def _backwards(roots: Mapping[str, str], entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    reached: dict[str, str] = {}
    pending = list(roots.items())[::-1]
    while pending:
        name, why = pending.pop()
        if name in entries and name not in reached:
            reached[name] = why
            parents = [made["entry"] for made in entries[name]["inputs"].values()]
            pending += [(parent, why if why.startswith("went into") else f"went into {why}") for parent in parents]
    return reached


def judge(item: Item, needed: Needs, served: Needs, window_start: datetime) -> Verdict:
    """Say what becomes of an item.

    Args:
        item: What was found.
        needed: What must stay, the rollback window included: it keeps versions.
        served: What must stay whatever its age: it keeps the intermediate artifacts of a laptop.
        window_start: What was signed or written since then stays, if it is a version.
    """
    young = item.since is not None and item.since >= window_start
    day = f"{item.since:%Y-%m-%d}" if item.since else ""
    if item.kind == Kind.LEFTOVER:
        return Verdict(item, Fate.GO, item.used or "left by a run that was stopped or found it damaged")
    if item.used:
        return Verdict(item, Fate.KEEP, item.used)
    if item.kind in (Kind.RELEASE, Kind.IMAGE):
        if young:
            return Verdict(item, Fate.KEEP, f"cut {day}, within the rollback window")
        return Verdict(item, Fate.LIST, "no environment's release; removing it is git's or the registry's")
    chosen = served if item.kind == Kind.ARTIFACT else needed
    reasons = [chosen.digests.get(item.digest, "") if item.digest else ""]
    reasons += [chosen.entries.get(entry, "") for entry in sorted(item.entries)]
    if why := next(filter(None, reasons), ""):
        return Verdict(item, Fate.KEEP, why + HALF if item.begun else why)
    if item.begun:
        return Verdict(item, Fate.GO, "its removal was begun")
    if young and item.kind not in (Kind.ARTIFACT, Kind.CACHE):
        return Verdict(item, Fate.KEEP, f"since {day}, within the rollback window")
    if item.kind == Kind.ARTIFACT:
        return Verdict(item, Fate.GO, "no served revision and not the newest run uses it")
    if item.kind == Kind.CACHE:
        return Verdict(item, Fate.GO, "what it leads to is gone or goes")
    if item.kind == Kind.BASE:
        return Verdict(item, Fate.GO, f"a run converts it again when it needs it; since {day}")
    if item.kind == Kind.VECTORS:
        return Verdict(item, Fate.GO, f"a search computes them again when it needs them; since {day}")
    if item.kind == Kind.TRIAL:
        return Verdict(item, Fate.GO, f"a probe trains and measures again when it needs it; since {day}")
    if item.kind == Kind.CHECKPOINT:
        return Verdict(item, Fate.GO, f"its training was interrupted and not taken up again; since {day}")
    return Verdict(item, Fate.GO, f"nothing needs it; since {day}")


def totals(verdicts: Iterable[Verdict]) -> list[tuple[Verdict, int]]:
    """Put what is shown together into one line each, with the number of items it stands for."""
    grouped: dict[tuple[str, str, str, str], list[Verdict]] = {}
    for verdict in verdicts:
        item = verdict.item
        grouped.setdefault((verdict.fate, item.kind, item.group, verdict.why), []).append(verdict)
    lines = []
    for (_, kind, group, why), members in grouped.items():
        size = sum(member.item.size for member in members)
        lines.append((Verdict(Item(Kind(kind), group, group, size), members[0].fate, why), len(members)))
    return lines


def horizon(now: datetime, keep_days: int) -> datetime:
    """When the rollback window begins."""
    return datetime.fromtimestamp(now.timestamp() - keep_days * 86400, UTC)
