"""The network that is trained: loaded, quantized where asked, with an adapter or as it is, and saved again.

LoRA: Hu et al. 2021 (arXiv 2106.09685); DoRA: Liu et al. 2024 (2402.09353); rsLoRA: Kalajdzievski 2023 (2312.03732);
QLoRA: Dettmers et al. 2023 (2305.14314).
"""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedConfig

from components.model.precision import attention, weight_type
from components.model.tune.options import Method

_PEFT_CARD = "README.md"


def load_base(base: Path, options: Method, config: PreTrainedConfig | None = None) -> Any:
    """Load a model for training; what is to learn is in 32 bits.

    Args:
        base: Model directory.
        options: Which weights learn, and how the others are held.
        config: Its configuration, when it is not the directory's.
    """
    precision = torch.float32 if options.method == "full" else weight_type(options.precision)
    return AutoModelForCausalLM.from_pretrained(
        base,
        config=config,
        dtype=precision,
        attn_implementation=attention(),
        quantization_config=quantization_of(options) if options.method == "qlora" else None,
    )


def add_adapter(network: Any, options: Method) -> Any:
    """Freeze a model and give every linear layer an adapter, with matrices drawn from torch's generator."""
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules="all-linear",
        use_dora=options.method == "dora",
        use_rslora=options.method == "rslora",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(network, config)


def prepare(base: Path, options: Method, config: PreTrainedConfig | None = None) -> Any:
    """Load a model and make it ready for training.

    Args:
        base: Model directory.
        options: Which weights learn, and how the others are held.
        config: Its configuration, when it is not the directory's.
    """
    network = load_base(base, options, config)
    return network if options.method == "full" else add_adapter(network, options)


def trained_weights(network: Any) -> tuple[int, int]:
    """Count the weights that learn, and all."""
    sizes = [(weights.numel(), weights.requires_grad) for weights in network.parameters()]
    return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)


def gathered(network: Any) -> dict[str, Any] | None:
    """All weights of a network of which each process holds a part; None if each has all.

    Every process has to ask; the first one gets the weights, the others none of them.
    """
    if not any(isinstance(weights, DTensor) for weights in network.parameters()):
        return None
    return get_model_state_dict(network, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def save(network: Any, name: str, path: Path, weights: dict[str, Any] | None = None) -> None:
    """Write what learned: an adapter as peft saves it, or a whole model.

    Args:
        network: The trained network.
        name: Name of its base model.
        path: Directory to write to.
        weights: What `gathered` returned; None to take the network's own.
    """
    if not isinstance(network, PeftModel):
        network.save_pretrained(path, state_dict=weights)
        return
    described: Any = network.peft_config["default"]
    described.base_model_name_or_path = name  # not the directory it happened to lie in
    described.target_modules = sorted(described.target_modules or ())  # a set is in another order in every process
    network.save_pretrained(str(path), save_embedding_layers=False, state_dict=weights)
    (path / _PEFT_CARD).unlink()  # empty


def quantization_of(options: Method) -> BitsAndBytesConfig:
    """How `qlora` holds the base."""
    if options.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=weight_type(options.precision),
    )
