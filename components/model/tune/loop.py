"""The loop around any of trl's trainers: watched, checkpointed, validated, stopped in time and taken up again.

An interrupted training goes on with the weights, optimizer, schedule, random numbers and rows that were next, so that
on a CPU it ends with the bytes of one that nothing happened to.
"""

import math
import statistics
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState

from components.common.errors import HeadraceError, Preempted
from components.common.merkle import merkle_root
from components.common.step import Context
from components.model.tracking import Log
from components.model.tune import attempt, ranks
from components.model.tune.checkpoints import Checkpoints
from components.model.tune.faults import Preemption, out_of_memory
from components.model.tune.options import Loop
from components.model.tune.order import Epochs
from components.model.tune.validation import Verdict, judge

_NAMED = 16
"""Records that a message names."""


@dataclass(frozen=True)
class Seen:
    """What an epoch trained on.

    Attributes:
        epoch: Its number, from 1.
        records: How many records.
        merkle_root: Root over their ids, which proves of any record whether the epoch saw it.
    """

    epoch: int
    records: int
    merkle_root: str


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        losses: Loss of each step.
        validation: Step and loss of each validation.
        final_loss: Mean loss of the last epoch: one batch alone says little.
        kept_step: Step whose weights were kept.
        stopped: Whether it was stopped because it overfitted.
        seen: What each epoch up to the kept step saw.
        resumed_at: Step that an earlier attempt had come to; 0 if there was none.
        damaged: Steps of damaged checkpoints, which have been removed.
        seconds_per_step: Median of the wall time of a step; the first, which warms up, left out if there are others.
    """

    losses: list[float]
    validation: list[tuple[int, float]]
    final_loss: float
    kept_step: int
    stopped: bool
    seen: list[Seen]
    resumed_at: int
    damaged: list[int]
    seconds_per_step: float


def arguments(options: Loop, scratch: Path) -> dict[str, Any]:
    """The arguments of a trainer, as the options have them.

    Args:
        options: How the steps go.
        scratch: Folder for what the trainer writes.
    """
    return {
        **attempt.arguments(
            scratch,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            schedule=options.schedule,
            warmup=options.warmup,
            seed=options.seed,
        ),
        "per_device_eval_batch_size": options.batch_size,
        "gradient_accumulation_steps": options.accumulation,
        "max_grad_norm": options.max_gradient_norm,
        "gradient_checkpointing": options.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": options.mixed_precision == "bf16",
        "fp16": options.mixed_precision == "fp16",
    }


def fit(
    trainer: Trainer, options: Loop, epochs: Epochs, checkpoints: Checkpoints, context: Context, log: Log
) -> Fitted:
    """Train to the end, from where an earlier attempt was interrupted if there was one.

    Called in every process of a distributed training; the first one writes.

    Args:
        trainer: Any trainer whose arguments came from `arguments`; validates if it has an `eval_dataset`.
        options: The options they came from.
        epochs: The order of the rows of its `train_dataset`.
        checkpoints: Those of this training.
        context: Is told how far it is.
        log: Is told what each step measured.

    Raises:
        Preempted: The process was asked to end; a checkpoint is kept, and the next attempt goes on from it.
        HeadraceError: The loss is no number, or memory is full. The last checkpoint is kept.
    """
    _hold_in_32_bits(trainer.model)
    trainer._get_train_sampler = lambda *_: epochs  # type: ignore[method-assign]  # there is no argument for it
    progress = _Progress(options, epochs, context, log)
    with Preemption() as preemption, tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder, "checkpoint")
        keeper = _Keeper(options, checkpoints, preemption, validates=trainer.eval_dataset is not None)
        trainer.add_callback(progress)
        trainer.add_callback(keeper)
        resumed_at = attempt.attempt(trainer, checkpoints, earlier, partial(out_of_memory, options))
        state = trainer.state
        verdict = judge(validations(state), options.patience)
        stopped = verdict.stop and state.global_step < state.max_steps
        if keeper.preempted and not stopped:
            raise Preempted(
                f"asked to end after step {state.global_step:,} of {state.max_steps:,}; its checkpoint is stored, and "
                "the same run goes on from there"
            )
        kept = state.global_step
        if verdict.best and options.patience and verdict.best < kept:
            checkpoints.bring(verdict.best, earlier)
            trainer._load_from_checkpoint(str(earlier))
            kept = verdict.best
    losses = [round(entry["loss"], 6) for entry in state.log_history if "loss" in entry]
    epoch = _steps_of_epoch(state)
    last = losses[max(0, kept - epoch) : kept]
    return Fitted(
        losses=losses,
        validation=[(step, round(loss, 6)) for step, loss in validations(state)],
        final_loss=round(sum(last) / len(last), 6),
        kept_step=kept,
        stopped=stopped,
        seen=_seen(epochs, kept, epoch, _rows_of_step(options)),
        resumed_at=resumed_at,
        damaged=checkpoints.damaged,
        seconds_per_step=statistics.median(progress.seconds[1:] or progress.seconds or [0.0]),
    )


def validations(state: TrainerState) -> list[tuple[int, float]]:
    """Step and loss of each validation so far, those of earlier attempts included."""
    return [(int(entry["step"]), entry["eval_loss"]) for entry in state.log_history if "eval_loss" in entry]


class _Progress(TrainerCallback):
    """Hands each step's loss on, and stops at one that is no number."""

    def __init__(self, options: Loop, epochs: Epochs, context: Context, log: Log) -> None:
        self.seconds: list[float] = []
        self._options = options
        self._epochs = epochs
        self._context = context
        self._log = log
        self._began = 0.0

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What earlier attempts measured belongs to this run too."""
        for entry in state.log_history:
            self._record(entry, int(entry["step"]))

    def on_epoch_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Where each process has a part of each batch, the data loader does not tell the sampler."""
        self._epochs.set_epoch(int(state.epoch or 0))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Stop the clock."""
        self.seconds.append(time.perf_counter() - self._began)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Look at what was measured."""
        if not logs or ranks.rank():
            return
        self._record(logs, state.global_step)
        if "loss" in logs:
            self._context.progress(state.global_step, state.max_steps, f"loss {logs['loss']:.3f}")
            skips = self._options.mixed_precision == "fp16"  # a step with such gradients is skipped
            if not math.isfinite(logs["loss"]) or not (skips or math.isfinite(logs.get("grad_norm", 0.0))):
                raise HeadraceError(self._complaint(logs, state))

    def _record(self, logs: dict[str, float], step: int) -> None:
        names = {"loss": "loss", "learning_rate": "learning_rate", "eval_loss": "validation_loss"}
        if measured := {names[name]: value for name, value in logs.items() if name in names}:
            self._log(measured, step)

    def _complaint(self, logs: dict[str, float], state: TrainerState) -> str:
        what = ("loss", logs["loss"]) if not math.isfinite(logs["loss"]) else ("gradient's length", logs["grad_norm"])
        step = state.global_step - 1
        epoch, before = divmod(step, _steps_of_epoch(state))
        rows = _rows_of_step(self._options)
        records = list(dict.fromkeys(self._epochs.records(epoch, before * rows, (before + 1) * rows)))
        named = ", ".join(record[:12] for record in records[:_NAMED])
        more = f" and {len(records) - _NAMED:,} more" if len(records) > _NAMED else ""
        return (
            f"the {what[0]} is {what[1]} in step {step + 1:,}, which trained on the records {named}{more}: lower "
            "learning_rate, or look at these records; the last checkpoint is kept"
        )


