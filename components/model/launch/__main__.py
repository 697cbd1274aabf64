"""One node of several that do a job together: `python -m components.model.launch STORE KEY`.

What Kubeflow Trainer's `torch-distributed` runtime starts on every node. It brings the job out of the store once,
starts a process for each of the node's accelerators, and puts what came of it back. How nodes find each other, the
runtime says in the `PET_*` variables that torchrun reads.
"""

import argparse
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from components.common.environment import Environment
from components.common.errors import HeadraceError, Preempted
from components.common.sealed_store import SealedStore
from components.common.store import open_store
from components.common.wrapping import open_vault
from components.model.launch import parcel
from components.model.launch.job import FAILURE
from components.model.launch.processes import SHARDED, run_ranks


def main(uri: str, key: str, encryption: str, keys: str) -> int:
    """Do this node's part of a job.

    Args:
        uri: The store.
        key: Where in it the job is.
        encryption: What the store is sealed with, as in an environment.
        keys: Folder of the keys.

    Returns:
        The exit status: not 0 when the job failed, and why has been said and put into the store; 75 when it was asked
        to end and is to go on, of which the store need not know.
    """
    sealed = Environment(name="node", store=uri, tracking="", signing_key="", keys=keys, encryption=encryption)
    store = SealedStore(open_store(uri), open_vault(sealed))
    with TemporaryDirectory(prefix="headrace-node-") as name:
        folder = Path(name)
        job = parcel.receive(store, key, folder)
        first = int(os.environ.get("PET_NODE_RANK", "0")) == 0
        if first:  # what an earlier attempt of these nodes failed of says nothing about this one
            store.delete(f"{key}/{FAILURE}")
        place = Environment.model_validate(job.environment)
        try:
            run_ranks(folder, [], SHARDED if place.training.shard else {})
        except HeadraceError as error:
            print(f"headrace: {error}", flush=True)
            if not isinstance(error, Preempted):
                parcel.give(job, folder, store, key)
            return error.exit_code
        if first:
            parcel.give(job, folder, store, key)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Do this node's part of a job.")
    parser.add_argument("uri", help="the store")
    parser.add_argument("key", help="where in it the job is")
    parser.add_argument("--encryption", default="", help="what the store is sealed with, as in an environment")
    parser.add_argument("--keys", default="", help="folder of the keys")
    sys.exit(main(**vars(parser.parse_args())))
