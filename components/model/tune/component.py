"""KFP interface of model/tune."""

from kfp import dsl

from components.common.step import step


@step("model")
def tune(
    base: dsl.Input[dsl.Model],
    pairs: dsl.Input[dsl.Dataset],
    adapter: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Train a model on question and answer pairs: a low-rank adapter, or every weight.

    Args:
        base: Model directory to start from.
        pairs: Documents whose messages end with the answer to learn.
        adapter: The adapter, or whole weights with method `full`; with `training.json`.
        metrics: Pairs, steps and the last epoch's loss.
        report: The loss curve and the options.
        options: The `model.tune` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.model.tune.adapt import run

    execute(run, locals())
