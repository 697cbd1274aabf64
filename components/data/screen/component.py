"""KFP interface of data/screen."""

from kfp import dsl

from components.common.step import step


@step("data")
def screen(
    documents: dsl.Input[dsl.Dataset],
    allowed: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Keep the documents whose licence, class and confidentiality allow their use.

    Args:
        documents: Parsed documents.
        allowed: Documents that may be used.
        metrics: Counts and rates.
        report: What may not be used, and why.
        options: The `data.screen` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.screen.policy import run

    execute(run, locals())
