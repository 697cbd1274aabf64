"""KFP interface of data/parse."""

from kfp import dsl

from components.common.step import step


@step("data")
def parse(
    documents: dsl.Input[dsl.Dataset],
    parsed: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Turn markup into clean text with its structure kept.

    Args:
        documents: Documents as ingested.
        parsed: Documents as clean text with their structure kept.
        metrics: Counts and rates.
        report: What changed, and what could not be parsed.
        options: The `data.parse` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.parse.run import run

    execute(run, locals())
