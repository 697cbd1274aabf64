"""`release_line`: the main job, from sources to a canary in one run."""

from kfp import dsl

from pipelines.prepare_data import prepare_data
from pipelines.release_model import Release, tune_and_publish


@dsl.pipeline(name="release-line", display_name="Release line")
def release_line(recipe: dict, environment: dict) -> Release:
    """Prepare a dataset version, tune a model on it, evaluate it and publish it behind a canary.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.

    Returns:
        The gate's decision, `release` or `hold`.
    """
    prepared = prepare_data(recipe=recipe, environment=environment)
    released = tune_and_publish(dataset=prepared.output, recipe=recipe, environment=environment)
    return Release(decision=released.outputs["decision"])
