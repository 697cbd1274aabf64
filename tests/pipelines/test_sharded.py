"""Deduplication spread over shards by KFP itself gives the bytes that the single step gives."""

import io
import json
import random
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl
from rich.console import Console

from components.common.documents import DocumentWriter, new_document, read_table
from components.common.environment import load_environment
from components.common.errors import UsageError
from components.common.ledger import SIDECAR, Ledger, artifact_files, open_ledger
from components.common.recipes import Recipe
from components.common.store import open_store, upload_tree
from components.common.vault import files_of, is_sealed
from components.common.wrapping import open_vault
from components.data.deduplicate.component import deduplicate
from components.data.ingest.component import ingest
from components.planning.plan.component import plan
from pipelines.compile import COMPILED, load_documents
from pipelines.display import Display
from pipelines.local_run import run_pipeline
from pipelines.prepare_data_sharded import deduplicate_in_shards

WORDS = [
    "밸브",
    "펌프",
    "점검",
    "교체",
    "압력",
    "전원",
    "valve",
    "pump",
    "inspect",
    "replace",
    "filter",
    "seal",
    "order",
]


@dsl.pipeline(name="both-ways")
def both_ways(recipe: dict, environment: dict) -> None:
    parts = plan(options=recipe, environment=environment).outputs
    documents = ingest(options=parts["ingest"], environment=parts["workplace"]).outputs["documents"]
    deduplicate(documents=documents, options=parts["deduplicate"], environment=parts["workplace"])
    deduplicate_in_shards(
        documents=documents,
        options=parts["deduplicate"],
        shards=parts["deduplicate_shards"],
        environment=parts["workplace"],
        deduplicate_cpu=parts["deduplicate_cpu"],
        deduplicate_memory=parts["deduplicate_memory"],
        batch_nodes=parts["batch_nodes"],
        batch_tolerations=parts["batch_tolerations"],
    )


def page(number: int) -> str:
    return " ".join(random.Random(number).choices(WORDS, k=120))


def test_a_run_in_shards_keeps_the_bytes_that_the_single_step_keeps(tmp_path: Path) -> None:
    home, log = tmp_path / "home", tmp_path / "run.log"
    environment = load_environment("local", home)
    store = open_store(environment.store)
    version = f"datasets/pumps/{'a' * 64}"
    with DocumentWriter(tmp_path / "old") as writer:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        writer.write(new_document(source="s", url=text, text=text, retrieved_at=when) for text in (page(1), page(99)))
    upload_tree(store, tmp_path / "old", version, last="part-00000.parquet")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number in range(30):
        (corpus / f"page-{number}.md").write_text(page(number), "utf-8")
        if 5 <= number < 10:
            (corpus / f"copy-{number}.md").write_text(page(number), "utf-8")
        if 8 <= number < 20:
            (corpus / f"edit-{number}.md").write_text(f"{page(number)} at the end", "utf-8")
    source = {"id": "pumps", "class": "in_house", "location": str(corpus), "license": "MIT", "owner": "me"}

    def run(earlier: str, shards: int) -> Counter[tuple[str, str]]:
        recipe = Recipe.model_validate(
            {"data": {"ingest": {"sources": [source]}, "deduplicate": {"earlier": [earlier]}}}
        )
        place: dict[str, Any] = environment.parameter()
        place["sizes"]["deduplicate"]["shards"] = shards
        arguments = {"recipe": recipe.parameter(), "environment": place}
        with log.open("a", encoding="utf-8") as file, Display(Console(file=io.StringIO())) as display:
            done = run_pipeline(both_ways, arguments, home, file, display)
        return Counter((step.name, step.state) for step in done.steps)

    spread = {"sign-shard": 2, "bucket-shard": 2, "cluster-shard": 2, "keep-shard": 1}
    once = {"plan": 1, "ingest": 1, "deduplicate": 1}
    assert run(version, 2) == Counter({(name, "done"): count for name, count in {**spread, **once}.items()})
    [whole], [kept] = home.glob("artifacts/*/deduplicate/unique"), home.glob("artifacts/*/keep-shard/unique")
    assert artifact_files(kept) == artifact_files(whole)
    names = [Path(url).stem.partition("-") for url in read_table(kept)["url"].to_pylist()]
    stays = {int(number): kind for kind, _, number in names}
    assert len(names) == len(stays)
    assert stays.keys() == set(range(30)) - {1}, "one of each, but for the page that the earlier version has"
    assert {number for number, kind in stays.items() if kind == "edit"} == set(range(8, 20)), "the longer text stays"
    reports = [(path.parent / "report").read_text("utf-8") for path in (whole, kept)]
    assert reports[0] == reports[1]
    assert run(version, 2) == Counter({(name, "cached"): count for name, count in {**spread, **once}.items()})

    inputs = json.loads((kept / SIDECAR).read_bytes())["inputs"]
    assert list(inputs) == ["clusters.0", "clusters.1", "documents"]
    assert all(made["entry"] for made in inputs.values())
    assert Ledger(store, Path(environment.signing_key)).verify() == []
    with pytest.raises(UsageError, match=r"^(deduplicate|sign-shard): deduplicate.earlier: .* has no datasets/pumps/b"):
        run(f"datasets/pumps/{'b' * 64}", 2)


