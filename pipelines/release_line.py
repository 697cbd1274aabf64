"""`release_line`: the main job, from sources to a canary in one run."""

from kfp import dsl

from pipelines.pods import watched
from pipelines.prepare_data import make_dataset
from pipelines.release_model import tune_and_publish


@dsl.pipeline(name="release-line", display_name="Release line")
def release_line(recipe: dict, environment: dict, schedule: str = "") -> None:
    """Prepare a dataset version, tune a model on it, evaluate it and publish it behind a canary if the gate agrees.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("release_line", environment, schedule):
        prepared = make_dataset(recipe=recipe, environment=environment)
        tune_and_publish(
            dataset=prepared.output,
            recipe=recipe,
            environment=environment,
            pipeline="release_line",
            schedule=schedule,
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
