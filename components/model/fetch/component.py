"""KFP interface of model/fetch."""

from kfp import dsl

from components.common.step import step


@step("model")
def fetch(
    base: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Bring a base model into the run as a model directory.

    Args:
        base: Safetensors, tokenizer, chat template and 8-bit GGUF.
        metrics: Its size.
        report: Where it is from, its licence and its files.
        options: The `model.fetch` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.model.fetch.bring import run

    execute(run, locals())
