"""`erase_subject`: carry out a person's sealed request everywhere, mark the models concerned, certify it."""

from kfp import dsl

from components.operations.erase.component import certify, erase
from components.planning.plan.component import plan
from pipelines.pods import furnish, watched


@dsl.pipeline(name="carry-out", display_name="Carry out a request")
def carry_out(recipe: dict, environment: dict, request: str) -> None:
    """Erase, then certify.

    Args:
        recipe: What to do.
        environment: Where the run takes place.
        request: Name of the sealed request in the store.
    """
    parts = plan(options=recipe, environment=environment).outputs
    erased = erase(request=request, environment=environment)
    erased.set_caching_options(False)
    certified = certify(erasure=erased.outputs["erasure"], request=request, environment=environment)
    certified.set_caching_options(False)
    furnish(parts)


@dsl.pipeline(name="erase-subject", display_name="Erase a person's data")
def erase_subject(recipe: dict, environment: dict, request: str, schedule: str = "") -> None:
    """Carry out a sealed request: find, delete, rewrite, look again, mark services, certify.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`.
        request: Name of the sealed request in the store, as `headrace erase submit` prints it; it names nobody.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("erase_subject", environment, schedule):
        carry_out(recipe=recipe, environment=environment, request=request)
