"""Backup and restore: a lost home comes back whole and verified, without whoever was erased and without keys."""

import os
import shutil
import sqlite3
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.common.documents import DocumentWriter, new_document, read_table
from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.keys import erasure_key
from components.common.ledger import Ledger, entry_of, make_entry
from components.common.store import open_store, upload_tree
from components.common.trace import trace
from components.operations.backup.clear import clear_backups
from components.operations.backup.contents import Contents
from components.operations.backup.repository import Repository
from components.operations.backup.restore import restore, verify_key
from components.operations.backup.take import back_up, noted
from components.operations.erase.request import Request, seal
from components.operations.erase.work import Erasure, erase, look, open_request
from pipelines.cli import app
from pipelines.single import run_single

TEXTS = [
    "The licence of hammer is MIT.",
    "김철수 씨(kim.cheolsu@example.org)가 모루를 주문했습니다.",
    "The licence of anvil is BSD-3-Clause.",
]
KIM = "kim.cheolsu@example.org"


class Shop:
    """A laptop's home with a dataset version, artifacts, a run, tracking and services."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.to = f"file://{folder / 'backups'}"
        self.kept_keys = folder / "safe"

    @property
    def environment(self) -> Environment:
        return load_environment("local", self.home)

    @property
    def ledger(self) -> Ledger:
        return Ledger(open_store(self.environment.store), Path(self.environment.signing_key))

    def work(self, texts: list[str], name: str = "tools") -> Path:
        """Two real steps in the home: documents are mixed, then made a dataset version."""
        folder = self.home / "artifacts" / name
        with DocumentWriter(folder / "documents") as writer:
            when = datetime(2026, 1, 1, tzinfo=UTC)
            writer.write(new_document(source="s", url=text, text=text, retrieved_at=when) for text in texts)
        mixed, dataset = folder / "mix-1" / "mixed", folder / "card-1" / "dataset"
        run_single("data/mix", {"documents": folder / "documents"}, {"mixed": mixed}, {}, self.environment)
        options = {"name": name, "owner": "me"}
        run_single("data/card", {"documents": mixed}, {"dataset": dataset}, options, self.environment)
        shutil.rmtree(folder / "documents")
        return dataset

    def files(self) -> dict[str, bytes]:
        """What is kept, the tracking database by what it says."""
        kept = {stored.key: (self.home / stored.key).read_bytes() for stored in Contents(self.environment).files()}
        with sqlite3.connect(self.home / "mlflow.db") as database:
            return kept | {"mlflow.db": "\n".join(database.iterdump()).encode()}

    def lose(self) -> None:
        """Lose the home; what is left is the keys that somebody kept."""
        shutil.rmtree(self.kept_keys, ignore_errors=True)
        shutil.copytree(self.home / "keys", self.kept_keys)
        shutil.rmtree(self.home)
        shutil.copytree(self.kept_keys, self.home / "keys")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.work(TEXTS)
    with sqlite3.connect(made.home / "mlflow.db") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE runs (name TEXT)")
        database.execute("INSERT INTO runs VALUES ('first')")
    for path in ("cache/a.json", "plane/plane.log", "plane/services/assistant.json", "runs/1/report.html"):
        (made.home / path).parent.mkdir(parents=True, exist_ok=True)
        (made.home / path).write_text("{}")
    return made


def test_only_what_is_new_is_copied_and_the_same_content_is_the_same_backup(shop: Shop) -> None:
    first = back_up(shop.environment, shop.to)
    assert first.new == len({*shop.files().values()})
    again = back_up(shop.environment, shop.to)
    assert (again.backup, again.new) == (first.backup, 0)
    with sqlite3.connect(shop.home / "mlflow.db") as database:
        database.execute("INSERT INTO runs VALUES ('second')")
    third = back_up(shop.environment, shop.to)
    assert (third.backup.number, third.new) == (2, 1)


def test_a_backup_holds_what_cannot_be_made_again_and_no_key(shop: Shop) -> None:
    backup = back_up(shop.environment, shop.to).backup
    held = set(Repository(shop.to).manifest(backup.manifest).files)
    assert {"plane/services/assistant.json", "runs/1/report.html", "mlflow.db"} <= held
    assert not {path for path in held if path.startswith(("keys/", "cache/", "run.lock", "plane/plane"))}
    secrets = [path.read_bytes() for path in (shop.home / "keys").rglob("*") if path.is_file()]
    everything = b"".join(path.read_bytes() for path in Path(shop.to[7:]).rglob("*") if path.is_file())
    assert secrets
    assert not [secret for secret in secrets if secret in everything]


def test_older_backups_go_and_what_newer_ones_need_stays(shop: Shop) -> None:
    back_up(shop.environment, shop.to)
    (shop.home / "runs/1/report.html").write_text("another one")
    back_up(shop.environment, shop.to)
    (shop.home / "runs/1/report.html").write_text("and another")
    taken = back_up(shop.environment, shop.to, keep=1)
    assert taken.dropped == [1, 2]
    repository = Repository(shop.to)
    [left] = repository.backups(verify_key(shop.environment))
    manifest = repository.manifest(left.manifest)
    blobs = {key.rpartition("/")[2] for key in repository.store.list("blobs/")}
    assert blobs == {content.sha256 for content in manifest.files.values()}
    assert not repository.damaged({left.manifest: manifest})


def test_a_lost_home_comes_back_and_its_ledger_holds(shop: Shop) -> None:
    before, key = shop.files(), verify_key(shop.environment).public_bytes_raw()
    back_up(shop.environment, shop.to)
    shop.lose()
    done = restore(shop.environment, shop.to)
    assert (done.findings, done.aside) == ([], "")
    assert shop.files() == before
    assert shop.ledger.verify() == []
    assert verify_key(shop.environment).public_bytes_raw() == key
    document = read_table(shop.home / "artifacts/tools/card-1/dataset").column("id")[0].as_py()
    assert trace(shop.ledger, document).heads("datasets")
    assert [path.name for path in shop.home.parent.iterdir() if path.name.startswith("home")] == ["home"]
    assert noted(open_store(shop.environment.store)) == [shop.to]


def test_a_home_restored_elsewhere_knows_where_it_is(shop: Shop, tmp_path: Path) -> None:
    dataset = shop.work(TEXTS, "gone")
    entry = entry_of(dataset)
    for place in shop.ledger.locations(entry):
        shop.ledger.remove(entry, place["output"], place["uri"], "tried it")
        shutil.rmtree(place["uri"].removeprefix("file://"))
    assert shop.ledger.verify() == []
    back_up(shop.environment, shop.to)
    restore(shop.environment, shop.to, f"file://{tmp_path / 'other'}")
    shop.lose()
    other = load_environment("local", tmp_path / "other")
    ledger = Ledger(open_store(other.store), Path(other.signing_key))
    assert ledger.verify() == []
    assert all(f"{tmp_path}/other/" in removal["uri"] for removal in ledger.removals())


def test_nothing_is_restored_over_a_home_unless_told_and_then_it_is_put_aside(shop: Shop) -> None:
    back_up(shop.environment, shop.to)
    before = shop.files()
    (shop.home / "runs/1/report.html").write_text("newer")
    with pytest.raises(UsageError, match="already"):
        restore(shop.environment, shop.to)
    assert (shop.home / "runs/1/report.html").read_text() == "newer"
    done = restore(shop.environment, shop.to, overwrite=True)
    assert shop.files() == before
    assert (Path(done.aside) / "runs/1/report.html").read_text() == "newer"


def test_what_was_changed_or_signed_by_another_is_not_restored(shop: Shop, tmp_path: Path) -> None:
    backup = back_up(shop.environment, shop.to).backup
    repository, folder = Repository(shop.to), Path(shop.to[7:])
    content = repository.manifest(backup.manifest).files["runs/1/report.html"]
    shop.lose()
    blob = folder / "blobs" / content.sha256[:2] / content.sha256
    blob.write_text("[]")
    assert repository.damaged({"": repository.manifest(backup.manifest)}) == {content.sha256}
    with pytest.raises(HeadraceError, match="not what was backed up"):
        restore(shop.environment, shop.to)
    blob.write_text("{}")
    manifest = folder / "manifests" / f"{backup.manifest}.json"
    whole = manifest.read_bytes()
    manifest.write_bytes(whole.replace(b"runs/1", b"runs/2"))
    with pytest.raises(HeadraceError, match="was changed since it was signed"):
        restore(shop.environment, shop.to)
    manifest.write_bytes(whole)
    statement = folder / "backups" / "000001.json"
    signed = statement.read_bytes()
    statement.write_bytes(signed.replace(b'"files":', b'"files":1'))
    with pytest.raises(HeadraceError, match="signature does not fit"):
        restore(shop.environment, shop.to)
    statement.write_bytes(signed)
    (shop.home / "keys" / "ledger.pem").unlink()
    with pytest.raises(HeadraceError, match=r"ledger\.pem, the key that signed the backups, is missing"):
        restore(shop.environment, shop.to)
    assert {path.name for path in shop.home.iterdir()} == {"keys"}
    other = load_environment("local", tmp_path / "other")
    Ledger(open_store(other.store), Path(other.signing_key)).verify_key()
    with pytest.raises(HeadraceError, match="signed with a key that is not this store's"):
        back_up(other, shop.to)


def killed(owner: type, name: str, count: int, shop: Shop, when: str = "") -> bool:
    """Restore in a process that dies right after the n-th call of a function; whether it died there."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    real, calls = getattr(owner, name), []

    def die(*args: Any, **options: Any) -> Any:
        made = real(*args, **options)
        calls.extend([made] if when in str(made) else [])
        if len(calls) == count:
            os._exit(9)
        return made

    setattr(owner, name, die)
    with suppress(BaseException):
        restore(shop.environment, shop.to)
    os._exit(1)


