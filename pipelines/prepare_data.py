"""`prepare_data`: sources in, one immutable dataset version out."""

from kfp import dsl

from components.data.card.component import card
from components.data.deduplicate.component import deduplicate
from components.data.filter.component import filter as keep_good
from components.data.ingest.component import ingest
from components.data.mask.component import mask
from components.data.mix.component import mix
from components.data.parse.component import parse
from components.data.screen.component import screen
from components.planning.plan.component import plan


@dsl.pipeline(name="prepare-data", display_name="Prepare data")
def prepare_data(recipe: dict, environment: dict) -> dsl.Dataset:
    """Turn declared sources into one immutable dataset version.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.

    Returns:
        The dataset version: Parquet parts, manifest, data card.
    """
    parts = plan(options=recipe, environment=environment).outputs
    ingested = ingest(options=parts["ingest"], environment=environment)
    parsed = parse(documents=ingested.outputs["documents"], options=parts["parse"], environment=environment)
    screened = screen(documents=parsed.outputs["parsed"], options=parts["screen"], environment=environment)
    masked = mask(documents=screened.outputs["allowed"], options=parts["mask"], environment=environment)
    filtered = keep_good(documents=masked.outputs["masked"], options=parts["filter"], environment=environment)
    unique = deduplicate(documents=filtered.outputs["kept"], options=parts["deduplicate"], environment=environment)
    mixed = mix(documents=unique.outputs["unique"], options=parts["mix"], environment=environment)
    carded = card(documents=mixed.outputs["mixed"], options=parts["card"], environment=environment)
    return carded.outputs["dataset"]
