"""KFP interface of data/ingest."""

from kfp import dsl

from components.common.step import step


@step("data")
def ingest(
    documents: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Read declared sources into documents.

    Args:
        documents: Documents as they were found, one source declaration each.
        metrics: Counts and rates.
        report: What was read and what was not, by reason.
        options: The `data.ingest` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.ingest.read import run

    execute(run, locals())
