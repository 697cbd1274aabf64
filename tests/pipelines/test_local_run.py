"""Running a pipeline on this machine: reuse, damage, failure, interruption."""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
from kfp import dsl
from rich.console import Console

from components.common.code import code_digest, dependency_digest
from components.common.environment import load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import Ledger
from components.common.recipes import Recipe
from components.common.step import step
from components.common.store import open_store
from components.data.ingest.component import ingest
from components.data.parse.component import parse
from components.planning.plan.component import plan
from pipelines.compile import local_image
from pipelines.display import Display
from pipelines.line import usage
from pipelines.local_run import PipelineRun, StepRun, run_pipeline, when_stopped
from pipelines.pods import furnish, watched


@dsl.pipeline(name="two-steps")
def two_steps(reading: dict, parsing: dict, environment: dict) -> dsl.Dataset:
    ingested = ingest(options=reading, environment=environment)
    return parse(documents=ingested.outputs["documents"], options=parsing, environment=environment).outputs["parsed"]


@step("data")
def explode():
    raise RuntimeError("boom")


@dsl.pipeline(name="exploding")
def exploding() -> None:
    explode()


@step("data")
def decide() -> NamedTuple("Decision", [("decision", str), ("why", str)]):
    return ("release", "because")


@step("data")
def follow():
    print("followed")


@dsl.pipeline(name="conditional")
def conditional() -> None:
    decided = decide()
    with dsl.If(decided.outputs["decision"] == "release"):
        follow()


@dsl.pipeline(name="told")
def told(reading: dict, environment: dict) -> None:
    with watched("prepare_data", environment, ""):
        ingest(options=reading, environment=environment)


@step("data")
def merge():
    print("merged")


@dsl.pipeline(name="sized")
def sized(recipe: dict, environment: dict) -> None:
    parts = plan(options=recipe, environment=environment).outputs
    merge()
    furnish(parts)


class Line:
    """One home in which pipelines run."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "집"
        self.environment = load_environment("local", self.home)
        self.log = folder / "run.log"
        self.shown = io.StringIO()
        corpus = folder / "corpus"
        corpus.mkdir()
        (corpus / "hammer.md").write_text("# Hammer\n\nA hammer drives nails into wood.\n", "utf-8")
        self.source = {"id": "d", "class": "in_house", "location": str(corpus), "license": "MIT", "owner": "me"}

    def run(self, pipeline, **arguments) -> PipelineRun:  # type: ignore[no-untyped-def]
        with self.log.open("a", encoding="utf-8") as log, Display(Console(file=self.shown, width=120)) as display:
            return run_pipeline(pipeline, arguments, self.home, log, display)

    def two_steps(self, **parsing: object) -> dict[str, str]:
        place = self.environment.model_dump(mode="json")
        finished = self.run(two_steps, reading={"sources": [self.source]}, parsing=parsing, environment=place)
        return {step.name: step.state for step in finished.steps}

    def ledger(self) -> Ledger:
        return Ledger(open_store(self.environment.store), Path(self.environment.signing_key))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files; what a run leaves there, it leaked."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def line(tmp_path: Path, temporary: Path) -> Line:
    return Line(tmp_path)


def test_what_was_done_is_reused_and_what_was_damaged_is_made_anew(line: Line, temporary: Path) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert line.two_steps() == {"ingest": "done", "parse": "done"}
    assert line.two_steps() == {"ingest": "cached", "parse": "cached"}
    assert line.two_steps(table_rows=7) == {"ingest": "cached", "parse": "done"}
    [part] = line.home.glob("artifacts/*/ingest/documents/part-00000.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(HeadraceError, match=r"^parse: .*documents: part-00000\.parquet is not the file") as caught:
        line.two_steps(table_rows=8)
    assert "\n" not in str(caught.value)
    assert line.ledger().verify()
    assert line.two_steps(table_rows=8) == {"ingest": "done", "parse": "done"}
    assert line.ledger().verify() == []
    shown = line.shown.getvalue()
    assert "✗  2/2 parse" in shown
    assert "≡  1/2 ingest" in shown
    assert "1 out" in shown
    assert list(temporary.iterdir()) == []
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


def test_a_step_whose_pod_s_size_comes_from_the_run_runs_here_too(line: Line) -> None:
    place = line.environment.model_dump(mode="json")
    finished = line.run(sized, recipe=Recipe().parameter(), environment=place)
    assert {step.name: step.state for step in finished.steps} == {"plan": "done", "merge": "done"}


def test_damaged_metrics_of_a_reused_step_stop_nothing(line: Line) -> None:
    line.two_steps()
    for path in line.home.glob("artifacts/*/*/metrics"):
        path.write_text("{")
    assert line.two_steps() == {"ingest": "cached", "parse": "cached"}


def test_a_failing_step_gives_its_own_message_and_exit_code(line: Line, temporary: Path) -> None:
    with pytest.raises(UsageError, match=r"^parse: data/parse: nope: there is no such field$"):
        line.two_steps(nope=1)
    (line.home.parent / "empty").mkdir()
    line.source["location"] = str(line.home.parent / "empty")
    with pytest.raises(HeadraceError, match=r"^ingest: nothing to read in ") as caught:
        line.two_steps()
    assert caught.value.exit_code == 1
    assert list(temporary.iterdir()) == []
    assert not list(line.home.rglob("*.partial"))


def test_the_exit_handler_of_a_failed_run_takes_no_blame(line: Line) -> None:
    line.source["location"] = str(line.home.parent / "nowhere")
    with pytest.raises(HeadraceError, match=r"^ingest: ") as caught:
        line.run(told, reading={"sources": [line.source]}, environment=line.environment.parameter())
    [notice] = line.home.glob("artifacts/*/notify/notice/notice.json")
    record = json.loads(notice.read_text("utf-8"))
    assert (record["subject"], record["state"], record["told"], record["channels"]) == (
        "prepare_data",
        "failed",
        "page",
        [],
    )
    assert record["reason"] == str(caught.value).replace("ingest: ", "data/ingest: ", 1)


def test_a_step_that_breaks_points_to_the_log(line: Line) -> None:
    with pytest.raises(HeadraceError, match=rf"^explode failed; the last lines of {line.log} say why$"):
        line.run(exploding)
    assert "boom" in line.log.read_text("utf-8")
    assert "boom" not in line.shown.getvalue()


def test_a_condition_that_cannot_fire_fails_the_run(line: Line) -> None:
    with pytest.raises(HeadraceError, match="a condition of conditional could not be evaluated"):
        line.run(conditional)


LINGERING = """
import signal, sys
from pathlib import Path
from kfp import dsl
from components.common.step import step
from pipelines.display import Display
from pipelines.local_run import run_pipeline

