"""KFP interfaces of data/decontaminate."""

from kfp import dsl

from components.common.step import step


@step("data")
def decontaminate(
    documents: dsl.Input[dsl.Dataset],
    clean: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Remove from documents what evaluation sets ask.

    Args:
        documents: Documents to train on.
        clean: The documents without the words of the evaluation sets.
        metrics: What was found of each set.
        report: What was removed, and why.
        options: The `data.decontaminate` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.decontaminate.clean import run

    execute(run, locals())


@step("data")
def decontaminate_pairs(
    pairs: dsl.Input[dsl.Dataset],
    questions: dsl.Input[dsl.Dataset],
    clean: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Leave out training pairs that say a held-out question with its answer, or what evaluation sets ask.

    Args:
        pairs: Pairs to train on.
        questions: The line's own held-out questions.
        clean: The pairs that give no question away.
        metrics: What was found of each set.
        report: What was left out, and why.
        options: The `data.decontaminate` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.decontaminate.clean import run_pairs

    execute(run_pairs, locals())
