"""KFP interface of release/publish."""

from kfp import dsl

from components.common.step import step


@step("release")
def publish(
    model: dsl.Input[dsl.Model],
    publication: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Put a model version in front of its users, behind a canary if another one serves already.

    Args:
        model: The model version, with its `provenance.json`.
        publication: The InferenceService, and what was observed of it.
        metrics: The new revision's share of the requests.
        report: What serves now, and where it came from.
        options: The `release.publish` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.release.publish.inference_service import run

    execute(run, locals())
