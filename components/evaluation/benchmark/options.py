"""Options of evaluation/benchmark."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Benchmark(Options):
    """How base and candidate are compared on the held-out questions."""

    limit: int = Field(0, description="Most questions to ask, spread evenly over the set; 0 asks all.", ge=0)
    batch_size: int = Field(16, description="Questions answered at a time.", ge=1)
    max_new_tokens: int = Field(48, description="Longest answer in tokens.", ge=1)
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Precision of the weights while answering.")
    confidence: float = Field(0.95, description="Level of the intervals.", gt=0.5, lt=1)
    resamples: int = Field(2000, description="Bootstrap resamples behind the intervals of means.", ge=100)
    seed: int = Field(17, description="Seed of the bootstrap.", ge=0)
    examples: int = Field(20, description="Questions shown in the report.", ge=0)
    threads: int = Field(0, description="CPU threads; 0 uses all.", ge=0)
