"""A candidate under real load on a real plane: it climbs to a promotion, or loses its traffic within two seconds."""

import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from components.common.environment import Environment
from components.common.errors import GateHold
from components.common.recipes import load_recipe
from components.release.manifest import render, render_predictor
from components.release.progress.options import Progress
from components.release.progress.progress import progress
from components.release.progress.record import Ending
from components.release.rollout import RolloutBackend, connect
from pipelines.compile import load_pipeline
from pipelines.display import Display
from pipelines.local_run import run_pipeline
from serving.cli import rollout_app
from serving.plane.client import plane_of

STAND_IN = Path(__file__).with_name("stand_in.py")
NAME = "stand-in"
TOLERANT = {
    "steps": [25, 50, 100],
    "false_abort": 0.002,
    "false_promote": 0.01,
    "min_seconds_per_step": 0,
    "look_seconds": 0.2,
    "signals": {
        "errors": {"tolerance": 0.05},
        "latency": {"tolerance": 0.2, "quantile": 0.9},
        "first_token": {"tolerance": 0.2, "quantile": 0.9},
    },
}


class Load:
    """Clients that never stop asking; what fails without having been told to is remembered."""

    def __init__(self, environment: Environment, clients: int = 6) -> None:
        self.unexpected: list[str] = []
        self.answered: list[tuple[float, str]] = []
        self._url = environment.serving.gateway
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        host = {"host": f"{NAME}-default.example.com"}
        with httpx.Client(base_url=self._url, headers=host, timeout=30) as client:
            while not self._stop.is_set():
                try:
                    sent = time.time()
                    answer = client.post("/openai/v1/chat/completions", json={"model": NAME})
                    self.answered.append((sent, answer.headers.get("x-headrace-revision", "")))
                    if answer.status_code != 200 and "x-injected" not in answer.headers:
                        self.unexpected.append(f"{answer.status_code} {answer.text}")
                except httpx.HTTPError as error:
                    self.unexpected.append(repr(error))


@dataclass
class Stage:
    """A plane whose model servers are stand-ins."""

    environment: Environment
    rollout: RolloutBackend
    folder: Path

    def introduce(self, revision: str, errors: float, seconds: float) -> None:
        folder = self.folder / revision
        folder.mkdir()
        (folder / "behaviour.json").write_text(json.dumps({"errors": errors, "seconds": seconds}))
        predictor = render_predictor(
            name=revision,
            storage_uri=folder.as_uri(),
            replicas=1,
            resources={"cpu": "1", "memory": "1Gi"},
            arguments=[],
            annotations={},
        )
        self.rollout.introduce(render(NAME, "default", predictor), 25)


@pytest.fixture(scope="module")
def stage(environment_at: Callable[[Path], Environment], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    environment = environment_at(folder / "home")
    argv = [sys.executable, str(STAND_IN), "--port", "{port}", "--model_dir", "{model_dir}"]
    argv += ["--name", "{name}", "--revision", "{revision}"]
    (folder / "runtimes.yaml").write_text(yaml.safe_dump({"huggingface": argv}))
    plane = replace(plane_of(environment), runtimes=folder / "runtimes.yaml")
    plane.start()
    try:
        stage = Stage(environment, connect(environment, NAME), folder)
        stage.introduce("steady", errors=0.04, seconds=0.01)
        yield stage
    finally:
        plane.stop()


@pytest.mark.parametrize(
    ("revision", "errors", "seconds", "ending"),
    [
        ("faulty", 0.12, 0.01, Ending.ABORTED),
        ("slow", 0.04, 0.02, Ending.ABORTED),
        ("good", 0.04, 0.01, Ending.PROMOTED),
    ],
)
def test_a_candidate_under_load(
    stage: Stage,
    capsys: pytest.CaptureFixture[str],
    revision: str,
    errors: float,
    seconds: float,
    ending: Ending,
) -> None:
    told: list[str] = []
    with Load(stage.environment) as load:
        stage.introduce(revision, errors, seconds)
        finished = progress(stage.environment, Progress.model_validate(TOLERANT), page=told.append)
        ended = time.time()
        time.sleep(0.5)
    conclusion, after = finished.conclusion, stage.rollout.status()
    requests = finished.points[-1].requests
    with capsys.disabled():
        print(
            f"\n{revision}: {conclusion.ending} after {requests:,.0f} requests of the candidate in "
            f"{finished.points[-1].at - finished.points[0].at:.1f} s; {conclusion.seconds:.2f} s from the deciding "
            f"look to the observed share; {len(load.unexpected)} of {len(load.answered):,} requests failed unasked"
        )
    assert conclusion.ending == ending, conclusion.reason
    assert load.unexpected == []
    late = [name for sent, name in load.answered if sent > ended]
    if ending == Ending.ABORTED:
        assert (after.stable, after.candidate, after.observed) == ("steady", revision, 0)
        assert conclusion.seconds < 2, "the promise of the README, ten times what it takes"
        assert set(late) == {"steady"}
        assert len(told) == 1
    else:
        assert (after.stable, after.candidate) == (revision, "")
        assert [step for step in (25, 50) if step in {point.share for point in finished.points}] == [25, 50]
        assert set(late) == {revision} and not told
    assert Path(finished.location.removeprefix("file://")).is_file()


def test_the_command(stage: Stage, tmp_path: Path) -> None:
    stage.rollout.promote()  # whatever the tests before have left
    environment = tmp_path / "here.yaml"
    environment.write_text(yaml.safe_dump(stage.environment.model_dump()))
    command = ["progress", "--service", NAME, "--environment", str(environment), "--watch"]
    nothing = CliRunner().invoke(rollout_app, command, catch_exceptions=False)
    assert nothing.exit_code == 0 and nothing.stdout.startswith(f"{NAME}: nothing to do: ")
    assert "there is no candidate" in nothing.stdout
    with Load(stage.environment):
        stage.introduce("broken", errors=1.0, seconds=0.01)
        said = CliRunner().invoke(rollout_app, command)
    assert isinstance(said.exception, GateHold) and said.exception.exit_code == 3
    assert f"{NAME}: aborted: errors 100.00 %" in str(said.exception)
    assert "report: /" in said.stdout and "errors ↑" in said.stdout


def test_the_pipeline_comes_to_the_same(stage: Stage) -> None:
    recipe = load_recipe("default", [f"release.publish.name={NAME}"]).parameter()
    recipe["release"]["progress"] |= TOLERANT
    arguments = {"recipe": recipe, "environment": stage.environment.parameter()}
    home = stage.folder / "run"
    home.mkdir()
    with (
        Load(stage.environment, clients=2),
        (home / "run.log").open("w", encoding="utf-8") as log,
        Display(Console(file=io.StringIO())) as display,
    ):
        stage.introduce("failing", errors=0.5, seconds=0.01)
        run = run_pipeline(load_pipeline("progress_rollout"), arguments, home, log, display)
    assert [(step.name, step.state) for step in run.steps] == [(n, "done") for n in ("plan", "progress", "notify")]
    [conclusion] = home.glob("artifacts/*/progress/rollout/conclusion.json")
    said, after = json.loads(conclusion.read_text("utf-8")), stage.rollout.status()
    assert (said["ending"], said["service"], said["candidate"], said["share"]) == ("aborted", NAME, "failing", 0)
    assert (after.candidate, after.observed) == ("failing", 0)
    assert Path(said["report"].removeprefix("file://")).is_file()
