"""Merge what was trained into its base model: one model directory that any engine serves."""

import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from components.common.errors import HeadraceError
from components.common.ledger import SIDECAR, canonical
from components.common.report import Report
from components.common.step import Context, Outcome
from components.model.context.stretch import configuration
from components.model.gguf import write_gguf
from components.model.merge.cost import measure, serving_files
from components.model.merge.options import Merge
from components.model.precision import weight_type
from components.model.tune.method import quantization_of
from components.model.tune.options import Method
from components.model.versions import ADAPTER, BASE, QUANTIZATION, TRAINING, read_json

LOW_RANK, WHOLE = "adapter_model.safetensors", "model*.safetensors"
"""What a training left: matrices of low rank, or every weight anew."""

_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth")


def run(base: Path, adapter: Path, candidate: Path, options: Merge, context: Context) -> Outcome:
    """Merge and convert.

    Args:
        base: Model directory the adapter was trained on.
        adapter: What was trained: an adapter, or whole weights.
        candidate: The merged model: safetensors, tokenizer, chat template, GGUF and the adapter itself.
        options: How to store it.
        context: The run.
    """
    transformers.utils.logging.disable_progress_bar()
    training = read_json(adapter / TRAINING)
    name, trained_on = read_json(base / BASE)["name"], training["base"]
    if trained_on != name:
        raise HeadraceError(f"the adapter was trained on {trained_on}, not on {name}; tune it again")
    context.progress(0, 3, "merging")
    add_up(base, adapter, candidate, options.precision)
    shutil.copytree(adapter, candidate / ADAPTER, ignore=_not_kept(adapter))
    context.progress(1, 3, f"writing {options.quantization} for llama.cpp")
    gguf = write_gguf(candidate, name, options.quantization)
    cost = None
    if options.measure_tokens:
        context.progress(2, 3, "comparing the quantized weights with the merged ones")
        cost = measure(candidate, gguf, options.measure_tokens)
    sizes = {
        file.relative_to(candidate).as_posix(): file.stat().st_size / 2**20
        for file in sorted(candidate.rglob("*"))
        if file.is_file()
    }
    serving = serving_files(sizes, options.quantization, gguf.name, cost)
    (candidate / QUANTIZATION).write_bytes(canonical(serving))
    context.progress(3, 3, name)
    report = Report(
        "Merged model", f"{name}, {_how(adapter)}, in {options.precision} and as GGUF in {options.quantization}"
    )
    if cost:
        report.text(f"Quantized: {cost.sentence()}.")
    report.table([{"file": file, "MiB": round(size, 2)} for file, size in sizes.items()], "Files")
    metrics = {"mib": round(sum(sizes.values()), 1)}
    if cost:
        metrics |= {"agreement": round(cost.agreement, 4), "divergence": round(cost.divergence, 6)}
    return Outcome(1, 1, report, metrics=metrics)


def add_up(base: Path, adapter: Path, candidate: Path, precision: str) -> None:
    """Write base and adapter as one model, with the base's tokenizer and chat template.

    What both directories have beside weights, such as a configuration for longer contexts, comes from the adapter's.

    Args:
        base: Model directory the adapter was trained on.
        adapter: An adapter as peft saves it (LoRA, with or without rank-stabilised scale, DoRA), or whole weights.
        candidate: Directory to write to.
        precision: `bf16` or `fp32`; `auto` for what this machine computes in.

    Raises:
        HeadraceError: There are no safetensors, or weights that are no numbers.
    """
    merged: Any = _merged(base, adapter)
    broken = [name for name, value in merged.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise HeadraceError(f"{broken[0]} of the merged model holds no numbers; lower learning_rate and tune again")
    for file in sorted(base.iterdir()):
        if file.suffix not in _WEIGHTS and file.name not in (SIDECAR, "config.json"):
            own = adapter / file.name
            shutil.copyfile(own if own.is_file() else file, candidate / file.name)
    merged.to(weight_type(precision)).save_pretrained(candidate)


def _merged(base: Path, adapter: Path) -> PreTrainedModel:
    """The sum in full precision, so that it is rounded once.

    What was trained on a quantized base is added to that base as it was seen in training, dequantized.
    """
    loading: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
    if (adapter / LOW_RANK).is_file():
        if quantized := _quantization(adapter):
            loading |= {"quantization_config": quantized, "dtype": torch.bfloat16}
        model = AutoModelForCausalLM.from_pretrained(base, config=configuration(base, adapter), **loading)
        if quantized:
            model = model.dequantize().float()
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()
    if any(adapter.glob(WHOLE)):
        return AutoModelForCausalLM.from_pretrained(adapter, **loading)
    raise HeadraceError(f"{adapter} holds neither {LOW_RANK} nor {WHOLE}; tune it again: only safetensors are read")


def _quantization(adapter: Path) -> Any:
    """How the base was quantized that an adapter was trained on; None if it was not."""
    options = read_json(adapter / TRAINING).get("options", {}) if (adapter / TRAINING).is_file() else {}
    if options.get("method") != "qlora":
        return None
    return quantization_of(Method.model_validate({name: options[name] for name in Method.model_fields}))


def _not_kept(adapter: Path) -> Any:
    """What of a training does not go into the version: whole weights are in it already."""
    whole = () if (adapter / LOW_RANK).is_file() else ("model*.safetensors*", "tokenizer*", "config.json")
    return shutil.ignore_patterns(SIDECAR, *whole)


def _how(adapter: Path) -> str:
    if not (adapter / LOW_RANK).is_file():
        return "every weight tuned"
    config = read_json(adapter / "adapter_config.json")
    kind = "DoRA" if config.get("use_dora") else "rank-stabilised LoRA" if config.get("use_rslora") else "LoRA"
    return f"with its {kind} adapter of rank {config['r']}"
