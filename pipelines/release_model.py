"""`release_model`: a dataset version in, a gated model version behind a canary out."""

from kfp import dsl

from components.data.curate.component import curate
from components.data.decontaminate.component import decontaminate_pairs
from components.data.prefer.component import prefer
from components.evaluation.benchmark.component import benchmark
from components.evaluation.gate.component import gate
from components.evaluation.incumbent.component import compare_incumbent, incumbent
from components.evaluation.redteam.component import redteam
from components.evaluation.retrieval.component import retrieval
from components.model.align.component import align
from components.model.fetch.component import fetch
from components.model.merge.component import merge
from components.model.register.component import register
from components.model.tune.component import tune
from components.operations.notify.component import notify_hold
from components.planning.plan.component import plan
from components.release.publish.component import publish
from pipelines.pods import furnish, watched


@dsl.pipeline(name="tune-and-publish", display_name="Tune and publish")
def tune_and_publish(
    dataset: dsl.Input[dsl.Dataset], recipe: dict, environment: dict, pipeline: str, schedule: str, run: str
) -> None:
    """Tune, evaluate and, when the gate agrees, publish: the part that `release_model` and `release_line` share.

    Args:
        dataset: A dataset version.
        recipe: What to do.
        environment: Where the run takes place.
        pipeline: Name of the pipeline it is a part of.
        schedule: Schedule that started the run; empty when a person did.
        run: Id of the run.
    """
    parts = plan(options=recipe, environment=environment).outputs
    here = parts["workplace"]
    base = fetch(options=parts["fetch"], environment=here).outputs["base"]
    questions = curate(dataset=dataset, options=parts["curate"], environment=here)
    pairs = decontaminate_pairs(
        pairs=questions.outputs["pairs"],
        questions=questions.outputs["questions"],
        options=parts["decontaminate"],
        environment=here,
    ).outputs["clean"]
    tuned = tune(base=base, pairs=pairs, options=parts["tune"], environment=parts["trainplace"])
    preferences = prefer(
        dataset=dataset,
        pairs=pairs,
        questions=questions.outputs["questions"],
        options=parts["prefer"],
        environment=here,
    ).outputs["preferences"]
    aligned = align(
        base=base,
        adapter=tuned.outputs["adapter"],
        preferences=preferences,
        options=parts["align"],
        environment=here,
    ).outputs["aligned"]
    candidate = merge(base=base, adapter=aligned, options=parts["merge"], environment=here).outputs["candidate"]
    measured = benchmark(
        base=base,
        candidate=candidate,
        questions=questions.outputs["questions"],
        options=parts["benchmark"],
        environment=here,
    )
    found = retrieval(
        base=base,
        candidate=candidate,
        questions=questions.outputs["questions"],
        dataset=dataset,
        options=parts["retrieval"],
        environment=here,
    )
    attacked = redteam(
        base=base,
        candidate=candidate,
        pairs=pairs,
        outsiders=questions.outputs["outsiders"],
        options=parts["redteam"],
        environment=here,
    )
    serves = incumbent(benchmark=measured.outputs["evidence"], options=parts["incumbent"], environment=environment)
    serves.set_caching_options(False)
    compared = compare_incumbent(
        questions=questions.outputs["questions"],
        benchmark=measured.outputs["evidence"],
        retrieval=found.outputs["evidence"],
        redteam=attacked.outputs["evidence"],
        version=serves.outputs["Output"],
        options=parts["incumbent"],
        environment=here,
    )
    gated = gate(
        benchmark=measured.outputs["evidence"],
        retrieval=found.outputs["evidence"],
        redteam=attacked.outputs["evidence"],
        serving=compared.outputs["serving"],
        options=parts["gate"],
        environment=here,
    )
    with dsl.If(gated.outputs["Output"] == "release", name="release"):
        registered = register(
            candidate=candidate,
            dataset=dataset,
            verdict=gated.outputs["verdict"],
            options=parts["register"],
            environment=here,
        )
        published = publish(model=registered.outputs["model"], options=parts["publish"], environment=environment)
        published.set_caching_options(False)
    with dsl.Else(name="hold"):
        told = notify_hold(
            verdict=gated.outputs["verdict"], pipeline=pipeline, schedule=schedule, run=run, environment=environment
        )
        told.set_caching_options(False)
    furnish(parts)


@dsl.pipeline(name="release-model", display_name="Release a model")
def release_model(dataset: str, recipe: dict, environment: dict, schedule: str = "") -> None:
    """Tune a model on a dataset version, evaluate it and publish it behind a canary if the gate agrees.

    Args:
        dataset: URI of a dataset version, as `prepare_data` stored it.
        recipe: What to do.
        environment: Where the run takes place.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("release_model", environment, schedule):
        imported = dsl.importer(artifact_uri=dataset, artifact_class=dsl.Dataset)
        tune_and_publish(
            dataset=imported.output,
            recipe=recipe,
            environment=environment,
            pipeline="release_model",
            schedule=schedule,
            run=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
