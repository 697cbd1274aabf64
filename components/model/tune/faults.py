"""What may go wrong while a model learns, said so that a person knows which setting to change."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from components.common.errors import HeadraceError, UsageError
from components.model.context.stretch import require_length
from components.model.tune.options import Loop

_SHOWN = ("method", "precision", "batch_size", "accumulation", "max_length", "gradient_checkpointing")


class Preemption:
    """Notes that this process was asked to end, as a spot node asks before it goes; the step under way is finished."""

    def __init__(self) -> None:
        self.requested = False
        self._before: Any = None

    def __enter__(self) -> Self:
        """Listen; only a main thread hears signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the signal to whom it was left before."""
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def refuse_impossible(options: Loop) -> None:
    """Refuse what the device of this process cannot do.

    Raises:
        UsageError: The message names the option and what to set it to.
    """
    wanted = options.mixed_precision
    if wanted == "fp16" and not torch.cuda.is_available():
        raise UsageError("mixed_precision is fp16, which needs a GPU, and there is none here; set it to bf16 or none")
    if wanted == "bf16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        raise UsageError("mixed_precision is bf16, which this GPU does not have; set it to fp16 or none")


def check_model(
    base: Path,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    config: PreTrainedConfig | None = None,
) -> None:
    """Refuse a model that cannot be trained on such pairs, and give the tokenizer something to pad with.

    Labels go by position, so whatever pads, the end of an answer is scored.

    Args:
        base: Model directory.
        name: Its name.
        tokenizer: Its tokenizer.
        max_length: Longest pair, in tokens.
        config: Its configuration, when it is not the directory's.

    Raises:
        HeadraceError: It has no chat template, no end-of-sequence token or too short a context.
    """
    if not tokenizer.chat_template:
        raise HeadraceError(
            f"{name} has no chat template, so there is no telling a question from an answer; fetch an instruct model, "
            "or put its chat_template.jinja into the model directory"
        )
    if tokenizer.eos_token is None:
        raise HeadraceError(
            f"{name} has no end-of-sequence token, so it could not learn where an answer ends; set eos_token in its "
            "tokenizer_config.json"
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    require_length(config or AutoConfig.from_pretrained(base).get_text_config(), max_length, name)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory is full, of a GPU or of the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)


def out_of_memory(options: Loop, step: int) -> HeadraceError:
    """Say which setting to change when memory is full, the one that changes least first.

    Args:
        options: How it trained.
        step: Step that was under way.
    """
    values = options.model_dump(mode="json")
    shown = ", ".join(f"{name} {str(values[name]).lower()}" for name in _SHOWN if name in values)
    if options.batch_size > 1:
        fix = (
            f"set batch_size to {options.batch_size // 2} and accumulation to {2 * options.accumulation}, which trains "
            "the same in less memory"
        )
    elif not options.gradient_checkpointing:
        fix = "set gradient_checkpointing to true, which takes a third more time"
    elif values.get("method") != "qlora":
        fix = "set method to qlora"
    else:
        fix = "lower max_length, or take a smaller base model"
    return HeadraceError(f"out of memory in step {step}, with {shown}; {fix}")
