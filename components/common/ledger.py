"""The ledger: an immutable, hash-chained record of every step execution.

An entry is canonical JSON stored under its own SHA-256 with put-if-absent, so parallel shards need no lock. It names
the entries that made its inputs, so the chain runs from collection to the served revision like a commit history.
Entries hold no clock and no path: the same work gives the same entry. What varies lies beside them: where copies of an
artifact are (`locations/`), when a dataset, model or publication was signed (`heads/`), and, signed too, which copies
were removed on purpose (`removals/`): one that is gone without such a record is found to be missing.

Every artifact directory carries the entry that made it as `ledger.json`; its SHA-256 is the entry's name.
"""

import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.merkle import leaf_hash, merkle_root, root_of
from components.common.sealed_store import SealedStore, store_of
from components.common.store import SIDECAR, Store, open_store
from components.common.vault import DamagedFile, Vault, files_of

OPEN = Vault()
"""Reads what is not sealed."""

_HEAD = {"head", "entry", "signed_at", "public_key", "signature"}
_REMOVAL = {"entry", "output", "uri", "number", "state", "reason", "signed_at", "public_key", "signature"}
_REMOVED, _RESTORED = "removed", "restored"
_ERASURE = {"entry", "output", "head", "successor", "case", "erased", "signed_at", "public_key", "signature"}
ERASED = "erased: "
"""How the reason of a removal begins that an erasure made."""


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


def artifact_files(path: Path, vault: Vault = OPEN) -> dict[str, str]:
    """SHA-256 of every file's content of an artifact by its relative name, the ledger's sidecar left out.

    Raises:
        HeadraceError: The artifact does not exist.
    """
    if not path.is_dir():
        raise HeadraceError(f"{path} does not exist or is no artifact directory")
    names = [file.relative_to(path).as_posix() for file in files_of(path) if file != path / SIDECAR]
    return {name: vault.digest(path / name, name) for name in names}


def artifact_digest(path: Path) -> str:
    """Name an artifact by its files, as the ledger does."""
    return sha256(canonical(artifact_files(path)))


def record_ids(path: Path) -> list[str]:
    """Document ids of an artifact; empty when it does not hold documents."""
    parts = sorted(path.glob("part-*.parquet"))
    return [value for part in parts for value in pq.read_table(part, columns=["id"]).column("id").to_pylist()]


def entry_of(path: Path) -> str:
    """Name of the entry that made an artifact, or '' when it came from outside the ledger."""
    sidecar = path / SIDECAR
    return file_digest(sidecar) if sidecar.is_file() else ""


