"""KFP interface of evaluation/redteam."""

from kfp import dsl

from components.common.step import step


@step("model")
def redteam(
    base: dsl.Input[dsl.Model],
    candidate: dsl.Input[dsl.Model],
    pairs: dsl.Input[dsl.Dataset],
    outsiders: dsl.Input[dsl.Dataset],
    evidence: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Attack base and candidate, ask what the safety policy is about, and test what is remembered of training.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        pairs: What the candidate was trained on.
        outsiders: Facts of the same kinds that nothing was trained on.
        evidence: `evidence.json`, `scores.json` and `samples.jsonl`.
        metrics: Success of attacks, refusals, over-refusals, memory.
        report: Rates by class and language, examples, and what to do.
        options: The `evaluation.redteam` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.evaluation.redteam.attack import run

    execute(run, locals())
