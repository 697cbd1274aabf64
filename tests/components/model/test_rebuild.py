"""A training is made again from its record, or it is said why not, or what is different."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.common.environment import Environment
from components.common.ledger import artifact_digest, open_ledger
from components.common.sealed_store import store_of
from components.common.store import FileStore
from components.model.rebuild.results import Result, read_rebuilds, write_result
from pipelines.cli import app
from pipelines.single import run_single

OPTIONS = {"epochs": 3, "batch_size": 4, "learning_rate": 1e-2, "threads": 1}


@pytest.fixture(scope="module")
def place(environment_at: Callable[[Path], Environment], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment_at(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def trained(tiny: Path, facts: Path, place: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a base model, pairs and the adapter that steps made of them."""
    folder = tmp_path_factory.mktemp("trained")
    run_single("model/fetch", {}, {"base": folder / "base"}, {"model": str(tiny)}, place)
    run_single("data/mix", {"documents": facts}, {"mixed": folder / "pairs"}, {}, place)
    inputs = {"base": folder / "base", "pairs": folder / "pairs"}
    run_single("model/tune", inputs, {"adapter": folder / "adapter"}, OPTIONS, place)
    return folder


@pytest.fixture(scope="module")
def run(trained: Path) -> str:
    return json.loads((trained / "adapter" / "training.json").read_text())["run"]


def test_a_training_is_made_again_with_the_same_bytes(place: Environment, trained: Path, run: str) -> None:
    from components.model.rebuild.again import rebuild

    rebuilt, key = rebuild(place, run)
    assert (rebuilt.result, rebuilt.reasons, rebuilt.largest_difference) == (Result.REPRODUCED, (), 0.0)
    assert rebuilt.differences == ()
    signed = json.loads(store_of(place).read(key))
    assert key.startswith(f"rebuilds/{rebuilt.run}/") and signed["signature"]
    again, _ = rebuild(place, rebuilt.run)
    assert again.run == rebuilt.run, "what a rebuild recorded does not take the place of the first run"


def test_other_bytes_are_found_and_measured(
    place: Environment, trained: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.model.rebuild import again
    from components.model.tune.attempt import settle

    monkeypatch.setattr("components.model.tune.adapt.settle", lambda seed, threads: settle(99, threads))
    monkeypatch.setattr(again, "code_digest", lambda: "0" * 64)
    rebuilt, _ = again.rebuild(place, run)
    assert rebuilt.result == Result.DIFFERS
    assert "adapter_model.safetensors: differs" in rebuilt.reasons
    why = "at first an adapter changes nothing, and the first step's rate is nought: it is warmed up"
    assert "losses: differ from step 3 on" in rebuilt.reasons, why
    assert 0 < rebuilt.largest_difference < 10
    assert [difference.partition(":")[0] for difference in rebuilt.differences] == ["code"]


def test_what_is_missing_is_named(
    place: Environment, trained: Path, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.model.rebuild.again import rebuild

    digest = artifact_digest(trained / "pairs")
    shutil.move(trained / "pairs", tmp_path / "pairs")
    try:
        rebuilt, _ = rebuild(place, run)
    finally:
        shutil.move(tmp_path / "pairs", trained / "pairs")
    assert rebuilt.result == Result.CANNOT
    assert rebuilt.reasons[0].startswith(f"no copy of pairs ({digest[:12]}) is left")
    table = next((trained / "pairs").glob("part-*.parquet"))
    content = table.read_bytes()
    table.write_bytes(content + b"changed")
    try:
        assert rebuild(place, run)[0].result == Result.CANNOT, "a changed input is none"
    finally:
        table.write_bytes(content)


def test_how_many_reproduced_is_a_number(place: Environment, tmp_path: Path) -> None:
    ledger = open_ledger(place.model_copy(update={"store": f"file://{tmp_path}"}))
    for run, result, day in (
        *(("a", "differs", 1), ("a", "reproduced", 2)),
        *(("b", "reproduced", 1), ("c", "differs", 1), ("d", "cannot", 1)),
    ):
        write_result(ledger, {"run": run, "name": run, "result": result}, f"2026-01-0{day}T00:00:00+00:00")
    found = read_rebuilds(FileStore(tmp_path))
    assert (found.runs, found.share) == (4, 0.5)
    assert found.counts == {Result.REPRODUCED: 2, Result.DIFFERS: 1, Result.CANNOT: 1}
    assert found.interval[0] < 0.5 < found.interval[1]
    assert found.newest[0]["run"] == "a"
    assert read_rebuilds(FileStore(tmp_path / "empty")).interval == (0.0, 1.0)


def test_the_command_s_exit_code_says_how_it_went(
    place: Environment, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.model.rebuild import again
    from components.model.rebuild.again import Rebuilt

    monkeypatch.setattr("pipelines.rebuild_cli.load_environment", lambda name, home: place)
    for result, code in ((Result.REPRODUCED, 0), (Result.CANNOT, 1), (Result.DIFFERS, 3)):
        made = Rebuilt("id", "tune-1", result, ("why",), ("torch: 1 then, 2 now",), 0.25)
        monkeypatch.setattr(again, "rebuild", lambda *_, made=made: (made, "rebuilds/id/0.json"))
        finished = CliRunner().invoke(app, ["rebuild", run])
        assert finished.exit_code == code, finished.output
        assert f"{result} tune-1" in finished.output and "not as then: torch: 1 then, 2 now" in finished.output
        told = json.loads(CliRunner().invoke(app, ["rebuild", run, "--json"]).output)
        assert (told["result"], told["key"]) == (result, "rebuilds/id/0.json")
    assert "Exit codes: 0" in CliRunner().invoke(app, ["rebuild", "--help"]).output
