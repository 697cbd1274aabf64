"""Where training runs: in this process, in one process for each of this machine's accelerators, or on several nodes.

The work itself is the same function everywhere. In several processes every one of them calls it with the same
arguments; torch.distributed is set up by trl's trainers, which see torchrun's variables, and the first process writes.
"""

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.common.step import Outcome
from components.model.launch.job import Job

Work = Callable[..., Outcome]


def spread(*outputs: str) -> Callable[[Work], Work]:
    """Let a step's work run wherever its environment says.

    Args:
        outputs: The parameters of the work that name folders it writes.
    """

    def decorate(work: Work) -> Work:
        signature = inspect.signature(work)

        @functools.wraps(work)
        def run(*arguments: Any, **named: Any) -> Outcome:
            given = signature.bind(*arguments, **named).arguments
            return _run(work, given, outputs)

        return run

    return decorate


def _run(work: Work, given: Mapping[str, Any], outputs: tuple[str, ...]) -> Outcome:
    place = given["context"].environment
    training = place.training
    if "RANK" in os.environ:  # one of the processes that do it together
        return work(**given)
    if training.nodes == 1 and _accelerators() < 2:
        return work(**given)
    job = Job(
        work=f"{work.__module__}:{work.__qualname__}",
        stage=given["context"].stage,
        paths={name: value for name, value in given.items() if isinstance(value, Path)},
        outputs=outputs,
        options=given["options"].model_dump(mode="json"),
        environment=place.model_dump(mode="json"),
    )
    if training.nodes > 1:
        from components.model.launch.nodes import on_nodes

        return on_nodes(job, place)
    from components.model.launch.processes import in_processes

    return in_processes(job, _accelerators(), shard=training.shard)


def _accelerators() -> int:
    import torch

    return torch.cuda.device_count()
