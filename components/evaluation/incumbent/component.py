"""KFP interfaces of evaluation/incumbent: which version serves, and how the candidate compares with it."""

from kfp import dsl

from components.common.step import step


@step("release")
def incumbent(
    benchmark: dsl.Input[dsl.Artifact],
    incumbent: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
) -> str:
    """Find the model version that the candidate is to be compared with: the one that serves now.

    Args:
        benchmark: Evidence of the benchmark, whose ledger entry names the candidate.
        incumbent: The service and the version.
        metrics: Duration.
        report: What serves.
        options: The `evaluation.incumbent` part of the recipe.
        environment: Where the run takes place.

    Returns:
        `name/version`, or `none` where nothing serves.
    """
    from components.common.step import execute
    from components.evaluation.incumbent.look import run

    return execute(run, locals())


@step("model")
def compare_incumbent(
    questions: dsl.Input[dsl.Dataset],
    benchmark: dsl.Input[dsl.Artifact],
    retrieval: dsl.Input[dsl.Artifact],
    redteam: dsl.Input[dsl.Artifact],
    serving: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    version: str,
    options: dict,
    environment: dict,
):
    """Compare the candidate with the model that serves, item by item.

    Args:
        questions: What the benchmark asked.
        benchmark: Its evidence.
        retrieval: Evidence of search, and of answers with what it finds.
        redteam: Evidence of the red team.
        serving: Every metric with the serving model in the place of the base, and the scores of both.
        metrics: The candidate's gain over the serving model.
        report: The comparison.
        version: `name/version` that serves, or `none`.
        options: The `evaluation.incumbent` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.evaluation.incumbent.compare import run

    execute(run, {**locals(), "options": {**options, "version": version}})
