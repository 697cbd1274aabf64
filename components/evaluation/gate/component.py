"""KFP interface of evaluation/gate."""

from kfp import dsl

from components.common.step import step


@step("model")
def gate(
    benchmark: dsl.Input[dsl.Artifact],
    retrieval: dsl.Input[dsl.Artifact],
    redteam: dsl.Input[dsl.Artifact],
    serving: dsl.Input[dsl.Artifact],
    verdict: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
) -> str:
    """Decide whether a candidate may be released.

    Args:
        benchmark: Evidence of the benchmark.
        retrieval: Evidence of search, and of answers with what it finds.
        redteam: Evidence of the red team.
        serving: The candidate against the model that serves now.
        verdict: The decision with its reasons, the evidence, and every item's score.
        metrics: How many demands failed.
        report: Every demand and how it came out.
        options: The `evaluation.gate` part of the recipe.
        environment: Where the run takes place.

    Returns:
        `release` or `hold`.
    """
    from components.common.step import execute
    from components.evaluation.gate.decide import run

    return execute(run, locals())
