"""`release_model`: a dataset version in, a gated model version behind a canary out."""

from typing import NamedTuple

from kfp import dsl

from components.data.curate.component import curate
from components.evaluation.benchmark.component import benchmark
from components.evaluation.gate.component import gate
from components.model.fetch.component import fetch
from components.model.merge.component import merge
from components.model.register.component import register
from components.model.tune.component import tune
from components.planning.plan.component import plan
from components.release.publish.component import publish


class Release(NamedTuple):
    """What a release run decided."""

    decision: str


@dsl.pipeline(name="tune-and-publish", display_name="Tune and publish")
def tune_and_publish(dataset: dsl.Input[dsl.Dataset], recipe: dict, environment: dict) -> NamedTuple(
    "Release", [("decision", str)]
):
    """Tune, evaluate and, when the gate agrees, publish: the part that `release_model` and `release_line` share.

    Args:
        dataset: A dataset version.
        recipe: What to do.
        environment: Where the run takes place.

    Returns:
        The gate's decision, `release` or `hold`.
    """
    parts = plan(options=recipe, environment=environment).outputs
    base = fetch(options=parts["fetch"], environment=environment).outputs["base"]
    questions = curate(dataset=dataset, options=parts["curate"], environment=environment)
    tuned = tune(base=base, pairs=questions.outputs["pairs"], options=parts["tune"], environment=environment)
    candidate = merge(
        base=base, adapter=tuned.outputs["adapter"], options=parts["merge"], environment=environment
    ).outputs["candidate"]
    measured = benchmark(
        base=base,
        candidate=candidate,
        questions=questions.outputs["questions"],
        options=parts["benchmark"],
        environment=environment,
    )
    gated = gate(evidence=measured.outputs["evidence"], options=parts["gate"], environment=environment)
    with dsl.If(gated.outputs["Output"] == "release", name="release"):
        registered = register(
            candidate=candidate,
            dataset=dataset,
            verdict=gated.outputs["verdict"],
            options=parts["register"],
            environment=environment,
        )
        published = publish(model=registered.outputs["model"], options=parts["publish"], environment=environment)
        published.set_caching_options(False)
    return Release(decision=gated.outputs["Output"])


@dsl.pipeline(name="release-model", display_name="Release a model")
def release_model(dataset: str, recipe: dict, environment: dict) -> Release:
    """Tune a model on a dataset version, evaluate it and publish it behind a canary.

    Args:
        dataset: URI of a dataset version, as `prepare_data` stored it.
        recipe: What to do.
        environment: Where the run takes place.

    Returns:
        The gate's decision, `release` or `hold`.
    """
    imported = dsl.importer(artifact_uri=dataset, artifact_class=dsl.Dataset)
    released = tune_and_publish(dataset=imported.output, recipe=recipe, environment=environment)
    return Release(decision=released.outputs["decision"])
