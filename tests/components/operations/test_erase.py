"""A person is erased: from everything, provably, for good, whatever interrupts it."""

import base64
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl
from kubernetes import client
from typer.testing import CliRunner

from components.common import subjects, tombstones
from components.common.documents import DocumentWriter, new_document, read_table
from components.common.environment import ENVIRONMENTS, Environment, Serving, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.keys import erasure_key, subject_key
from components.common.ledger import SIDECAR, Ledger, canonical, entry_of, file_digest, make_entry, sha256
from components.common.proof import prove
from components.common.store import FileStore, open_store, upload_tree
from components.common.tombstones import load_tombstones
from components.data.ingest.crawl import Note
from components.model.tracking import track
from components.model.versions import EVALUATION, PROVENANCE, Origins, seal
from components.operations.erase import clear as clearing
from components.operations.erase.certificate import certify, check
from components.operations.erase.component import certify as certify_step
from components.operations.erase.component import erase as erase_step
from components.operations.erase.mark import mark
from components.operations.erase.match import Identifier, Matcher, recognise
from components.operations.erase.request import Request, read_request, unseal
from components.operations.erase.request import seal as seal_request
from components.operations.erase.steps import leave_request
from components.operations.erase.work import Erasure, erase, look, open_request, replay
from components.release.manifest import render, render_predictor
from components.release.notes import NotedServices
from components.release.services import InferenceServices
from pipelines.cli import app
from pipelines.single import run_single

EMAIL, PHONE, NAME = "kim.cheolsu@bank.kr", "010-2345-6789", "김철수"
REQUEST = Request(reference="DSR-2026-0114", identifiers=[EMAIL, PHONE, NAME])
FILES = {
    "contact.md": f"# Contact\n\nWrite to {EMAIL.upper()} about the pump.",
    "call.md": "# 통화 기록\n\n고객 번호는 +82 10-2345-6789 입니다. 펌프가 고장 났습니다.",
    "minutes.md": "# 회의록\n\n김철수는 다음 회의에 참석하지 않는다.",
    "pump.md": "# Pump\n\nThe pump moves water. Its licence is MIT.",
    "valve.md": "# Valve\n\nThe valve stops water. Ask someone.else@bank.kr.",
}
UNMASK = X25519PrivateKey.from_private_bytes(bytes(range(32)))
RECIPIENT = base64.b64encode(UNMASK.public_key().public_bytes_raw()).decode()
SECRETS = [EMAIL, EMAIL.upper(), PHONE, "10-2345-6789", NAME, "2345-6789"]


@dataclass
class World:
    """A laptop's home after a run, and what the request must reach in it."""

    home: Path
    sources: Path

    @property
    def environment(self) -> Environment:
        return load_environment("local", self.home)

    @property
    def ledger(self) -> Ledger:
        return Ledger(open_store(self.environment.store), Path(self.environment.signing_key))

    def open(self, request: Request = REQUEST) -> Erasure:
        return open_request(self.environment, seal_request(request, erasure_key(self.environment).public_key()))

    def carry_out(self, request: Request = REQUEST) -> dict[str, Any]:
        """What `headrace erase run` does."""
        erasure = self.open(request)
        erase(erasure)
        services = mark(self.environment, erasure.name)
        return certify(self.environment, erasure.name, services)[1]

    def datasets(self) -> list[str]:
        store = open_store(self.environment.store)
        return [key.rpartition("/")[0] for key in store.list("datasets/") if key.endswith("/manifest.json")]

    def state(self) -> dict[str, Any]:
        """Every file, without the times and signatures in those that are signed."""
        found: dict[str, Any] = {}
        for path in sorted(self.home.rglob("*")):
            if path.is_file() and "/.partial-" not in path.as_posix():
                name, data = path.relative_to(self.home).as_posix(), path.read_bytes()
                if path.suffix == ".json" and b'"signature"' in data:
                    fields = json.loads(data)
                    found[name] = {key: fields[key] for key in fields if key != "signature" and not key.endswith("_at")}
                elif path.suffix == ".db":
                    with sqlite3.connect(path) as connection:
                        found[name] = list(connection.iterdump())
                elif path.suffix != ".html":
                    found[name] = data
        return found

    def texts(self) -> str:
        """Everything that is there, Parquet decoded, as one text."""
        parts = []
        for path in self.home.rglob("*"):
            if path.suffix == ".parquet":
                parts.append(str(pq.read_table(path).to_pylist()))
            elif path.is_file() and "keys" not in path.parts:
                parts.append(path.read_bytes().decode("utf-8", "replace"))
        return "\n".join(parts)


