"""Runs are recorded with all that it takes to find them and to make them again."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from components.common.code import code_digest, commit
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, entry_of, sha256
from components.model.tracking import find_run, note_version, read_file, track
from pipelines.single import run_single

SETTINGS = {"epochs": 2, "learning_rate": 1e-3, "trackers": ["mlflow"]}
RECIPE = {"model": {"tune": SETTINGS}}


@pytest.fixture(scope="module")
def place(environment_at: Callable[[Path], Environment], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment_at(tmp_path_factory.mktemp("home"))


def train(place: Environment, name: str, tags: dict[str, str] | None = None, **options) -> None:
    with track(place, "lab", name, SETTINGS, tags or {}, recipe=RECIPE, **options) as run:
        for step in (1, 2):
            run({"loss": 1 / step, "validation_loss": 2 / step}, step)
        run.note(**{"checkpoint.2": "c" * 64, "adapter": "a" * 64})


def test_a_run_says_what_went_in_how_it_went_and_what_came_out(place: Environment, facts: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    about = {"name": "facts", "owner": "me"}
    run_single("data/card", {"documents": facts}, {"dataset": tmp_path / "dataset"}, about, place)
    run_single("data/mix", {"documents": tmp_path / "dataset"}, {"mixed": tmp_path / "pairs"}, {}, place)
    train(place, "tune-whole", tags={"pairs": entry_of(tmp_path / "pairs"), "base": ""})
    run = find_run(place, "tune-whole")
    tags = {name.removeprefix("headrace."): value for name, value in run.data.tags.items() if "headrace" in name}
    assert tags["data"].startswith("datasets/facts/") and tags["pairs"] == entry_of(tmp_path / "pairs")
    assert (tags["code"], tags["commit"]) == (code_digest(), commit())
    assert tags["adapter"] == "a" * 64 and tags["checkpoint.2"] == "c" * 64
    assert tags["recipe"] == sha256(canonical(RECIPE))
    assert (tags["device"], tags["processes"]) == ("cpu", "1") and int(tags["threads"]) >= 1
    assert read_file(place, run, "recipe.yaml") == RECIPE
    assert {"torch", "peft", "trl"} <= read_file(place, run, "environment.yaml")["libraries"].keys()
    assert run.data.params["epochs"] == "2"
    history = MlflowClient(place.tracking).get_metric_history(run.info.run_id, "validation_loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 2.0), (2, 1.0)]


def test_a_run_is_found_by_id_name_and_model_version(place: Environment) -> None:
    from mlflow import MlflowClient

    with pytest.raises(UsageError, match="is no finished run"):
        find_run(place, "tune-1")
    train(place, "tune-1")
    train(place, "tune-1")
    with pytest.raises(RuntimeError), track(place, "lab", "tune-1", {}, {}, recipe={}):
        raise RuntimeError
    newest = find_run(place, "lab/tune-1")
    version = f"models/assistant/{'f' * 64}"
    for _ in range(2):
        note_version(place, "lab/tune-1", version, f"{place.store}/{version}", {"recipe_whole": "e" * 64})
    assert find_run(place, version).info.run_id == find_run(place, newest.info.run_id).info.run_id
    [listed] = MlflowClient(place.tracking).search_model_versions("name = 'assistant'")
    assert (listed.run_id, listed.source) == (newest.info.run_id, f"{place.store}/{version}")
    assert listed.tags["headrace.recipe_whole"] == "e" * 64
    with pytest.raises(HeadraceError, match=r"kept no plan\.yaml"):
        read_file(place, newest, "plan.yaml")


def test_a_version_leads_to_the_run_that_made_its_adapter_and_not_to_the_alignment(place: Environment) -> None:
    train(place, "tune-2")
    with track(place, "lab", "align-2", {}, {}, recipe={"model": {"align": {"method": "dpo"}}}):
        pass
    version = f"models/aligned/{'a' * 64}"
    for run in ("lab/tune-2", "lab/align-2"):
        note_version(place, run, version, f"{place.store}/{version}", {})
    assert find_run(place, "align-2").data.tags["headrace.model"] == version
    assert find_run(place, version).info.run_name == "tune-2"


def test_of_several_processes_the_first_one_records(place: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    train(place, "tune-rank")
    with pytest.raises(UsageError, match="is no finished run"):
        find_run(place, "tune-rank")


def test_a_server_that_is_away_is_one_sentence(place: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = place.model_copy(update={"tracking": "http://127.0.0.1:9"})
    with pytest.raises(HeadraceError, match="check `tracking` of the environment"):
        train(away, "tune-1")


def test_wandb_without_its_package_or_key_says_what_to_do(place: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"pip install 'headrace\[wandb\]'"):
        train(place, "tune-1", trackers=["wandb"])
    monkeypatch.setitem(sys.modules, "wandb", object())
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(UsageError, match="needs its key in the environment variable WANDB_API_KEY"):
        train(place, "tune-1", trackers=["mlflow", "wandb"])


def test_wandb_offline_keeps_the_same_record(place: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="install the extra wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(place, "tune-wandb", trackers=["mlflow", "wandb"])
    [folder] = (Path(place.home) / "wandb" / "wandb").glob("offline-run-*")
    [log] = folder.glob("run-*.wandb")
    written = log.read_bytes()
    assert all(word in written for word in (b"validation_loss", b"learning_rate", b"headrace.adapter", b"tune-wandb"))
    assert (folder / "files" / "recipe.yaml").is_file()
    assert find_run(place, "tune-wandb").data.tags["headrace.adapter"] == "a" * 64
