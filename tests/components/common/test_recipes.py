"""Recipes: every mistake names the file, the field and the fix before anything runs."""

from pathlib import Path

import pytest
import yaml

from components.common.environment import load_environment
from components.common.errors import UsageError
from components.common.recipes import RECIPES, load_recipe, parts
from pipelines.recipe import local_recipe


def recipe_file(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml") if path.stem != "sources"))
def test_every_shipped_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.data.ingest.sources


def test_an_unknown_field_gets_the_nearest_known_name(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, "model: {tune: {epoch: 3}}")
    with pytest.raises(
        UsageError, match=r"mine\.yaml: model\.tune\.epoch: there is no such field; did you mean epochs"
    ):
        load_recipe(path)


def test_a_wrong_value_names_its_field(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"model\.tune\.epochs: Input should be a valid integer"):
        load_recipe(recipe_file(tmp_path, "model: {tune: {epochs: many}}"))


def test_overrides_reach_nested_fields_and_are_checked() -> None:
    assert load_recipe("default", ["model.tune.epochs=3"]).model.tune.epochs == 3
    with pytest.raises(UsageError, match=r"model\.tune\.epocs"):
        load_recipe("default", ["model.tune.epocs=3"])
    with pytest.raises(UsageError, match="an override is key=value"):
        load_recipe("default", ["model.tune.epochs"])


@pytest.mark.parametrize("missing", ["license", "owner"])
def test_a_source_without_licence_or_owner_is_refused(tmp_path: Path, missing: str) -> None:
    source = {"id": "wiki", "class": "in_house", "location": str(tmp_path), "license": "MIT", "owner": "me"}
    del source[missing]
    path = recipe_file(tmp_path, yaml.safe_dump({"data": {"ingest": {"sources": [source]}}}))
    with pytest.raises(UsageError, match=rf"source wiki: {missing}: is missing"):
        load_recipe(path)


@pytest.mark.parametrize("text", ["/opt/python3/docs", "{{$.inputs}}"])
def test_strings_that_kfp_rewrites_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="KFP rewrites"):
        load_recipe(recipe_file(tmp_path, yaml.safe_dump({"description": text})))


@pytest.mark.parametrize(
    ("text", "problem"), [("a: [", "not valid YAML"), ("- a", "a recipe is a mapping"), ("\x00", "not valid YAML")]
)
def test_a_malformed_file_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem) as caught:
        load_recipe(recipe_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_recipe_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="one of: default, evaluation, quick"):
        load_recipe("defualt")


def test_a_change_to_the_model_leaves_the_data_parts_alone() -> None:
    before, after = parts(load_recipe("default")), parts(load_recipe("default", ["model.tune.epochs=3"]))
    assert [name for name in before if before[name] != after[name]] == ["tune", "probe"]


def test_the_digest_follows_the_values_and_not_their_spelling(tmp_path: Path) -> None:
    plain = load_recipe(recipe_file(tmp_path, "model: {tune: {epochs: 3}}"))
    spelled = load_recipe(recipe_file(tmp_path, "model: {tune: {epochs: 3.0}}\ntraffic: {requests: 240}"))
    assert plain.digest() == spelled.digest()
    assert plain.digest() != load_recipe(recipe_file(tmp_path, "model: {tune: {epochs: 2}}")).digest()


def test_a_persons_folder_takes_the_place_of_the_sources(tmp_path: Path) -> None:
    recipe = local_recipe("default", [], tmp_path)
    [source] = recipe.data.ingest.sources
    assert (source.location, source.class_, source.license) == (str(tmp_path), "in_house", "LicenseRef-in-house")
    with pytest.raises(UsageError, match="there is no such folder"):
        local_recipe("default", [], tmp_path / "none")


def test_a_persons_folder_must_survive_as_a_parameter(tmp_path: Path) -> None:
    folder = tmp_path / "python3-notes"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"--docs .*python3-notes: .*location: KFP rewrites 'python3'"):
        local_recipe("default", [], folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "not valid YAML"),
        ("- a", "an environment is a mapping"),
        ("store: file:///s", "tracking: Field required"),
        ("serving: {modus: plane}", "serving.modus: there is no such field"),
        ("signing_key: /usr/lib/python3/key", "signing_key: KFP rewrites"),
    ],
)
def test_a_malformed_environment_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UsageError, match=rf"mine\.yaml.*{problem}") as caught:
        load_environment(str(path), tmp_path)
    assert "\n" not in str(caught.value)


def test_an_environment_lives_in_its_home(tmp_path: Path) -> None:
    environment = load_environment("local", tmp_path / "집")
    assert environment.store == f"file://{tmp_path / '집'}/store"
    with pytest.raises(UsageError, match="there is no environment 'test'; known: dev, local, prod, staging"):
        load_environment("test")
    with pytest.raises(UsageError, match="use another folder"):
        load_environment("local", tmp_path / "python3")
