"""Work for several processes: save a model of which each holds a part."""

from pathlib import Path

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from components.common.options import Options
from components.common.report import Report
from components.common.step import Context, Outcome
from components.model.tune.method import gathered, prepare, save
from components.model.tune.options import Method


class Sharding(Options):
    """What to save."""

    method: str


def run(base: Path, saved: Path, options: Sharding, context: Context) -> Outcome:
    """Shard a model over all processes and save it from the first one."""
    torch.distributed.init_process_group("gloo")
    torch.manual_seed(5)
    network = prepare(base, Method(method=options.method, precision="fp32"))
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    fully_shard(network, mesh=mesh)
    whole = gathered(network)
    assert whole is not None, "each process holds a part"
    if torch.distributed.get_rank() == 0:
        save(network, "Tiny", saved, whole)
    return Outcome(1, 1, Report("Saved"))