@step("data")
def linger(made: dsl.Output[dsl.Dataset]):
    import subprocess, time
    from pathlib import Path
    Path(made.path + ".partial").mkdir(parents=True)
    print("lingering", flush=True)
    subprocess.run(["sleep", "60"])

@dsl.pipeline(name="lingering")
def lingering() -> None:
    linger()

for number in (signal.SIGHUP, signal.SIGINT):  # tests under nohup, or behind `&`, would pass on that they are ignored
    signal.signal(number, signal.SIG_DFL)
home = Path(sys.argv[1])
home.mkdir()
with (home / "run.log").open("w", buffering=1) as log, Display() as display:
    try:
        run_pipeline(lingering, {}, home, log, display)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, temporary: Path, number: int) -> None:
    script, home = tmp_path / "lingering.py", tmp_path / "home"
    script.write_text(LINGERING)
    run = subprocess.Popen([sys.executable, str(script), str(home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    log = home / "run.log"
    try:
        while not (log.is_file() and "lingering\n" in log.read_text("utf-8")):
            assert run.poll() is None, run.communicate()
            time.sleep(0.05)
        children = psutil.Process(run.pid).children(recursive=True)
        assert len(children) >= 2
        os.kill(run.pid, number)
        assert run.wait(30) == 130
    finally:
        run.kill()
        run.communicate()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list(temporary.iterdir()) == []
    assert not list(home.rglob("*.partial"))


def test_signals_that_were_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with when_stopped():
            os.kill(os.getpid(), signal.SIGHUP)
        with pytest.raises(KeyboardInterrupt), when_stopped():
            os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_local_image_follows_code_and_dependencies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_digest()[:16] in local_image("data")
    assert dependency_digest()[:16] in local_image("data")
    monkeypatch.setattr("components.common.code.PACKAGE", tmp_path)
    seen = set()
    for name, text in (("a.py", "1"), ("a.py", "2"), ("b.py", "2"), ("c.yaml", "3")):
        (tmp_path / name).write_text(text)
        seen.add(code_digest.__wrapped__())
    assert len(seen) == 4
    (tmp_path / "README.md").write_text("words")
    assert code_digest.__wrapped__() in seen


def test_every_step_stands_beside_its_budget() -> None:
    steps = [StepRun("tune", "done", 12.34, {"peak_mib": 100.4}), StepRun("odd", "cached")]
    [tune, odd] = usage([PipelineRun("release-line", {}, steps)])
    assert (tune["seconds"], tune["peak MiB"]) == (12.3, 100)
    assert tune["budget s"]
    assert (odd["seconds"], odd["budget s"]) == ("reused", "")


def test_what_a_step_says_is_shown_as_it_is() -> None:
    shown = io.StringIO()
    step = StepRun("ingest", metrics={"records_out": 1234, "dropped_x": 5, "megabytes": 0.5})
    with Display(Console(file=shown, force_terminal=True, width=120, legacy_windows=False)) as display:
        display.begin(3)
        display.started(step)
        display.progressed(step, 1, 2, "reading [/draft].md")
        display._bars.refresh()
        step.state = "done"
        display.finished(step)
    assert "[/draft].md" in shown.getvalue()
    assert "1,234 out, 5 dropped · megabytes 0.5" in shown.getvalue()
