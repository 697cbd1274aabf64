"""Who read what is confidential or restricted: a chain of records in the store, each naming the hash of the one before.

A record says who, when, with what, of which artifact, how many records of which grade and source, and why. It holds no
content. Records are only added, under numbers without gaps; what is changed, removed or put between breaks the chain.
"""

import base64
import json
import os
import pwd
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.common.errors import UsageError
from components.common.ledger import canonical, sha256
from components.common.store import Store

GRADES = ("confidential", "restricted")
"""Whose reading is noted."""

PREFIX = "audit/"
_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class Read:
    """One artifact that was read.

    Attributes:
        what: The step or command that read it.
        run: The run, as the folder of the step's artifacts; '' for a command.
        artifact: URI of what was read.
        entry: Ledger entry that made it; '' when it came from outside the ledger.
        why: The purpose.
        grades: Records by grade, of the grades that are noted.
        sources: The same records by declared source.

    Raises:
        UsageError: The purpose is empty.
    """

    what: str
    artifact: str
    why: str
    run: str = ""
    entry: str = ""
    grades: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """See that a purpose was given."""
        if not self.why.strip():
            raise UsageError("why is empty; give the purpose, such as the number of a case")


_FIELDS = {*Read.__dataclass_fields__, "who", "at", "number", "before"}


def count(folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Count the records below a folder whose reading is noted, by grade and by source."""
    grades: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for part in sorted(folder.rglob("part-*.parquet")):
        with pq.ParquetFile(part) as opened:
            if not {"confidentiality", "source"} <= set(opened.schema_arrow.names):
                continue
            rows = opened.read(columns=["confidentiality", "source"])
        noted = rows.filter(pc.is_in(rows["confidentiality"], pa.array(GRADES)))
        for name, counter in (("confidentiality", grades), ("source", sources)):
            for found in noted[name].value_counts().to_pylist():
                counter[found["values"]] += found["counts"]
    return grades, sources


def note(store: Store, read: Read) -> None:
    """Add a record; several writers at once each get a number of their own."""
    number = _end(store)
    stated = {**vars(read), "who": whoami(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    while True:
        before = sha256(store.read(_key(number - 1))) if number else ""
        data = canonical({**stated, "number": number, "before": before})
        if store.write(_key(number), data, if_absent=True):
            return
        number += 1


def note_folder(store: Store, folder: Path, read: Read) -> None:
    """Note that a folder of documents is read, if it holds any of which that is noted."""
    grades, sources = count(folder)
    if grades:
        note(store, replace(read, grades=grades, sources=sources))


def carry(source: Store, target: Store) -> None:
    """Bring the records that one store has beyond another's, as to a restored copy of it, where the chains agree."""
    begin = _end(target)
    if begin and (not source.exists(_key(begin - 1)) or source.read(_key(begin - 1)) != target.read(_key(begin - 1))):
        return
    for number in range(begin, _end(source)):
        target.write(_key(number), source.read(_key(number)), if_absent=True)


def records(store: Store) -> Iterator[dict[str, Any]]:
    """Every record that can be read, in order, the chain unverified."""
    for key in store.list(PREFIX):
        with suppress(ValueError):
            stated = json.loads(store.read(key))
            if isinstance(stated, dict) and stated.keys() == _FIELDS:
                yield stated


def verify(store: Store) -> list[str]:
    """What is wrong with the chain, as sentences; empty when it holds."""
    problems, before = [], ""
    keys = list(store.list(PREFIX))
    for number, key in enumerate(keys):
        data = store.read(key)
        try:
            stated = json.loads(data)
            if key != _key(number) or stated["number"] != number:
                problems.append(f"{_key(number)} is missing")
                break
            if stated["before"] != before:
                problems.append(f"{key} does not name the record before it: one of them was changed")
        except (ValueError, LookupError, TypeError):
            problems.append(f"{key} is no record")
        before = sha256(data)
    return problems


def whoami() -> str:
    """Who this process runs for: a pod's service account, or a user on a machine."""
    if _TOKEN.is_file():
        claims = _TOKEN.read_text().split(".")[1]
        return str(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["sub"])
    try:
        user = pwd.getpwuid(os.getuid()).pw_name  # not what the environment says: anybody can set that
    except KeyError:  # a container's user has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _end(store: Store) -> int:
    """The first number that is free, found by doubling and halving: numbers have no gaps."""
    low, high = 0, 1
    while store.exists(_key(high - 1)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if store.exists(_key(middle - 1)) else (low, middle)
    return low


def _key(number: int) -> str:
    return f"{PREFIX}{number:09}.json"
