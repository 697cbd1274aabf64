"""The policy: every rule finds what breaks it, and nothing in a release that keeps it."""

import base64
import dataclasses
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipelines.compile import COMPILED
from pipelines.policy import Finding, examine, find_secret
from pipelines.release import NOTE, Release, read_release, write_release

ALLOWED = ["registry.example.com/headrace/"]
Edit = Callable[[list[Any]], None]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, compiled: dict[str, str], images: dict[str, str]) -> Release:
    folder = write_release(compiled, images, tmp_path_factory.mktemp("releases"), date(2026, 1, 2))
    return read_release(folder.name, folder.parent)


@pytest.fixture
def edited(release: Release, documents: Callable[[str], list[Any]]) -> Callable[[Edit], list[Finding]]:
    """Examine the release with `line` changed; its manifest, which then differs, left aside."""

    def findings(edit: Edit) -> list[Finding]:
        changed = documents("line")
        edit(changed)
        pipelines = {**release.pipelines, "line": yaml.safe_dump_all(changed)}
        found = examine(dataclasses.replace(release, pipelines=pipelines), ALLOWED)
        return [finding for finding in found if not finding.file.startswith("manifests/")]

    return findings


def executor(documents: list[Any]) -> dict[str, Any]:
    return documents[0]["deploymentSpec"]["executors"]["exec-gate"]["container"]


def pod(documents: list[Any]) -> dict[str, Any]:
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-gate"]


def branch(documents: list[Any]) -> dict[str, Any]:
    return next(task for task in documents[0]["root"]["dag"]["tasks"].values() if "triggerPolicy" in task)


def test_a_release_that_keeps_the_policy_has_no_findings(release: Release) -> None:
    assert examine(release, ALLOWED) == []


@pytest.mark.parametrize(
    ("edit", "path", "problem"),
    [
        (lambda one: executor(one).update(image="registry.example.com/headrace/model:1"), "image", "floats"),
        (lambda one: executor(one).update(image=f"x/y@sha256:{'0' * 64}"), "image", "is not in images.lock.yaml"),
        (lambda one: executor(one)["resources"].pop("resourceCpuLimit"), "resourceCpuLimit", "no CPU limit"),
        (lambda one: executor(one)["resources"].pop("resourceMemoryLimit"), "MemoryLimit", "no memory limit"),
        (lambda one: executor(one).pop("resources"), "resourceCpuLimit", "no CPU limit"),
        (lambda one: pod(one).pop("securityContext"), "securityContext", "may run as root"),
        (lambda one: pod(one)["securityContext"].update(runAsUser=0), "securityContext", "may run as root"),
        (lambda one: one.pop(), "securityContext", "may run as root"),
        (lambda one: branch(one)["componentRef"].update(name="comp-none"), "root.condition-1", "is not defined"),
        (
            lambda one: branch(one)["inputs"]["parameters"]["pipelinechannel--gate-Output"][
                "taskOutputParameter"
            ].update(outputParameterKey="decision"),
            "triggerPolicy.condition",
            "the named output decision",
        ),
        (lambda one: branch(one)["inputs"]["parameters"].clear(), "triggerPolicy.condition", "which no input gives"),
        (
            lambda one: executor(one).update(env=[{"name": "HUB_TOKEN", "value": "opensesame"}]),
            "container.env.0.value",
            "named like a secret",
        ),
        (lambda one: executor(one)["args"].append("--password=correct4horse"), "container.args.4", "Password"),
        (
            lambda one: one[0]["root"]["inputDefinitions"]["parameters"].update(
                api_key={"parameterType": "STRING", "defaultValue": "letmein"}
            ),
            "api_key.defaultValue",
            "named like a secret",
        ),
    ],
)
def test_what_breaks_a_rule_is_found_where_it_is(
    edited: Callable[[Edit], list[Finding]], edit: Edit, path: str, problem: str
) -> None:
    found = [finding for finding in edited(edit) if problem in finding.problem]
    assert found
    assert all(path in finding.path and finding.file == "line.yaml" and finding.fix for finding in found)


@pytest.mark.parametrize(
    ("registries", "allowed"),
    [
        (["registry.example.com/headrace"], True),
        (["docker.io/", "registry.example.com"], True),
        (["registry.example.com/head"], False),
        (["registry.example"], False),
        ([], False),
    ],
)
def test_a_registry_is_allowed_by_whole_parts_of_its_name(
    release: Release, registries: list[str], allowed: bool
) -> None:
    found = examine(release, registries)
    assert bool(found) is not allowed
    assert all("registry that is not allowed" in finding.problem for finding in found)


def test_a_manifest_that_carries_something_else_is_found(release: Release, compiled: dict[str, str]) -> None:
    pipelines = {**release.pipelines, "line": compiled["line"].replace("1Gi", "9Gi")}
    assert [finding.file for finding in examine(dataclasses.replace(release, pipelines=pipelines), ALLOWED)] == [
        "manifests/line.yaml"
    ]


def test_a_persons_words_are_searched_for_secrets_too(tmp_path: Path, release: Release) -> None:
    copied = write_release(release.pipelines, release.images, tmp_path, date(2026, 1, 2))
    with (copied / NOTE).open("a") as note:
        note.write("Log in with ghp_" + "a1B2" * 9)
    assert [finding.file for finding in examine(read_release(copied.name, tmp_path), ALLOWED)] == [NOTE]


@pytest.mark.parametrize("path", sorted(COMPILED.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_own_pipelines_hold_nothing_like_a_secret(path: Path) -> None:
    assert [line for line in path.read_text("utf-8").splitlines() if find_secret(line)] == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN EC PRIVATE KEY-----",
        "AKIAIOSFODNN7REALKEY",
        "https://user:pa55word@registry.example.com/",
        "AIzaSyA-abcdefghijklmnopqrstuvwxyz12345",
        "hf_" + "aBcDeF" * 6,
        "xoxb-" + "1234567890-" * 2 + "a1b2c3d4e5f6",
        "password: hunter2hunter2",
    ],
)
def test_known_forms_of_secrets_are_found(text: str) -> None:
    assert find_secret(f"value {text} in a text")


@given(
    st.binary(
        min_size=48,
        max_size=48,
    ).filter(lambda data: len(set(data)) > 40)
)
def test_random_keys_are_found_in_either_writing(data: bytes) -> None:
    assert find_secret(f"key {data.hex()}")
    text = base64.urlsafe_b64encode(data).decode()
    assert find_secret(f"key {text}") or not any(map(str.isdigit, text))


@given(st.text("abcdefghijklmnopqrstuvwxyz_/.- ", max_size=80))
def test_words_and_paths_are_not(text: str) -> None:
    assert find_secret(text) == ""