def check_input(path: Path, vault: Vault = OPEN) -> dict[str, str]:
    """Verify an artifact against the entry it carries before it is used.

    Returns:
        Its `digest` and the `entry` that made it ('' when it came from outside the ledger).

    Raises:
        DamagedArtifact: A file changed, vanished or was added since the step that made it.
    """
    try:
        files = artifact_files(path, vault)
    except DamagedFile as error:
        raise DamagedArtifact(path, error.problem) from error
    sidecar = path / SIDECAR
    if sidecar.is_file():
        try:
            outputs = json.loads(sidecar.read_bytes())["outputs"].values()
            recorded = [output["files"] for output in outputs]
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            raise DamagedArtifact(path, f"{sidecar} is no ledger entry") from error
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
        vault: What opens artifacts that are sealed.
    """

    def __init__(self, store: Store, key: Path, vault: Vault = OPEN) -> None:
        self.store = store
        self.vault = vault
        self._key_file = key

    def record(self, entry: bytes, locations: Mapping[str, Iterable[str]]) -> str:
        """Add an entry and the places where its outputs are; adding the same one twice changes nothing.

        What was made anew takes the place of copies that are damaged or gone, so that the ledger holds again.

        Args:
            entry: What `make_entry` returned.
            locations: URIs of each output.

        Returns:
            The entry's name.
        """
        name = sha256(entry)
        made = json.loads(entry)["outputs"]
        for key, place in self._places(name):
            if not place or (_is_local(place["uri"]) and not self._holds(place["uri"], made[place["output"]]["files"])):
                self.store.delete(key)
        for output, uris in locations.items():
            for uri in uris:
                data = _place(output, uri)
                self.store.write(_place_key(name, data), data, if_absent=True)
                self.restore(name, output, uri)
        self.store.write(_entry_key(name), entry, if_absent=True)
        return name

    def sign_head(self, head: str, entry: str) -> None:
        """Sign that a version (`datasets/<name>/<hash>`, `models/…`, `publications/…`) was made by an entry."""
        signed = self.sign({"head": head, "entry": entry, "signed_at": _now()})
        self.store.write(f"ledger/heads/{head}.json", signed, if_absent=True)

    def verify_key(self) -> Ed25519PublicKey:
        """The key that checks what this ledger signs."""
        return self._private_key().public_key()

    def public_key(self) -> bytes:
        """The key that checks what this ledger signs, as PEM."""
        return self.verify_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def remove(self, entry: str, output: str, uri: str, reason: str) -> None:
        """Sign that a copy is removed on purpose; its files may go now.

        Args:
            entry: The entry that made it.
            output: Which of its outputs.
            uri: Where the copy is.
            reason: Why, for whoever looks for it later.
        """
        self._set_state(entry, output, uri, _REMOVED, reason)

    def restore(self, entry: str, output: str, uri: str) -> None:
        """Sign that a removed copy is there again; nothing happens to one that was not removed."""
        self._set_state(entry, output, uri, _RESTORED, "")

    def erase(
        self,
        entry: str,
        output: str,
        head: str,
        successor: str,
        case: str,
        erased: Sequence[Mapping[str, Any]],
        manifest: bytes,
    ) -> None:
        """Sign that a dataset version was replaced by what is left of it; its copies must be removed now.

        Args:
            entry: The entry that made it.
            output: Which of its outputs.
            head: The version's name.
            successor: The entry that made what takes its place; '' when nothing is left.
            case: The request that asked for it.
            erased: For every erased record its place in the sorted records, its leaf and its tombstone.
            manifest: The version's manifest, which is kept.
        """
        folder = _erasure_folder(entry, output)
        statement = {"entry": entry, "output": output, "head": head, "successor": successor, "case": case}
        self.store.write(f"{folder}manifest.json", manifest, if_absent=True)
        signed = self.sign({**statement, "erased": [dict(one) for one in erased], "signed_at": _now()})
        self.store.write(f"{folder}statement.json", signed, if_absent=True)

    def erasure(self, entry: str, output: str) -> dict[str, Any]:
        """What was signed when an output was erased, its signature unverified; empty if it was not."""
        key = f"{_erasure_folder(entry, output)}statement.json"
        return _parse_erasure(self.store.read(key)) if self.store.exists(key) else {}

    def erasures(self) -> Iterator[dict[str, Any]]:
        """Every signed erasure that can be read, its signature unverified."""
        yield from (statement for _, statement in self._erasures() if statement)

    def removals(self) -> Iterator[dict[str, str]]:
        """The record of every copy that is removed, its signature unverified."""
        latest = {
            (record["entry"], record["output"], record["uri"]): record for _, record in self._removals() if record
        }
        yield from (record for record in latest.values() if record["state"] == _REMOVED)

    def is_removed(self, entry: str, uri: str) -> bool:
        """Whether a copy of one of an entry's outputs is recorded as removed, its signature unverified."""
        keys = list(self.store.list(f"ledger/removals/{entry}/"))
        states = {
            record["uri"]: record["state"] for key in keys if (record := _parse_signed(self.store.read(key), _REMOVAL))
        }
        return states.get(uri) == _REMOVED

    def relocate(self, old: str, new: str) -> None:
        """Note that what was below one URI is below another now, as in a copy of the store that was restored.

        Signed removals name the places of copies, so those that hold are signed again for the new place, with their
        old dates: moved there and back, they are the same bytes.
        """
        if old == new:
            return
        for key in list(self.store.list("ledger/locations/")):
            data, entry = self.store.read(key), key.split("/")[2]
            place = json.loads(data) if key == _place_key(entry, data) else {"uri": ""}  # `verify` names damaged ones
            if place["uri"].startswith(f"{old}/"):
                data = _place(place["output"], new + place["uri"].removeprefix(old))
                self.store.write(_place_key(entry, data), data)
                self.store.delete(key)
        for key, record in list(self._removals()):
            if record.get("uri", "").startswith(f"{old}/") and not signature_problem(record, self.verify_key()):
                uri = new + record["uri"].removeprefix(old)
                statement = {name: value for name, value in record.items() if name not in ("public_key", "signature")}
                folder = _removal_folder(record["entry"], _place(record["output"], uri))
                self.store.write(f"{folder}{record['number']}.json", self.sign({**statement, "uri": uri}))
                self.store.delete(key)

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every entry with its name; one that is not what was stored is left to `verify`."""
        for key in self.store.list("ledger/entries/"):
            data, name = self.store.read(key), Path(key).stem
            if sha256(data) == name:
                yield name, json.loads(data)

    def entry(self, name: str) -> bytes:
        """An entry as it was recorded.

        Raises:
            HeadraceError: It is missing or not what was recorded.
        """
        data = self.store.read(_entry_key(name))
        if sha256(data) != name:
            raise HeadraceError(f"ledger entry {name[:12]} was changed since it was recorded; restore it from a backup")
        return data

    def heads(self) -> Iterator[dict[str, str]]:
        """Every signed head that can be read, its signature unverified."""
        yield from (head for _, head in self._signed() if head)

    def locations(self, entry: str) -> list[dict[str, str]]:
        """Where the outputs of an entry are."""
        return [place for _, place in self._places(entry) if place]

    def verify(self) -> list[Finding]:
        """Check every entry, link, signature and every byte of every recorded artifact.

        Returns:
            What is wrong; empty when the ledger holds.
        """
        entries = dict(self.entries())
        stored = [Path(key).stem for key in self.store.list("ledger/entries/")]
        findings = [
            Finding(f"entry {name[:12]}", "its content does not have the hash it is stored under")
            for name in stored
            if name not in entries
        ]
        removed: dict[str, dict[tuple[str, str], bool]] = {}
        for key, record in self._removals():
            problems = list(self._verify_removal(key, record, entries))
            findings += problems
            if not problems:
                place = (record["output"], record["uri"])
                removed.setdefault(record["entry"], {})[place] = record["state"] == _REMOVED
        for name, entry in entries.items():
            findings += self._verify_links(name, entry, entries)
            findings += self._verify_copies(name, entry, entries, removed.get(name, {}))
        for key, statement in self._erasures():
            findings += self._verify_erasure(key, statement, entries, removed)
        for key, head in self._signed():
            findings += self._verify_head(key.removeprefix("ledger/heads/").removesuffix(".json"), head, entries)
        return findings

    def _holds(self, uri: str, files: Mapping[str, str]) -> bool:
        try:
            return _files_at(uri, self.vault) == files
        except HeadraceError:
            return False

    def _places(self, entry: str) -> Iterator[tuple[str, dict[str, str]]]:
        for key in self.store.list(f"ledger/locations/{entry}/"):
            data = self.store.read(key)
            yield key, json.loads(data) if key == _place_key(entry, data) else {}

    def _signed(self) -> Iterator[tuple[str, dict[str, str]]]:
        for key in self.store.list("ledger/heads/"):
            yield key, _parse_signed(self.store.read(key), _HEAD)

    def _removals(self) -> Iterator[tuple[str, dict[str, str]]]:
        for key in self.store.list("ledger/removals/"):
            yield key, _parse_signed(self.store.read(key), _REMOVAL)

    def _set_state(self, entry: str, output: str, uri: str, state: str, reason: str) -> None:
        """Add to the signed history of a copy; the ledger is only ever added to, so nothing is replaced."""
        folder = _removal_folder(entry, _place(output, uri))
        history = list(self.store.list(folder))
        seen = _parse_signed(self.store.read(history[-1]), _REMOVAL).get("state", "") if history else _RESTORED
        if seen != state:
            number = f"{len(history):06}"
            statement = {"entry": entry, "output": output, "uri": uri, "number": number, "state": state}
            signed = self.sign({**statement, "reason": reason, "signed_at": _now()})
            self.store.write(f"{folder}{number}.json", signed, if_absent=True)

    def _verify_links(self, name: str, entry: dict[str, Any], entries: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        for label, made in entry["inputs"].items():
            parent = made["entry"]
            subject = f"{entry['stage']} ({name[:12]}) input {label}"
            if parent and parent not in entries:
                yield Finding(subject, f"the entry that made it, {parent[:12]}, is missing")
            elif parent and made["digest"] not in {out["digest"] for out in entries[parent]["outputs"].values()}:
                yield Finding(subject, f"its digest is no output of the entry it names, {parent[:12]}")

    def _verify_copies(
        self, name: str, entry: dict[str, Any], entries: dict[str, dict[str, Any]], removed: dict[tuple[str, str], bool]
    ) -> Iterator[Finding]:
        places = self.locations(name)
        if len(places) < sum(1 for _ in self._places(name)):
            yield Finding(f"{entry['stage']} ({name[:12]})", "a record of where its outputs are is damaged")
        for output, made in entry["outputs"].items():
            uris = [place["uri"] for place in places if place["output"] == output]
            if not uris and output not in {kind for (kind, _), gone in removed.items() if gone}:
                yield Finding(f"{entry['stage']} output {output}", "no copy of it is known")
            for uri in uris:
                subject = f"{entry['stage']} output {output} at {uri}"
                if removed.get((output, uri)):
                    if not is_gone(uri):
                        reason = next(one["reason"] for one in self.removals() if one["uri"] == uri)
                        command = "erase run" if reason.startswith(ERASED) else "gc --delete"
                        yield Finding(subject, f"its removal was begun and not finished; run `headrace {command}`")
                    continue
                try:
                    files = _files_at(uri, self.vault)
                except HeadraceError as error:
                    yield Finding(subject, str(error))
                    continue
                if files != made["files"]:
                    yield Finding(subject, _difference(output, made["files"], files))
                elif _is_local(uri) and entry_of(_folder(uri)) not in entries:
                    yield Finding(subject, f"{output}: {SIDECAR} is not the entry that made it")

    def _verify_head(self, name: str, head: dict[str, str], entries: dict[str, dict[str, Any]]) -> Iterator[Finding]:
        if not head:
            yield Finding(name, "it is not a signed head any more")
            return
        yield from self._verify_signature(name, head)
        if head["head"] != name:
            yield Finding(name, f"it is stored in the place of {head['head']}")
        if head["entry"] not in entries:
            yield Finding(name, f"its entry {head['entry'][:12]} is missing")

    def _verify_removal(
        self, key: str, removal: dict[str, str], entries: dict[str, dict[str, Any]]
    ) -> Iterator[Finding]:
        name = key.removeprefix("ledger/").removesuffix(".json")
        if not removal:
            yield Finding(name, "it is not a signed removal any more")
            return
        yield from self._verify_signature(name, removal)
        place = _place(removal["output"], removal["uri"])
        if key != f"{_removal_folder(removal['entry'], place)}{removal['number']}.json":
            yield Finding(name, f"it is not stored in the place of {removal['uri']}")
        if removal["entry"] not in entries:
            yield Finding(name, f"its entry {removal['entry'][:12]} is missing")

    def _erasures(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for key in self.store.list("ledger/erasures/"):
            if key.endswith("/statement.json"):
                yield key, _parse_erasure(self.store.read(key))

    def _verify_erasure(
        self,
        key: str,
        statement: dict[str, Any],
        entries: dict[str, dict[str, Any]],
        removed: dict[str, dict[tuple[str, str], bool]],
    ) -> Iterator[Finding]:
        """Check that an erased version is gone, and that what took its place is all of it but what was erased."""
        name = key.removeprefix("ledger/").removesuffix("/statement.json")
        if not statement:
            yield Finding(name, "it is not a signed erasure any more")
            return
        yield from self._verify_signature(name, statement)
        entry, output, successor = statement["entry"], statement["output"], statement["successor"]
        if not key.startswith(_erasure_folder(entry, output)):
            yield Finding(name, f"it is stored in the place of {entry[:12]}")
            return
        if entry not in entries or (successor and successor not in entries):
            yield Finding(name, f"its entry {(entry if entry not in entries else successor)[:12]} is missing")
            return
        made = entries[entry]["outputs"][output]
        kept = f"{_erasure_folder(entry, output)}manifest.json"
        if not self.store.exists(kept) or sha256(self.store.read(kept)) != statement["head"].rpartition("/")[2]:
            yield Finding(name, "the manifest that was kept is not the one that names the version")
        for place in self.locations(entry):
            if place["output"] == output and not removed.get(entry, {}).get((output, place["uri"])):
                yield Finding(name, f"the copy at {place['uri']} was erased and is not recorded as removed")
        if successor and entry not in {parent["entry"] for parent in entries[successor]["inputs"].values()}:
            yield Finding(name, f"the successor {successor[:12]} was not made from it")
        leaves = self._leaves(entry, output, entries, frozenset())
        if leaves is not None and root_of(leaves) != made["records"]["merkle_root"]:
            yield Finding(name, "what is left and what was erased do not make up the version that was recorded")

    def _leaves(
        self, entry: str, output: str, entries: dict[str, dict[str, Any]], seen: frozenset[str]
    ) -> list[bytes] | None:
        """The leaves of a version in order, of an erased one through its successors; None when no copy is left."""
        statement = self.erasure(entry, output)
        if not statement:
            for place in self.locations(entry):
                if place["output"] == output:
                    with local_copy(place["uri"], self.vault) as folder:
                        if folder:
                            return [leaf_hash(record) for record in sorted(record_ids(folder))]
            return None
        leaves: list[bytes] | None = []
        if (successor := statement["successor"]) and successor in entries and successor not in seen:
            [following] = entries[successor]["outputs"]
            leaves = self._leaves(successor, following, entries, seen | {entry})
        if leaves is not None:
            for one in statement["erased"]:
                leaves.insert(one["index"], bytes.fromhex(one["leaf"]))
        return leaves

    def _verify_signature(self, name: str, signed: dict[str, Any]) -> Iterator[Finding]:
        if not self._key_file.is_file():
            yield Finding(name, f"the key that signed it, {self._key_file}, is missing")
            return
        if problem := signature_problem(signed, self.verify_key()):
            yield Finding(name, problem)

    def sign(self, statement: Mapping[str, Any]) -> bytes:
        """Sign a statement; what is returned is canonical JSON with key and signature in it."""
        key = self._private_key()
        return canonical(
            {
                **statement,
                "public_key": _base64(key.public_key().public_bytes_raw()),
                "signature": _base64(key.sign(canonical(statement))),
            }
        )

    def _private_key(self) -> Ed25519PrivateKey:
        if not self._key_file.is_file():
            pem = Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            # Whole or absent, the owner's alone, and the first of several writers wins.
            open_store(f"file://{self._key_file.parent.resolve()}").write(self._key_file.name, pem, if_absent=True)
        try:
            loaded = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            loaded = None
        if not isinstance(loaded, Ed25519PrivateKey):
            raise HeadraceError(f"{self._key_file} is no Ed25519 key; restore the store's signing key")
        return loaded


def open_ledger(environment: Environment) -> Ledger:
    """The ledger of an environment."""
    store = store_of(environment)
    return Ledger(store, Path(environment.signing_key), store.vault)


def signature_problem(signed: Mapping[str, Any], public: Ed25519PublicKey) -> str:
    """What is wrong with the signature of a statement; '' when the key signed exactly this."""
    if signed.get("public_key") != _base64(public.public_bytes_raw()):
        return "it was signed with a key that is not this store's"
    statement = {field: value for field, value in signed.items() if field not in ("public_key", "signature")}
    try:
        public.verify(base64.b64decode(signed.get("signature", "")), canonical(statement))
    except (InvalidSignature, ValueError, TypeError):
        return "its signature does not fit"
    return ""


def read_public_key(pem: bytes, where: str) -> Ed25519PublicKey:
    """Read a ledger's public key.

    Raises:
        HeadraceError: It is none.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None  # type: ignore[assignment]
    if not isinstance(key, Ed25519PublicKey):
        raise HeadraceError(f"{where} is no ledger's public key; `headrace ledger key` prints it")
    return key


