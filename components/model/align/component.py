"""KFP interface of model/align."""

from kfp import dsl

from components.common.step import step


@step("model")
def align(
    base: dsl.Input[dsl.Model],
    adapter: dsl.Input[dsl.Model],
    preferences: dsl.Input[dsl.Dataset],
    aligned: dsl.Output[dsl.Model],
    reward: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Align a tuned model with preferences, or hand it on.

    Args:
        base: Model directory the adapter was trained on.
        adapter: The tuned adapter, or whole weights where all of them were tuned.
        preferences: Dialogues that end with a good answer, a rejected one, or both.
        aligned: The same kind of thing as `adapter`, with `alignment.json`; untouched with method `none`.
        reward: The reward model of `rlhf`; else empty.
        metrics: Preference accuracy, format and exact answers before and after.
        report: The same with intervals, curves and examples.
        options: The `model.align` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.model.align.hand_on import run

    execute(run, locals())
