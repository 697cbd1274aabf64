"""KFP interface of data/mix."""

from kfp import dsl

from components.common.step import step


@step("data")
def mix(
    documents: dsl.Input[dsl.Dataset],
    mixed: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Sample groups of documents by weight and shuffle them.

    Args:
        documents: Documents to mix.
        mixed: The mixture, in random order.
        metrics: Counts and the largest gap between the shares asked for and got.
        report: The shares asked for and got.
        options: The `data.mix` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.mix.sample import run

    execute(run, locals())
