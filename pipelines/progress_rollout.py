"""`progress_rollout`: watch the canary, move its traffic step by step, promote it or take its traffic away."""

from kfp import dsl

from components.planning.plan.component import plan
from components.release.progress.component import progress


@dsl.pipeline(name="progress-rollout", display_name="Progress the rollout")
def progress_rollout(recipe: dict, environment: dict) -> None:
    """Decide about the candidate of the recipe's service; without one nothing happens.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
    """
    parts = plan(options=recipe, environment=environment).outputs
    progressed = progress(options=parts["progress"], environment=environment)
    progressed.set_caching_options(False)
