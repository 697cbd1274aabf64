"""How weights are held and attention is computed, as torch and transformers name it."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "bf16", "fp32"]
"""As options give it; `auto` is bf16 where this machine computes in it, else fp32."""


def resolve(precision: str) -> str:
    """Say what a precision means on this machine.

    A processor without AVX-512 or Arm's bf16 instructions multiplies matrices of bf16 some thirty times slower than
    those of fp32, and no result says so.

    Args:
        precision: `auto`, `bf16` or `fp32`.

    Returns:
        `bf16` or `fp32`.
    """
    import torch

    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    computes = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return "bf16" if computes else "fp32"


def weight_type(precision: str) -> "torch.dtype":
    """The type of weights of a precision on this machine."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[resolve(precision)]


def attention() -> str:
    """The attention to train with: sequences are short, and plain attention takes a tenth less on CPU than fused."""
    import torch

    return "sdpa" if torch.cuda.is_available() else "eager"
