"""The TrainJob that has several nodes do a job together: rendered and checked, before anybody is asked to run it.

What the API server does not know it drops without a word, so the manifest is read by Kubeflow Trainer's own models, and
what they would drop is refused here.
"""

from collections.abc import Iterator
from typing import Any

from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from pydantic import ValidationError

from components.common.environment import KEYSET, Environment
from components.common.errors import HeadraceError
from components.common.options import describe_validation
from components.release.api import Manifest

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
DIGEST = "headrace.dev/job"
"""Annotation of a TrainJob: the digest of the job that its nodes do."""
NODE = "headrace.dev/training"
"""Label of the nodes' pods, which may talk to each other: the name of their TrainJob."""

_MANAGER = "headrace.dev/tune"
"""Who owns the patch of the runtime."""
_JOB = _CONTAINER = "node"
"""What Trainer's runtime calls the replicated job of the nodes, and the container in it."""
_KEYSET_SECRET = "headrace-keyset"
"""Secret with the keyset that seals the store; there is none where Cloud KMS does."""


def render(name: str, digest: str, key: str, place: Environment) -> Manifest:
    """Write the TrainJob of a job in the store.

    Args:
        name: Name of the TrainJob.
        digest: Digest of the job.
        key: Where in the store it is.
        place: Nodes, their size and pool, image, namespace, account, store. Nothing in it may be left to be found.

    Returns:
        The manifest, checked.

    Raises:
        HeadraceError: Trainer's models do not take it.
    """
    training, size = place.training, place.sizes.tune
    resources = {"cpu": size.cpu, "memory": size.memory}
    if size.accelerators:
        resources[size.accelerator] = str(size.accelerators)
    where = [place.store, key]
    if place.encryption:
        where += ["--encryption", place.encryption, "--keys", place.keys]
    manifest: Manifest = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {
            "name": name,
            "namespace": training.namespace,
            "labels": {"app.kubernetes.io/managed-by": "headrace"},
            "annotations": {DIGEST: digest},
        },
        "spec": {
            "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": training.runtime},
            "activeDeadlineSeconds": training.hours * 3600,
            "trainer": {
                "image": training.image,
                "command": ["python", "-m", "components.model.launch", *where],
                "numNodes": training.nodes,
                "numProcPerNode": max(1, size.accelerators),
                "resourcesPerNode": {"requests": resources, "limits": resources},
                "env": [{"name": "HOME", "value": "/tmp"}],
            },
            "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": _patch(name, place)}],
        },
    }
    check(manifest)
    return manifest


def check(manifest: Manifest) -> None:
    """Read a manifest with Trainer's own models.

    Raises:
        HeadraceError: A field is wrong, or they do not know it.
    """
    try:
        read = TrainerV1alpha1TrainJob.from_dict(manifest)
    except ValidationError as error:
        raise HeadraceError(f"the TrainJob is not what Kubeflow Trainer takes: {describe_validation(error)}") from error
    unknown = list(_missing(manifest, read.to_dict() if read else {}, ""))
    if unknown:
        raise HeadraceError(f"Kubeflow Trainer's TrainJob has no field {', '.join(unknown)}")


def _patch(name: str, place: Environment) -> dict[str, Any]:
    """What the pods of the nodes need beside the trainer's container: account, pool, volumes, and no rights."""
    pool = place.pools.experiment
    volumes: list[dict[str, Any]] = [{"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]
    mounts: list[dict[str, Any]] = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    if place.encryption == KEYSET:
        volumes.append({"name": "keyset", "secret": {"secretName": _KEYSET_SECRET}})
        mounts.append({"name": "keyset", "mountPath": f"{place.keys}/encryption", "readOnly": True})
    tolerations = [
        {field: value for field, value in toleration.model_dump().items() if value} for toleration in pool.tolerations
    ]
    confined = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    pod = {
        "serviceAccountName": place.training.service_account,
        "nodeSelector": pool.node_selector,
        "tolerations": tolerations,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "volumes": volumes,
        "containers": [{"name": _CONTAINER, "volumeMounts": mounts, "securityContext": confined}],
    }
    template = {"metadata": {"labels": {NODE: name}}, "spec": {field: value for field, value in pod.items() if value}}
    job = {"name": _JOB, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}


def _missing(sent: Any, read: Any, path: str) -> Iterator[str]:
    """Fields that were sent and not read."""
    if isinstance(sent, dict):
        for field, value in sent.items():
            where = f"{path}.{field}".lstrip(".")
            if not isinstance(read, dict) or field not in read:
                yield where
            else:
                yield from _missing(value, read[field], where)
    elif isinstance(sent, list):
        for number, item in enumerate(sent):
            yield from _missing(item, read[number], f"{path}[{number}]")
