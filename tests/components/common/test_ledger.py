"""The ledger: every step leaves an entry, and one changed byte anywhere is found and named."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.common.documents import DocumentWriter, new_document, read_table
from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import SIDECAR, DamagedArtifact, Ledger, entry_of, read_public_key, sha256
from components.common.merkle import audit_path, leaf_hash, merkle_root, node_hash, root_from_path
from components.common.proof import check as check_proof
from components.common.proof import prove
from components.common.store import open_store
from components.common.trace import trace
from pipelines.cli import app
from pipelines.single import run_single

TEXTS = ["The licence of hammer is MIT.", "한국어 문서도 하나 있습니다.", "The licence of anvil is BSD-3-Clause."]


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return load_environment("local", tmp_path / "home")


@pytest.fixture
def ledger(environment: Environment) -> Ledger:
    return Ledger(open_store(environment.store), Path(environment.signing_key))


@pytest.fixture
def chain(tmp_path: Path, environment: Environment) -> Path:
    """Two real steps, one after the other: documents are mixed, then made a dataset version."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with DocumentWriter(tmp_path / "documents") as writer:
        writer.write(new_document(source="s", url=text, text=text, retrieved_at=when) for text in TEXTS)
    run_single("data/mix", {"documents": tmp_path / "documents"}, {"mixed": tmp_path / "mixed"}, {}, environment)
    run_single(
        "data/card",
        {"documents": tmp_path / "mixed"},
        {"dataset": tmp_path / "dataset"},
        {"name": "tools", "owner": "me"},
        environment,
    )
    return tmp_path


def test_every_step_is_recorded_and_linked(chain: Path, ledger: Ledger) -> None:
    entries = dict(ledger.entries())
    assert sorted(entry["stage"] for entry in entries.values()) == ["data/card", "data/mix"]
    made = entries[entry_of(chain / "dataset")]
    assert made["inputs"]["documents"]["entry"] == entry_of(chain / "mixed")
    assert made["counts"]["in"] == 3
    assert ledger.verify() == []


def test_the_same_work_gives_the_same_entry(
    chain: Path, environment: Environment, ledger: Ledger, tmp_path: Path
) -> None:
    before = {name for name, _ in ledger.entries()}
    run_single("data/mix", {"documents": chain / "documents"}, {"mixed": tmp_path / "again"}, {}, environment)
    assert {name for name, _ in ledger.entries()} == before
    assert ledger.verify() == []


