"""KFP interface of evaluation/benchmark."""

from kfp import dsl

from components.common.step import step


@step("model")
def benchmark(
    base: dsl.Input[dsl.Model],
    candidate: dsl.Input[dsl.Model],
    questions: dsl.Input[dsl.Dataset],
    evidence: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Ask base and candidate the held-out questions and a recipe's tasks, and compare their answers.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        questions: Documents whose messages end with the expected answer; none was trained on.
        evidence: Every metric with its interval, every score, every answer, and how long each took.
        metrics: Scores of the candidate and its gain over the base.
        report: The comparison, with examples.
        options: The `evaluation.benchmark` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.evaluation.benchmark.compare import run

    execute(run, locals())
