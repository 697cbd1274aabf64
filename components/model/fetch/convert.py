"""Turn a model as it is distributed into a model directory: safetensors in bf16, tokenizer and chat template."""

from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from components.common.errors import HeadraceError, UsageError
from components.model.fetch.source import Source


def convert(source: Source, base: Path) -> None:
    """Write a model directory.

    Args:
        source: A GGUF file, which is unpacked, or a directory.
        base: Where to write.

    Raises:
        UsageError: The model cannot chat.
        HeadraceError: The file is not what its header says.
    """
    transformers.utils.logging.disable_progress_bar()
    if source.path.is_dir():
        tokenizer = AutoTokenizer.from_pretrained(source.path)
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(source.path, dtype=torch.bfloat16)
    else:
        folder, file = source.path.parent, source.path.name
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        model = _unquantized(AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32))
    if not tokenizer.chat_template:
        raise UsageError(f"model.fetch.model: {source.name} has no chat template; choose an instruction-tuned model")
    model.save_pretrained(base)
    tokenizer.save_pretrained(base)


def _unquantized(model: PreTrainedModel) -> PreTrainedModel:
    """Rebuild a model read from GGUF, which `save_pretrained` refuses because it counts as quantized."""
    fields = model.config.to_dict()
    for field in ("quantization_config", "_name_or_path"):
        fields.pop(field, None)
    plain = type(model)(type(model.config)(**fields)).bfloat16()
    state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    try:
        plain.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise HeadraceError(f"the GGUF file does not fit its architecture: {str(error).splitlines()[0]}") from error
    plain.generation_config = model.generation_config
    return plain
