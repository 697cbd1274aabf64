"""What a cached step notices: the files that its options name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from components.common.errors import UsageError
from components.common.observed import OBSERVED, observe
from components.common.options import Files
from components.common.recipes import Recipe, check_recipe
from components.common.store import open_store


def seen(**areas: Any) -> dict[str, str]:
    """The `observed` of every step that has one."""
    whole = observe(check_recipe(areas, "recipe")).parameter()
    steps = {name: step for area in ("data", "model", "evaluation") for name, step in whole[area].items()}
    return {name: step[OBSERVED] for name, step in steps.items() if isinstance(step, dict) and OBSERVED in step}


def files(folder: Path) -> Path:
    """A folder with something in a folder of it."""
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "one.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("step", "recipe"),
    [
        ("benchmark", lambda at: {"evaluation": {"benchmark": {"judging": {"labelled": f"{at}/sub/one.json"}}}}),
        ("benchmark", lambda at: {"evaluation": {"benchmark": {"judging": {"judge": "model", "model": str(at)}}}}),
        ("benchmark", lambda at: {"evaluation": {"benchmark": {"embedder": str(at)}}}),
        (
            "benchmark",
            lambda at: {
                "evaluation": {"benchmark": {"tasks": [{"name": "own", "kind": "lm_eval", "location": str(at)}]}}
            },
        ),
        ("retrieval", lambda at: {"evaluation": {"retrieval": {"embedder": str(at)}}}),
        ("retrieval", lambda at: {"evaluation": {"retrieval": {"reranker": f"file://{at}"}}}),
        ("retrieval", lambda at: {"evaluation": {"retrieval": {"judging": {"judge": "model", "model": str(at)}}}}),
        ("decontaminate", lambda at: {"data": {"decontaminate": {"sets": [{"name": "exam", "location": str(at)}]}}}),
        ("fetch", lambda at: {"model": {"fetch": {"model": str(at)}}}),
        ("mix", lambda at: {"data": {"mix": {"tokenizer": str(at)}}}),
    ],
)
def test_a_file_that_changes_under_its_name_changes_its_step_and_no_other(
    tmp_path: Path, step: str, recipe: Callable[[Path], dict[str, Any]]
) -> None:
    at = files(tmp_path / "files")
    before = seen(**recipe(at))
    (at / "sub" / "__pycache__").mkdir()
    (at / "sub" / "__pycache__" / "own.pyc").write_text("what Python writes while a task is loaded")
    assert seen(**recipe(at)) == before
    (at / "sub" / "one.json").write_text("[]")
    after = seen(**recipe(at))
    assert {name for name in before if before[name] != after[name]} == {step}
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=rf"{step}\..*holds no file; give the whole path"):
        seen(**recipe(at))


def test_a_set_in_a_bucket_is_seen_and_a_served_judge_is_not(cloud: str) -> None:
    place = f"{cloud}/observed/exam"
    store = open_store(place)
    recipe = {
        "data": {"decontaminate": {"sets": [{"name": "exam", "location": place}]}},
        "evaluation": {"benchmark": {"judging": {"judge": "model", "model": "http://127.0.0.1:9/v1"}}},
    }
    store.write("a.jsonl", json.dumps({"question": "Which river?"}).encode())
    open_store(f"{place}-of-others").write("b.jsonl", b"{}")
    before = seen(**recipe)
    open_store(f"{place}-of-others").write("b.jsonl", b"[]")
    assert seen(**recipe) == before
    store.write("a.jsonl", json.dumps({"question": "Which sea?"}).encode())
    after = seen(**recipe)
    assert before.pop("decontaminate") != after.pop("decontaminate") and before == after


def test_a_version_of_the_store_is_not_looked_for_but_a_folder_that_is_called_like_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert seen(data={"mix": {"tokenizer": "models/acme/1234"}})["mix"] == ""
    monkeypatch.chdir(tmp_path)
    files(tmp_path / "models")
    assert seen(model={"fetch": {"model": "models/sub"}})["fetch"]


def test_every_option_that_names_files_is_in_a_step_that_observes_them() -> None:
    found = list(marked(Recipe, observed=False))
    assert {name for name, _ in found} >= {"location", "labelled", "model", "embedder", "reranker"}
    assert all(observed for _, observed in found), found


def marked(options: type[BaseModel], observed: bool) -> Iterator[tuple[str, bool]]:
    observed = observed or OBSERVED in options.model_fields
    for name, field in options.model_fields.items():
        if any(isinstance(mark, Files) for mark in field.metadata):
            yield name, observed
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from marked(inner, observed)