class _Keeper(TrainerCallback):
    """Says when to validate, to store a checkpoint and to stop."""

    def __init__(self, options: Loop, checkpoints: Checkpoints, preemption: Preemption, validates: bool) -> None:
        self.preempted = False
        self._options = options
        self._checkpoints = checkpoints
        self._preemption = preemption
        self._validates = validates

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide what comes before the next step."""
        step, done = state.global_step, state.global_step >= state.max_steps
        every = self._options.validate_every or _steps_of_epoch(state)
        control.should_evaluate = self._validates and (done or step % every == 0)
        self.preempted = ranks.anyone(self._preemption.requested) and not done
        due = bool(self._options.checkpoint_every) and step % self._options.checkpoint_every == 0
        control.should_save = self.preempted or (due and not done)
        control.should_training_stop = control.should_training_stop or self.preempted

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Keep the best, and stop when it has been long ago."""
        verdict = self._verdict(state)
        if verdict.stop:
            control.should_training_stop = True
        elif self._options.patience and verdict.best == state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Store what the trainer saved."""
        saved = Path(args.output_dir, f"checkpoint-{state.global_step}")
        best = self._verdict(state).best if self._options.patience else 0
        self._checkpoints.publish(saved, state.global_step, best)

    def _verdict(self, state: TrainerState) -> Verdict:
        return judge(validations(state), self._options.patience)


def _hold_in_32_bits(network: Any) -> None:
    """Undo trl's 16 bits for the adapter of a quantized base: small updates would be lost, and a resumed one differ."""
    for weights in network.parameters():
        if weights.requires_grad and weights.dtype == torch.bfloat16:
            weights.data = weights.data.to(torch.float32)


def _steps_of_epoch(state: TrainerState) -> int:
    return max(1, -(-state.max_steps // state.num_train_epochs))


def _rows_of_step(options: Loop) -> int:
    return options.batch_size * options.accumulation * ranks.count()


def _seen(epochs: Epochs, steps: int, of_epoch: int, of_step: int) -> list[Seen]:
    seen = []
    for epoch in range(-(-steps // of_epoch)):
        taken = min(of_epoch, steps - epoch * of_epoch) * of_step
        records = set(epochs.records(epoch, 0, taken))
        seen.append(Seen(epoch + 1, len(records), merkle_root(records)))
    return seen
