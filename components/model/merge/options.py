"""Options of model/merge."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Merge(Options):
    """How adapter and base become one model."""

    precision: Literal["bf16", "fp32"] = Field("bf16", description="Precision in which the merged weights are stored.")
