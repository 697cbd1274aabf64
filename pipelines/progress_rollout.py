"""`progress_rollout`: watch the canary, move its traffic step by step, promote it or take its traffic away."""

from kfp import dsl

from components.planning.plan.component import plan
from components.release.progress.component import progress
from pipelines.pods import furnish, watched


@dsl.pipeline(name="decide-rollout", display_name="Decide about the canary")
def decide_rollout(recipe: dict, environment: dict) -> None:
    """Decide about the candidate of the recipe's service; without one nothing happens.

    Args:
        recipe: What to do.
        environment: Where the run takes place.
    """
    parts = plan(options=recipe, environment=environment).outputs
    progressed = progress(options=parts["progress"], environment=environment)
    progressed.set_caching_options(False)
    furnish(parts)


@dsl.pipeline(name="progress-rollout", display_name="Progress the rollout")
def progress_rollout(recipe: dict, environment: dict, schedule: str = "") -> None:
    """Decide about the candidate of the recipe's service; without one nothing happens.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("progress_rollout", environment, schedule):
        decide_rollout(recipe=recipe, environment=environment)
