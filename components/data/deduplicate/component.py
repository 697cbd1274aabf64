"""KFP interfaces of data/deduplicate: the whole step, and its four stages for one shard each."""

from kfp import dsl

from components.common.step import step


@step("data")
def deduplicate(
    documents: dsl.Input[dsl.Dataset],
    unique: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Remove exact and near duplicates.

    Args:
        documents: Documents to clean.
        unique: The documents kept, one of each cluster.
        metrics: Counts and rates.
        report: What was dropped, and why.
        options: The `data.deduplicate` part of the recipe.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.deduplicate.minhash import run

    execute(run, locals())


@step("data")
def sign_shard(
    documents: dsl.Input[dsl.Dataset],
    signatures: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Sign the documents of one shard: stage 1 of 4.

    Args:
        documents: All documents to clean.
        signatures: The shard's signatures.
        metrics: Counts.
        report: What was done.
        options: The step's options, with `shard` and `shards`.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.deduplicate.minhash import sign

    execute(sign, locals())


@step("data")
def bucket_shard(
    signatures: dsl.Input[list[dsl.Artifact]],
    buckets: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Group the documents that share a key of one shard's range: stage 2 of 4.

    Args:
        signatures: The signatures of all shards.
        buckets: The shard's groups.
        metrics: Counts.
        report: What was done.
        options: The step's options, with `shard` and `shards`.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.deduplicate.minhash import bucket

    execute(bucket, locals())


@step("data")
def cluster_shard(
    documents: dsl.Input[dsl.Dataset],
    signatures: dsl.Input[list[dsl.Artifact]],
    buckets: dsl.Input[list[dsl.Artifact]],
    clusters: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Compare the candidates of one shard and choose which document of each cluster stays: stage 3 of 4.

    Args:
        documents: All documents to clean.
        signatures: The signatures of all shards.
        buckets: The groups of all shards.
        clusters: The shard's clusters.
        metrics: Counts.
        report: What was done.
        options: The step's options, with `shard` and `shards`.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.deduplicate.minhash import connect

    execute(connect, locals())


@step("data")
def keep_shard(
    documents: dsl.Input[dsl.Dataset],
    clusters: dsl.Input[list[dsl.Artifact]],
    unique: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    options: dict,
    environment: dict,
):
    """Write the documents of one shard that stay: stage 4 of 4.

    Args:
        documents: All documents to clean.
        clusters: The clusters of all shards.
        unique: The documents kept of this shard.
        metrics: Counts.
        report: What was dropped, and why.
        options: The step's options, with `shard` and `shards`.
        environment: Where the run takes place.
    """
    from components.common.step import execute
    from components.data.deduplicate.minhash import keep

    execute(keep, locals())
