"""`release_line`: the main job, from sources to a canary in one run."""

from typing import NamedTuple

from kfp import dsl

from pipelines.prepare_data import prepare_data
from pipelines.release_model import tune_and_publish


@dsl.pipeline(name="release-line", display_name="Release line")
def release_line(recipe: dict, environment: dict) -> NamedTuple("Release", [("decision", str)]):
    """Prepare a dataset version, tune a model on it, evaluate it and publish it behind a canary.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.

    Returns:
        The gate's decision, `release` or `hold`.
    """
    prepared = prepare_data(recipe=recipe, environment=environment)
    released = tune_and_publish(dataset=prepared.output, recipe=recipe, environment=environment)
    outputs = NamedTuple("Release", [("decision", str)])
    return outputs(decision=released.outputs["decision"])
