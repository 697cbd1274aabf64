"""What all trainings have in common, whatever they minimise: how a process computes, trl's arguments, one attempt."""

from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, Trainer

from components.common.errors import HeadraceError
from components.model.tune.checkpoints import Checkpoints
from components.model.tune.faults import is_out_of_memory


def settle(seed: int, threads: int) -> None:
    """Make this process compute as the options say; before anything is drawn or loaded."""
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(seed)
    torch.set_num_threads(threads or torch.get_num_threads())


def arguments(
    scratch: Path, *, batch_size: int, learning_rate: float, schedule: str, warmup: float, seed: int
) -> dict[str, Any]:
    """The arguments that all of trl's trainers take.

    Args:
        scratch: Folder for what the trainer writes.
        batch_size: Rows computed at a time, on each device.
        learning_rate: Peak learning rate.
        schedule: Decay after the warm-up.
        warmup: Share of the steps over which the learning rate rises.
        seed: Seed of whatever the trainer draws.
    """
    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": batch_size,
        "learning_rate": learning_rate,
        "lr_scheduler_type": schedule,
        "warmup_steps": warmup,
        "use_cpu": not torch.cuda.is_available(),
        "optim": "adamw_torch_fused",
        "seed": seed,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide that training diverges
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def attempt(
    trainer: Trainer, checkpoints: Checkpoints, earlier: Path, out_of_memory: Callable[[int], HeadraceError]
) -> int:
    """Train, from where an earlier attempt was interrupted if there was one.

    Args:
        trainer: Any of trl's trainers, with the callbacks that watch it.
        checkpoints: Those of this training.
        earlier: Folder to bring the last checkpoint to.
        out_of_memory: Says of a step which settings take less memory.

    Returns:
        The step that an earlier attempt had come to; 0 if there was none.

    Raises:
        HeadraceError: Memory is full, or the checkpoint is unsafe to load.
    """
    trainer.create_model_card = lambda *_, **__: None  # type: ignore[method-assign]  # trl writes one into checkpoints
    trainer.remove_callback(PrinterCallback)
    resumed_at = checkpoints.bring_last(earlier)
    try:
        trainer.train(resume_from_checkpoint=str(earlier) if resumed_at else None)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise out_of_memory(trainer.state.global_step + 1) from error
        raise
    except UnpicklingError as error:
        raise HeadraceError(
            f"the checkpoint of step {resumed_at:,} in {checkpoints.uri} holds what is not safe to load; delete it"
        ) from error
    return resumed_at
