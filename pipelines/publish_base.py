"""`publish_base`: serve the base model, so that a service has a stable revision before its first canary."""

from kfp import dsl

from components.model.fetch.component import fetch
from components.model.register.component import register_base
from components.planning.plan.component import plan
from components.release.publish.component import publish
from pipelines.pods import furnish, watched


@dsl.pipeline(name="serve-base", display_name="Serve the base model")
def serve_base(recipe: dict, environment: dict) -> None:
    """Register the recipe's base model as a version and publish it.

    Args:
        recipe: What to do.
        environment: Where the run takes place.
    """
    parts = plan(options=recipe, environment=environment).outputs
    base = fetch(options=parts["fetch"], environment=parts["workplace"]).outputs["base"]
    registered = register_base(base=base, options=parts["register"], environment=parts["workplace"])
    published = publish(model=registered.outputs["model"], options=parts["publish"], environment=environment)
    published.set_caching_options(False)
    furnish(parts)


@dsl.pipeline(name="publish-base", display_name="Publish the base model")
def publish_base(recipe: dict, environment: dict, schedule: str = "") -> None:
    """Register the recipe's base model as a version and publish it.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("publish_base", environment, schedule):
        serve_base(recipe=recipe, environment=environment)
