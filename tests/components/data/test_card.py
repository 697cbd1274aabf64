"""A dataset version is named by its content, described, and published whole."""

import json
import shutil
from pathlib import Path

import datasets
import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard, DatasetCardData
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.documents import SCHEMA, read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import SIDECAR, Ledger, artifact_files, file_digest, sha256
from components.common.store import open_store
from components.data.card.sketch import SIZE, Ngrams, Sketch
from components.data.mix.epochs import read_epoch
from components.planning.plan.split import split
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
    described = {"card.md", "card.html", "card.json", "croissant.json", "ngrams.npy"}
    assert set(manifest["files"]) == on_disk == {"part-00000.parquet", *described}
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
    [record_set] = dataset.metadata.record_sets
    assert set(records[0]) == {field.id for field in record_set.fields}
    assert not dataset.metadata.ctx.issues.warnings


def test_the_hub_and_its_library_read_the_card(
    rows, written, environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_MODULES_CACHE", str(tmp_path / "modules"))
    made = tmp_path / "dataset"
    make(written(rows), made, environment, owner="Data team", purpose="Tests.")
    read = DatasetCard.load(made / "card.md")
    assert isinstance(read.data, DatasetCardData)
    assert read.data.language == ["en", "ko"] and read.data.license == "other"
    assert read.data.size_categories == ["n<1K"]
    assert "Data team" in read.text and "| MIT | 2 |" in read.text
    shutil.copy(made / "card.md", made / "README.md")  # its name on the hub
    loaded = datasets.load_dataset(str(made), cache_dir=str(tmp_path / "cache"))["train"]
    assert loaded["text"][:] == [row["text"] for row in rows]
    assert set(loaded.column_names) == set(SCHEMA.names) - {"metadata"}


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


def summary_of(made: Path) -> dict:
    return json.loads((made / "card.json").read_bytes())


def test_the_card_says_who_answers_for_a_source_and_what_its_terms_were(
    document, written, environment, tmp_path: Path
) -> None:
    evidence = "e" * 64
    rows = [
        document(f"text {number}", f"{number}", source=f"pypi/{name}", license="MIT", metadata=metadata)
        for name, number, metadata in (
            ("attrs", 1, {"source_class": "public", "terms_sha256": evidence, "terms_changed": "2026-10-01"}),
            ("cattrs", 2, {"source_class": "public", "terms_sha256": evidence}),
        )
    ]
    rows.append(document("ein Text", "x", source="<b>mail|box", metadata={"source_class": "in_house"}))
    declared = {"id": "pypi", "class": "public", "owner": "the packages' authors", "license": "per-item"}
    declared |= {"terms": "https://example.org/terms", "cadence": "weekly"}
    make(written(rows), tmp_path / "dataset", environment, sources=[declared])
    pypi, undeclared = summary_of(tmp_path / "dataset")["sources"]
    assert (pypi["id"], pypi["class"], pypi["owner"], pypi["cadence"]) == (
        "pypi",
        "public",
        "the packages' authors",
        "weekly",
    )
    assert (pypi["parts"], pypi["documents"], pypi["tokens"], pypi["licenses"]) == (2, 2, 4, {"MIT": 2})
    assert pypi["terms_sha256"] == [evidence] and pypi["terms_changed"] == ["2026-10-01"]
    assert (undeclared["class"], undeclared["owner"]) == ("in_house", "")
    text = (tmp_path / "dataset" / "card.md").read_text("utf-8")
    row = (
        "| pypi (2 parts) | public | the packages' authors | MIT | weekly | https://example.org/terms | eeeeeeeeeeee |"
    )
    assert f"{row} 2 | 4 |" in text and "Terms that changed since a source was first read: pypi (2026-10-01)." in text
    assert "| &lt;b>mail\\|box | in_house | not declared |" in text, "what a document says is no markup"
    assert "<b>mail" not in (tmp_path / "dataset" / "card.html").read_text("utf-8")


def test_the_plan_tells_the_card_what_is_declared_of_the_sources(environment) -> None:
    source = {"id": "docs", "class": "in_house", "location": "/srv/docs", "license": "MIT", "owner": "Docs team"}
    parts = split({"data": {"ingest": {"sources": [source]}}}, environment.model_dump(mode="json"))
    told = {"id": "docs", "class": "in_house", "license": "MIT", "owner": "Docs team", "terms": "", "cadence": "once"}
    assert parts.card["sources"] == [told]


def test_the_card_lists_what_every_step_left_out(document, written, environment, tmp_path: Path) -> None:
    long = "A sentence that is long enough to be kept by the filter, number {}, of which there are some."
    rows = [document(long.format(number), f"{number}", language="en") for number in range(20)]
    rows += [document("short", "s"), document(long.format(3), "again")]
    folders = [written(rows), *(tmp_path / name for name in ("kept", "unique", "mixed"))]
    run_single("data/filter", {"documents": folders[0]}, {"kept": folders[1]}, {}, environment)
    run_single("data/deduplicate", {"documents": folders[1]}, {"unique": folders[2]}, {}, environment)
    weights = {"weights": {"prose": 1.0}, "tokens": 100.0, "dropout": 0.1}
    run_single("data/mix", {"documents": folders[2]}, {"mixed": folders[3]}, weights, environment)
    make(folders[3], tmp_path / "dataset", environment)
    summary = summary_of(tmp_path / "dataset")
    told = {step["stage"]: step for step in summary["steps"]}
    assert list(told) == ["data/filter", "data/deduplicate", "data/mix"]
    assert told["data/filter"] == {"stage": "data/filter", "in": 22, "out": 21, "dropped": {"too_short": 1}}
    assert sum(step["in"] - step["out"] for step in summary["steps"]) == len(rows) - summary["documents"]
    assert summary["mixture"]["groups"] == {"prose": {"asked": 1.0, "got": 1.0}}
    text = (tmp_path / "dataset" / "card.md").read_text("utf-8")
    assert "| data/filter | 22 | too_short | 1 |" in text and "each epoch leaves out 10%" in text
    assert [batch.num_rows for batch in read_epoch(tmp_path / "dataset", 1)] == [summary["documents"] - 1]


def test_scores_masks_and_lengths_are_distributions(document, written, environment, tmp_path: Path) -> None:
    rows = [
        document(
            "[EMAIL_1] and [EMAIL_1] or [PHONE_2] 말" if number < 3 else "word " * number,
            f"{number}",
            pii="masked" if number < 2 else "none",
            metadata={"quality": f"{number / 20}"} if number else {},
        )
        for number in range(20)
    ]
    make(written(rows), tmp_path / "dataset", environment)
    summary = summary_of(tmp_path / "dataset")
    quality = summary["scores"]["quality"]
    assert quality["documents"] == 19 and sum(quality["histogram"].values()) == 19
    assert quality["quantiles"]["50 %"] == 0.5 and quality["histogram"]["0.9"] == 2
    assert summary["scores"]["perplexity"] == {}
    assert summary["personal_data"]["masks"] == {
        "EMAIL": {"documents": 2, "masks": 4},
        "PHONE": {"documents": 2, "masks": 2},
    }, "what only looks like a mask in a text without one is not counted"
    assert summary["lengths"]["quantiles"]["95 %"] == 18 and sum(summary["lengths"]["histogram"].values()) == 20
    assert "Not measured: no document has a perplexity score." in (tmp_path / "dataset" / "card.md").read_text("utf-8")


def test_novelty_is_in_the_card_when_a_version_is_named_and_else_in_the_report(
    document, written, environment, tmp_path: Path
) -> None:
    """The newest version in the store must not change the name of the next one."""
    sentences = [f"{word} wrote a long story about {word} that nobody but {word} has read" for word in "abcdefgh"]
    old = written([document(text, text[0]) for text in sentences[:6]])
    new = written([document(text, text[0]) for text in sentences])
    make(new, tmp_path / "alone", environment)
    [alone] = versions(environment)
    make(old, tmp_path / "old", environment)
    [previous] = versions(environment) - {alone}
    metrics = make(new, tmp_path / "beside", environment)
    assert artifact_files(tmp_path / "alone") == artifact_files(tmp_path / "beside")
    assert metrics["novelty"] == 0.25
    assert f"25.00% of the different runs of 8 words are not in datasets/words/{previous}" in (
        tmp_path / "beside.html"
    ).read_text("utf-8")
    assert summary_of(tmp_path / "beside")["novelty"] == {}

    make(new, tmp_path / "named", environment, previous=f"datasets/words/{previous}")
    novelty = summary_of(tmp_path / "named")["novelty"]
    assert novelty["new"] == 0.25 and novelty["interval"] == [0.25, 0.25], "small sets are kept whole"
    assert "25.00% of the different runs" in (tmp_path / "named" / "card.md").read_text("utf-8")
    with pytest.raises(UsageError, match=r"card\.previous: .* has no datasets/words/0000"):
        make(new, tmp_path / "gone", environment, previous=f"datasets/words/{'0' * 64}")


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(0, 60_000), st.integers(1, 60_000), st.integers(0, 60_000))
def test_a_sketch_knows_how_many_there_are_and_what_is_new(seed, common, new, old) -> None:
    """Within five standard errors, which chance leaves in fewer than one of a million cases."""
    hashes = np.random.default_rng(seed).integers(0, 2**64, common + new + old, np.uint64)
    mine, other = Sketch(), Sketch(hashes[common + new :])
    for portion in np.array_split(hashes[: common + new], 3):
        mine.add(portion)
    other.add(hashes[:common])
    assert mine.values.tolist() == Sketch(hashes[: common + new][::-1]).values.tolist()
    assert abs(mine.distinct() / (common + new) - 1) < 5 / np.sqrt(SIZE)
    share, truth = mine.not_in(other), new / (common + new)
    assert abs(share.value - truth) <= 5 * np.sqrt(truth * (1 - truth) / max(1, share.sample)) + 1e-9
    assert share.low <= share.value <= share.high


def test_ngrams_are_those_of_the_words_whatever_the_batches() -> None:
    texts = ["One two three four!", "two THREE four five", "가나다 라", "short"]
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    offsets = np.cumsum([0, *(len(text.encode()) for text in texts)]).astype(np.int64)
    together, apart = Ngrams(3), Ngrams(3)
    together.add(data, offsets)
    for number in range(len(texts)):
        apart.add(data, offsets[number : number + 2])
    assert together.sketch.values.tolist() == apart.sketch.values.tolist()
    # one two three, two three four (twice), three four five, 가나다, 나다라, short
    assert (together.total, together.sketch.distinct()) == (7, 6)
