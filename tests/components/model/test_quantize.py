"""GGUF files with fewer bits, by llama.cpp's own kernels."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter, dequantize
from gguf.quants import quantize as reference

from components.model.quantize import Quantization, Type, requantize

LAYERS = 8
PATTERN = {"blk.{}.attn_q": 256, "blk.{}.attn_v": 256, "blk.{}.ffn_down": 512, "blk.{}.ffn_up": 160}


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A file in 32 bits with the tensors of a Llama of eight layers."""
    draw = np.random.default_rng(7).standard_normal
    tensors = {
        f"{name.format(layer)}.weight": draw((4, width), dtype=np.float32)
        for layer in range(LAYERS)
        for name, width in PATTERN.items()
    }
    tensors |= {
        "token_embd.weight": draw((6, 256), dtype=np.float32),
        "output.weight": draw((6, 256), dtype=np.float32),
        "output_norm.weight": draw(256, dtype=np.float32),
    }
    writer = GGUFWriter(tmp_path / "whole.gguf", "llama")
    writer.add_name("조그만 모델")
    writer.add_token_list(["a", "나", "c"])
    writer.add_file_type(0)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "whole.gguf", tensors


@pytest.mark.parametrize(
    ("quantization", "plain", "short", "file_type", "error"),
    [
        ("q6_k", Type.Q6_K, Type.Q8_0, 18, 0.03),
        ("q5_k_m", Type.Q5_K, Type.Q5_1, 17, 0.06),
        ("q4_k_m", Type.Q4_K, Type.Q5_0, 15, 0.12),
    ],
)
def test_every_tensor_gets_the_bits_that_llama_cpp_gives_it(
    source: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    quantization: Quantization,
    plain: Type,
    short: Type,
    file_type: int,
    error: float,
) -> None:
    whole, tensors = source
    requantize(whole, tmp_path / "packed.gguf", quantization)
    reader = GGUFReader(tmp_path / "packed.gguf")
    kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
    more = [layer for layer in range(LAYERS) if kinds[f"blk.{layer}.attn_v.weight"] == Type.Q6_K]
    assert more == ([*range(8)] if quantization == "q6_k" else [0, 3, 6, 7]), "as use_more_bits in llama-quant.cpp"
    assert more == [layer for layer in range(LAYERS) if kinds[f"blk.{layer}.ffn_down.weight"] == Type.Q6_K]
    assert {kinds[f"blk.{layer}.attn_q.weight"] for layer in range(LAYERS)} == {plain}
    assert {kinds[f"blk.{layer}.ffn_up.weight"] for layer in range(LAYERS)} == {short}, "160 is no multiple of 256"
    assert (kinds["output.weight"], kinds["token_embd.weight"]) == (Type.Q6_K, plain)
    for tensor in reader.tensors:
        read = dequantize(tensor.data, tensor.tensor_type)
        assert np.sqrt(np.mean((read - tensors[tensor.name]) ** 2)) < error, tensor.name
    assert (dequantize(reader.tensors[-1].data, reader.tensors[-1].tensor_type) == tensors["output_norm.weight"]).all()
    assert reader.fields["general.name"].contents() == "조그만 모델"
    assert reader.fields["tokenizer.ggml.tokens"].contents() == ["a", "나", "c"]
    assert reader.fields["general.file_type"].contents() == file_type


def test_the_kernels_are_those_of_the_reference(source: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    whole, tensors = source
    requantize(whole, tmp_path / "packed.gguf", "q4_k_m")
    [up] = [tensor for tensor in GGUFReader(tmp_path / "packed.gguf").tensors if tensor.name == "blk.0.ffn_up.weight"]
    assert (up.data == reference(tensors["blk.0.ffn_up.weight"], Type.Q5_0)).all()
