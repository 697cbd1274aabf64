"""A job on several nodes: handed to Kubeflow Trainer, followed to its end, and cleared away.

A step that is tried again finds the TrainJob of its last attempt by the job's digest and goes on following it. One that
is told to stop takes the TrainJob with it.
"""

import os
import time
from pathlib import Path
from typing import Any

from kubernetes import client

from components.common.environment import Environment, Serving, Training
from components.common.errors import HeadraceError, Interrupted
from components.common.sealed_store import store_of
from components.common.step import Outcome
from components.common.store import Store
from components.model.launch import parcel
from components.model.launch.follow import Follower
from components.model.launch.job import FAILURE, OUTCOME, Job, read_failure, read_outcome
from components.model.launch.processes import when_told_to_stop
from components.model.launch.trainjob import DIGEST, GROUP, PLURAL, VERSION, render
from components.release.api import Api, Manifest, Unanswered, check_accepted

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_STEP_CONTAINER = "main"
"""Container of a step's pod in which the step runs; the others are the workflow's own."""
_NO_TRAINER = (
    "knows no TrainJob of trainer.kubeflow.org/v1alpha1: install Kubeflow Trainer v2, or set training.nodes of the "
    "environment to 1"
)
_PATIENCE = 120.0
"""Seconds that a TrainJob may take to be gone once it is deleted."""


def on_nodes(job: Job, place: Environment, pause: float = 5.0) -> Outcome:
    """Do a job on several nodes.

    Args:
        job: The job; its output folders exist.
        place: Where the run takes place.
        pause: Seconds between two looks at the TrainJob.

    Returns:
        What the job came to; its outputs are in their folders.

    Raises:
        HeadraceError: It failed: the work's own words, or the nodes' last lines.
        Interrupted: This process was told to stop; the TrainJob is deleted.
    """
    store = store_of(place)
    trainer = Trainer(place, pause)
    spread = {"nodes": place.training.nodes, "shard": place.training.shard, "each": place.sizes.tune.accelerators}
    digest = parcel.digest(job, spread)
    key = f"{parcel.FOLDER}/{digest}"
    name = f"headrace-{job.stage.rpartition('/')[2]}-{digest[:12]}"
    with when_told_to_stop():
        try:
            if not store.exists(f"{key}/{OUTCOME}"):  # else an earlier attempt came to its end and was not heard
                store.delete(f"{key}/{FAILURE}")
                parcel.send(job, store, key)
                trainer.run(render(name, digest, key, trainer.place))
            outcome = read_outcome(store.read(f"{key}/{OUTCOME}"))
            for output in job.outputs:
                parcel.fetch(store, f"{key}/{output}", job.paths[output])
        except Unanswered:  # nobody knows how the nodes are; the next attempt goes on following them
            raise
        except BaseException as error:
            told = _told(store, key)
            trainer.delete(name)
            parcel.clear(store, key)
            if told and not isinstance(error, Interrupted):
                raise told from error
            raise
        trainer.delete(name)
        parcel.clear(store, key)
    return outcome


def _told(store: Store, key: str) -> HeadraceError | None:
    """Why the work says that it failed."""
    failure = f"{key}/{FAILURE}"
    return read_failure(store.read(failure)) if store.exists(failure) else None


class Trainer:
    """The TrainJobs of one namespace.

    Attributes:
        place: The environment, with what was found out about the pod that asks: image, namespace and account.
    """

    def __init__(self, place: Environment, pause: float) -> None:
        namespace = place.training.namespace or _own_namespace()
        self.api = Api(Serving(mode="standard", namespace=namespace), _NO_TRAINER)
        self._objects = client.CustomObjectsApi(self.api.client)
        self._where = (GROUP, VERSION, namespace, PLURAL)
        self._pause = pause
        training = self._found(place.training.model_copy(update={"namespace": namespace}))
        self.place = place.model_copy(update={"training": training})

    def run(self, wanted: Manifest) -> None:
        """Have a TrainJob run, unless it does already, and follow it to its end.

        Raises:
            HeadraceError: It is refused, or fails.
        """
        name = wanted["metadata"]["name"]
        seen = self.get(name)
        if seen and (seen["metadata"].get("deletionTimestamp") or _failed(seen)):
            self.delete(name)
            seen = None
        if seen and seen["metadata"].get("annotations", {}).get(DIGEST) != wanted["metadata"]["annotations"][DIGEST]:
            raise HeadraceError(f"TrainJob {name} is another's; delete it, or wait for its end")
        if not seen:
            create = self._objects.create_namespaced_custom_object
            check_accepted(wanted, self.api.call(create, *self._where, wanted, dry_run="All"), "Kubeflow Trainer")
            self.api.call(create, *self._where, wanted)
        Follower(self.api, lambda: self.get(name), name, self._pause).follow()

    def get(self, name: str) -> Manifest | None:
        """Return a TrainJob as it is now, None if there is none."""
        return self.api.find(self._objects.get_namespaced_custom_object, *self._where, name)

    def delete(self, name: str) -> None:
        """Delete a TrainJob with its pods, and wait until it is gone."""
        end = time.monotonic() + _PATIENCE
        asked = False
        while self.get(name) and time.monotonic() < end:
            if not asked:
                delete = self._objects.delete_namespaced_custom_object
                self.api.read(delete, *self._where, name, propagation_policy="Foreground")
                asked = True
            else:
                time.sleep(min(1.0, self._pause))

    def _found(self, training: Training) -> Training:
        """Fill in what is that of the pod which asks."""
        if training.image and training.service_account:
            return training
        pod: Any = self.api.read(
            client.CoreV1Api(self.api.client).read_namespaced_pod, os.environ.get("HOSTNAME", ""), training.namespace
        )
        images = [container.image for container in pod.spec.containers if container.name == _STEP_CONTAINER]
        image = training.image or next(iter(images), pod.spec.containers[0].image)
        account = training.service_account or pod.spec.service_account_name
        return training.model_copy(update={"image": image, "service_account": account})


def _own_namespace() -> str:
    if not _ACCOUNT.is_file():
        raise HeadraceError("training.namespace of the environment is empty, and this is no pod; set it")
    return _ACCOUNT.read_text("utf-8").strip()


def _failed(seen: Manifest) -> bool:
    conditions = seen.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Failed" and condition["status"] == "True" for condition in conditions)
