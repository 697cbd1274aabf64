"""The loop around trl's preference and reinforcement trainers: watched, checkpointed and taken up again.

They order their rows themselves, so this loop leaves that alone, unlike the one of model/tune; checkpoints and signals
are the same. An interrupted training goes on with weights, optimizer, schedule and random numbers as they were.
"""

import math
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState

from components.common.errors import HeadraceError, Preempted
from components.common.step import Context
from components.model.align.options import Align
from components.model.tracking import Log
from components.model.tune.attempt import attempt
from components.model.tune.checkpoints import Checkpoints
from components.model.tune.faults import Preemption

MEASURES = {
    "loss": "loss",
    "rewards/accuracies": "accuracy",
    "rewards/margins": "margin",
    "accuracy": "accuracy",
    "margin": "margin",
    "reward": "reward",
    "reward_std": "reward_spread",
    "kl": "kl",
    "entropy": "entropy",
    "completions/mean_length": "answer_tokens",
}
"""What trl's trainers log, and what it is called here."""


def fit(trainer: Trainer, options: Align, checkpoints: Checkpoints, phase: str, context: Context, log: Log) -> int:
    """Train to the end, from where an earlier attempt was interrupted if there was one.

    Args:
        trainer: Any of trl's trainers, its arguments from `trainers.arguments`.
        options: How often checkpoints are stored.
        checkpoints: Those of this training.
        phase: What is trained, for the display.
        context: Is told how far it is.
        log: Is told what each step measured.

    Returns:
        The step that an earlier attempt had come to; 0 if there was none.

    Raises:
        Preempted: The process was asked to end; a checkpoint is kept, and the next attempt goes on from it.
        HeadraceError: Loss or gradient is no number, memory is full, a checkpoint is unsafe, or training ends early.
    """
    with Preemption() as preemption, tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder, "checkpoint")
        watch = _Watch(options, checkpoints, preemption, phase, context, log)
        trainer.add_callback(watch)
        resumed_at = attempt(trainer, checkpoints, earlier, partial(out_of_memory, options, phase))
        step, last = trainer.state.global_step, trainer.state.max_steps
        if watch.preempted:
            raise Preempted(
                f"asked to end after step {step:,} of {last:,} ({phase}); its checkpoint is stored, and the same run "
                "goes on from there"
            )
        if step < last:
            raise HeadraceError(f"training ended after step {step:,} of {last:,} ({phase}); give it more preferences")
    return resumed_at


def out_of_memory(options: Align, phase: str, step: int) -> HeadraceError:
    """Say which settings take less memory.

    Args:
        options: How it trained.
        phase: What was trained: a method, or the reward model.
        step: Step that was under way.
    """
    wanted = options.reinforcement
    if phase in ("grpo", "rlhf"):
        found = {
            "reinforcement.prompts": (wanted.prompts, 1),
            "reinforcement.answers": (wanted.answers, 2),
            "reinforcement.max_new_tokens": (wanted.max_new_tokens, 1),
        }
    else:
        found = {"batch_size": (options.batch_size, 2 if phase == "kto" else 1), "max_length": (options.max_length, 16)}
    lower = " or ".join(f"{name} ({value})" for name, (value, least) in found.items() if value > least)
    return HeadraceError(f"out of memory in step {step:,} ({phase}); lower {lower}, or take a smaller base model")


def curves(history: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """What each step measured, by name, those of earlier attempts included.

    Args:
        history: What a trainer logged.
    """
    found: dict[str, list[float]] = {}
    for entry in history:
        if "loss" in entry:
            for name, value in _measured(entry).items():
                found.setdefault(name, []).append(round(value, 6))
    return found


class _Watch(TrainerCallback):
    """Hands on what each step measured, and says when to store a checkpoint."""

    def __init__(
        self,
        options: Align,
        checkpoints: Checkpoints,
        preemption: Preemption,
        phase: str,
        context: Context,
        log: Log,
    ) -> None:
        self.preempted = False
        self._every = options.checkpoint_every
        self._checkpoints = checkpoints
        self._preemption = preemption
        self._phase = phase
        self._context = context
        self._log = log

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What earlier attempts measured belongs to this run too."""
        for entry in state.log_history:
            self._record(entry, int(entry["step"]))

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Look at what was measured."""
        if not logs or "loss" not in logs:
            return
        for what, value in (("loss", logs["loss"]), ("gradient's length", logs.get("grad_norm", 0.0))):
            if not math.isfinite(value):
                raise HeadraceError(f"the {what} is {value} in step {state.global_step:,}; lower learning_rate")
        found = self._record(logs, state.global_step)
        shown = "reward" if "reward" in found else "loss"
        self._context.progress(state.global_step, state.max_steps, f"{self._phase}: {shown} {found[shown]:.3f}")

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Decide what comes before the next step."""
        done = state.global_step >= state.max_steps
        self.preempted = self._preemption.requested and not done
        due = bool(self._every) and state.global_step % self._every == 0 and not done
        control.should_save = self.preempted or due
        control.should_training_stop = control.should_training_stop or self.preempted

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Store what the trainer saved."""
        self._checkpoints.publish(Path(args.output_dir, f"checkpoint-{state.global_step}"), state.global_step)

    def _record(self, entry: Mapping[str, float], step: int) -> dict[str, float]:
        found = _measured(entry) if "loss" in entry else {}
        if found:
            self._log(found, step)
        return found


def _measured(entry: Mapping[str, float]) -> dict[str, float]:
    named = {MEASURES.get(logged) or _reward(logged): value for logged, value in entry.items()}
    return {name: float(value) for name, value in named.items() if name and math.isfinite(value)}


def _reward(logged: str) -> str:
    """The name of one of several rewards, from what trl calls its mean."""
    inner = logged.removeprefix("rewards/").removesuffix("/mean")
    return f"reward_{inner}" if logged == f"rewards/{inner}/mean" else ""