def test_killed_anywhere_a_restore_goes_on_to_the_same_end(shop: Shop) -> None:
    before = shop.files()
    back_up(shop.environment, shop.to)
    shop.lose()
    assert killed(Repository, "fetch", 5, shop)
    assert killed(Ledger, "relocate", 1, shop)
    assert killed(Ledger, "relocate", 2, shop)
    assert killed(Path, "rename", 1, shop, when=".before-")
    assert not (shop.home / "store").exists()
    restore(shop.environment, shop.to)
    assert shop.files() == before
    assert shop.ledger.verify() == []
    assert sorted(path.name for path in shop.home.parent.iterdir()) == ["backups", "home", "safe"]


def request(environment: Environment) -> Erasure:
    """Open a sealed request to erase Kim."""
    return open_request(
        environment, seal(Request(reference="DSR-1", identifiers=[KIM]), erasure_key(environment).public_key())
    )


def test_a_restore_brings_nobody_back_who_was_erased_since(shop: Shop) -> None:
    back_up(shop.environment, shop.to)
    erase(request(shop.environment))
    done = restore(shop.environment, shop.to, overwrite=True)
    assert len(done.cases) == 1
    assert not look(request(shop.environment)).places
    assert shop.ledger.verify() == []
    [dataset] = shop.home.glob("store/datasets/tools/*")
    assert len(read_table(dataset)) == len(TEXTS) - 1


