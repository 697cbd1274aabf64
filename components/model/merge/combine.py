"""Merge an adapter into its base: one model directory that any engine serves."""

import shutil
from pathlib import Path

import torch
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

from components.common.errors import HeadraceError
from components.common.ledger import SIDECAR
from components.common.report import Report
from components.common.step import Context, Outcome
from components.model.gguf import write_gguf
from components.model.merge.options import Merge
from components.model.tune.method import PRECISIONS
from components.model.versions import ADAPTER, BASE, TRAINING, read_json


def run(base: Path, adapter: Path, candidate: Path, options: Merge, context: Context) -> Outcome:
    """Merge and convert.

    Args:
        base: Model directory the adapter was trained on.
        adapter: The adapter.
        candidate: The merged model: safetensors, tokenizer, chat template, 8-bit GGUF and the adapter itself.
        options: How to store it.
        context: The run.
    """
    transformers.utils.logging.disable_progress_bar()
    name, trained_on = read_json(base / BASE)["name"], read_json(adapter / TRAINING)["base"]
    if trained_on != name:
        raise HeadraceError(f"the adapter was trained on {trained_on}, not on {name}; tune it again")
    context.progress(0, 2, "merging")
    add_up(base, adapter, candidate, options.precision)
    shutil.copytree(adapter, candidate / ADAPTER, ignore=shutil.ignore_patterns(SIDECAR))
    context.progress(1, 2, "writing the 8-bit file for llama.cpp")
    write_gguf(candidate, name)
    context.progress(2, 2, name)
    sizes = {
        file.relative_to(candidate).as_posix(): file.stat().st_size / 2**20
        for file in sorted(candidate.rglob("*"))
        if file.is_file()
    }
    report = Report("Merged model", f"{name} with its adapter, in {options.precision} and as 8-bit GGUF")
    report.table([{"file": file, "MiB": round(size, 2)} for file, size in sizes.items()], "Files")
    return Outcome(1, 1, report, metrics={"mib": round(sum(sizes.values()), 1)})


def add_up(base: Path, adapter: Path, candidate: Path, precision: str) -> None:
    """Write base and adapter as one model, with the base's tokenizer and chat template."""
    # Added up in full precision and rounded once.
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged = merged.to(PRECISIONS[precision])
    for file in sorted(base.iterdir()):
        if file.suffix not in (".safetensors", ".gguf") and file.name not in (SIDECAR, "config.json"):
            shutil.copyfile(file, candidate / file.name)
    merged.save_pretrained(candidate)
