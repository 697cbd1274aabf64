"""A publication that is killed half-way and run again ends as if it had run once, on a real plane."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from components.common.environment import Environment
from components.common.step import Context
from components.release.publish.inference_service import run
from components.release.publish.options import Publish
from components.release.services import InferenceServices

NAME = "killed"
PUBLISH = """
import sys
from pathlib import Path
from components.common.environment import Environment
from components.common.step import Context
from components.release.publish.inference_service import run
from components.release.publish.options import Publish
model, publication, environment = sys.argv[1:]
place = Environment.model_validate_json(environment)
run(Path(model), Path(publication), Publish(name="killed"), Context("release/publish", place))
"""


@pytest.fixture
def services(environment: Environment, api: client.CustomObjectsApi) -> Iterator[InferenceServices]:
    yield InferenceServices(environment.serving)
    api.delete_namespaced_custom_object("serving.kserve.io", "v1beta1", "default", "inferenceservices", NAME)


def killed(model: Path, folder: Path, environment: Environment, written: Callable[[], bool]) -> None:
    """Publish in a process of its own and kill that as soon as the service is written."""
    folder.mkdir()
    command = [sys.executable, "-c", PUBLISH, str(model), str(folder), environment.model_dump_json()]
    process = subprocess.Popen(command)
    try:
        while not written():
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "publication.json").exists(), "it was still waiting"


def finished(model: Path, folder: Path, environment: Environment) -> dict[str, Any]:
    folder.mkdir()
    run(model, folder, Publish(name=NAME), Context("release/publish", environment))
    return json.loads((folder / "publication.json").read_text("utf-8"))


@pytest.mark.slow
def test_a_killed_publication_is_finished_by_the_next_and_nothing_is_doubled(
    environment: Environment,
    services: InferenceServices,
    model_version: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    first, second = model_version("7" * 64), model_version("8" * 64)
    killed(first, tmp_path / "a", environment, lambda: services.get(NAME) is not None)
    created = services.get(NAME)
    assert created is not None
    assert finished(first, tmp_path / "b", environment)["percent"] == 100
    served = services.get(NAME)
    assert served is not None
    for field in ("uid", "generation"):
        assert served["metadata"][field] == created["metadata"][field], "the second run had nothing to write"

    killed(second, tmp_path / "c", environment, lambda: bool((services.get(NAME) or {})["spec"].get("canary")))
    publication = finished(second, tmp_path / "d", environment)
    assert (publication["percent"], publication["candidate"]) == (10, publication["revision"])
    served = services.get(NAME)
    assert served is not None
    assert [canary["predictor"]["name"] for canary in served["spec"]["canary"]] == [publication["revision"]]
    assert served["metadata"]["uid"] == created["metadata"]["uid"]
