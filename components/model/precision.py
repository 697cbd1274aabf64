"""How weights are held and attention is computed, as torch and transformers name it."""

import torch

PRECISIONS = {"bf16": torch.bfloat16, "fp32": torch.float32}
"""Type of weights by the name that options give it."""


def attention() -> str:
    """The attention to train with: sequences are short, and plain attention takes a tenth less on CPU than fused."""
    return "sdpa" if torch.cuda.is_available() else "eager"
