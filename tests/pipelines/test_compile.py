"""Compiled pipelines: the same bytes everywhere, complete, and nothing floats or installs at run time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseError
from kfp.components import load_component_from_file

from components.common.errors import HeadraceError, UsageError
from components.common.step import IMAGES
from pipelines.compile import (
    COMPILED,
    PIPELINES,
    check_compiled,
    compile_pipeline,
    dangling_references,
    local_image,
    read_specification,
    write_compiled,
)
from pipelines.release import cut_release

LOCK = {image: f"registry.example.com/headrace/{image}@sha256:{'0123456789abcdef' * 4}" for image in IMAGES}


def committed(name: str) -> str:
    return (COMPILED / f"{name}.yaml").read_text("utf-8")


def containers(text: str) -> Iterator[dict[str, Any]]:
    for executor in yaml.safe_load(text)["deploymentSpec"]["executors"].values():
        if "container" in executor:
            yield executor["container"]


def test_the_committed_yaml_is_what_the_source_compiles_to() -> None:
    check_compiled()


def test_compiling_gives_the_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    script = "from pipelines.compile import compile_pipeline; print(compile_pipeline('release_line'), end='')"
    compiled = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Seoul"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert compiled.stdout == committed("release_line")


@pytest.mark.parametrize("name", PIPELINES)
def test_every_field_is_known_to_kfp_and_every_reference_resolves(name: str) -> None:
    specification = read_specification(committed(name))
    assert specification.pipeline_info.name == name.replace("_", "-")
    assert dangling_references(yaml.safe_load(committed(name))) == []


def test_an_unknown_field_and_a_dangling_reference_are_found() -> None:
    broken = yaml.safe_load(committed("prepare_data"))
    broken["deploymentSpec"]["executors"].popitem()
    task = next(iter(broken["root"]["dag"]["tasks"].values()))
    task["componentRef"]["name"] = "comp-none"
    assert len(dangling_references(broken)) == 2
    task["retries"] = 3
    with pytest.raises(ParseError, match="retries"):
        read_specification(yaml.safe_dump(broken))


@pytest.mark.parametrize("name", PIPELINES)
def test_nothing_is_installed_when_a_step_runs(name: str) -> None:
    commands = [" ".join(container["command"]) for container in containers(committed(name))]
    assert commands
    assert not [command for command in commands if "pip" in command]


@pytest.mark.parametrize("name", PIPELINES)
def test_no_image_floats(name: str) -> None:
    images = {container["image"] for container in containers(committed(name))}
    assert all(image.rpartition(":")[2] not in ("", "latest", image) for image in images)
    pinned = {container["image"] for container in containers(compile_pipeline(name, LOCK.__getitem__))}
    assert pinned <= set(LOCK.values())


@pytest.mark.parametrize("name", PIPELINES)
def test_kfp_loads_what_is_committed(name: str) -> None:
    loaded = load_component_from_file(str(COMPILED / f"{name}.yaml"))
    assert {"recipe", "environment"} <= set(loaded.component_spec.inputs)


def test_the_local_image_changes_with_the_code_only() -> None:
    images = {local_image(image) for image in IMAGES}
    assert len(images) == len(IMAGES)
    assert images == {local_image(image) for image in IMAGES}


def test_publish_is_gated_and_never_cached() -> None:
    components = yaml.safe_load(committed("release_line"))["components"]
    branch = next(
        task
        for component in components.values()
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "triggerPolicy" in task
    )
    assert "release" in branch["triggerPolicy"]["condition"]
    publish = components[branch["componentRef"]["name"]]["dag"]["tasks"]["publish"]
    assert publish.get("cachingOptions", {}) == {}


def test_stale_yaml_is_refused_and_repaired(tmp_path: Path) -> None:
    assert len(write_compiled(tmp_path)) == len(PIPELINES)
    check_compiled(tmp_path)
    (tmp_path / "release_line.yaml").write_text("root: {}\n")
    (tmp_path / "old.yaml").write_text("")
    with pytest.raises(HeadraceError, match=r"release_line\.yaml is stale; old\.yaml belongs to no pipeline"):
        check_compiled(tmp_path)
    assert write_compiled(tmp_path) == [tmp_path / "release_line.yaml"]


def test_a_release_is_pinned_and_cut_once(tmp_path: Path) -> None:
    lock = tmp_path / "lock.yaml"
    lock.write_text(yaml.safe_dump(LOCK))
    release = cut_release(lock, tmp_path / "releases", date(2026, 1, 2))
    assert release.name.startswith("2026.01.02-")
    assert cut_release(lock, tmp_path / "releases", date(2026, 3, 4)) == release
    for name in PIPELINES:
        text = (release / f"{name}.yaml").read_text("utf-8")
        assert {container["image"] for container in containers(text)} <= set(LOCK.values())
        assert dangling_references(yaml.safe_load(text)) == []
    assert not list((tmp_path / "releases").glob(".partial-*"))


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        ({**LOCK, "data": "registry.example.com/data:latest"}, "floats"),
        ({"data": LOCK["data"]}, "names exactly these images"),
        ("[", "not valid YAML"),
        (None, "an image lock maps"),
    ],
)
def test_a_bad_image_lock_is_refused(tmp_path: Path, lock: Any, problem: str) -> None:
    path = tmp_path / "lock.yaml"
    if lock is not None:
        path.write_text(lock if isinstance(lock, str) else yaml.safe_dump(lock))
    with pytest.raises(UsageError, match=problem):
        cut_release(path, tmp_path / "releases")
    assert not list(tmp_path.glob("releases/*"))
