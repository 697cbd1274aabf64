"""KFP interface of planning/plan."""

from typing import NamedTuple

from kfp import dsl

from components.common.step import step


@step("data")
def plan(
    recipe: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
) -> NamedTuple(
    "Parts",
    [
        ("ingest", dict),
        ("parse", dict),
        ("screen", dict),
        ("mask", dict),
        ("filter", dict),
        ("deduplicate", dict),
        ("decontaminate", dict),
        ("mix", dict),
        ("card", dict),
        ("fetch", dict),
        ("curate", dict),
        ("prefer", dict),
        ("tune", dict),
        ("align", dict),
        ("merge", dict),
        ("register", dict),
        ("benchmark", dict),
        ("incumbent", dict),
        ("retrieval", dict),
        ("redteam", dict),
        ("gate", dict),
        ("publish", dict),
        ("progress", dict),
        ("probe", dict),
        ("workplace", dict),
        ("trainplace", dict),
        ("batch_nodes", dict),
        ("batch_tolerations", list),
        ("experiment_nodes", dict),
        ("experiment_tolerations", list),
        ("deduplicate_cpu", str),
        ("deduplicate_memory", str),
        ("deduplicate_shards", list),
        ("fetch_cpu", str),
        ("fetch_memory", str),
        ("tune_cpu", str),
        ("tune_memory", str),
        ("tune_accelerator", str),
        ("tune_accelerators", str),
        ("align_cpu", str),
        ("align_memory", str),
        ("align_accelerator", str),
        ("align_accelerators", str),
        ("merge_cpu", str),
        ("merge_memory", str),
        ("benchmark_cpu", str),
        ("benchmark_memory", str),
        ("benchmark_accelerator", str),
        ("benchmark_accelerators", str),
        ("retrieval_cpu", str),
        ("retrieval_memory", str),
        ("retrieval_accelerator", str),
        ("retrieval_accelerators", str),
        ("redteam_cpu", str),
        ("redteam_memory", str),
        ("redteam_accelerator", str),
        ("redteam_accelerators", str),
        ("probe_cpu", str),
        ("probe_memory", str),
        ("probe_accelerator", str),
        ("probe_accelerators", str),
    ],
):
    """Check the recipe and hand each step only its own part of it and of the environment.

    Args:
        recipe: The validated recipe, as it is recorded in the ledger.
        metrics: Duration.
        report: The recipe, with its defaults filled in.
        options: The recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.planning.plan.split import run, split

    execute(run, locals())
    return split(options, environment)
