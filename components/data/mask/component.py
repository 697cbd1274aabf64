"""KFP interface of data/mask."""

from kfp import dsl

from components.common.step import step


@step("data")
def mask(
    documents: dsl.Input[dsl.Dataset],
    masked: dsl.Output[dsl.Dataset],
    originals: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Mask personal data.

    Args:
        documents: Documents that may be used.
        masked: The same documents without personal data of the masked kinds.
        originals: What the masks stand for, sealed; empty unless the recipe asks for it.
        metrics: Counts and rates.
        report: What was masked, by kind.
        options: The `data.mask` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.mask.personal import run

    execute(run, locals())
