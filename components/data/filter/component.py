"""KFP interface of data/filter."""

from kfp import dsl

from components.common.step import step


@step("data")
def filter(
    documents: dsl.Input[dsl.Dataset],
    kept: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Drop documents of poor quality or in other languages.

    Args:
        documents: Masked documents.
        kept: Documents good enough to learn from.
        metrics: Counts and rates.
        report: What was dropped, and why.
        options: The `data.filter` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.filter.quality import run

    execute(run, locals())
