"""One process of several that do a job together: `python -m components.model.launch.rank FOLDER`, started by torchrun.

All of them do the same work; the first one tells how far it is, and writes what it came to beside the job.
"""

import os
import sys
from pathlib import Path

import torch

from components.common.errors import HeadraceError
from components.common.step import Context
from components.model.launch.job import FAILURE, JOB, OUTCOME, Job, write_failure, write_outcome


class _Silent(Context):
    """Tells nobody how far it is: one process does."""

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Say nothing."""


def main(folder: Path) -> int:
    """Do the job of a folder in this process.

    Args:
        folder: Holds `job.json`, and gets `outcome.json` or `failure.json` from the first process.

    Returns:
        The exit status: 1 when the work failed for a reason that it explains.
    """
    first = int(os.environ["RANK"]) == 0
    if not torch.cuda.is_available():
        os.environ.setdefault("ACCELERATE_USE_CPU", "true")  # else each process would train alone, unnoticed
    job = Job.read((folder / JOB).read_bytes())
    try:
        outcome = job.run(Context if first else _Silent)
        _check_together(int(os.environ["WORLD_SIZE"]))
    except HeadraceError as error:
        if not (folder / FAILURE).exists():  # every process meets the same fault: one word of it is enough
            write_failure(error, folder / FAILURE)
        return 1
    if first:
        write_outcome(outcome, folder / OUTCOME)
    return 0


def _check_together(processes: int) -> None:
    together = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    if together != processes:
        raise HeadraceError(f"{processes} processes were started and {together} trained together; look at the log")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
