"""KFP interface of data/deduplicate."""

from kfp import dsl

from components.common.step import step


@step("data")
def deduplicate(
    documents: dsl.Input[dsl.Dataset],
    unique: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Remove exact and near duplicates.

    Args:
        documents: Documents to clean.
        unique: The documents kept, one of each cluster.
        metrics: Counts and rates.
        report: What was dropped, and why.
        options: The `data.deduplicate` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.deduplicate.minhash import run

    execute(run, locals())
