"""Options of model/merge."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Merge(Options):
    """How adapter and base become one model."""

    precision: Literal["bf16", "fp32"] = Field("bf16", description="Precision in which the merged weights are stored.")
    quantization: Literal["q8_0", "q6_k", "q5_k_m", "q4_k_m"] = Field(
        "q8_0",
        description="Bits of the weights in the GGUF file for llama.cpp, as it names them; fewer are smaller and less "
        "exact.",
    )
    measure_tokens: int = Field(
        512,
        description="Tokens of English and Korean text over which the quantized weights are compared with the merged "
        "ones; 0 compares none.",
        ge=0,
    )
