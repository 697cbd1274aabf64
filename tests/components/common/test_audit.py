"""Whoever reads what is confidential is noted, without content, in a chain that shows what was changed."""

import base64
import json
import os
import pwd
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.common import audit
from components.common.documents import DocumentWriter, new_document
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical
from components.common.sealed_store import store_of
from components.common.store import FileStore, Store
from components.common.vault import files_of
from components.operations.sealing.extract import unseal
from pipelines.cli import app
from pipelines.single import run_single

GRADES = ("public", "internal", "confidential", "restricted", "restricted")


def write(folder: Path, grades: tuple[str, ...] = GRADES) -> Path:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with DocumentWriter(folder) as writer:
        writer.write(
            new_document(
                source="crm" if grade == "restricted" else "wiki",
                url=str(number),
                text=f"양수펌프 {number}",
                retrieved_at=when,
                confidentiality=grade,
            )
            for number, grade in enumerate(grades)
        )
    return folder


def read(number: int) -> audit.Read:
    return audit.Read("data/mask", f"file:///a/{number}", "test", grades={"restricted": number})


@given(st.integers(0, 40))
def test_numbers_have_no_gaps_however_many_there_are(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    store = FileStore(tmp_path_factory.mktemp("audit"))
    for number in range(count):
        audit.note(store, read(number))

    assert [record["grades"]["restricted"] for record in audit.records(store)] == list(range(count))
    assert audit.verify(store) == []


@pytest.fixture
def chain(tmp_path: Path) -> Store:
    store = FileStore(tmp_path / "store")
    for number in range(6):
        audit.note(store, read(number))
    return store


@pytest.mark.parametrize("number", [0, 3, 4])
def test_a_changed_record_is_found(chain: Store, number: int) -> None:
    key = f"audit/{number:09}.json"
    chain.write(key, canonical({**json.loads(chain.read(key)), "who": "somebody else"}))

    assert audit.verify(chain) == [
        f"audit/{number + 1:09}.json does not name the record before it: one of them was changed"
    ]


@pytest.mark.parametrize("number", [0, 3])
def test_a_removed_record_is_found(chain: Store, number: int) -> None:
    chain.delete(f"audit/{number:09}.json")

    assert audit.verify(chain) == [f"audit/{number:09}.json is missing"]


def test_what_is_no_record_is_found(chain: Store) -> None:
    chain.write("audit/000000005.json", b"[]")

    assert audit.verify(chain) == ["audit/000000005.json is no record"]


def test_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    writers = [threading.Thread(target=lambda n=n: [audit.note(store, read(n)) for _ in range(5)]) for n in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    assert len(list(audit.records(store))) == 30 and audit.verify(store) == []


def test_what_was_read_since_a_backup_is_carried_to_what_is_restored(chain: Store, tmp_path: Path) -> None:
    older, other = FileStore(tmp_path / "older"), FileStore(tmp_path / "other")
    for number in range(3):
        older.write(f"audit/{number:09}.json", chain.read(f"audit/{number:09}.json"))
    audit.note(other, read(9))

    audit.carry(chain, older), audit.carry(chain, other)

    assert list(audit.records(older)) == list(audit.records(chain)) and audit.verify(older) == []
    assert len(list(audit.records(other))) == 1  # another's chain is not mixed with it


def test_a_pod_is_its_service_account_and_a_laptop_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert audit.whoami().partition("@")[0] == pwd.getpwuid(os.getuid()).pw_name
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 987654)
        assert audit.whoami().startswith("uid 987654@")
    claims = base64.urlsafe_b64encode(b'{"sub":"system:serviceaccount:headrace-prod:headrace-data"}').decode()
    (tmp_path / "token").write_text(f"e30.{claims.rstrip('=')}.c2ln")
    monkeypatch.setattr(audit, "_TOKEN", tmp_path / "token")
    assert audit.whoami() == "system:serviceaccount:headrace-prod:headrace-data"


@pytest.mark.parametrize("encryption", ["", "keyset"])
def test_a_step_that_reads_confidential_records_leaves_one_record_for_each_artifact(
    environment_at: Callable[[Path], Environment], tmp_path: Path, encryption: str
) -> None:
    place = environment_at(tmp_path).model_copy(update={"encryption": encryption})
    documents, public = write(tmp_path / "documents"), write(tmp_path / "public", ("public", "internal"))
    run_single("data/mix", {"documents": public}, {"mixed": tmp_path / "a/mixed"}, {}, place)
    assert list(audit.records(store_of(place))) == []

    run_single("data/mix", {"documents": documents}, {"mixed": tmp_path / "b/mixed"}, {}, place)
    run_single("data/mix", {"documents": tmp_path / "b/mixed"}, {"mixed": tmp_path / "c/mixed"}, {}, place)

    first, second = audit.records(store_of(place))
    assert (first["grades"], first["sources"]) == ({"confidential": 1, "restricted": 2}, {"crm": 2, "wiki": 1})
    assert (first["what"], first["artifact"], first["entry"]) == ("data/mix", f"file://{documents}", "")
    assert (first["run"], first["who"]) == (f"file://{tmp_path}/b", audit.whoami())
    assert second["entry"] and second["artifact"] == f"file://{tmp_path}/b/mixed"
    assert "양수펌프" not in str([first, second])


def test_a_step_that_cannot_be_noted_reads_nothing(
    environment_at: Callable[[Path], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object) -> None:
        raise HeadraceError("the audit log cannot be written")

    monkeypatch.setattr(audit, "note", refused)
    with pytest.raises(HeadraceError, match="the audit log cannot be written"):
        run_single(
            "data/mix", {"documents": write(tmp_path / "d")}, {"mixed": tmp_path / "m"}, {}, environment_at(tmp_path)
        )
    assert not (tmp_path / "m").exists()


def test_who_brings_something_out_is_noted_first_and_the_command_shows_it(
    environment_at: Callable[[Path], Environment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = environment_at(tmp_path).model_copy(update={"encryption": "keyset"})
    run_single("data/mix", {"documents": write(tmp_path / "d")}, {"mixed": tmp_path / "m"}, {}, place)
    monkeypatch.setattr("pipelines.keys_cli.load_environment", lambda name, home: place)
    monkeypatch.setattr("pipelines.cli._load", lambda name, home: place)

    def headrace(*words: str) -> str:
        result = CliRunner(env={"COLUMNS": "220"}).invoke(app, list(words))
        assert not result.exception, result.exception
        return result.output

    assert "files in" in headrace("unseal", str(tmp_path / "m"), str(tmp_path / "out"), "--why", "case [/7]")
    assert "1 files" in headrace("unseal", f"file://{tmp_path}/m.html", str(tmp_path / "m-plain.html"), "--why", "look")
    assert "<html" in (tmp_path / "m-plain.html").read_text()
    with pytest.raises(HeadraceError, match="is there already"):
        unseal(place, str(tmp_path / "m"), tmp_path / "out", "again")
    with pytest.raises(UsageError, match="why is empty; give the purpose"):
        unseal(place, str(tmp_path / "m"), tmp_path / "unsaid", " ")
    assert not (tmp_path / "unsaid").exists()
    (tmp_path / "above").mkdir()
    shutil.copytree(tmp_path / "m", tmp_path / "above/m")
    assert unseal(place, str(tmp_path / "above"), tmp_path / "above-out", "look") == len(list(files_of(tmp_path / "m")))
    with pytest.raises(HeadraceError, match="does not exist"):
        unseal(place, str(tmp_path / "none"), tmp_path / "none-out", "again")

    shown = headrace("ledger", "audit")
    assert "data/mix" in shown and "case [/7]" in shown and "2 crm" in shown
    rows = [json.loads(line) for line in headrace("ledger", "audit", "--json", "--source", "crm").splitlines()]
    assert [row["why"] for row in rows] == ["step of a run", "case [/7]", "look"]
    assert headrace("ledger", "audit", "--json", "--who", "nobody") == ""
    assert len(headrace("ledger", "audit", "--json", "--artifact", "m.html").splitlines()) == 1
    store = store_of(place)
    store.write("audit/000000001.json", b"{}")
    broken = CliRunner().invoke(app, ["ledger", "audit"])
    assert isinstance(broken.exception, HeadraceError) and "does not hold" in str(broken.exception)
    refused = CliRunner().invoke(app, ["ledger", "verify"])
    assert "audit log" in refused.output and isinstance(refused.exception, HeadraceError)
