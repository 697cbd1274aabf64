"""`prepare_data_sharded`: `prepare_data` with the search for duplicates spread over pods.

Each stage is a pipeline of its own around its loop, because KFP cannot hand what one loop collected to a loop beside
it: it takes it as the list that a pipeline returns.
"""

from kfp import dsl

from components.data.deduplicate.component import bucket_shard, cluster_shard, keep_shard, sign_shard
from components.planning.plan.component import plan
from pipelines.pods import furnish, watched
from pipelines.prepare_data import collect, compose

Shards = list[dsl.Artifact]


@dsl.pipeline(name="sign", display_name="Signatures")
def sign(
    documents: dsl.Input[dsl.Dataset],
    shards: list,
    environment: dict,
    deduplicate_cpu: str,
    deduplicate_memory: str,
    batch_nodes: dict,
    batch_tolerations: list,
) -> Shards:
    """Sign the documents, a range of rows in each pod."""
    with dsl.ParallelFor(shards) as shard:
        signed = sign_shard(documents=documents, options=shard, environment=environment)
    furnish(locals())
    return dsl.Collected(signed.outputs["signatures"])


@dsl.pipeline(name="bucket", display_name="Buckets")
def bucket(
    signatures: dsl.Input[Shards],
    shards: list,
    environment: dict,
    deduplicate_cpu: str,
    deduplicate_memory: str,
    batch_nodes: dict,
    batch_tolerations: list,
) -> Shards:
    """Group documents that share a key, a range of keys in each pod."""
    with dsl.ParallelFor(shards) as shard:
        bucketed = bucket_shard(signatures=signatures, options=shard, environment=environment)
    furnish(locals())
    return dsl.Collected(bucketed.outputs["buckets"])


@dsl.pipeline(name="cluster", display_name="Clusters")
def cluster(
    documents: dsl.Input[dsl.Dataset],
    signatures: dsl.Input[Shards],
    buckets: dsl.Input[Shards],
    shards: list,
    environment: dict,
    deduplicate_cpu: str,
    deduplicate_memory: str,
    batch_nodes: dict,
    batch_tolerations: list,
) -> Shards:
    """Compare candidates and choose who stays, some of the connected groups in each pod."""
    with dsl.ParallelFor(shards) as shard:
        clustered = cluster_shard(
            documents=documents, signatures=signatures, buckets=buckets, options=shard, environment=environment
        )
    furnish(locals())
    return dsl.Collected(clustered.outputs["clusters"])


@dsl.pipeline(name="deduplicate-in-shards", display_name="Deduplicate in shards")
def deduplicate_in_shards(
    documents: dsl.Input[dsl.Dataset],
    options: dict,
    shards: list,
    environment: dict,
    deduplicate_cpu: str,
    deduplicate_memory: str,
    batch_nodes: dict,
    batch_tolerations: list,
) -> dsl.Dataset:
    """Remove duplicates as the step `deduplicate` does, to the byte, with each stage but the last spread over pods.

    Args:
        documents: Documents to clean.
        options: The `data.deduplicate` part of the recipe.
        shards: The same for each shard.
        environment: Where the run takes place.
        deduplicate_cpu: Processors of a pod.
        deduplicate_memory: Memory of a pod.
        batch_nodes: Labels of the nodes it runs on.
        batch_tolerations: Taints it accepts.

    Returns:
        The documents kept, one of each cluster.
    """
    pods = {
        "deduplicate_cpu": deduplicate_cpu,
        "deduplicate_memory": deduplicate_memory,
        "batch_nodes": batch_nodes,
        "batch_tolerations": batch_tolerations,
    }
    shared = {"shards": shards, "environment": environment, **pods}
    signatures = sign(documents=documents, **shared).output
    buckets = bucket(signatures=signatures, **shared).output
    clusters = cluster(documents=documents, signatures=signatures, buckets=buckets, **shared).output
    kept = keep_shard(documents=documents, clusters=clusters, options=options, environment=environment)
    furnish(pods)
    return kept.outputs["unique"]


@dsl.pipeline(name="make-dataset-sharded", display_name="Make a dataset version")
def make_dataset_sharded(recipe: dict, environment: dict) -> None:
    """Turn declared sources into one immutable dataset version.

    Args:
        recipe: What to do.
        environment: Where the run takes place.
    """
    parts = plan(options=recipe, environment=environment).outputs
    unique = deduplicate_in_shards(
        documents=collect(parts),
        options=parts["deduplicate"],
        shards=parts["deduplicate_shards"],
        environment=parts["workplace"],
        deduplicate_cpu=parts["deduplicate_cpu"],
        deduplicate_memory=parts["deduplicate_memory"],
        batch_nodes=parts["batch_nodes"],
        batch_tolerations=parts["batch_tolerations"],
    )
    compose(unique.output, parts)
    furnish(parts)


@dsl.pipeline(name="prepare-data-sharded", display_name="Prepare data, sharded")
def prepare_data_sharded(recipe: dict, environment: dict, schedule: str = "") -> None:
    """Turn declared sources into one immutable dataset version, with the search for duplicates spread over pods.

    Args:
        recipe: What to do, as `headrace` reads it from a recipe file.
        environment: Where the run takes place, from `pipelines/environments`; `sizes.deduplicate` says over how many.
        schedule: Schedule that starts the run; empty when a person does.
    """
    with watched("prepare_data_sharded", environment, schedule):
        make_dataset_sharded(recipe=recipe, environment=environment)