def _entry_key(name: str) -> str:
    return f"ledger/entries/{name[:2]}/{name}.json"


def _place(output: str, uri: str) -> bytes:
    return canonical({"output": output, "uri": uri})


def _place_key(entry: str, place: bytes) -> str:
    return f"ledger/locations/{entry}/{sha256(place)[:16]}.json"


def _removal_folder(entry: str, place: bytes) -> str:
    return f"ledger/removals/{entry}/{sha256(place)[:16]}/"


def _erasure_folder(entry: str, output: str) -> str:
    return f"ledger/erasures/{entry}/{output}/"


def _parse_erasure(data: bytes) -> dict[str, Any]:
    """Read a signed erasure; empty when it is damaged."""
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    if not isinstance(record, dict) or record.keys() != _ERASURE or not isinstance(record["erased"], list):
        return {}
    whole = all(
        isinstance(one, dict)
        and one.keys() == {"index", "leaf", "tombstone"}
        and isinstance(one["index"], int)
        and len(str(one["leaf"])) == 64
        for one in record["erased"]
    )
    return record if whole else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_local(uri: str) -> bool:
    return uri.startswith("file://")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _parse_signed(data: bytes, fields: set[str]) -> dict[str, str]:
    """Read a signed record; empty when it is damaged."""
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    whole = isinstance(record, dict) and record.keys() == fields
    return record if whole and all(isinstance(value, str) for value in record.values()) else {}


