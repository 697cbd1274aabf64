"""A source is declared completely, or refused in words that help."""

from pathlib import Path
from typing import Any

import pytest

from components.common.errors import UsageError
from components.data.ingest.options import Ingest
from components.data.sources import declare, load_sources

GOOD: dict[str, Any] = {"id": "wiki", "location": "docs", "license": "MIT", "owner": "Team Wiki"}
DEFAULT = Path(__file__).parents[3] / "pipelines" / "recipes" / "sources.yaml"


@pytest.mark.parametrize("field", ["license", "owner", "location"])
@pytest.mark.parametrize("value", [None, "  "])
def test_a_source_without_licence_owner_or_location_is_refused_by_name(field, value, tmp_path):
    declaration = {key: text for key, text in GOOD.items() if key != field} | ({field: value} if value else {})
    file = tmp_path / "sources.yaml"
    file.write_text(f"sources: [{declaration!r}]")
    with pytest.raises(UsageError, match=rf"sources\.yaml, line 1: source wiki: {field}: is (missing|empty); .+"):
        load_sources(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"klass": "public"}, "klass: is no field of a source"),
        ({"class": "ours"}, "class: Input should be 'public', 'in_house' or 'third_party'"),
        ({"confidentiality": "secret"}, "confidentiality"),
        ({"id": "a b"}, "source a b: id"),
    ],
)
def test_a_wrong_field_is_named(change, message):
    with pytest.raises(UsageError, match=message):
        declare([GOOD | change], "recipe.yaml")


def test_two_sources_cannot_share_an_id():
    with pytest.raises(UsageError, match=r"recipe\.yaml: source wiki is declared twice"):
        declare([GOOD, GOOD], "recipe.yaml")


@pytest.mark.parametrize("content", ["", "sources: []", "just words", "a: [", "- 1"])
def test_a_file_that_declares_nothing_is_refused(content, tmp_path):
    file = tmp_path / "sources.yaml"
    file.write_text(content)
    with pytest.raises(UsageError, match=r"sources\.yaml"):
        load_sources(file)


def test_the_default_declarations_survive_the_way_through_a_pipeline_parameter():
    options = Ingest(sources=load_sources(DEFAULT))
    sent = options.model_dump(mode="json")
    assert sent["sources"][0]["class"] == "public"
    assert Ingest.model_validate(sent | {"max_file_bytes": 1e6}) == options