@pytest.mark.parametrize("place", ["mixed", "dataset", "store"])
def test_one_changed_byte_is_found_and_named(chain: Path, environment: Environment, ledger: Ledger, place: str) -> None:
    folder = chain / "home" / "store" / "datasets" if place == "store" else chain / place
    part = next(folder.rglob("part-00000.parquet"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    [finding] = ledger.verify()
    assert "part-00000.parquet is not the file that was recorded" in finding.problem
    assert str(folder) in finding.subject or place == "store"


def test_missing_and_added_files_are_named(chain: Path, ledger: Ledger) -> None:
    (chain / "dataset" / "card.md").unlink()
    (chain / "mixed" / "extra").write_text("x")
    problems = sorted(finding.problem for finding in ledger.verify())
    assert problems == ["dataset: card.md is missing", "mixed: extra was not there when it was recorded"]


def test_a_rewritten_entry_is_found(chain: Path, environment: Environment, ledger: Ledger) -> None:
    name = entry_of(chain / "mixed")
    path = Path(environment.home) / "store" / "ledger" / "entries" / name[:2] / f"{name}.json"
    entry = json.loads(path.read_bytes())
    entry["counts"]["in"] = 2
    path.write_text(json.dumps(entry))
    subjects = [finding.subject for finding in ledger.verify()]
    assert f"entry {name[:12]}" in subjects


def test_a_removed_entry_breaks_the_chain(chain: Path, environment: Environment, ledger: Ledger) -> None:
    name = entry_of(chain / "mixed")
    ledger.store.delete(f"ledger/entries/{name[:2]}/{name}.json")
    assert any(f"the entry that made it, {name[:12]}, is missing" in finding.problem for finding in ledger.verify())


def test_a_forged_head_is_found(chain: Path, ledger: Ledger) -> None:
    [key] = ledger.store.list("ledger/heads/")
    head = json.loads(ledger.store.read(key))
    ledger.store.write(key, json.dumps({**head, "head": head["head"].replace("tools", "other")}).encode())
    assert any("its signature does not fit" in finding.problem for finding in ledger.verify())


def test_a_damaged_input_stops_the_step_that_would_use_it(chain: Path, environment: Environment) -> None:
    shutil.copy(chain / "documents" / "part-00000.parquet", chain / "mixed" / "part-00001.parquet")
    with pytest.raises(DamagedArtifact, match=r"part-00001\.parquet was not there"):
        run_single("data/card", {"documents": chain / "mixed"}, {"dataset": chain / "d2"}, {"owner": "me"}, environment)
    assert not (chain / "d2").exists()


def test_a_document_is_traced_into_the_dataset(chain: Path, ledger: Ledger) -> None:
    document = read_table(chain / "documents", ["id"]).column("id")[1].as_py()
    answer = trace(ledger, document[:12])
    assert answer.kind == "document"
    assert [link.stage for link in answer.found] == ["data/mix", "data/card"]
    [head] = answer.found[-1].heads
    assert head.startswith("datasets/tools/")


def test_a_dataset_is_traced_to_what_it_was_made_from(chain: Path, ledger: Ledger) -> None:
    version = next(ledger.heads())["head"].split("/")[-1]
    answer = trace(ledger, version)
    assert answer.kind == "dataset"
    assert [link.stage for link in answer.made_from] == ["data/mix"]
    assert answer.went_into == []


def test_tracing_something_unknown_says_so(chain: Path, ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="no document, version, revision or entry"):
        trace(ledger, "0" * 64)
    with pytest.raises(UsageError, match="too short"):
        trace(ledger, "abc")


def test_the_signing_key_is_the_owners_alone(chain: Path, environment: Environment) -> None:
    assert Path(environment.signing_key).stat().st_mode & 0o077 == 0


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20, unique=True))
def test_the_merkle_root_depends_on_every_record_and_not_on_order(records: list[str]) -> None:
    root = merkle_root(records)
    assert merkle_root(reversed(records)) == root
    assert merkle_root(records[1:]) != root
    assert merkle_root([*records[1:], records[0] + "x"]) != root


def test_a_step_that_fails_leaves_nothing(chain: Path, environment: Environment, ledger: Ledger) -> None:
    before = len(list(ledger.entries()))
    with pytest.raises(HeadraceError):
        run_single(
            "data/curate",
            {"dataset": chain / "dataset"},
            {"pairs": chain / "p", "questions": chain / "q"},
            {},
            environment,
        )
    assert not (chain / "p").exists()
    assert not list(chain.glob("*.partial"))
    assert len(list(ledger.entries())) == before
    assert (chain / "dataset" / SIDECAR).is_file()