def test_a_run_of_kfp_with_encryption_leaves_only_counts_and_hashes_in_plain(tmp_path: Path) -> None:
    home, corpus = tmp_path / "home", tmp_path / "corpus"
    environment = load_environment("local", home).model_copy(update={"encryption": "keyset"})
    corpus.mkdir()
    for number in range(12):
        (corpus / f"page-{number}.md").write_text(page(number % 10), "utf-8")
    source = {"id": "pumps", "class": "in_house", "location": str(corpus), "license": "MIT", "owner": "me"}
    recipe = Recipe.model_validate({"data": {"ingest": {"sources": [source]}}})
    place: dict[str, Any] = environment.parameter()
    place["sizes"]["deduplicate"]["shards"] = 2
    states = []
    for _ in range(2):
        with (tmp_path / "run.log").open("a") as log, Display(Console(file=io.StringIO())) as display:
            arguments = {"recipe": recipe.parameter(), "environment": place}
            done = run_pipeline(both_ways, arguments, home, log, display)
        states.append({step.state for step in done.steps})

    assert states == [{"done"}, {"cached"}]
    vault = open_vault(environment)
    [whole], [kept] = home.glob("artifacts/*/deduplicate/unique"), home.glob("artifacts/*/keep-shard/unique")
    assert artifact_files(kept, vault) == artifact_files(whole, vault)
    with vault.opened(kept) as folder:
        assert len(read_table(folder)) == 10
    plain = {path.name for path in files_of(home / "artifacts") if not is_sealed(path)}
    assert plain <= {SIDECAR, "metrics", "executor_output.json"}
    everything = b"".join(path.read_bytes() for path in files_of(home) if not is_sealed(path)).decode(
        "utf-8", "replace"
    )
    assert not any(" ".join(page(number).split()[:3]) in everything for number in range(10))
    assert open_ledger(environment).verify() == []


def test_the_compiled_pipeline_loops_over_the_shards_that_the_environment_asks_for() -> None:
    [specification, *_] = load_documents((COMPILED / "prepare_data_sharded.yaml").read_text("utf-8"))
    components = specification["components"]
    tasks = {name: task for made in components.values() for name, task in made.get("dag", {}).get("tasks", {}).items()}
    for stage in ("sign", "bucket", "cluster"):
        [loop] = components[f"comp-{stage}"]["dag"]["tasks"].values()
        assert loop["parameterIterator"]["items"]["inputParameter"] == "pipelinechannel--shards"
        assert list(components[loop["componentRef"]["name"]]["dag"]["tasks"]) == [f"{stage}-shard"]
        assert tasks[stage]["inputs"]["parameters"]["shards"]["componentInputParameter"] == "shards"
    asked = tasks["deduplicate-in-shards"]["inputs"]["parameters"]["shards"]["taskOutputParameter"]
    assert asked == {"outputParameterKey": "deduplicate_shards", "producerTask": "plan"}
