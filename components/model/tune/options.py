"""Options of model/tune."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Tune(Options):
    """How the low-rank adapter is trained."""

    epochs: int = Field(10, description="Passes over the pairs.", ge=1)
    learning_rate: float = Field(2e-3, description="Peak learning rate.", gt=0)
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="Decay after the warm-up.")
    warmup: float = Field(0.05, description="Share of the steps over which the learning rate rises.", ge=0, lt=1)
    batch_size: int = Field(8, description="Pairs per optimizer step.", ge=1)
    max_length: int = Field(
        256, description="Longest pair in tokens, chat template included; longer ones are left out and counted.", ge=16
    )
    rank: int = Field(16, description="Rank of the adapter's matrices, on every linear layer.", ge=1)
    alpha: int = Field(32, description="Scale of the adapter: its product is multiplied by alpha / rank.", ge=1)
    dropout: float = Field(0.0, description="Share of the adapter's inputs dropped in training.", ge=0, lt=1)
    precision: Literal["bf16", "fp32"] = Field("bf16", description="Precision of the frozen base weights.")
    seed: int = Field(17, description="Seed of the adapter's initial weights and of the order of the pairs.", ge=0)
    threads: int = Field(
        0,
        description="CPU threads; 0 uses all. The same number gives the same bytes, another one the same quality.",
        ge=0,
    )
    experiment: str = Field("headrace", description="MLflow experiment that records the run.", min_length=1)