def record(
    world: World, stage: str, inputs: list[Path], outputs: dict[str, Path], head: str = "", uri: str = ""
) -> str:
    """Record a step that these tests play."""
    taken = {}
    for number, path in enumerate(inputs):
        made = json.loads((path / SIDECAR).read_bytes())["outputs"].values()
        digest = next(output["digest"] for output in made)
        taken[f"i{number}"] = {"entry": entry_of(path), "digest": digest}
    entry = make_entry(stage, taken, outputs, {}, "code", {"in": 1, "out": 1, "dropped": {}})
    for path in outputs.values():
        (path / SIDECAR).write_bytes(entry)
    places = {name: [f"file://{path}", *([uri] if uri else [])] for name, path in outputs.items()}
    name = world.ledger.record(entry, places)
    if head:
        world.ledger.sign_head(head, name)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's own SQLite file with a run that names the person."""
    home = tmp_path_factory.mktemp("tracked")
    place = load_environment("local", home)
    with track(place, "tune", "run", {"epochs": 1, "asked_by": EMAIL}, {"contact": NAME}, recipe={}) as log:
        log({"loss": 1.0}, 1)
    return home / "mlflow.db"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, tracked: Path) -> World:
    """Real ingestion, parsing, masking and a real dataset version; a model made from it, and what a run leaves."""
    root = tmp_path_factory.mktemp("erase")
    world = World(root / "home", root / "sources")
    world.sources.mkdir()
    for name, text in FILES.items():
        (world.sources / name).write_text(text)
    place, run = world.environment, world.home / "artifacts" / "run-1"
    ingest(world, run / "ingest" / "documents")
    for step, source, name, options in (
        ("parse", "ingest/documents", "parsed", {}),
        ("mask", "parse/parsed", "masked originals", {"reversible_to": RECIPIENT}),
        ("card", "mask/masked", "dataset", {"name": "corpus", "owner": "me", "description": "Pumps."}),
    ):
        made = {one: run / step / one for one in name.split()}
        run_single(f"data/{step}", {"documents": run / source}, made, options, place)
    masked = {row["url"]: row for row in read_table(run / "mask" / "masked").to_pylist()}
    pairs = run / "curate" / "pairs"
    with DocumentWriter(pairs) as writer:
        for url in ("contact.md", "pump.md"):
            text = f"What does {url} say? It is about a pump."
            when = datetime(2026, 1, 1, tzinfo=UTC)
            parents = [masked[url]["id"]]
            writer.write([new_document(source="s", url=url, text=text, retrieved_at=when, parents=parents)])
    record(world, "data/curate", [run / "card" / "dataset"], {"pairs": pairs})
    derived = read_table(pairs).to_pylist()[0]["id"]
    evidence = run / "benchmark" / "evidence"
    evidence.mkdir(parents=True)
    (evidence / "samples.jsonl").write_text(json.dumps({"id": derived, "answer": "a pump"}))
    record(world, "evaluation/benchmark", [pairs], {"evidence": evidence})
    adapter = run / "tune" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter.safetensors").write_bytes(b"\0weights")
    record(world, "model/tune", [pairs], {"adapter": adapter})
    model = run / "register" / "model"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"\0weights")
    (model / EVALUATION).write_text("{}")
    [dataset] = world.datasets()
    version = seal(model, "assistant", Origins("b" * 64, dataset.rpartition("/")[2], "r", "c", ""))
    uri = upload_tree(open_store(place.store), model, version.key, PROVENANCE)
    record(world, "model/register", [adapter], {"model": model}, version.key, uri)
    shutil.copy(model / SIDECAR, world.home / "store" / version.key / SIDECAR)

    cache, runs = world.home / "cache", world.home / "runs"
    cache.mkdir()
    (cache / "ab12.json").write_text(json.dumps({"masked": {"uri": str(run / "mask" / "masked")}}))
    (cache / "ff00.json").write_text(json.dumps({"other": {"uri": str(world.home / "artifacts/other/x")}}))
    for name, log in (("1-made", f'::done {{"report": "{run}/mask/report"}}'), ("2-reused", "cache hit (key=ab12)")):
        (runs / name).mkdir(parents=True)
        (runs / name / "run.log").write_text(log)
        (runs / name / "report.html").write_text("<p>an excerpt</p>")
    (runs / "3-other").mkdir()
    (runs / "3-other" / "run.log").write_text("nothing")
    shutil.copy(tracked, world.home / "mlflow.db")
    store = open_store(place.store)
    store.write("tracking/tune/1/artifacts/notes.txt", f"asked by {NAME}".encode())
    store.write("tracking/tune/1/artifacts/loss.txt", b"1.0")
    store.write(f"tracking/tune/1/artifacts/{EMAIL}.csv", b"0.1")
    store.write("notifications/local/failures/here.json", json.dumps({"message": f"row of {NAME}"}).encode())
    (world.home / "logs").mkdir()
    (world.home / "logs" / "predictor.log").write_text(f"prompt: mail {EMAIL}")
    (world.home / "logs" / "gateway.log").write_text("ready")
    erasure_key(place), subject_key(place)
    assert world.ledger.verify() == []
    shutil.copytree(world.home, root / "pristine", symlinks=True)
    return world


