"""KFP interface of data/curate."""

from kfp import dsl

from components.common.step import step


@step("data")
def curate(
    dataset: dsl.Input[dsl.Dataset],
    pairs: dsl.Output[dsl.Dataset],
    questions: dsl.Output[dsl.Dataset],
    outsiders: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Derive training pairs from documents and dialogues, and questions in wordings that are held out for evaluation.

    Args:
        dataset: The dataset version.
        pairs: Pairs to train on.
        questions: The same facts in wordings held out for evaluation.
        outsiders: Other facts, which nothing is trained on.
        metrics: Facts found, facts and turns chosen.
        report: Kinds of facts, and examples.
        options: The `model.curate` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.curate.pairs import run

    execute(run, locals())
