"""Quantize a GGUF file to fewer bits with llama.cpp's own kernels, in this process.

The kernels are those of the llama.cpp that serves the file, reached through the library that the package `xllamacpp`
brings. Which tensor gets how many bits follows llama.cpp's `llama-quant.cpp`: in the mixes `q4_k_m` and `q5_k_m` the
output, and the value and down projections of the layers that matter most, get six.
"""

import ctypes
import importlib.util
import re
from pathlib import Path
from typing import Literal

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys, LlamaFileType, dequantize
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import quant_shape_to_byte_shape

from components.common.errors import HeadraceError

Quantization = Literal["q8_0", "q6_k", "q5_k_m", "q4_k_m"]
"""How many bits the weights of a GGUF file have, as llama.cpp names it."""

_KINDS: dict[str, tuple[Type, LlamaFileType]] = {
    "q6_k": (Type.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "q4_k_m": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
}
_SHORT_ROWS = {Type.Q4_K: Type.Q5_0, Type.Q5_K: Type.Q5_1, Type.Q6_K: Type.Q8_0}
"""What a tensor gets whose rows are no multiple of a block's 256 weights, as in llama.cpp."""

_LAYER = re.compile(r"^blk\.(\d+)\.(attn_v|ffn_down)\.weight$")
_OUTPUT, _EMBEDDING = "output.weight", "token_embd.weight"


def requantize(source: Path, target: Path, quantization: Quantization) -> None:
    """Write a GGUF file anew with fewer bits.

    Args:
        source: A GGUF file in 16 or 32 bits.
        target: The file to write.
        quantization: How many bits.

    Raises:
        HeadraceError: llama.cpp's library is not installed.
    """
    reader, kernels = GGUFReader(source), _kernels()
    wanted, file_type = _KINDS[quantization]
    writer = GGUFWriter(target, reader.fields[Keys.General.ARCHITECTURE].contents())
    for field in reader.fields.values():
        if field.name == Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
            continue
        within = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        value = int(file_type) if field.name == Keys.General.FILE_TYPE else field.contents()
        writer.add_key_value(field.name, value, field.types[0], sub_type=within)
    layers = 1 + max((int(found[1]) for tensor in reader.tensors if (found := _LAYER.match(tensor.name))), default=0)
    tied = all(tensor.name != _OUTPUT for tensor in reader.tensors)
    kinds = {t.name: _kind(t.name, [int(n) for n in t.shape], wanted, layers, tied) for t in reader.tensors}
    for tensor in reader.tensors:
        kind, shape = kinds[tensor.name], [int(size) for size in reversed(tensor.shape)]
        stored = quant_shape_to_byte_shape(shape, kind) if kind != Type.F32 else shape
        size = int(np.prod(stored)) * (1 if kind != Type.F32 else 4)
        writer.add_tensor_info(tensor.name, stored, np.dtype(np.uint8 if kind != Type.F32 else np.float32), size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        plain = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        kind = kinds[tensor.name]
        writer.write_tensor_data(plain if kind == Type.F32 else _quantized(kernels, plain, kind))
    writer.close()


def _kind(name: str, shape: list[int], wanted: Type, layers: int, tied: bool) -> Type:
    """How many bits a tensor gets: vectors stay whole, what matters more than its size gets six."""
    if len(shape) < 2:
        return Type.F32
    layer = _LAYER.match(name)
    whole = name == _OUTPUT or (tied and name == _EMBEDDING) or (layer and _matters(int(layer[1]), layers))
    kind = Type.Q6_K if whole else wanted
    return kind if shape[0] % GGML_QUANT_SIZES[kind][0] == 0 else _SHORT_ROWS[kind]


def _matters(layer: int, layers: int) -> bool:
    """Whether llama.cpp gives a layer more bits: the first and last eighth, and every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _quantized(kernels: ctypes.CDLL, plain: np.ndarray, kind: Type) -> np.ndarray:
    rows, width = int(np.prod(plain.shape[:-1])), plain.shape[-1]
    packed = np.empty(quant_shape_to_byte_shape(plain.shape, kind), dtype=np.uint8)
    written = kernels.ggml_quantize_chunk(
        int(kind),
        plain.ctypes.data_as(ctypes.POINTER(ctypes.c_float)),
        packed.ctypes.data_as(ctypes.c_void_p),
        0,
        rows,
        width,
        None,
    )
    if written != packed.nbytes:
        raise HeadraceError(f"llama.cpp wrote {written} bytes of {kind.name} where {packed.nbytes} were due")
    return packed


def _kernels() -> ctypes.CDLL:
    package = importlib.util.find_spec("xllamacpp")
    found = sorted(Path(package.origin).parent.glob("xllamacpp*.so")) if package and package.origin else []
    if not found:
        raise HeadraceError("llama.cpp's library is missing; pip install xllamacpp, or set model.merge.quantization")
    kernels = ctypes.CDLL(str(found[0]))
    size = ctypes.c_int64
    kernels.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(ctypes.c_float),
        ctypes.c_void_p,
        size,
        size,
        size,
        ctypes.c_void_p,
    ]
    kernels.ggml_quantize_chunk.restype = ctypes.c_size_t
    return kernels
