"""Stretches the positions a model knows, in its configuration, so that engines read it there."""

import copy
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from components.common.errors import UsageError
from components.model.context.options import Context

_LENGTHS = ("max_position_embeddings", "max_seq_len", "seq_length")
"""What architectures call the longest sequence they were trained for."""

_CONFIG = "config.json"


def stretch(config: PreTrainedConfig, context: Context) -> PreTrainedConfig:
    """Give a model's configuration a longer context.

    `linear` and `dynamic` leave `max_position_embeddings` at what the base was trained for and `yarn` multiplies it, as
    transformers and vLLM read them.

    Args:
        config: Configuration of the base model; not changed.
        context: How, and how far.

    Raises:
        UsageError: The architecture has no such positions, or they are stretched already.
    """
    stretched = copy.deepcopy(config)
    if not context.on:
        return stretched
    biased, rope = has_alibi(config), getattr(config, "rope_parameters", None) or {}
    if context.method == "alibi":
        if not biased:
            raise UsageError(
                f"model.tune.context.method is alibi, but {config.model_type} has "
                f"{'rotary' if rope else 'absolute'} positions; "
                + ("choose linear, dynamic or yarn" if rope else "its context cannot be stretched: choose another base")
            )
        for name in _LENGTHS:
            if isinstance(length := getattr(stretched, name, None), int):
                setattr(stretched, name, int(length * context.factor))
        return stretched
    if biased or not rope:
        raise UsageError(
            f"model.tune.context.method is {context.method}, but {config.model_type} has no rotary positions; "
            + ("choose alibi" if biased else "its context cannot be stretched: choose another base model")
        )
    if "rope_type" not in rope:
        raise UsageError(
            f"{config.model_type} has other positions in each kind of layer; their stretching is not supported: set "
            "model.tune.context.method to none"
        )
    if rope["rope_type"] != "default":
        raise UsageError(
            f"the base model's positions are stretched already, by {rope['rope_type']}; set "
            "model.tune.context.method to none"
        )
    changed = {**rope, "rope_type": context.method, "factor": context.factor}
    if context.method == "yarn":
        changed["original_max_position_embeddings"] = config.max_position_embeddings
        stretched.max_position_embeddings = int(config.max_position_embeddings * context.factor)
    stretched.rope_parameters = changed
    return stretched


def configuration(base: Path, trained: Path) -> PreTrainedConfig:
    """Configuration of a base model together with what was trained on it: that of a stretched context lies there.

    Args:
        base: Model directory.
        trained: An adapter, or whole weights.
    """
    config: PreTrainedConfig = AutoConfig.from_pretrained(trained if (trained / _CONFIG).is_file() else base)
    return config


def context_length(config: PreTrainedConfig) -> int:
    """Longest sequence in tokens that a configuration is for; 0 where it names none."""
    named = [length for name in _LENGTHS if isinstance(length := getattr(config, name, None), int)]
    if not named:
        return 0
    rope: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") in ("linear", "dynamic"):
        return int(named[0] * rope["factor"])
    if rope.get("rope_type") == "yarn":
        return max(named[0], int(rope["original_max_position_embeddings"] * (rope.get("factor") or 1)))
    return named[0]


def require_length(config: PreTrainedConfig, length: int, name: str) -> None:
    """Refuse sequences that are longer than the context.

    Raises:
        UsageError: They are.
    """
    known = context_length(config)
    if known and length > known:
        raise UsageError(
            f"max_length is {length:,}, and {name} has a context of {known:,} tokens; set max_length to {known} at "
            "most, or stretch the context (model.tune.context)"
        )


def has_alibi(config: PreTrainedConfig) -> bool:
    """Tell whether attention falls with distance in place of positions: Bloom, MPT, and Falcon where it says so."""
    attention = getattr(config, "attn_config", None)
    return config.model_type == "bloom" or bool(getattr(config, "alibi", False) or getattr(attention, "alibi", False))
