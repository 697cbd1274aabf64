"""A job in the store: what nodes without a common disk need for it, and what they make of it.

It lies below `tmp/training/<digest>/` while the job runs: `job.json`, the folders of its inputs, then those of its
outputs and `outcome.json`. The digest is of all that the outcome depends on, so that the same job is found again.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.code import code_digest
from components.common.ledger import SIDECAR, artifact_files, canonical, sha256
from components.common.store import Store, upload_tree
from components.model.launch.job import FAILURE, JOB, OUTCOME, Job

FOLDER = "tmp/training"


def digest(job: Job, spread: Mapping[str, Any]) -> str:
    """Name a job by all that its outcome depends on.

    Args:
        job: The job, on folders that exist.
        spread: Over what it is spread.
    """
    inputs = {name: artifact_files(job.paths[name]) for name in job.inputs}
    depends = {"work": job.work, "options": job.options, "inputs": inputs, "spread": spread, "code": code_digest()}
    return sha256(canonical(depends))


def send(job: Job, store: Store, key: str) -> None:
    """Put a job with its inputs into the store; what is there already is left alone.

    Args:
        job: The job.
        store: The store.
        key: Where it belongs.
    """
    for name in job.inputs:
        last = SIDECAR if (job.paths[name] / SIDECAR).is_file() else ""
        upload_tree(store, job.paths[name], f"{key}/{name}", last=last)
    paths = {name: str(path) for name, path in job.moved(Path()).paths.items()}
    store.write(f"{key}/{JOB}", canonical({**dataclasses.asdict(job), "paths": paths}))


def receive(store: Store, key: str, folder: Path) -> Job:
    """Bring a job with its inputs out of the store.

    Args:
        store: The store.
        key: Where the job is.
        folder: Where to bring it; its output folders are made.
    """
    job = Job.read(store.read(f"{key}/{JOB}")).moved(folder)
    for name in job.inputs:
        fetch(store, f"{key}/{name}", job.paths[name])
    for name in job.outputs:
        job.paths[name].mkdir(parents=True)
    job.write(folder / JOB)
    return job


def fetch(store: Store, key: str, folder: Path) -> None:
    """Bring a folder out of the store."""
    for stored in list(store.list(f"{key}/")):
        store.download(stored, folder / stored.removeprefix(f"{key}/"))


def give(job: Job, folder: Path, store: Store, key: str) -> None:
    """Put what a job came to into the store: its outputs, then its outcome; or why it failed."""
    if (folder / OUTCOME).is_file():
        for name in job.outputs:
            upload_tree(store, job.paths[name], f"{key}/{name}", last="")
        store.upload(folder / OUTCOME, f"{key}/{OUTCOME}")
    elif (folder / FAILURE).is_file():
        store.upload(folder / FAILURE, f"{key}/{FAILURE}")


def clear(store: Store, key: str) -> None:
    """Take a job out of the store; its inputs hold text of documents, and nobody needs them any more."""
    for stored in sorted(store.list(f"{key}/"), reverse=True):
        store.delete(stored)