def test_no_single_flipped_byte_in_the_ledger_escapes(chain: Path, environment: Environment, ledger: Ledger) -> None:
    for path in [*(Path(environment.home) / "store" / "ledger").rglob("*.json"), chain / "mixed" / SIDECAR]:
        whole = path.read_bytes()
        for position in range(0, len(whole), 1 + len(whole) // 40):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x11]) + whole[position + 1 :])
            assert ledger.verify(), f"{path.name}, byte {position}"
            list(ledger.entries()), list(ledger.heads())
        path.write_bytes(whole)
    assert ledger.verify() == []


def test_verifying_makes_no_key(chain: Path, environment: Environment, ledger: Ledger) -> None:
    key = Path(environment.signing_key)
    pem = key.read_bytes()
    key.unlink()
    [finding] = ledger.verify()
    assert "is missing" in finding.problem
    assert not key.exists()
    key.write_bytes(pem[:20])
    with pytest.raises(HeadraceError, match="is no Ed25519 key"):
        ledger.verify()


def test_a_damaged_sidecar_is_a_damaged_artifact(chain: Path, environment: Environment) -> None:
    (chain / "mixed" / SIDECAR).write_text("{")
    with pytest.raises(DamagedArtifact, match="is no ledger entry"):
        run_single("data/card", {"documents": chain / "mixed"}, {"dataset": chain / "d2"}, {"owner": "me"}, environment)


def test_making_an_artifact_anew_mends_the_ledger(chain: Path, environment: Environment, ledger: Ledger) -> None:
    (chain / "mixed" / "part-00000.parquet").write_bytes(b"damaged")
    assert ledger.verify()
    run_single("data/mix", {"documents": chain / "documents"}, {"mixed": chain / "anew"}, {}, environment)
    assert ledger.verify() == []


def test_folders_may_have_any_name(tmp_path: Path) -> None:
    environment = load_environment("local", tmp_path / "a #1 ? 100% 폴더")
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with DocumentWriter(tmp_path / "documents") as writer:
        writer.write(new_document(source="s", url=text, text=text, retrieved_at=when) for text in TEXTS)
    mixed = Path(environment.home) / "mixed"
    run_single("data/mix", {"documents": tmp_path / "documents"}, {"mixed": mixed}, {}, environment)
    ledger = Ledger(open_store(environment.store), Path(environment.signing_key))
    assert ledger.verify() == []
    (mixed / "part-00000.parquet").write_bytes(b"damaged")
    assert ledger.verify()


def _ids(count: int) -> list[str]:
    return sorted(sha256(str(number).encode()) for number in range(count))


@given(st.integers(1, 70), st.data())
def test_every_leaf_has_one_path_and_no_other_leaf_fits_it(count: int, data: st.DataObject) -> None:
    ids = _ids(count)
    leaves, root = [leaf_hash(record) for record in ids], merkle_root(ids)
    index = data.draw(st.integers(0, count - 1))
    path = audit_path(leaves, index)
    assert root_from_path(leaves[index], index, count, path) == root
    other = data.draw(st.integers(0, count + 3))
    if other != index:  # neither in another place nor in a tree of another shape
        assert root_from_path(leaves[index], other, count, path) != root
        if other < count:
            assert root_from_path(leaves[other], index, count, path) != root
    assert root_from_path(leaves[index], index, count, [*path, leaves[0]]) != root
    if path:
        assert root_from_path(leaves[index], index, count, path[:-1]) != root


def test_the_tree_is_the_one_of_rfc_6962() -> None:
    def rfc(records: list[str]) -> bytes:
        if len(records) == 1:
            return leaf_hash(records[0])
        split = 1 << (len(records) - 1).bit_length() - 1
        return node_hash(rfc(records[:split]), rfc(records[split:]))

    for count in range(1, 40):
        assert merkle_root(_ids(count)) == rfc(_ids(count)).hex()
    assert merkle_root([]) == sha256(b"")
    # A node is no leaf: a record that reads like two hashes is hashed otherwise.
    assert sha256(b"\x00" + bytes(64)) != node_hash(bytes(32), bytes(32)).hex() == sha256(b"\x01" + bytes(64))


def test_a_document_is_proved_to_be_in_a_version_or_not_without_the_store(chain: Path, ledger: Ledger) -> None:
    [head] = ledger.heads()
    ids = sorted(read_table(chain / "documents", ["id"]).column("id").to_pylist())
    absent = ["0" * 64, "f" * 64, sha256(b"elsewhere"), f"{int(ids[1], 16) + 1:064x}"]
    public = read_public_key(ledger.public_key(), "ledger.pub")
    proofs = {document: prove(ledger, document, head["head"].rpartition("/")[2][:8]) for document in [*ids, *absent]}
    shutil.rmtree(chain / "home")  # nothing is left but the files and the key
    for document, proof in proofs.items():
        shown = check_proof(proof, public)
        assert (shown.document, shown.inside) == (document, document in ids)
        assert (shown.version, shown.records) == (head["head"], 3)


def test_a_proof_that_was_changed_anywhere_does_not_hold(chain: Path, ledger: Ledger) -> None:
    [head] = ledger.heads()
    ids = sorted(read_table(chain / "documents", ["id"]).column("id").to_pylist())
    inside, absent = (prove(ledger, document, head["head"]) for document in (ids[1], f"{int(ids[1], 16) + 1:064x}"))
    public = ledger.verify_key()
    for proof in (json.loads(inside), json.loads(absent)):
        changed = [
            {**proof, "document": ids[0]},
            {**proof, "head": {**proof["head"], "signed_at": "2020-01-01"}},
            {**proof, "entry": proof["entry"].replace('"count":3', '"count":4')},
            {**proof, "leaves": proof["leaves"][:-1]},
            {**proof, "leaves": [{**proof["leaves"][0], "index": 2}, *proof["leaves"][1:]]},
            {**proof, "leaves": [{**proof["leaves"][0], "record": ids[2]}, *proof["leaves"][1:]]},
            {**proof, "leaves": [{**proof["leaves"][0], "path": []}, *proof["leaves"][1:]]},
            {**proof, "schema": 2},
            {**proof, "leaves": 3},
        ]
        for one in changed:
            with pytest.raises(HeadraceError):
                check_proof(json.dumps(one).encode(), public)
    for nonsense in (
        b"",
        b"[" * 100_000,
        b'{"schema": 1}',
        b"\xff",
        b'{"schema": 1, "head": "\\ud800", "document": {}}',
    ):
        with pytest.raises(HeadraceError, match="no proof"):
            check_proof(nonsense, public)
    # Neighbours that are none: the first and the last record, with a real record between them.
    first, last = (json.loads(prove(ledger, document, head["head"]))["leaves"][0] for document in (ids[0], ids[2]))
    with pytest.raises(HeadraceError, match="not the two between which"):
        check_proof(json.dumps({**json.loads(inside), "leaves": [first, last]}).encode(), public)
    with pytest.raises(HeadraceError, match="not this store's"):
        check_proof(inside, Ed25519PrivateKey.generate().public_key())


def test_proofs_on_the_command_line(chain: Path, ledger: Ledger, tmp_path: Path) -> None:
    document = read_table(chain / "documents", ["id"]).column("id")[0].as_py()
    version = next(ledger.heads())["head"]
    proof, public, home = tmp_path / "proof.json", tmp_path / "ledger.pub", ["--home", str(chain / "home")]
    run = CliRunner().invoke
    assert run(app, ["ledger", "key", "--out", str(public), *home]).exit_code == 0
    made = run(app, ["ledger", "prove", document, "--dataset", version, "--out", str(proof), *home])
    assert made.output.startswith(f"in {version}")
    checked = run(app, ["ledger", "check", str(proof), "--key", str(public)])
    assert f"{document} was in {version} (3 records" in checked.output
    proof.write_text(proof.read_text().replace(document, "0" * 64))
    assert isinstance(run(app, ["ledger", "check", str(proof), "--key", str(public)]).exception, HeadraceError)
    listed = run(app, ["ledger", "trace", version, "--documents", *home]).output.split()
    assert document in listed and len(listed) == 3
    assert f"datasets {version.split('/')[1]}/" in run(app, ["ledger", "trace", document, *home]).output


def test_a_document_in_a_bucket_is_traced_and_proved(
    cloud: str, tmp_path: Path, environment: Environment, request: pytest.FixtureRequest
) -> None:
    place = environment.model_copy(update={"store": f"{cloud}/{tmp_path.name}"})
    with DocumentWriter(tmp_path / "documents") as writer:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        writer.write(new_document(source="s", url=text, text=text, retrieved_at=when) for text in TEXTS)
    taken, made = {"documents": tmp_path / "documents"}, {"dataset": tmp_path / "dataset"}
    run_single("data/card", taken, made, {"owner": "me"}, place)
    document = read_table(tmp_path / "documents", ["id"]).column("id")[0].as_py()
    shutil.rmtree(tmp_path / "dataset")
    ledger = Ledger(open_store(place.store), Path(place.signing_key))
    [link] = trace(ledger, document).found
    assert check_proof(prove(ledger, document, link.heads[0]), ledger.verify_key()).inside
