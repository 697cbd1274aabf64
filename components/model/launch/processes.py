"""A job in several processes of one machine, one for each accelerator, started by torchrun."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from components.common.errors import HeadraceError, Interrupted
from components.common.step import Outcome
from components.model.launch.job import FAILURE, JOB, OUTCOME, Job, read_failure, read_outcome

LAST_LINES = 20
"""Lines of output that an error quotes."""

_DIED = "failed (exitcode: "
"""What torchrun says of the first process that dies, with its exit code; a traceback of torchrun's own follows."""

SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}
"""How Accelerate is told to shard weights, gradients and optimizer over all processes (FSDP2)."""


def in_processes(job: Job, count: int, *, shard: bool = False) -> Outcome:
    """Do a job in several processes of this machine.

    Args:
        job: The job; its output folders exist.
        count: Processes.
        shard: Spread the weights over them, which one process alone could not hold; else each has all.

    Returns:
        What the job came to.

    Raises:
        HeadraceError: It failed: the work's own words, or the last lines of a process that died.
    """
    with TemporaryDirectory(prefix="headrace-job-") as name:
        folder = Path(name)
        job.write(folder / JOB)
        run_ranks(folder, ["--standalone", f"--nproc-per-node={count}"], SHARDED if shard else {})
        return read_outcome((folder / OUTCOME).read_bytes())


def run_ranks(folder: Path, rendezvous: list[str], settings: Mapping[str, str]) -> None:
    """Start the processes of this machine and wait for them; what they print is passed on.

    Args:
        folder: Holds the job.
        rendezvous: How torchrun's processes find each other; what is not said, `PET_*` variables say.
        settings: Further environment variables.

    Raises:
        HeadraceError: A process failed.
        Preempted: This process or one of the others was told to stop, and they kept what there is.
        Interrupted: This process was told to stop before there was anything to keep; the others have been, too.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", *rendezvous]
    command = [*launcher, "-m", "components.model.launch.rank", str(folder)]
    last: deque[str] = deque(maxlen=LAST_LINES)
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with (
        subprocess.Popen(
            command,
            env={**os.environ, **threads, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
        ) as processes,
        when_told_to_stop(),
    ):
        try:
            _pass_on(processes, last)
        except BaseException:
            processes.terminate()
            _pass_on(processes, last)  # they finish their step, and what nobody reads would end them
            if (folder / FAILURE).is_file():
                raise read_failure((folder / FAILURE).read_bytes()) from None
            raise
    if not processes.returncode:
        return
    if (folder / FAILURE).is_file():
        raise read_failure((folder / FAILURE).read_bytes())
    raise HeadraceError("a training process died; its last lines: " + " | ".join(filter(None, last)))


def _pass_on(processes: subprocess.Popen[str], last: deque[str]) -> None:
    """Print what the processes print; the last lines until one of them died are kept, not torchrun's own after that."""
    died = False
    for line in processes.stdout or ():
        if not died:
            last.append(line.rstrip())
        died = died or _DIED in line
        print(line, end="", flush=True)


@contextmanager
def when_told_to_stop() -> Iterator[None]:
    """Have SIGTERM raise, so that what was started elsewhere is stopped too.

    Raises:
        Interrupted: The process was told to stop.
    """

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise Interrupted("told to stop; what was started for this step is stopped too")

    if threading.current_thread() is not threading.main_thread():  # others receive no signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