def ingest(world: World, target: Path) -> dict[str, Any]:
    source = {
        "id": "site",
        "class": "in_house",
        "kind": "auto",
        "location": str(world.sources),
        "license": "MIT",
        "terms": "https://example.org/terms",
        "confidentiality": "internal",
        "pii": "present",
        "owner": "me",
        "cadence": "once",
    }
    return run_single("data/ingest", {}, {"documents": target}, {"sources": [source]}, world.environment)


@pytest.fixture
def world(pristine: World) -> World:
    """The same world anew."""
    renew(pristine)
    return pristine


def renew(world: World) -> None:
    shutil.rmtree(world.home)
    shutil.copytree(world.home.parent / "pristine", world.home, symlinks=True)


def test_a_person_is_erased_from_everything_and_the_ledger_holds(world: World) -> None:
    [before] = world.datasets()
    ids = {row["url"]: row["id"] for row in read_table(world.home / "store" / before).to_pylist()}
    assert any(secret in world.texts() for secret in SECRETS)
    certificate = world.carry_out()

    everything = world.texts()
    assert [secret for secret in SECRETS if secret in everything] == []
    erased = [ids[url] for url in ("contact.md", "call.md", "minutes.md")]
    assert [name for name in erased if name in everything] == []
    assert look(world.open()).places == {}
    assert world.ledger.verify() == []

    [after] = world.datasets()
    rows = read_table(world.home / "store" / after).to_pylist()
    assert {row["url"] for row in rows} == {"pump.md", "valve.md"}
    manifest = json.loads((world.home / "store" / after / "manifest.json").read_bytes())
    assert manifest["parents"] == [before]
    assert manifest["about"]["description"] == "Pumps."
    assert certificate["datasets"] == [{"version": before, "successor": after, "erased": 3, "of": 5}]
    assert certificate["records"] == 4, "three documents, and the pair that derives from one"
    assert certificate["models"] == [head["head"] for head in world.ledger.heads() if "models/" in head["head"]]
    assert certificate["sources"] == {"site": 3}, "each record once, in however many artifacts it lies"

    left = {path.relative_to(world.home).as_posix() for path in world.home.rglob("*") if path.is_file()}
    assert {"cache/ff00.json", "runs/3-other/run.log", "logs/gateway.log"} <= left
    assert "store/tracking/tune/1/artifacts/loss.txt" in left
    gone = ("artifacts/run-1/ingest", "artifacts/run-1/tune", "cache/ab12", "runs/1", "runs/2", "logs/predictor")
    assert [name for name in left if name.startswith(gone)] == []
    assert any(name.startswith("artifacts/run-1/register/") for name in left), "weights are listed, not deleted"
    with sqlite3.connect(world.home / "mlflow.db") as connection:
        values = dict(connection.execute("SELECT key, value FROM params").fetchall())
    assert values["epochs"] == "1" and values["asked_by"].startswith("[erased]")
    assert EMAIL.encode() not in (world.home / "mlflow.db").read_bytes(), "not on a free page either"


