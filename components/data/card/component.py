"""KFP interface of data/card."""

from kfp import dsl

from components.common.step import step


@step("data")
def card(
    documents: dsl.Input[dsl.Dataset],
    dataset: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Make an immutable, described dataset version and put it into the store.

    Args:
        documents: Documents of the version.
        dataset: The version: parts, card, Croissant metadata and manifest.
        metrics: Counts.
        report: What is in the version.
        options: The `data.card` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.card.version import run

    execute(run, locals())
