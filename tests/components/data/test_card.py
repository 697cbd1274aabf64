"""A dataset version is named by its content, described, and published whole."""

import json
from pathlib import Path

import mlcroissant
import pyarrow.parquet as pq
import pytest
import yaml

from components.common.documents import read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import SIDECAR, Ledger, artifact_files, file_digest, sha256
from components.common.store import open_store
from pipelines.single import run_single


@pytest.fixture
def rows(document):
    return [
        document("English text", "a", language="en", license="MIT", confidentiality="public", pii="none"),
        document("한국어 글", "b", language="ko", license="Apache-2.0 OR MIT", kind="table", parents=["f" * 64]),
        document("def f(): ...", "c", language="en", license="MIT", kind="code"),
    ]


def make(documents: Path, out: Path, environment: Environment, **options) -> dict:
    return run_single(
        "data/card", {"documents": documents}, {"dataset": out}, {"name": "words", **options}, environment
    )


def versions(environment: Environment) -> set[str]:
    return {key.split("/")[2] for key in open_store(environment.store).list("datasets/words/")}


def test_the_manifest_accounts_for_every_file_and_names_the_version(rows, written, environment, tmp_path: Path) -> None:
    documents = written(rows)
    made = tmp_path / "dataset"
    make(documents, made, environment)
    manifest = json.loads((made / "manifest.json").read_bytes())
    on_disk = {path.name for path in made.iterdir()} - {"manifest.json", SIDECAR}
    assert set(manifest["files"]) == on_disk == {"part-00000.parquet", "card.md", "croissant.json"}
    for name, file in manifest["files"].items():
        assert file == {"sha256": file_digest(made / name), "bytes": (made / name).stat().st_size}
    assert manifest["documents"] == 3 and manifest["schema"] == "1"
    assert manifest["counts"]["license"] == {"MIT": 2, "Apache-2.0 OR MIT": 1}
    assert manifest["counts"]["confidentiality"] == {"internal": 2, "public": 1}
    assert versions(environment) == {sha256((made / "manifest.json").read_bytes())}
    assert read_table(made).equals(read_table(documents))


def test_the_store_holds_the_same_files_and_the_ledger_agrees(rows, written, environment, tmp_path: Path) -> None:
    made = tmp_path / "dataset"
    make(written(rows), made, environment)
    (version,) = versions(environment)
    stored = Path(environment.store.removeprefix("file://")) / "datasets" / "words" / version
    assert artifact_files(stored) == artifact_files(made)
    ledger = Ledger(open_store(environment.store), Path(environment.signing_key))
    assert [head["head"] for head in ledger.heads()] == [f"datasets/words/{version}"]
    assert ledger.verify() == []
    part = stored / "part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert any("part-00000.parquet" in finding.problem for finding in ledger.verify())


def test_a_version_depends_on_content_alone(rows, written, environment, tmp_path: Path) -> None:
    for name in ("first", "second"):
        make(written(rows), tmp_path / name, environment)
    assert len(versions(environment)) == 1
    assert artifact_files(tmp_path / "first") == artifact_files(tmp_path / "second")
    make(written(rows[:2]), tmp_path / "fewer", environment)
    make(written(rows), tmp_path / "described", environment, description="Something else.")
    assert len(versions(environment)) == 3


def test_the_manifest_names_the_entry_that_made_its_documents(rows, written, environment, tmp_path: Path) -> None:
    run_single("data/mix", {"documents": written(rows)}, {"mixed": tmp_path / "mixed"}, {}, environment)
    make(tmp_path / "mixed", tmp_path / "dataset", environment)
    manifest = json.loads((tmp_path / "dataset" / "manifest.json").read_bytes())
    assert manifest["ledger"] == file_digest(tmp_path / "mixed" / SIDECAR)


def test_croissant_loads_without_errors_and_reads_the_records(rows, written, environment, tmp_path: Path) -> None:
    made = tmp_path / "dataset"
    make(written(rows), made, environment)
    dataset = mlcroissant.Dataset(made / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    records = list(dataset.records("documents"))
    assert [record["documents/text"].decode() for record in records] == [row["text"] for row in rows]
    assert b"f" * 64 in records[1]["documents/parents"]


def test_the_card_has_the_header_that_the_hub_reads(rows, written, environment, tmp_path: Path) -> None:
    make(written(rows), tmp_path / "dataset", environment, owner="Data team", purpose="Tests.")
    _, header, body = (tmp_path / "dataset" / "card.md").read_text("utf-8").split("---\n", 2)
    fields = yaml.safe_load(header)
    assert fields["language"] == ["en", "ko"]
    assert fields["license"] == "other" and fields["size_categories"] == ["n<1K"]
    assert fields["configs"][0]["data_files"][0]["path"] == "part-*.parquet"
    assert "Data team" in body and "| MIT | 2 |" in body


def test_one_licence_of_the_hub_is_named_in_the_header(rows, written, environment, tmp_path: Path) -> None:
    make(written([rows[0]]), tmp_path / "dataset", environment)
    assert "\nlicense: mit\n" in (tmp_path / "dataset" / "card.md").read_text("utf-8")


def test_no_documents_make_no_version(written, environment, tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match="no documents are left"):
        make(written([]), tmp_path / "dataset", environment)
    assert not (tmp_path / "dataset").exists()
    assert versions(environment) == set()


def test_parts_are_copied_byte_for_byte(rows, written, environment, tmp_path: Path) -> None:
    documents = written(rows)
    make(documents, tmp_path / "dataset", environment)
    part = tmp_path / "dataset" / "part-00000.parquet"
    assert part.read_bytes() == (documents / "part-00000.parquet").read_bytes()
    assert pq.read_metadata(part).num_rows == 3
