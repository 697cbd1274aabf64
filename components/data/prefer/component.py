"""KFP interface of data/prefer."""

from kfp import dsl

from components.common.step import step


@step("data")
def prefer(
    dataset: dsl.Input[dsl.Dataset],
    pairs: dsl.Input[dsl.Dataset],
    questions: dsl.Input[dsl.Dataset],
    preferences: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Gather preferences: feedback in the dataset, and right answers beside ones made wrong on purpose.

    Args:
        dataset: The dataset version; its feedback is taken.
        pairs: Training pairs; their answers are right.
        questions: The line's own held-out questions, which no preference may ask.
        preferences: Dialogues that end with a good answer, a rejected one, or both.
        metrics: Preferences by origin.
        report: Kinds of preferences, and examples.
        options: The `model.prefer` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.prefer.gather import run

    execute(run, locals())
