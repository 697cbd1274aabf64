"""Clear places of a person's data: versions get a successor, everything else goes. Each act may be repeated."""

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.common import subjects
from components.common.code import code_digest
from components.common.documents import BATCH_ROWS, SCHEMA, part_files
from components.common.errors import HeadraceError
from components.common.ledger import ERASED, SIDECAR, Ledger, make_entry, sha256
from components.common.merkle import leaf_hash
from components.common.store import Store, open_store, upload_tree
from components.data.card.options import Card
from components.data.card.version import MANIFEST, describe
from components.operations.erase.find import cells
from components.operations.erase.ground import STAGE, Ground, Kind, Place
from components.operations.erase.match import Matcher

_BLANK = "[erased]"


@dataclass(frozen=True)
class Case:
    """The request that is being carried out: its name, and what it lets nothing be left of."""

    name: str
    matcher: Matcher


def clear(ground: Ground, case: Case, place: Place) -> None:
    """Clear a place. What was cleared before, in whole or in part, is cleared to the end."""
    if place.kind == Kind.DATASET:
        replace_version(ground.store, ground.ledger, case, place.uri.removeprefix(f"{ground.store.uri}/"))
    elif ground.tracking and place.uri == f"file://{ground.tracking}":
        blank(ground.tracking, case.matcher)
    else:
        for uri, (entry, output) in ground.copies.items():
            if f"{uri}/".startswith(f"{place.uri}/"):
                ground.ledger.remove(entry, output, uri, f"{ERASED}case {case.name}")
        delete(place.uri)


def replace_version(store: Store, ledger: Ledger, case: Case, key: str) -> str:
    """Put what is left of a dataset version in its place, as a version of its own, and remove it.

    The successor is whole, recorded and signed before anything of the old version goes; its manifest stays in the
    ledger beside the signed erasure.

    Args:
        store: Where the version is.
        ledger: The store's ledger.
        case: What is erased.
        key: The version, `datasets/<name>/<hash>`.

    Returns:
        The successor's key; '' when nothing is left, or the version was recorded by nobody.
    """
    head = next((head for head in ledger.heads() if head["head"] == key), None)
    successor = ""
    if head:
        entry = json.loads(ledger.entry(head["entry"]))
        output = next(
            name
            for name, made in entry["outputs"].items()
            if made["files"].get(MANIFEST) == key.rpartition("/")[2] and "records" in made
        )
        if not ledger.erasure(head["entry"], output):
            successor = _succeed(store, ledger, case, key, head["entry"], output, entry)
        for place in ledger.locations(head["entry"]):
            if place["output"] == output:
                ledger.remove(head["entry"], output, place["uri"], f"{ERASED}case {case.name}")
                delete(place["uri"], first=MANIFEST)
    delete(f"{store.uri}/{key}", first=MANIFEST)
    return successor


def _succeed(
    store: Store, ledger: Ledger, case: Case, key: str, entry: str, output: str, made: Mapping[str, Any]
) -> str:
    """Make, publish, record and sign the successor of a version, then the erasure."""
    stated = made["outputs"][output]
    with TemporaryDirectory(prefix="headrace-erase-") as scratch:
        old, new = Path(scratch, "old"), Path(scratch, "new")
        for name, digest in stated["files"].items():
            store.download(f"{key}/{name}", old / name)
            if sha256((old / name).read_bytes()) != digest:
                raise HeadraceError(f"{store.uri}/{key}/{name} was changed since it was recorded; restore it first")
        manifest = (old / MANIFEST).read_bytes()
        ids = keep_others(old, new, case.matcher)
        erased = [record for record in ids if case.matcher.is_document(record)]
        successor, version = "", ""
        if len(erased) < len(ids):
            about = json.loads(manifest)
            options = Card.model_validate(about.get("about") or {"name": about["name"]})
            version, _ = describe(new, options, [key], entry, store, lambda done, total, note: None)
            recorded = make_entry(
                STAGE,
                {output: {"digest": stated["digest"], "entry": entry}},
                {"dataset": new},
                {"case": case.name},
                code_digest(),
                {"in": len(ids), "out": len(ids) - len(erased), "dropped": {"erased": len(erased)}},
            )
            uri = upload_tree(store, new, version, last=MANIFEST)
            store.write(f"{version}/{SIDECAR}", recorded, if_absent=True)
            successor = ledger.record(recorded, {"dataset": [uri]})
            ledger.sign_head(version, successor)
        tombstones = [
            {
                "index": index,
                "leaf": leaf_hash(record).hex(),
                "tombstone": subjects.document(case.matcher.tombstones.key, record),
            }
            for index, record in enumerate(ids)
            if case.matcher.is_document(record)
        ]
        ledger.erase(entry, output, key, successor, case.name, tombstones, manifest)
    return version


def keep_others(old: Path, new: Path, matcher: Matcher) -> list[str]:
    """Copy the parts of a dataset without the records that go; a part that holds none of them stays as it is.

    Returns:
        The ids of all records before, sorted.
    """
    new.mkdir(parents=True)
    ids: list[str] = []
    for part in part_files(old):
        names = pq.read_table(part, columns=["id"]).column("id").to_pylist()
        kept = [not matcher.is_document(name) for name in names]
        ids += names
        if all(kept):
            shutil.copyfile(part, new / part.name)
            continue
        table = pq.read_table(part).filter(pa.array(kept)).replace_schema_metadata(SCHEMA.metadata)
        pq.write_table(table, new / part.name, compression="zstd", row_group_size=BATCH_ROWS)
    return sorted(ids)


def delete(uri: str, first: str = "") -> None:
    """Delete a folder or a file of a store.

    Args:
        uri: Where it is.
        first: The file of the folder that goes first: without it the rest is taken for nothing whole.
    """
    root, _, name = uri.rpartition("/")
    store = open_store(root)
    for key in sorted(store.list(f"{name}/"), key=lambda key: key != f"{name}/{first}"):
        store.delete(key)
    if uri.startswith("file://"):
        folder = Path(uri.removeprefix("file://"))
        if folder.is_dir():
            for below in [*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder]:
                with suppress(OSError):  # somebody is writing there
                    below.rmdir()
            return
    store.delete(name)


def blank(database: Path, matcher: Matcher) -> None:
    """Blank every cell of MLflow's SQLite database in which the person stands, and leave nothing on free pages.

    Raises:
        HeadraceError: It cannot be written.
    """
    going = list(cells(database, matcher))
    try:
        with closing(sqlite3.connect(database, timeout=30)) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            with connection:
                for table, column, row, _ in going:
                    # A number keeps cells apart that must differ.
                    connection.execute(f'UPDATE "{table}" SET "{column}" = ? WHERE rowid = ?', (f"{_BLANK} {row}", row))
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        raise HeadraceError(f"{database}: {error}; stop what uses it and run again") from error