def is_gone(uri: str) -> bool:
    """Whether nothing is left of a copy."""
    if _is_local(uri):
        folder = _folder(uri)
        return not folder.is_dir() or not any(path.is_file() for path in folder.rglob("*"))
    root, _, prefix = uri.rpartition("/")
    return next(open_store(root).list(f"{prefix}/"), None) is None


@contextmanager
def local_copy(uri: str, vault: Vault) -> Iterator[Path | None]:
    """The documents of a copy in a local folder, None if there is no such copy; what was fetched for it is removed."""
    if _is_local(uri):
        if not _folder(uri).is_dir():
            yield None
            return
        with vault.opened(_folder(uri)) as folder:
            yield folder
        return
    root, _, prefix = uri.rpartition("/")
    store = SealedStore(open_store(root), vault)
    parts = [key for key in store.list(f"{prefix}/part-") if key.endswith(".parquet")]
    if not parts:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="headrace-copy-") as folder_name:
        for key in parts:
            store.download(key, Path(folder_name, key.rpartition("/")[2]))
        yield Path(folder_name)


def _folder(uri: str) -> Path:
    # No URL parsing: a folder's name may hold # and ?.
    return Path(uri.removeprefix("file://"))


def _files_at(uri: str, vault: Vault) -> dict[str, str]:
    if _is_local(uri):
        return artifact_files(_folder(uri), vault)
    root, _, prefix = uri.rpartition("/")
    store = SealedStore(open_store(root), vault)
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
