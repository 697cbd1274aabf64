"""With encryption on nothing of a document lies in plain, everything works as without, and keys can be changed."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.common import audit
from components.common.documents import read_table
from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.keys import erasure_key
from components.common.ledger import SIDECAR, DamagedArtifact, Ledger, check_input, open_ledger
from components.common.proof import check, prove
from components.common.sealed_store import store_of
from components.common.store import FileStore
from components.common.trace import trace
from components.common.vault import files_of, is_sealed
from components.common.wrapping import Keyset, State, keyset_file, load_keyset, open_vault
from components.operations.backup.restore import restore
from components.operations.backup.take import back_up
from components.operations.erase.request import Request
from components.operations.erase.request import seal as seal_request
from components.operations.erase.work import erase, look, open_request
from components.operations.sealing.keys import retire, rotate, seal_plain, survey
from pipelines.cli import app
from pipelines.line import run_folder
from pipelines.single import run_single

MARKS = ("quellwasserpumpe", "양수펌프", "kim.cheolsu@bank.kr")
FILES = {
    "contact.md": "# Contact\n\nWrite to kim.cheolsu@bank.kr about the quellwasserpumpe and its licence, MIT.",
    "pump.md": "# 양수펌프\n\n양수펌프는 물을 옮긴다. 펌프의 사용 허가는 MIT 이다.",
    "valve.md": "# Valve\n\nThe valve stops the water that the quellwasserpumpe moves.",
}
REQUEST = Request(reference="DSR-1", identifiers=["kim.cheolsu@bank.kr"])


@dataclass
class Works:
    """A laptop's home with a dataset version that real steps made."""

    home: Path
    encryption: str = "keyset"

    @property
    def environment(self) -> Environment:
        return load_environment("local", self.home).model_copy(update={"encryption": self.encryption})

    @property
    def ledger(self) -> Ledger:
        return open_ledger(self.environment)

    @property
    def dataset(self) -> Path:
        return self.home / "artifacts/run/card/dataset"

    def work(self) -> None:
        sources, run = self.home.parent / f"{self.home.name}-sources", self.home / "artifacts/run"
        sources.mkdir(exist_ok=True)
        for name, text in FILES.items():
            (sources / name).write_text(text)
            os.utime(sources / name, (0, 0))
        source = {
            "id": "site",
            "class": "in_house",
            "kind": "auto",
            "location": str(sources),
            "license": "MIT",
            "terms": "https://example.org/terms",
            "confidentiality": "confidential",
            "pii": "present",
            "owner": "me",
            "cadence": "once",
        }
        options = {"sources": [source], "max_confidentiality": "restricted"}
        run_single("data/ingest", {}, {"documents": run / "ingest/documents"}, options, self.environment)
        for step, given, name, options in (
            ("parse", "ingest/documents", "parsed", {}),
            ("mix", "parse/parsed", "mixed", {}),
            ("card", "mix/mixed", "dataset", {"name": "corpus", "owner": "me", "description": "Pumps."}),
        ):
            run_single(f"data/{step}", {"documents": run / given}, {name: run / step / name}, options, self.environment)
        with run_folder(self.home, open_vault(self.environment)) as folder:
            (folder / "run.log").write_text(f"an excerpt: {MARKS[0]}")
            (folder / "report.html").write_text(f"<p>{MARKS[1]}</p>")

    def plain(self) -> set[str]:
        """Every file that is not sealed, keys and locks apart."""
        files = (path.relative_to(self.home).as_posix() for path in files_of(self.home) if not is_sealed(path))
        return {name for name in files if not name.startswith("keys/") and name != "run.lock"}

    def shows(self) -> list[str]:
        """Files in which something of a document can be read by whoever has no key."""
        found = []
        for name in self.plain():
            path = self.home / name
            text = (
                str(read_table(path.parent).to_pylist())
                if path.suffix == ".parquet"
                else path.read_text(errors="replace")
            )
            found += [name for mark in MARKS if mark in text.lower()]
        return found

    def texts(self) -> str:
        with open_vault(self.environment).opened(self.dataset) as folder:
            return str(read_table(folder).to_pylist())


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Works]:
    made: dict[str, Works] = {}

    def make(encryption: str) -> Works:
        if encryption not in made:
            made[encryption] = Works(tmp_path_factory.mktemp("sealing") / "home", encryption)
            made[encryption].work()
            shutil.copytree(made[encryption].home, made[encryption].home.with_name("pristine"))
        works = made[encryption]
        shutil.rmtree(works.home)
        shutil.copytree(works.home.with_name("pristine"), works.home)
        for left in works.home.parent.glob("backups*"):
            shutil.rmtree(left)
        return works

    return make


