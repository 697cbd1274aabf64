"""Changing a service that others change too."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.release.manifest import Manifest, render, render_predictor
from components.release.services import InferenceServices

NAME = "contended"


@pytest.fixture
def services(environment: Environment, api: client.CustomObjectsApi, tmp_path: Path) -> Iterator[InferenceServices]:
    """The plane, with one service whose model does not exist, so that no process is started."""
    predictor = render_predictor(
        name="one",
        storage_uri=(tmp_path / "nothing").as_uri(),
        replicas=1,
        resources={"cpu": "1"},
        arguments=[],
        annotations={},
    )
    services = InferenceServices(environment.serving)
    services.change(NAME, lambda seen: render(NAME, "default", predictor))
    yield services
    api.delete_namespaced_custom_object("serving.kserve.io", "v1beta1", "default", "inferenceservices", NAME)


def label(seen: Manifest | None, key: str) -> Manifest:
    assert seen is not None
    metadata = {**seen["metadata"], "labels": {**seen["metadata"]["labels"], key: "yes"}}
    return {**seen, "metadata": metadata}


def test_a_change_that_lost_the_race_is_made_again_on_top(services: InferenceServices) -> None:
    calls = []

    def mine(seen: Manifest | None) -> Manifest:
        calls.append(seen)
        if len(calls) == 1:
            services.change(NAME, lambda current: label(current, "theirs"))
        return label(seen, "mine")

    labels = services.change(NAME, mine)["metadata"]["labels"]
    assert len(calls) == 2
    assert labels["mine"] == labels["theirs"] == "yes"


def test_what_is_so_already_is_not_written(services: InferenceServices) -> None:
    before = services.get(NAME)
    assert before is not None
    services.change(NAME, lambda seen: before)
    after = services.get(NAME)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_refusal_keeps_the_api_s_words(services: InferenceServices) -> None:
    def wrong(seen: Manifest | None) -> Manifest:
        assert seen is not None
        return {**seen, "spec": {"predictor": {"name": "one", "modle": {}}}}

    with pytest.raises(HeadraceError, match=r"spec\.predictor\.modle: there is no such field"):
        services.change(NAME, wrong)


def test_a_model_that_is_not_there_is_reported(services: InferenceServices) -> None:
    def reason() -> str:
        found = services.get(NAME)
        assert found is not None
        return found["status"]["conditions"][0].get("message", "")

    deadline = time.monotonic() + 30
    while "nothing is not a folder" not in reason():
        assert time.monotonic() < deadline, reason()
        time.sleep(0.02)
