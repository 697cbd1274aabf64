"""KFP interfaces of model/register: a tuned model with its evidence, and a base model as it came."""

from kfp import dsl

from components.common.step import step


@step("model")
def register(
    candidate: dsl.Input[dsl.Model],
    dataset: dsl.Input[dsl.Dataset],
    verdict: dsl.Input[dsl.Artifact],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Make a released candidate an immutable model version in the store.

    Args:
        candidate: The merged model.
        dataset: The dataset version it was tuned on.
        verdict: Why it may be released.
        model: The model version.
        metrics: Its size.
        report: Its card.
        options: The `model.register` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.model.register.record import run

    execute(run, locals())


@step("model")
def register_base(
    base: dsl.Input[dsl.Model],
    model: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Make a base model an immutable model version in the store, without evidence.

    Args:
        base: The base model.
        model: The model version.
        metrics: Its size.
        report: Its card.
        options: The `model.register` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.model.register.record import run_base

    execute(run_base, locals())