def test_nor_when_the_home_was_lost_with_its_list_of_who_was_erased(shop: Shop) -> None:
    back_up(shop.environment, shop.to)
    erase(request(shop.environment))
    shop.lose()
    (shop.home / "keys/subjects/subjects.key").rename(shop.home.parent / "mislaid")
    with pytest.raises(HeadraceError, match=r"subjects\.key is missing"):
        restore(shop.environment, shop.to)
    (shop.home.parent / "mislaid").rename(shop.home / "keys/subjects/subjects.key")
    assert restore(shop.environment, shop.to).cases
    assert not look(request(shop.environment)).places
    assert shop.ledger.verify() == []


def test_an_erasure_reaches_into_the_backups(shop: Shop) -> None:
    first = back_up(shop.environment, shop.to).backup
    (shop.home / "runs/1/report.html").write_text(KIM)
    back_up(shop.environment, shop.to)
    erase(request(shop.environment))
    assert clear_backups(shop.environment) == {shop.to: [1, 2]}
    assert clear_backups(shop.environment) == {shop.to: []}
    held = [path.read_bytes() for path in Path(shop.to[7:]).rglob("*") if path.is_file()]
    assert not [data for data in held if KIM.encode() in data]
    cleared = Repository(shop.to).backup(1, verify_key(shop.environment))
    assert (cleared.number, cleared.taken_at) == (1, first.taken_at)
    assert cleared.manifest != first.manifest
    shop.lose()
    restore(shop.environment, shop.to, number=1)
    assert not look(request(shop.environment)).places
    assert shop.ledger.verify() == []


def test_a_bucket_is_restored_to_an_empty_place_that_nobody_reads_yet(tmp_path: Path, cloud: str) -> None:
    environment = Environment(
        name="bucket", store=f"{cloud}/shop", tracking="", signing_key=str(tmp_path / "keys" / "ledger.pem")
    )
    store, to = open_store(environment.store), f"{cloud}/backups/shop"
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "part").write_text("x" * 1000)
    entry = make_entry("data/card", {}, {"dataset": folder}, {}, "code", {"in": 1, "out": 1, "dropped": {}})
    uri = upload_tree(store, folder, "datasets/d/1", "part")
    store.write("datasets/d/1/ledger.json", entry)
    ledger = Ledger(store, Path(environment.signing_key))
    ledger.sign_head("datasets/d/1", ledger.record(entry, {"dataset": [uri]}))
    assert [back_up(environment, to).new for _ in range(2)] == [4, 0]  # the entry is there twice
    with pytest.raises(UsageError, match="is what bucket reads"):
        restore(environment, to)
    store.delete("datasets/d/1/part")
    done = restore(environment, to, f"{cloud}/shop-2")
    restored = open_store(f"{cloud}/shop-2")
    assert done.root == restored.uri
    assert Ledger(restored, Path(environment.signing_key)).verify() == []
    assert restored.read("datasets/d/1/part") == b"x" * 1000
    assert not restored.exists("restore.json")
    with pytest.raises(UsageError, match="already"):
        restore(environment, to, f"{cloud}/shop-2")


def test_the_commands_say_what_they_did(shop: Shop) -> None:
    runner, home, to = CliRunner(), ["--home", str(shop.home)], shop.to[7:]
    made = runner.invoke(app, ["backup", to, *home])
    assert "backup 1" in made.output
    assert "keys/ledger.pem" in made.output
    listed = runner.invoke(app, ["backups", to, "--verify", *home])
    assert (listed.exit_code, "none" in listed.output) == (0, True)
    shop.lose()
    restored = runner.invoke(app, ["restore", to, *home])
    assert (restored.exit_code, "backup 1 of" in restored.output) == (0, True), restored.output
    assert runner.invoke(app, ["ledger", "verify", *home]).exit_code == 0
