"""The ledger: an immutable, hash-chained record of every step execution.

An entry is canonical JSON stored under its own SHA-256 with put-if-absent, so parallel shards need no lock. It names
the entries that made its inputs, so the chain runs from collection to the served revision like a commit history.
Entries hold no clock and no path: the same work gives the same entry. What varies lies beside them: where copies of an
artifact are (`locations/`) and when a dataset, model or publication was signed (`heads/`).

Every artifact directory carries the entry that made it as `ledger.json`; its SHA-256 is the entry's name.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from components.common.errors import HeadraceError
from components.common.store import Store, open_store

SIDECAR = "ledger.json"
_CHUNK = 1 << 20


class DamagedArtifact(HeadraceError):
    """An artifact is not what the step that made it recorded."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{problem}; restore it, or run again to make it anew")
        self.path = path


def canonical(value: Any) -> bytes:
    """Serialise to the one JSON form that hashes are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def sha256(data: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def artifact_files(path: Path) -> dict[str, str]:
    """SHA-256 of every file of an artifact by its relative name, the ledger's sidecar left out.

    Raises:
        HeadraceError: The artifact does not exist.
    """
    if not path.is_dir():
        raise HeadraceError(f"{path} does not exist or is no artifact directory")
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / SIDECAR)
    return {file.relative_to(path).as_posix(): file_digest(file) for file in files}


def merkle_root(leaves: Iterable[str]) -> str:
    """Merkle root over record ids in sorted order, hashed as in RFC 6962 (leaf prefix 0x00, node prefix 0x01)."""
    level = [hashlib.sha256(b"\0" + leaf.encode()).digest() for leaf in sorted(leaves)]
    if not level:
        return sha256(b"")
    while len(level) > 1:
        paired = [hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0].hex()


def record_ids(path: Path) -> list[str]:
    """Document ids of an artifact; empty when it does not hold documents."""
    parts = sorted(path.glob("part-*.parquet"))
    return [value for part in parts for value in pq.read_table(part, columns=["id"]).column("id").to_pylist()]


def entry_of(path: Path) -> str:
    """Name of the entry that made an artifact, or '' when it came from outside the ledger."""
    sidecar = path / SIDECAR
    return file_digest(sidecar) if sidecar.is_file() else ""


def check_input(path: Path) -> dict[str, str]:
    """Verify an artifact against the entry it carries before it is used.

    Returns:
        Its `digest` and the `entry` that made it ('' when it came from outside the ledger).

    Raises:
        DamagedArtifact: A file changed, vanished or was added since the step that made it.
    """
    files = artifact_files(path)
    sidecar = path / SIDECAR
    if sidecar.is_file():
        outputs = json.loads(sidecar.read_bytes())["outputs"].values()
        recorded = [output["files"] for output in outputs]
        if files not in recorded:
            closest = min(recorded, key=lambda made: len(made.items() ^ files.items()))
            raise DamagedArtifact(path, _difference(path.as_posix(), closest, files))
    return {"digest": sha256(canonical(files)), "entry": entry_of(path)}


def make_entry(
    stage: str,
    inputs: Mapping[str, Mapping[str, str]],
    outputs: Mapping[str, Path],
    options: Mapping[str, Any],
    code: str,
    counts: Mapping[str, Any],
) -> bytes:
    """Write down one step execution.

    Args:
        stage: `area/name` of the step.
        inputs: What `check_input` returned for each input.
        outputs: Directories the step wrote, by name.
        options: The step's validated options.
        code: Digest of the code that ran.
        counts: Records in, out, and dropped by reason.

    Returns:
        The entry as canonical JSON; its SHA-256 is its name.
    """
    made = {}
    for name, path in outputs.items():
        files = artifact_files(path)
        made[name] = {"digest": sha256(canonical(files)), "files": files}
        ids = record_ids(path)
        if ids:
            made[name]["records"] = {"count": len(ids), "merkle_root": merkle_root(ids)}
    return canonical(
        {
            "schema": 1,
            "stage": stage,
            "inputs": inputs,
            "outputs": made,
            "options": sha256(canonical(options)),
            "code": code,
            "counts": counts,
        }
    )


@dataclass(frozen=True)
class Finding:
    """Something that `verify` found to be wrong: which artifact or entry, and what."""

    subject: str
    problem: str


class Ledger:
    """The entries of one store, with the key that signs its heads.

    Args:
        store: Where entries live, below `ledger/`.
        key: File of the Ed25519 key (PEM); made on first use when its folder can be written.
    """

    def __init__(self, store: Store, key: Path) -> None:
        self.store = store
        self._key_file = key

    def record(self, entry: bytes, locations: Mapping[str, Iterable[str]]) -> str:
        """Add an entry and the places where its outputs are; adding the same one twice changes nothing.

        Args:
            entry: What `make_entry` returned.
            locations: URIs of each output.

        Returns:
            The entry's name.
        """
        name = sha256(entry)
        for output, uris in locations.items():
            for uri in uris:
                place = canonical({"output": output, "uri": uri})
                self.store.write(f"ledger/locations/{name}/{sha256(place)[:16]}.json", place, if_absent=True)
        self.store.write(_entry_key(name), entry, if_absent=True)
        return name

    def sign_head(self, head: str, entry: str) -> None:
        """Sign that a version (`datasets/<name>/<hash>`, `models/…`, `publications/…`) was made by an entry."""
        key = self._private_key()
        statement = {"head": head, "entry": entry, "signed_at": datetime.now(UTC).isoformat(timespec="seconds")}
        public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        signed = {
            **statement,
            "public_key": base64.b64encode(public).decode(),
            "signature": base64.b64encode(key.sign(canonical(statement))).decode(),
        }
        self.store.write(f"ledger/heads/{head}.json", canonical(signed), if_absent=True)

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every entry with its name, as stored and unverified."""
        for key in self.store.list("ledger/entries/"):
            yield Path(key).stem, json.loads(self.store.read(key))

    def heads(self) -> Iterator[dict[str, Any]]:
        """Every signed head."""
        for key in self.store.list("ledger/heads/"):
            yield json.loads(self.store.read(key))

    def locations(self, entry: str) -> list[dict[str, str]]:
        """Where the outputs of an entry are."""
        return [json.loads(self.store.read(key)) for key in self.store.list(f"ledger/locations/{entry}/")]

    def verify(self) -> list[Finding]:
        """Check every entry, link, signature and every byte of every recorded artifact.

        Returns:
            What is wrong; empty when the ledger holds.
        """
        findings: list[Finding] = []
        entries: dict[str, dict[str, Any]] = {}
        for key in self.store.list("ledger/entries/"):
            data, name = self.store.read(key), Path(key).stem
            if sha256(data) != name:
                findings.append(Finding(f"entry {name[:12]}", "its content does not have the hash it is stored under"))
            else:
                entries[name] = json.loads(data)
        for name, entry in entries.items():
            findings += self._verify_links(name, entry, entries)
            findings += self._verify_copies(name, entry)
        findings += [finding for head in self.heads() for finding in self._verify_head(head, entries)]
        return findings

    def _verify_links(self, name: str, entry: dict[str, Any], entries: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        for label, made in entry["inputs"].items():
            parent = made["entry"]
            subject = f"{entry['stage']} ({name[:12]}) input {label}"
            if parent and parent not in entries:
                yield Finding(subject, f"the entry that made it, {parent[:12]}, is missing")
            elif parent and made["digest"] not in {out["digest"] for out in entries[parent]["outputs"].values()}:
                yield Finding(subject, f"its digest is no output of the entry it names, {parent[:12]}")

    def _verify_copies(self, name: str, entry: dict[str, Any]) -> Iterator[Finding]:
        places = self.locations(name)
        for output, made in entry["outputs"].items():
            uris = [place["uri"] for place in places if place["output"] == output]
            if not uris:
                yield Finding(f"{entry['stage']} output {output}", "no copy of it is known")
            for uri in uris:
                subject = f"{entry['stage']} output {output} at {uri}"
                try:
                    files = _files_at(uri)
                except HeadraceError as error:
                    yield Finding(subject, str(error))
                    continue
                if files != made["files"]:
                    yield Finding(subject, _difference(output, made["files"], files))

    def _verify_head(self, head: dict[str, Any], entries: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        statement = {name: head[name] for name in ("head", "entry", "signed_at")}
        public = self._private_key().public_key()
        recorded = Ed25519PublicKey.from_public_bytes(base64.b64decode(head["public_key"]))
        if recorded.public_bytes_raw() != public.public_bytes_raw():
            yield Finding(head["head"], "it was signed with a key that is not this store's")
            return
        try:
            public.verify(base64.b64decode(head["signature"]), canonical(statement))
        except InvalidSignature:
            yield Finding(head["head"], "its signature does not fit")
        if head["entry"] not in entries:
            yield Finding(head["head"], f"its entry {head['entry'][:12]} is missing")

    def _private_key(self) -> Ed25519PrivateKey:
        if not self._key_file.is_file():
            key = Ed25519PrivateKey.generate()
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            self._key_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
        loaded = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        if not isinstance(loaded, Ed25519PrivateKey):
            raise HeadraceError(f"{self._key_file} is no Ed25519 key; restore the store's signing key")
        return loaded


def _entry_key(name: str) -> str:
    return f"ledger/entries/{name[:2]}/{name}.json"


def _files_at(uri: str) -> dict[str, str]:
    if urlsplit(uri).scheme == "file":
        return artifact_files(Path(urlsplit(uri).path))
    root, _, prefix = uri.rpartition("/")
    store = open_store(root)
    keys = [key for key in store.list(f"{prefix}/") if key != f"{prefix}/{SIDECAR}"]
    if not keys:
        raise HeadraceError(f"{uri} does not exist")
    return {key.removeprefix(f"{prefix}/"): sha256(store.read(key)) for key in keys}


def _difference(artifact: str, made: Mapping[str, str], seen: Mapping[str, str]) -> str:
    for word, names in (
        ("is missing", made.keys() - seen.keys()),
        ("was not there when it was recorded", seen.keys() - made.keys()),
        ("is not the file that was recorded", {name for name in made.keys() & seen.keys() if made[name] != seen[name]}),
    ):
        if names:
            return f"{artifact}: {', '.join(sorted(names))} {word}"
    return f"{artifact}: unchanged"
