"""KFP interface of data/probe."""

from kfp import dsl

from components.common.step import step


@step("model")
def probe(
    base: dsl.Input[dsl.Model],
    present: dsl.Input[dsl.Dataset],
    proposed: dsl.Input[dsl.Dataset],
    present_pairs: dsl.Output[dsl.Dataset],
    proposed_pairs: dsl.Output[dsl.Dataset],
    questions: dsl.Output[dsl.Dataset],
    withheld: dsl.Output[dsl.Dataset],
    evidence: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
) -> str:
    """Train a small model on two dataset versions and say what the new data is worth, and what to collect next.

    Args:
        base: The base model.
        present: The dataset version in use.
        proposed: The dataset version with the new data; the same one where selections are compared.
        present_pairs: What the present side was trained on.
        proposed_pairs: What the proposed side was trained on.
        questions: What both sides were asked.
        withheld: Facts that neither was trained on.
        evidence: `probe.json` with every measure, difference, cost and group.
        metrics: Changes, interval and cost.
        report: The comparison, with plots and the recommendation.
        options: The `probe` part of the recipe, with `model.curate`, `model.tune` and `evaluation.benchmark`.
        environment: Where the run takes place.

    Returns:
        `better`, `worse` or `unclear`.
    """
    from components.common.step import execute
    from components.data.probe.compare import run

    return execute(run, locals())
