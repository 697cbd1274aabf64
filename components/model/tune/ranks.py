"""This process among those that train together; alone it is the first, and all of them.

torchrun and Kubeflow's TrainJob say which one it is in the environment, before there is a process group.
"""

import os

import torch
from accelerate import PartialState
from torch import distributed


def rank() -> int:
    """Number of this process; the first, 0, is the one that writes."""
    return distributed.get_rank() if distributed.is_initialized() else int(os.environ.get("RANK", 0))


def count() -> int:
    """How many there are."""
    return distributed.get_world_size() if distributed.is_initialized() else int(os.environ.get("WORLD_SIZE", 1))


def wait() -> None:
    """Go on when all have come here."""
    if distributed.is_initialized():
        distributed.barrier()


def anyone(is_so: bool) -> bool:
    """Whether it is so for any of them; all have to ask."""
    if count() == 1:
        return is_so
    said = torch.tensor(is_so, dtype=torch.int32, device=PartialState().device)
    distributed.all_reduce(said, distributed.ReduceOp.MAX)
    return bool(said.item())