@pytest.fixture
def works(pristine: Callable[[str], Works]) -> Works:
    return pristine("keyset")


@pytest.fixture
def before(pristine: Callable[[str], Works]) -> Works:
    """What was made before the environment named a key; it names one now."""
    works = pristine("")
    return Works(works.home, "keyset")


def test_nothing_of_a_document_lies_in_plain(works: Works, before: Works) -> None:
    allowed = ("store/ledger/", "/ledger.json", ".metrics.json", "store/audit/")
    assert [name for name in works.plain() if not any(part in name for part in allowed)] == []
    assert works.shows() == []
    assert before.shows() != []  # it would have been seen


def test_what_is_sealed_has_the_digests_that_it_has_in_plain(works: Works, pristine: Callable[[str], Works]) -> None:
    sealed = {made["stage"]: made["outputs"] for _, made in works.ledger.entries()}
    plain = {made["stage"]: made["outputs"] for _, made in pristine("").ledger.entries()}

    assert {stage: sealed[stage] for stage in ("data/ingest", "data/parse")} == {
        stage: plain[stage] for stage in ("data/ingest", "data/parse")
    }


def test_everything_is_read_as_without(works: Works) -> None:
    ledger = works.ledger
    assert ledger.verify() == []
    assert all(mark in works.texts() for mark in MARKS)
    with open_vault(works.environment).opened(works.dataset) as folder:
        document = read_table(folder, ["id"]).column("id")[0].as_py()
    [head] = [head["head"] for head in ledger.heads()]
    assert head in [name for link in trace(ledger, document).found for name in link.heads]
    assert check(prove(ledger, document, head), ledger.verify_key()).inside
    sealed_copy = works.home / "copy"
    shutil.copytree(works.dataset, sealed_copy)
    run_single("data/mix", {"documents": sealed_copy}, {"mixed": works.home / "artifacts/again"}, {}, works.environment)


def test_a_changed_file_is_found_before_it_is_used(works: Works) -> None:
    part = works.dataset / "part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[-20] ^= 1
    part.write_bytes(data)

    with pytest.raises(DamagedArtifact, match=r"part-00000.parquet was changed or cut .*; restore it, or run again"):
        check_input(works.dataset, open_vault(works.environment))
    assert any("was changed or cut short" in finding.problem for finding in works.ledger.verify())


def test_a_file_of_the_store_does_not_pass_for_another(works: Works) -> None:
    store = store_of(works.environment)
    store.write("crawls/a", b"a"), store.write("crawls/b", b"b")
    store.inner.write("crawls/a", store.inner.read("crawls/b"))

    with pytest.raises(HeadraceError, match="was sealed as crawls/b and put in another's place"):
        store.read("crawls/a")


def test_what_was_plain_stays_readable_and_is_sealed_on_request(before: Works) -> None:
    assert before.ledger.verify() == [] and before.shows()
    store_of(before.environment).write("crawls/new", b"sealed")

    assert seal_plain(before.environment) == survey_of(before)
    assert before.shows() == []
    assert before.ledger.verify() == [] and all(mark in before.texts() for mark in MARKS)
    assert seal_plain(before.environment) == 0
    assert survey(before.environment).plain == 0


def survey_of(works: Works) -> int:
    [only] = survey(works.environment).needed.values()
    return only - 1  # the one that was written sealed


def test_without_encryption_there_is_nothing_to_do(pristine: Callable[[str], Works]) -> None:
    works = pristine("")
    for act in (seal_plain, rotate):
        with pytest.raises(UsageError, match="local seals nothing; name `keyset` or gcp-kms://"):
            act(works.environment)
    assert not keyset_file(works.environment).exists()