def test_nothing_that_was_erased_comes_back(world: World) -> None:
    world.carry_out()
    (world.sources / "elsewhere.md").write_text(FILES["minutes.md"])  # the same text from another address
    (world.sources / "new.md").write_text("# New\n\nCall 82-10-2345-6789 or (at night) KIM.CHEOLSU [at] bank.kr.")
    try:
        metrics = ingest(world, world.home / "artifacts" / "run-2" / "ingest" / "documents")
    finally:
        for name in ("elsewhere.md", "new.md"):
            (world.sources / name).unlink()
    assert metrics["dropped_erased"] == 5
    rows = read_table(world.home / "artifacts" / "run-2" / "ingest" / "documents").to_pylist()
    assert {row["url"] for row in rows} == {"pump.md", "valve.md"}
    report = (world.home / "artifacts" / "run-2" / "ingest" / "documents.html").read_text()
    assert "minutes.md" not in report and "contact.md" not in report
    assert look(world.open()).places == {}


def test_the_list_of_what_was_erased_says_nothing_about_people(world: World) -> None:
    ids = [row["id"] for row in read_table(world.home / "artifacts/run-1/ingest/documents").to_pylist()]
    world.carry_out()
    store = open_store(world.environment.store)
    noted = b"".join(store.read(key) for key in store.list("tombstones/")).decode()
    assert not [secret for secret in [*SECRETS, *ids, *FILES] if secret in noted]
    assert not [path for path in world.home.rglob("*") if EMAIL in path.name]
    known = load_tombstones(world.environment)
    assert known.has_person("email", EMAIL) and known.has_person("phone", PHONE.replace("-", ""))
    assert not known.has_person("email", "other@bank.kr")
    (world.home / "keys" / "subjects" / "subjects.key").unlink()
    with pytest.raises(HeadraceError, match="restore the key"):
        load_tombstones(world.environment)


def test_doing_it_again_changes_nothing(world: World) -> None:
    first = world.carry_out()
    before = {path: path.read_bytes() for path in world.home.rglob("*") if path.is_file()}
    assert world.carry_out() == first
    assert {path: path.read_bytes() for path in world.home.rglob("*") if path.is_file()} == before


def test_what_is_found_later_is_erased_and_certified_too(world: World) -> None:
    first = world.carry_out()
    late = world.home / "artifacts" / "run-9" / "ingest" / "documents"
    with DocumentWriter(late) as writer:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        writer.write([new_document(source="backlog", url="x", text=f"ask {NAME}", retrieved_at=when)])
    second = world.carry_out()
    assert second["records"] == first["records"] + 1
    assert look(world.open()).places == {} and not late.exists()
    store = open_store(world.environment.store)
    assert len([key for key in store.list("erasures/") if key.endswith(".json")]) == 2


def test_a_model_is_listed_for_whoever_is_erased_from_a_successor_of_its_dataset(world: World) -> None:
    first = world.carry_out()
    second = world.carry_out(Request(reference="DSR-2", identifiers=["The valve"]))
    assert second["datasets"][0]["version"] == first["datasets"][0]["successor"]
    assert second["models"] == first["models"] != []


class Killed(BaseException):
    """The process dies here."""


@dataclass
class Grim:
    """Kills at a given change of the disk, before it or half-way through."""

    at: int
    seen: int = 0

    def __call__(self, act: Callable[..., Any], before: bool) -> Callable[..., Any]:
        def acted(*arguments: Any, **options: Any) -> Any:
            self.seen += 1
            if self.seen == self.at and before:
                raise Killed
            done = act(*arguments, **options)
            if self.seen == self.at:
                raise Killed
            return done

        return acted


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bool], Grim]]:
    """Have every change of a store, and of the tracking database, count down to death."""
    real = {name: getattr(FileStore, name) for name in ("write", "delete", "upload")}
    blank = clearing.blank

    def arm(at: int, before: bool) -> Grim:
        grim = Grim(at)
        for name, act in real.items():
            monkeypatch.setattr(FileStore, name, grim(act, before))
        monkeypatch.setattr(clearing, "blank", grim(blank, before))
        return grim

    yield arm
    monkeypatch.undo()


