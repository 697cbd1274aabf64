"""The loop around any of trl's trainers: how far it is and what it measured, said as it goes."""

import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PrinterCallback, Trainer, TrainerCallback

from components.common.errors import HeadraceError
from components.common.step import Context
from components.model.tracking import Log
from components.model.tune.options import Loop


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        losses: Loss of each step.
        final_loss: Mean loss of the last epoch: one batch alone says little.
        seconds_per_step: Median of the wall time of a step; the first, which warms up, left out if there are others.
    """

    losses: list[float]
    final_loss: float
    seconds_per_step: float


def settle(options: Loop) -> None:
    """Make this process compute as the options say; before anything is drawn or loaded."""
    transformers.utils.logging.disable_progress_bar()
    transformers.set_seed(options.seed)
    torch.set_num_threads(options.threads or torch.get_num_threads())


def arguments(options: Loop, scratch: Path) -> dict[str, Any]:
    """The arguments that all of trl's trainers take, as the options have them.

    Args:
        options: How the steps go.
        scratch: Folder for what the trainer writes.
    """
    return {
        "output_dir": str(scratch),
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.accumulation,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": options.schedule,
        "warmup_steps": options.warmup,
        "max_grad_norm": options.max_gradient_norm,
        "gradient_checkpointing": options.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": options.mixed_precision == "bf16",
        "fp16": options.mixed_precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "optim": "adamw_torch_fused",
        "seed": options.seed,
        "save_strategy": "no",
        "report_to": "none",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # it would hide that training diverges
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def fit(trainer: Trainer, context: Context, log: Log) -> Fitted:
    """Train to the end.

    Args:
        trainer: Any trainer whose arguments came from `arguments`.
        context: Is told how far it is.
        log: Is told what each step measured.

    Raises:
        HeadraceError: The loss is no number.
    """
    progress = Progress(context, log)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(progress)
    trainer.train()
    epoch = max(1, round(trainer.state.max_steps / trainer.state.num_train_epochs))
    last = progress.losses[-epoch:]
    return Fitted(
        progress.losses, round(sum(last) / len(last), 6), statistics.median(progress.seconds[1:] or progress.seconds)
    )


class Progress(TrainerCallback):
    """Hands each step's loss on: to the progress display, the tracking server and `training.json`."""

    def __init__(self, context: Context, log: Log) -> None:
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self._context = context
        self._log = log
        self._began = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before every step."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every step."""
        self.seconds.append(time.perf_counter() - self._began)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Called by the trainer when a step was measured."""
        if logs and "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise HeadraceError(f"the loss is {logs['loss']} at step {state.global_step}; lower learning_rate")
            self.losses.append(round(logs["loss"], 6))
            self._log({"loss": logs["loss"], "learning_rate": logs["learning_rate"]}, state.global_step)
            self._context.progress(state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")
