"""The difference of two pipelines: nothing for the same, and no change that goes unsaid."""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.compile import COMPILED
from pipelines.diff import as_json, compare, compare_releases, describe

Build = Callable[[str], list[Any]]
LINE = list(yaml.safe_load_all((COMPILED / "release_line.yaml").read_text("utf-8")))
MARK = "mutated"


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield path
    for key, item in items:
        yield from leaves(item, (*path, key))


def parent(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        value = value[key]
    return value


def words(old: list[Any], new: list[Any]) -> str:
    return describe(compare("line", old, new))


@pytest.fixture
def task(documents: Build) -> Callable[[str], tuple[list[Any], dict[str, Any]]]:
    """A fresh copy of `line` and one of its tasks in it."""

    def pick(name: str) -> tuple[list[Any], dict[str, Any]]:
        built = documents("line")
        places = [built[0]["root"], *built[0]["components"].values()]
        return built, next(one["dag"]["tasks"][name] for one in places if name in one.get("dag", {}).get("tasks", {}))

    return pick


def test_a_pipeline_does_not_differ_from_itself(documents: Build) -> None:
    for same in (LINE, documents("line")):
        assert compare("line", same, copy.deepcopy(same)) == []
    assert compare_releases({"line": LINE}, {}, {"line": LINE}, {}) == []


def test_every_field_of_a_pipeline_is_compared(documents: Build) -> None:
    old = documents("line")
    for path in leaves(old):
        new = copy.deepcopy(old)
        parent(new, path)[path[-1]] = MARK
        assert any(MARK in f"{change.subject} {change.field} {change.new}" for change in compare("line", old, new)), (
            path
        )


@settings(max_examples=60)
@given(path=st.sampled_from(list(leaves(LINE))), gone=st.booleans())
def test_every_field_of_the_main_job_is_compared(path: tuple[Any, ...], gone: bool) -> None:
    new = copy.deepcopy(LINE)
    if gone:
        del parent(new, path)[path[-1]]
    else:
        parent(new, path)[path[-1]] = MARK
    changes = compare("line", LINE, new)
    assert changes, path
    assert gone or any(MARK in f"{change.subject} {change.field} {change.new}" for change in changes)
    assert compare("line", new, LINE)


def test_a_size_that_the_run_gives_is_told_once_and_by_where_it_comes_from() -> None:
    old = copy.deepcopy(LINE)
    container = old[0]["deploymentSpec"]["executors"]["exec-merge"]["container"]
    container["resources"]["resourceMemoryLimit"] = "6144Mi"
    del next(
        part["dag"]["tasks"]["merge"]["inputs"]["parameters"]
        for part in old[0]["components"].values()
        if "merge" in part.get("dag", {}).get("tasks", {})
    )["memory_limit"]
    assert words(old, LINE) == (
        "line\n  step exit-handler-1/tune-and-publish/merge: memory limit is plan.merge_memory, was 6144Mi"
    )


def test_the_compilers_own_names_are_no_news(documents: Build) -> None:
    old, new = documents("line"), documents("line")
    text = json.dumps(new).replace("comp-gate", "comp-gate-2").replace("exec-gate", "exec-gate-2")
    assert compare("line", old, json.loads(text)) == []


def test_a_step_that_does_the_same_under_another_name_was_renamed(documents: Build) -> None:
    old = documents("line")
    text = json.dumps(old).replace('"producerTask": "gate"', '"producerTask": "judge"').replace('["gate"]', '["judge"]')
    new = json.loads(text)
    tasks = new[0]["root"]["dag"]["tasks"]
    tasks["judge"] = tasks.pop("gate") | {"taskInfo": {"name": "judge"}}
    new[0]["root"]["dag"]["outputs"]["parameters"]["decision"]["valueFromParameter"]["producerSubtask"] = "judge"
    assert words(old, new) == "line\n  step gate: is now called judge"


def test_steps_come_and_go(documents: Build) -> None:
    old, new = documents("line"), documents("line")
    branch = next(name for name in new[0]["root"]["dag"]["tasks"] if name.startswith("condition"))
    del new[0]["root"]["dag"]["tasks"][branch]
    assert f"step {branch}: was removed" in words(old, new)
    assert f"step {branch}: is new, after gate, with publish" in words(new, old)


def test_what_a_step_needs_is_said_in_words(documents: Build, task: Any) -> None:
    old = documents("line")
    new, gate = task("gate")
    gate["cachingOptions"] = {}
    gate["retryPolicy"] = {"maxRetryCount": 3}
    new[0]["deploymentSpec"]["executors"]["exec-gate"]["container"]["resources"]["resourceMemoryLimit"] = "4Gi"
    pod = new[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-gate"]
    pod["nodeSelector"] = {"labels": {"pool": "batch"}}
    pod["secretAsEnv"] = [{"secretName": "hub", "keyToEnv": [{"secretKey": "token", "envVar": "HUB"}]}]
    said = words(old, new)
    for sentence in (
        "step gate: caching is not set, was on",
        "step gate: number of retries is 3, was not set",
        "step gate: memory limit is 4Gi, was 1Gi",
        "step gate: node label pool is batch, was not set",
        "step gate: secret at secretAsEnv.0.secretName is hub, was not set",
    ):
        assert sentence in said


def test_rewiring_and_conditions_are_said_in_words(documents: Build, task: Any) -> None:
    new, gate = task("gate")
    gate["inputs"]["parameters"]["options"] = {"componentInputParameter": "environment"}
    assert "step gate: input options is input environment, was input recipe" in words(documents("line"), new)
    branch = next(name for name in new[0]["root"]["dag"]["tasks"] if name.startswith("condition"))
    new, condition = task(branch)
    condition["triggerPolicy"]["condition"] = condition["triggerPolicy"]["condition"].replace("release", "hold")
    assert f"step {branch}: condition is gate-Output == 'hold', was gate-Output == 'release'" in words(
        documents("line"), new
    )


@pytest.mark.parametrize(
    ("edit", "sentence", "breaking"),
    [
        ({"seed": {"parameterType": "NUMBER_INTEGER"}}, "parameter seed: is new and required", True),
        ({"seed": {"parameterType": "STRING", "defaultValue": "x"}}, "parameter seed: is new, with a default", False),
        ({"dataset": None}, "parameter dataset: was removed", True),
        ({"dataset": {"parameterType": "STRING"}}, "parameter dataset: is required now", True),
        (
            {"dataset": {"parameterType": "LIST", "defaultValue": "", "isOptional": True}},
            "parameter dataset: parameterType is LIST, was STRING",
            True,
        ),
    ],
)
def test_parameters_that_callers_depend_on_are_breaking(
    documents: Build, edit: dict[str, Any], sentence: str, breaking: bool
) -> None:
    old, new = documents("line"), documents("line")
    parameters = new[0]["root"]["inputDefinitions"]["parameters"]
    for name, definition in edit.items():
        parameters.pop(name, None)
        if definition is not None:
            parameters[name] = definition
    assert ("breaking: " + sentence if breaking else "  " + sentence) in words(old, new)


def test_an_image_that_changed_is_said_once(documents: Build, images: dict[str, str]) -> None:
    newer = {**images, "model": images["model"].replace("0123", "ffff")}
    old = {"line": documents("line"), "base": documents("base")}
    new = json.loads(json.dumps(old).replace(images["model"], newer["model"]))
    assert describe(compare_releases(old, images, new, newer)) == (
        "the release\n  image model: is registry.example.com/headrace/model@sha256:ffff456789ab, "
        "was registry.example.com/headrace/model@sha256:0123456789ab"
    )
    moved = json.loads(json.dumps(old).replace(images["model"], images["data"]))
    assert "step gate: image is data, was model" in describe(compare_releases(old, images, moved, images))


def test_a_pipeline_that_is_gone_is_breaking_and_json_says_all(documents: Build, images: dict[str, str]) -> None:
    changes = compare_releases({"base": documents("base")}, images, {"line": documents("line")}, images)
    assert [(one["pipeline"], one["what"], one["breaking"]) for one in json.loads(as_json(changes))] == [
        ("base", "was removed", True),
        ("line", "is new", False),
    ]
