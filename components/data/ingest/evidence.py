"""Keeps the bytes of what allowed a source to be read: its terms, its robots.txt.

A page of terms changes; what it said when documents were taken must still be readable then. So the bytes are kept in
the store under their hash (`evidence/<sha256>`), and beside them, for each source, which bytes were its terms from
when on (`evidence/history/<source>/<what>.json`). The same bytes keep their first date, so a rerun changes nothing
until the terms do. The list that an artifact of documents carries is kept under its hash too: that hash stands in the
ledger, so that a ledger entry leads to the terms also when the artifact is gone.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, sha256
from components.common.store import Store
from components.data.ingest.fetch import Unanswered, Web, clean, private_places
from components.data.ingest.pages import words
from components.data.sources import Source

FILE = "evidence.json"
"""Name of the list beside the documents."""
MOST = 5_000_000
"""Longest page or file of terms, in bytes."""


@dataclass(frozen=True)
class Evidence:
    """Bytes that were kept, or why none were.

    Attributes:
        source: Declaration they belong to.
        what: `terms`, `robots` or `reservations`.
        uri: Where they came from.
        sha256: Their hash; '' if there were none.
        size: How many.
        retrieved_at: When they were first seen.
        before: Hash of those in whose place they came, '' for the first.
        problem: Why there are none, or why they could not be compared with what is there now.
    """

    source: str
    what: str
    uri: str
    sha256: str = ""
    size: int = 0
    retrieved_at: str = ""
    before: str = ""
    problem: str = ""


def keep(store: Store, source: str, what: str, uri: str, data: bytes) -> Evidence:
    """Keep bytes, and from when on they were a source's.

    A page that says the same in other bytes, as many do at every visit, is the one that is known.

    Raises:
        HeadraceError: Others keep writing the same history.
    """
    name = sha256(data)
    now = datetime.now(UTC).replace(microsecond=0).isoformat()
    for _ in range(10):
        seen, history = _history(store, source, what)
        if history and (history[-1].sha256 == name or _says_the_same(store, history[-1], data)):
            return history[-1]
        store.write(evidence_key(name), data, if_absent=True)
        item = Evidence(source, what, uri, name, len(data), now, history[-1].sha256 if history else "")
        if store.replace(_history_key(source, what), seen, canonical([asdict(known) for known in [*history, item]])):
            return item
    raise HeadraceError(f"{store.uri}: others keep writing {_history_key(source, what)}; run again")


def keep_terms(store: Store, source: Source) -> Evidence:
    """Keep the terms of a source as they are now; if they cannot be had, give those that were had last.

    Raises:
        UsageError: They are declared as a file that cannot be read.
    """
    if "://" not in source.terms:
        try:
            return keep(store, source.id, "terms", source.terms, Path(source.terms).read_bytes())
        except OSError as error:
            raise UsageError(f"source {source.id}: terms: {source.terms} cannot be read ({error.strerror})") from error
    try:
        with Web(source.crawl.user_agent, private_places(source)) as web:
            answer = web.follow(clean(source.terms), MOST)
        if not answer.ok:
            raise Unanswered(f"HTTP {answer.status}")
    except Unanswered as error:
        _, history = _history(store, source.id, "terms")
        known = history[-1] if history else Evidence(source.id, "terms", source.terms)
        return replace(known, problem=str(error))
    return keep(store, source.id, "terms", source.terms, answer.body)


def write_list(store: Store, folder: Path, evidence: Iterable[Evidence]) -> None:
    """Write the list of what was kept beside the documents, and keep the list."""
    rows = [{name: value for name, value in asdict(item).items() if value} for item in evidence]
    data = (json.dumps(rows, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    (folder / FILE).write_bytes(data)
    store.write(evidence_key(sha256(data)), data, if_absent=True)


def tags(evidence: Iterable[Evidence]) -> dict[str, str]:
    """What every document of a source carries of it: the hashes, and since when its terms are others than before."""
    kept = [item for item in evidence if item.sha256]
    changed = {f"{item.what}_changed": item.retrieved_at[:10] for item in kept if item.what == "terms" and item.before}
    return {f"{item.what}_sha256": item.sha256 for item in kept} | changed


def evidence_key(name: str) -> str:
    """Where bytes of a hash are kept."""
    return f"evidence/{name}"


def _history(store: Store, source: str, what: str) -> tuple[bytes | None, list[Evidence]]:
    key = _history_key(source, what)
    seen = store.read(key) if store.exists(key) else None
    return seen, [Evidence(**item) for item in json.loads(seen)] if seen else []


def _says_the_same(store: Store, known: Evidence, data: bytes) -> bool:
    return words(store.read(evidence_key(known.sha256))) == words(data)


def _history_key(source: str, what: str) -> str:
    return f"evidence/history/{source}/{what}.json"