def test_rotation_changes_headers_and_the_old_key_can_go(works: Works) -> None:
    old = load_keyset(works.environment).primary.id
    part = works.dataset / "part-00000.parquet"
    body = part.read_bytes()[-200:]

    with pytest.raises(UsageError, match="wraps what is written now"):
        retire(works.environment, old)
    primary, changed = rotate(works.environment)

    assert changed == survey(works.environment).needed[primary] > 10
    assert part.read_bytes()[-200:] == body
    retire(works.environment, old)
    retire(works.environment, old)
    assert [key.state for key in load_keyset(works.environment).keys] == [State.RETIRED, State.PRIMARY]
    assert load_keyset(works.environment).keys[0].secret == b""
    assert works.ledger.verify() == [] and works.texts()
    with pytest.raises(UsageError, match="has no key 'other'"):
        retire(works.environment, "other")


def test_a_key_that_is_needed_is_not_retired(works: Works) -> None:
    old = load_keyset(works.environment).primary.id
    sealed = (works.dataset / "card.md").read_bytes()
    back_up(works.environment, f"file://{works.home.parent}/backups")
    rotate(works.environment)

    with pytest.raises(HeadraceError, match=rf"files of the backups in file://.*/backups need {old}; keep it until"):
        retire(works.environment, old)
    (works.home.parent / "backups").rename(works.home.parent / "backups-elsewhere")
    with pytest.raises(HeadraceError, match="are not found, and may need"):
        retire(works.environment, old)
    (works.dataset / "card.md").write_bytes(sealed)
    with pytest.raises(HeadraceError, match=f"1 files need {old}; run `headrace keys rotate`"):
        retire(works.environment, old)


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_a_rotation_that_was_killed_is_gone_on_with(works: Works, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, left = FileStore.upload, [after]

    def stopped(store: FileStore, source: Path, key: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        upload(store, source, key)

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "upload", stopped)
        with pytest.raises(KeyboardInterrupt):
            rotate(works.environment)
    assert works.ledger.verify() == [] and works.texts()
    old, new = load_keyset(works.environment).keys

    primary, _ = rotate(works.environment)

    assert primary == new.id and [*survey(works.environment).needed] == [new.id]
    assert len(load_keyset(works.environment).keys) == 2
    retire(works.environment, old.id)
    assert works.ledger.verify() == [] and works.texts()
    assert rotate(works.environment)[0] not in (old.id, new.id)  # that one was finished; this is another


def test_the_wrong_keyset_is_one_sentence_that_says_what_to_do(works: Works) -> None:
    shutil.move(keyset_file(works.environment), works.home.parent / "keyset.json")

    with pytest.raises(HeadraceError, match=r"is sealed: .*keyset.json: No such file .*; put the keyset there"):
        run_single("data/mix", {"documents": works.dataset}, {"mixed": works.home / "mixed"}, {}, works.environment)
    Keyset(keyset_file(works.environment)).with_primary().write(None)
    with pytest.raises(
        HeadraceError, match=r"is sealed: the key \w{16} is not in .*keyset.json, which has \w{16}; put back"
    ):
        run_single("data/mix", {"documents": works.dataset}, {"mixed": works.home / "mixed"}, {}, works.environment)
    shutil.move(works.home.parent / "keyset.json", keyset_file(works.environment))
    run_single("data/mix", {"documents": works.dataset}, {"mixed": works.home / "mixed"}, {}, works.environment)


def test_a_person_is_erased_from_what_is_sealed(works: Works) -> None:
    back_up(works.environment, f"file://{works.home.parent}/backups")
    request = seal_request(REQUEST, erasure_key(works.environment).public_key())
    erasure = open_request(works.environment, request)
    assert {place.kind for place in look(erasure).places} >= {"dataset version", "artifact of a run"}

    erase(erasure)

    assert look(erasure).places == {}
    assert works.ledger.verify() == [] and works.shows() == []
    noted = [read for read in audit.records(store_of(works.environment)) if read["what"] == "headrace erase run"]
    assert {(read["why"], read["sources"]["site"]) for read in noted} == {("request DSR-1", 3)}
    assert audit.verify(store_of(works.environment)) == []
    [manifest] = [key for key in store_of(works.environment).list("datasets/") if key.endswith("/manifest.json")]
    assert is_sealed(works.home / "store" / manifest)
    documents = json.loads(store_of(works.environment).read(manifest))["documents"]
    assert documents == 2


def test_who_looks_before_erasing_is_noted_without_the_persons_name(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(works.dataset, works.home / "artifacts/run" / MARKS[2])
    (tmp_path / "request").write_bytes(seal_request(REQUEST, erasure_key(works.environment).public_key()))
    monkeypatch.setattr("pipelines.erase_cli.load_environment", lambda name, home: works.environment)
    before = len(list(audit.records(store_of(works.environment))))

    asked = CliRunner().invoke(app, ["erase", "run", str(tmp_path / "request")], input="n\n")

    assert str(asked.exception) == "nothing was erased"
    noted = list(audit.records(store_of(works.environment)))[before:]
    assert {read["what"] for read in noted} == {"headrace erase run"}
    assert [read["artifact"] for read in noted].count("") == 1 < len(noted)
    assert MARKS[2] not in str(noted)


def test_what_kfp_writes_by_itself_is_not_to_be_sealed(works: Works) -> None:
    store = store_of(works.environment).inner
    for name in ("metrics", "tune.metrics.json", "executor-logs", "ledger.json", "report"):
        store.write(f"runs/line/1/tune/{name}", b"{}")

    assert survey(works.environment).plain == seal_plain(works.environment) == 1
    assert is_sealed(store.read("runs/line/1/tune/report"))


def test_a_backup_holds_sealed_bytes_and_comes_back_after_a_rotation(works: Works) -> None:
    to = f"file://{works.home.parent}/backups"
    back_up(works.environment, to)
    assert not [path for path in (works.home.parent / "backups/blobs").rglob("*") if _shows(path)]
    rotate(works.environment)
    shutil.move(works.home / "keys", works.home.parent / "keys")
    shutil.rmtree(works.home)
    works.home.mkdir()
    shutil.move(works.home.parent / "keys", works.home / "keys")

    restored = restore(works.environment, to)

    assert restored.findings == [] and works.ledger.verify() == []
    assert all(mark in works.texts() for mark in MARKS) and works.shows() == []


def _shows(path: Path) -> bool:
    return path.is_file() and not is_sealed(path) and any(mark.encode() in path.read_bytes() for mark in MARKS)


def test_a_run_that_was_killed_leaves_nothing_plain_for_long(works: Works) -> None:
    killed = works.home / "runs/2026-01-01-000000/run.log"
    killed.parent.mkdir(parents=True)
    killed.write_text(MARKS[0])

    with pytest.raises(RuntimeError), run_folder(works.home, open_vault(works.environment)) as folder:
        (folder / "run.log").write_text(MARKS[0])
        raise RuntimeError

    assert works.shows() == []
    assert open_vault(works.environment).read(killed).decode() == MARKS[0]


def test_the_command_makes_shows_rotates_seals_and_retires(before: Works, tmp_path: Path) -> None:
    place = tmp_path / "sealed.yaml"
    place.write_text(Path("pipelines/environments/local.yaml").read_text() + "encryption: keyset\n")

    def headrace(*words: str) -> Any:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*words, "-e", str(place), "--home", str(before.home)])
        assert not result.exception, result.exception
        return result.output

    assert "keep a copy" in headrace("keys", "make")
    old = load_keyset(before.environment).primary.id
    assert "files are plain; `headrace keys seal`" in headrace("keys", "show")
    assert "files sealed" in headrace("keys", "seal")
    assert "wraps;" in headrace("keys", "rotate")
    new = load_keyset(before.environment).primary.id
    assert f"{old} is retired" in headrace("keys", "retire", old)
    shown = headrace("keys", "show")
    assert old in shown and new in shown and "retired" in shown and "primary" in shown and "plain" not in shown
    assert SIDECAR in {path.name for path in before.dataset.iterdir() if not is_sealed(path)}
