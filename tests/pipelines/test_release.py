"""Releases: complete, the same bytes for the same pipelines, refused once a byte has changed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.common.errors import HeadraceError, UsageError
from components.common.step import IMAGES
from pipelines.compile import COMPILED, PIPELINES, dangling_references
from pipelines.policy import examine
from pipelines.release import (
    LOCK,
    NOTE,
    SUMMARY,
    Release,
    changes_between,
    compiled_release,
    cut_release,
    latest_release,
    read_release,
    render_manifest,
    write_release,
)

DAY = date(2026, 1, 2)


@pytest.fixture
def release(tmp_path: Path, compiled: dict[str, str], images: dict[str, str]) -> Release:
    folder = write_release(compiled, images, tmp_path / "releases", DAY)
    return read_release(folder.name, folder.parent)


def test_the_source_is_cut_pinned_and_once(tmp_path: Path, images: dict[str, str]) -> None:
    lock = tmp_path / "lock.yaml"
    lock.write_text(yaml.safe_dump(images))
    folder = cut_release(lock, tmp_path / "releases", DAY)
    assert folder.name.startswith("2026.01.02-")
    assert cut_release(lock, tmp_path / "releases", date(2026, 3, 4)) == folder
    release = read_release(folder.name, folder.parent)
    assert set(release.pipelines) == set(PIPELINES)
    for specification, *_ in release.specifications.values():
        executors = specification["deploymentSpec"]["executors"].values()
        assert {one["container"]["image"] for one in executors if "container" in one} <= set(images.values())
        assert dangling_references(specification) == []
    assert changes_between(release, compiled_release()) == []
    assert examine(release, ["registry.example.com/headrace/"]) == []
    assert not list(folder.parent.glob(".partial-*"))


def test_a_release_is_the_same_bytes_in_another_process(release: Release, tmp_path: Path) -> None:
    script = (
        "import sys; from datetime import date; from pathlib import Path; from pipelines.release import *; "
        "old = read_release(sys.argv[1], Path(sys.argv[2])); "
        "write_release(dict(reversed(old.pipelines.items())), old.images, Path(sys.argv[3]), date(2026, 1, 2))"
    )
    arguments = [release.version, str(release.folder.parent), str(tmp_path / "again")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Seoul"}
    subprocess.run([sys.executable, "-c", script, *arguments], env=environment, check=True)
    for file in release.folder.rglob("*"):
        if file.is_file():
            again = tmp_path / "again" / release.version / file.relative_to(release.folder)
            assert again.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("file", ["line.yaml", "manifests/base.yaml", LOCK, SUMMARY, NOTE])
def test_a_changed_file_is_named(release: Release, file: str) -> None:
    path = release.folder / file
    path.write_bytes(path.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(HeadraceError, match=rf"{release.version}: {file} was changed since it was cut"):
        read_release(release.version, release.folder.parent)


@pytest.mark.parametrize("file", ["line.yaml", SUMMARY])
def test_a_lost_file_is_named(release: Release, file: str) -> None:
    (release.folder / file).unlink()
    with pytest.raises(HeadraceError, match=rf"{file} is missing"):
        read_release(release.version, release.folder.parent)


def test_an_added_file_is_named(release: Release) -> None:
    (release.folder / "more.yaml").touch()
    with pytest.raises(HeadraceError, match=r"more\.yaml was added"):
        read_release(release.version, release.folder.parent)


def test_a_forged_summary_does_not_fit_the_name(release: Release, compiled: dict[str, str], tmp_path: Path) -> None:
    other = write_release(
        {**compiled, "line": compiled["line"].replace("1Gi", "9Gi")}, release.images, tmp_path / "other", DAY
    )
    shutil.rmtree(release.folder)
    shutil.move(other, release.folder)
    with pytest.raises(HeadraceError, match=r"release\.yaml was changed"):
        read_release(release.version, release.folder.parent)


def test_a_persons_words_do_not_break_the_note(release: Release) -> None:
    with (release.folder / NOTE).open("a") as note:
        note.write("Drain the canary first.\n")
    read_release(release.version, release.folder.parent)


def test_an_unknown_release_gets_the_nearest_name(release: Release, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"did you mean {release.version}"):
        read_release(release.version[:-2], release.folder.parent)
    with pytest.raises(UsageError, match="none, cut one first"):
        read_release("1.0", tmp_path / "nowhere")


def test_the_upgrade_note_says_what_changed_since_the_release_before(
    release: Release, documents: Callable[[str], list[Any]], compiled: dict[str, str], images: dict[str, str]
) -> None:
    assert "first release" in (release.folder / NOTE).read_text()
    changed = documents("line")
    changed[0]["root"]["inputDefinitions"]["parameters"]["seed"] = {"parameterType": "NUMBER_INTEGER"}
    pipelines = {**compiled, "line": yaml.safe_dump_all(changed)}
    # A second one on the same day sorts by its hash; it still follows the first.
    folder = write_release(pipelines, images, release.folder.parent, DAY)
    note = (folder / NOTE).read_text()
    assert f"After {release.version}. Breaking:" in note
    assert "- **Breaking:** parameter seed: is new and required" in note
    newest = latest_release(folder.parent)
    assert newest is not None
    assert (newest.version, newest.previous) == (folder.name, release.version)


def test_the_manifests_are_accepted_by_a_kubernetes_api(cluster: client.ApiClient, release: Release) -> None:
    api = client.CustomObjectsApi(cluster)
    for name in release.pipelines:
        for manifest in yaml.safe_load_all((release.folder / "manifests" / f"{name}.yaml").read_text("utf-8")):
            group, version = manifest["apiVersion"].split("/")
            created = api.create_namespaced_custom_object(
                group, version, "default", f"{manifest['kind'].lower()}s", manifest
            )
            assert created["spec"] == manifest["spec"]  # this server prunes what the CRD does not know
    versions = api.list_namespaced_custom_object(group, version, "default", "pipelineversions")["items"]
    carried = {one["spec"]["pipelineName"]: one["spec"] for one in versions}
    specification, platform = release.specifications["line"]
    assert (carried["line"]["pipelineSpec"], carried["line"]["platformSpec"]) == (specification, platform)
    assert {one["metadata"]["name"] for one in versions} == {f"{name}-{release.version}" for name in release.pipelines}


def test_the_manifest_of_the_main_job_keeps_every_word_of_it() -> None:
    text = (COMPILED / "release_line.yaml").read_text("utf-8")
    pipeline, version = yaml.safe_load_all(render_manifest(text, "2026.01.02-abc"))
    assert [version["spec"]["pipelineSpec"], version["spec"].get("platformSpec")] == [
        *yaml.safe_load_all(text),
        *([None] if text.count("\n---\n") == 0 else []),
    ]
    assert pipeline["metadata"]["name"] == version["spec"]["pipelineName"] == "release-line"


@pytest.mark.parametrize(
    ("lock", "problem"),
    [
        ({"data": "registry.example.com/data:latest"}, "floats"),
        ({"data": None}, "names exactly these images"),
        ({"stranger": "registry.example.com/x"}, "names exactly these images"),
        ("[", "not valid YAML"),
        (None, "an image lock maps"),
    ],
)
def test_a_bad_image_lock_is_refused(tmp_path: Path, images: dict[str, str], lock: Any, problem: str) -> None:
    path = tmp_path / "lock.yaml"
    if isinstance(lock, dict):
        path.write_text(yaml.safe_dump({key: value for key, value in (images | lock).items() if value}))
    elif lock is not None:
        path.write_text(lock)
    with pytest.raises(UsageError, match=problem):
        cut_release(path, tmp_path / "releases")
    assert not list(tmp_path.glob("releases/*"))
    assert set(images) == set(IMAGES)