def test_killed_at_any_change_it_goes_on_and_ends_in_the_same_state(
    world: World, killing: Callable[[int, bool], Grim], monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = killing(-1, True)
    world.carry_out()
    monkeypatch.undo()
    wanted, changes = world.state(), counter.seen
    assert changes > 40
    for at in range(1, changes + 1, 4):
        renew(world)
        killing(at, at % 8 == 1)
        with pytest.raises(Killed):
            world.carry_out()
        monkeypatch.undo()
        world.carry_out()
        assert world.state() == wanted, f"killed at change {at} of {changes}"
        assert world.ledger.verify() == []


def test_half_an_erasure_lets_nothing_back_in_and_the_ledger_says_so(
    world: World, killing: Callable[[int, bool], Grim], monkeypatch: pytest.MonkeyPatch
) -> None:
    killing(2, True)  # the tombstones are written, nothing else
    with pytest.raises(Killed):
        world.carry_out()
    monkeypatch.undo()
    metrics = ingest(world, world.home / "artifacts" / "run-2" / "ingest" / "documents")
    assert metrics["dropped_erased"] == 3


def test_what_comes_back_from_a_backup_is_erased_before_anybody_reads_it(world: World, tmp_path: Path) -> None:
    world.carry_out()
    backup = open_store(f"file://{tmp_path}")
    assert tombstones.carry(open_store(world.environment.store), backup) == 1
    renew(world)  # as it was before the erasure
    store = open_store(world.environment.store)
    assert (tombstones.carry(backup, store), tombstones.carry(backup, store)) == (1, 0)
    cases = replay(world.environment)
    assert cases == [world.open().name]
    assert [secret for secret in SECRETS if secret in world.texts()] == []
    assert look(world.open()).places == {}
    assert world.ledger.verify() == []
    before = world.state()
    replay(world.environment)
    assert world.state() == before


def test_an_erased_document_takes_along_what_it_was_cut_from_and_crawled_as(world: World) -> None:
    rows = read_table(world.home / "artifacts/run-1/parse/parsed").to_pylist()
    pump = next(row for row in rows if row["url"] == "pump.md")
    folder = world.home / "artifacts" / "run-2"
    when = datetime(2026, 1, 1, tzinfo=UTC)
    whole = new_document(source="code", url="a.py", text="def a(): ...\n\ndef b(): ...", retrieved_at=when)
    part = new_document(source="code", url="a.py#L1-1", text="def a(): ...", retrieved_at=when, parents=[whole["id"]])
    for name, row in (("ingest", whole), ("parse", part)):
        with DocumentWriter(folder / name / "documents") as writer:
            writer.write([row])
    store = open_store(world.environment.store)
    for url, body in (("pump.md", "1" * 64), ("valve.md", "2" * 64)):
        note = Note(url=url, crawl=1, sha256=body)
        store.write(f"crawls/site/pages/{sha256(url.encode())}.json", canonical(asdict(note)))
        store.write(f"crawls/site/bodies/{body}", url.encode())
    world.carry_out(Request(reference="r", documents=[part["id"], pump["id"]]))
    assert not (folder / "ingest").exists() and not (folder / "parse").exists()
    left = {key.rpartition("/")[2] for key in store.list("crawls/")}
    assert left == {f"{sha256(b'valve.md')}.json", "2" * 64}
    assert {row["url"] for row in read_table(world.home / "store" / world.datasets()[0]).to_pylist()} == {
        *("contact.md", "call.md", "minutes.md", "valve.md")
    }


def test_what_is_held_is_not_erased(world: World) -> None:
    arguments = ["gc", "hold", "add", "case-7", world.datasets()[0], "--reason", "complaint", "--who", "legal"]
    home = ["--home", str(world.home)]
    assert CliRunner().invoke(app, [*arguments, *home]).exit_code == 0
    before = world.state()
    with pytest.raises(HeadraceError, match="held by case-7"):
        world.carry_out()
    assert world.state() == before


def test_a_whole_dataset_may_go(world: World) -> None:
    documents = [row["id"] for row in read_table(world.home / "store" / world.datasets()[0]).to_pylist()]
    certificate = world.carry_out(Request(reference="r", documents=documents))
    [dataset] = certificate["datasets"]
    assert dataset["successor"] == "" and dataset["erased"] == 5
    assert world.datasets() == [] and world.ledger.verify() == []


def test_two_erasures_after_each_other_are_one_chain(world: World) -> None:
    [first] = world.datasets()
    world.carry_out()
    [second] = world.datasets()
    pump = read_table(world.home / "store" / second).to_pylist()[0]["id"]
    world.carry_out(Request(reference="r-2", documents=[pump]))
    assert world.ledger.verify() == []
    with pytest.raises(HeadraceError, match="erased: case"):
        prove(world.ledger, pump, first)
    store = open_store(world.environment.store)
    statement = next(key for key in store.list("ledger/erasures/") if key.endswith("statement.json"))
    signed = json.loads(store.read(statement))
    fields = {name: signed[name] for name in signed if name not in ("public_key", "signature")}
    # An eraser that signs an erasure of something else than what is missing is found out by the Merkle root.
    fields["erased"][0]["leaf"] = "0" * 64
    store.write(statement, world.ledger.sign(fields))
    assert any("do not make up the version" in finding.problem for finding in world.ledger.verify())
    store.write(statement, b"{}")
    assert any("not a signed erasure" in finding.problem for finding in world.ledger.verify())


def test_on_the_command_line(world: World, tmp_path: Path) -> None:
    home = ["--home", str(world.home)]
    request, sealed, public, pub = (tmp_path / name for name in ("r.yaml", "r.sealed", "erasure.pub", "ledger.pub"))
    request.write_text(f"reference: DSR-1\nidentifiers: ['{EMAIL}', '{PHONE}', {NAME}]\n")

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(app, ["erase", *arguments])

    assert run("key", "--out", str(public), *home).exit_code == 0
    assert "sealed 3 identifiers" in run("seal", str(request), "--out", str(sealed), "--key", str(public)).output
    assert not any(secret.encode() in sealed.read_bytes() for secret in SECRETS)
    scanned = run("scan", str(sealed), *home)
    assert isinstance(scanned.exception, HeadraceError) and "dataset version" in scanned.output
    service = world.home / "plane" / "services" / "assistant.json"
    service.parent.mkdir(parents=True)
    service.write_text("{}")
    place = tmp_path / "local.yaml"  # whoever runs the tests may have a plane of their own on the usual port
    place.write_text((ENVIRONMENTS / "local.yaml").read_text().replace(":8081", ":1"))
    unmarked = run("run", str(sealed), "--yes", "-e", str(place), *home)
    assert "the serving plane is not running" in str(unmarked.exception), "services could not be marked afterwards"
    assert run("scan", str(sealed), *home).output == scanned.output
    service.unlink()
    erased = run("run", str(sealed), "--yes", *home)
    assert erased.exit_code == 0, erased.exception
    assert "4 records erased, nothing is found any more" in erased.output
    assert "was trained on them" in erased.output
    assert not any(secret in erased.output + scanned.output for secret in SECRETS)
    assert "found nowhere" in run("scan", str(sealed), *home).output
    assert "1 cases replayed" in run("replay", *home).output
    certificate = next((world.home / "certificates").rglob("certificate.json"))
    assert "What was not erased" in certificate.with_suffix(".html").read_text()
    CliRunner().invoke(app, ["ledger", "key", "--out", str(pub), *home])
    assert "request DSR-1" in run("check", str(certificate), "--key", str(pub)).output
    certificate.write_bytes(certificate.read_bytes().replace(b'"records":4', b'"records":9'))
    assert isinstance(run("check", str(certificate), "--key", str(pub)).exception, HeadraceError)


def test_a_request_opens_in_its_environment_only_and_its_faults_name_nobody(world: World, tmp_path: Path) -> None:
    other = load_environment("local", tmp_path / "other")
    sealed = seal_request(REQUEST, erasure_key(other).public_key())
    with pytest.raises(HeadraceError, match="another environment's key"):
        open_request(world.environment, sealed)
    with pytest.raises(HeadraceError, match="was changed"):
        unseal(sealed[:-1] + bytes([sealed[-1] ^ 1]), erasure_key(other))
    path = tmp_path / "request.yaml"
    for text in (f"reference: '{NAME}'", f"reference: r\nidentifiers: [{NAME}, 김]", "reference: r", f"- {NAME}"):
        path.write_text(text)
        with pytest.raises(UsageError) as caught:
            read_request(path)
        assert NAME not in str(caught.value)


@given(st.sampled_from([EMAIL, PHONE, NAME, "Ann Lee", "900101-1234568"]), st.text(max_size=30), st.text(max_size=30))
def test_an_identifier_is_found_in_any_surroundings(value: str, before: str, after: str) -> None:
    matcher = Matcher(tombstones.Tombstones(), frozenset({recognise(value)}))
    assert matcher.is_person_in(f"{before} {value} {after}")
    assert matcher.is_in(json.dumps({"text": f"x {value} y"}))


@pytest.mark.parametrize(
    ("identifier", "text", "found"),
    [
        (PHONE, "+82 10 2345 6789", True),
        (PHONE, "tel01023456789", True),
        (PHONE, "010-2345-6780", False),
        (EMAIL, "Kim.Cheolsu(at)bank(dot)kr", True),
        (EMAIL, "xkim.cheolsu@bank.kr", False),
        ("Ann Lee", "ask ann  LEE.", True),
        ("Ann Lee", "Joann Lee", False),
        ("900101-1234568", "주민번호는 9001011234568이다", True),
        ("9001011234568", "900101-1234568번", True),
        ("900101-1234568", "900101-1234567", False),
        (NAME, "고객(김철수)께서는", True),
        (NAME, "김철 수리", False),
        (EMAIL, "GET /find?mail=kim.cheolsu%40bank.kr", True),
        (NAME, "김철수가", True),
        (NAME, "\u1100\u1175\u11b7\u110e\u1165\u11af\u1109\u116e", True),
        ("O'Neil", "<p>O&#x27;Neil</p>", True),
    ],
)
def test_an_identifier_is_found_however_it_is_written(identifier: str, text: str, found: bool) -> None:
    assert Matcher(tombstones.Tombstones(), frozenset({recognise(identifier)})).is_in(text) is found


def test_identifiers_are_recognised_as_masking_does() -> None:
    assert recognise(f" {EMAIL.upper()} ") == Identifier("email", EMAIL)
    assert recognise("+82 10-2345-6789") == recognise(PHONE)
    assert recognise("Ann  LEE") == Identifier("words", "ann lee")


def test_a_model_version_that_names_a_person_is_said_and_not_hidden(world: World) -> None:
    folder = next((world.home / "store" / "models" / "assistant").iterdir())
    (folder / "MODEL_CARD.md").write_text(f"Made for {NAME}.")
    with pytest.raises(HeadraceError, match="1 × model version"):
        world.carry_out()
    assert file_digest(folder / "MODEL_CARD.md")


def test_as_the_steps_of_a_pipeline(world: World, tmp_path: Path) -> None:
    store = open_store(world.environment.store)
    sealed = seal_request(REQUEST, erasure_key(world.environment).public_key())
    request = leave_request(store, sealed)
    place = world.environment.parameter()

    def outputs(step: str, name: str) -> dict[str, dsl.Artifact]:
        made = {name: dsl.Artifact, "metrics": dsl.Metrics, "report": dsl.HTML}
        return {key: kind(name=key, uri=str(tmp_path / step / key)) for key, kind in made.items()}

    first = outputs("erase", "erasure")
    erase_step.python_func(**first, request=request, environment=place)
    second = outputs("certify", "certificate")
    certify_step.python_func(erasure=first["erasure"], **second, request=request, environment=place)
    stated = check((tmp_path / "certify/certificate/certificate.json").read_bytes(), world.ledger.public_key(), "key")
    assert stated["records"] == 4
    assert not list(store.list("erasures/requests/"))
    assert world.ledger.verify() == []
    written = "".join(path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file())
    assert not [secret for secret in SECRETS if secret in written]
    with pytest.raises(HeadraceError, match="there is no sealed request"):
        erase_step.python_func(**first, request=request, environment=place)


def noted_case(environment: Environment, model: str) -> str:
    """A case that lists a model version, as an erasure notes it."""
    ledger, key = Ledger(open_store(environment.store), Path(environment.signing_key)), subject_key(environment)
    statement = {"case": "c" * 16, "key": subjects.key_id(key), "models": [model]}
    ledger.store.write(f"tombstones/{'c' * 16}/000000.json", ledger.sign(statement))
    return "c" * 16


def service_of(environment: Environment, name: str, model: str) -> dict[str, Any]:
    predictor = render_predictor("r1", f"{environment.store}/{model}", 1, {"cpu": "1"}, [], {})
    predictor["model"]["name"] = "kserve-container"  # the resource definition of the tests' API server requires it
    return render(name, environment.serving.namespace, predictor)


def test_services_that_serve_a_model_concerned_are_marked_on_the_plane(environment: Environment) -> None:
    services = InferenceServices(environment.serving)
    concerned, other = f"models/m/{'a1' * 32}", f"models/m/{'b2' * 32}"
    for name, model in (("told", concerned), ("untold", other)):
        manifest = service_of(environment, name, model)
        services.change(name, lambda seen, manifest=manifest: manifest)  # type: ignore[misc]
    case = noted_case(environment, concerned)
    try:
        [marked] = mark(environment, case)
        assert (marked["service"], marked["models"]) == ("told", concerned)
        assert mark(environment, case) == [marked]
        annotations = {name: services.get(name)["metadata"].get("annotations") or {} for name in ("told", "untold")}
        assert annotations["told"]["headrace.dev/erasure"] == case
        assert "headrace.dev/erasure" not in annotations["untold"]
    finally:
        api = client.CustomObjectsApi(services.api.client)
        for name in ("told", "untold"):
            api.delete_namespaced_custom_object(
                "serving.kserve.io", "v1beta1", services.namespace, "inferenceservices", name
            )


def test_on_a_cluster_the_mark_restarts_no_model_server(cluster: client.ApiClient, tmp_path: Path) -> None:
    core = client.CoreV1Api(cluster)
    namespace = "erase-serving"
    if namespace not in {item.metadata.name for item in core.list_namespace().items}:
        core.create_namespace({"metadata": {"name": namespace}})
    key, store = str(tmp_path / "key.pem"), f"file://{tmp_path}/store"
    serving = Serving(mode="standard", namespace=namespace)
    place = Environment(name="staging", store=store, tracking="", signing_key=key, serving=serving)
    (tmp_path / "subjects").mkdir()
    (tmp_path / "subjects" / "subjects.key").write_bytes(base64.b64encode(bytes(32)))
    model = f"models/m/{'a1' * 32}"
    services = NotedServices(InferenceServices(serving))
    services.change("told", lambda seen: service_of(place, "told", model))
    before = InferenceServices(serving).get("told")
    [marked] = mark(place, noted_case(place, model))
    assert marked["service"] == "told"
    assert services.get("told")["metadata"]["annotations"]["headrace.dev/erasure"] == "c" * 16
    assert InferenceServices(serving).get("told") == before, "KServe copies annotations of the service into its pods"
    api = client.CustomObjectsApi(cluster)
    api.delete_collection_namespaced_custom_object("serving.kserve.io", "v1beta1", namespace, "inferenceservices")


def test_a_person_is_erased_from_a_bucket(cloud: str, pristine: World, tmp_path: Path) -> None:
    place = load_environment("local", tmp_path / "home").model_copy(update={"store": f"{cloud}/{tmp_path.name}"})
    documents = tmp_path / "documents"
    with DocumentWriter(documents) as writer:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        rows = [{"source": "site", "url": name, "text": text} for name, text in FILES.items()]
        writer.write(new_document(**row, retrieved_at=when) for row in rows)
    run_single("data/card", {"documents": documents}, {"dataset": tmp_path / "dataset"}, {"owner": "me"}, place)
    store = open_store(place.store)
    store.write("tracking/x/notes.txt", NAME.encode())
    sealed = seal_request(REQUEST, erasure_key(place).public_key())
    erase(open_request(place, sealed))
    [part] = [key for key in store.list("datasets/") if key.endswith(".parquet")]
    store.download(part, tmp_path / "left" / "part-00000.parquet")
    assert {row["url"] for row in read_table(tmp_path / "left").to_pylist()} == {"pump.md", "valve.md"}
    assert not store.exists("tracking/x/notes.txt") and not (tmp_path / "dataset").exists()
    assert look(open_request(place, sealed)).places == {}
    assert Ledger(store, Path(place.signing_key)).verify() == []
