"""KFP interface of evaluation/retrieval."""

from kfp import dsl

from components.common.step import step


@step("model")
def retrieval(
    base: dsl.Input[dsl.Model],
    candidate: dsl.Input[dsl.Model],
    questions: dsl.Input[dsl.Dataset],
    dataset: dsl.Input[dsl.Dataset],
    evidence: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Measure search over the dataset, answers with and without what it finds, and what tuning and search are each for.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        questions: Documents whose messages end with the expected answer and whose parents are in the dataset.
        dataset: The dataset version that is searched.
        evidence: `evidence.json`, `scores.json`, `samples.jsonl`, and `findings.json` with every retriever and system.
        metrics: The measures of the evidence.
        report: Retrievers, bottleneck, and the choice between tuning and retrieval.
        options: The `evaluation.retrieval` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.evaluation.retrieval.measure import run

    execute(run, locals())
