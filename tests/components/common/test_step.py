"""What every step gets from `execute`."""

import errno
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp import dsl

from components.common import failures, step
from components.common.environment import Environment
from components.common.options import Options
from components.common.report import Report
from components.common.step import Context, Outcome, execute
from components.common.store import open_store


class Weigh(Options):
    """No options."""


def work(weights: Path, options: Weigh, context: Context) -> Outcome:
    (weights / "half").write_text("half")
    raise RuntimeError("a library's own words")


def quote(weights: Path, options: Weigh, context: Context) -> Outcome:
    raise RuntimeError("Error while serializing: No space left on device (os error 28)")


def finish(weights: Path, options: Weigh, context: Context) -> Outcome:
    return Outcome(0, 0, Report("Weights", "None."))


def weigh(
    weights: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
    run: Any,
) -> None:
    execute(run, locals())


@pytest.fixture
def call(tmp_path: Path, environment_at: Any) -> Any:
    environment: Environment = environment_at(tmp_path / "home")

    def call_step(run: Any) -> None:
        weigh(
            dsl.Dataset(uri=str(tmp_path / "weights")),
            dsl.Metrics(uri=str(tmp_path / "metrics")),
            dsl.HTML(uri=str(tmp_path / "report")),
            {},
            environment.model_dump(mode="json"),
            run,
        )

    return call_step


def test_a_step_that_fails_leaves_nothing_half_written(call: Any, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="own words"):
        call(work)
    assert not list(tmp_path.glob("weights*"))
    store = open_store(f"file://{tmp_path}/home/store")
    word = failures.read(store, "test")
    assert word and word.message == "RuntimeError: a library's own words"
    other = failures.Failure("model/tune", "another step's")
    failures.leave(store, "test", "another", other)
    call(finish)
    assert failures.read(store, "test") == other, "an attempt that failed before one that did not fails no run"
    assert (tmp_path / "weights" / "ledger.json").is_file()


@pytest.mark.parametrize(("run", "free"), [(work, 4096), (quote, 2**30)])
def test_a_full_disk_is_named_whatever_the_library_says(
    call: Any, run: Any, free: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(OSError, match="weights") as raised:
        call(run)
    assert raised.value.errno == errno.ENOSPC
    said = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(step.ERROR))
    assert "free some disk space" in json.loads(said.removeprefix(step.ERROR))["message"]
