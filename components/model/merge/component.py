"""KFP interface of model/merge."""

from kfp import dsl

from components.common.step import step


@step("model")
def merge(
    base: dsl.Input[dsl.Model],
    adapter: dsl.Input[dsl.Model],
    candidate: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Merge what was trained into its base model.

    Args:
        base: Model directory the adapter was trained on.
        adapter: What was trained: an adapter, or whole weights.
        candidate: The merged model with safetensors, tokenizer, GGUF and what was trained.
        metrics: Its size.
        report: Its files.
        options: The `model.merge` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.model.merge.combine import run

    execute(run, locals())
