"""`prepare_data`: sources in, one immutable dataset version out."""

from collections.abc import Mapping
from typing import Any

from kfp import dsl
from kfp.dsl.pipeline_channel import PipelineChannel

from components.data.card.component import card
from components.data.decontaminate.component import decontaminate
from components.data.deduplicate.component import deduplicate
from components.data.filter.component import filter as keep_good
from components.data.ingest.component import ingest
from components.data.mask.component import mask
from components.data.mix.component import mix
from components.data.parse.component import parse
from components.data.screen.component import screen
from components.planning.plan.component import plan
from pipelines.pods import furnish, watched


def collect(parts: Mapping[str, Any]) -> PipelineChannel:
    """Define the steps from sources to documents that are good enough, duplicates and all.

    Args:
        parts: The outputs of `plan`.
    """
    here = parts["workplace"]
    ingested = ingest(options=parts["ingest"], environment=here)
    parsed = parse(documents=ingested.outputs["documents"], options=parts["parse"], environment=here)
    screened = screen(documents=parsed.outputs["parsed"], options=parts["screen"], environment=here)
    masked = mask(documents=screened.outputs["allowed"], options=parts["mask"], environment=here)
    filtered = keep_good(documents=masked.outputs["masked"], options=parts["filter"], environment=here)
    return filtered.outputs["kept"]


def compose(unique: PipelineChannel, parts: Mapping[str, Any]) -> PipelineChannel:
    """Define the steps from documents without duplicates to a dataset version.

    Args:
        unique: The documents.
        parts: The outputs of `plan`.
    """
    here = parts["workplace"]
    clean = decontaminate(documents=unique, options=parts["decontaminate"], environment=here).outputs["clean"]
    mixed = mix(documents=clean, options=parts["mix"], environment=here)
    return card(documents=mixed.outputs["mixed"], options=parts["card"], environment=here).outputs["dataset"]


@dsl.pipeline(name="make-dataset", display_name="Make a dataset version")
def make_dataset(recipe: dict, environment: dict) -> dsl.Dataset:
    """Turn declared sources into one immutable dataset version: what `prepare_data` and `release_line` share.

    Args:
        recipe: What to do.
        environment: Where the run takes place.

    Returns:
        The dataset version: Parquet parts, manifest, data card.
    """
    parts = plan(options=recipe, environment=environment).outputs
    unique = deduplicate(
        documents=collect(parts), options=parts["deduplicate"], environment=parts["workplace"]
    ).outputs["unique"]
    dataset = compose(unique, parts)
    furnish(parts)
    return dataset


@dsl.pipeline(name="prepare-data", display_name="Prepare data")
def prepare_data(recipe: dict, environment: dict, schedule: str = "") -> None:
    """Turn declared sources into one immutable dataset version.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("prepare_data", environment, schedule):
        make_dataset(recipe=recipe, environment=environment)
