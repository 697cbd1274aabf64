"""Options of a longer context."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Needles(Options):
    """Whether facts are found again in long texts, asked before and after training."""

    on: bool = Field(True, description="Ask, where the context is stretched.")
    lengths: list[float] = Field(
        [0.5, 1.0], description="Lengths of the texts, as shares of `max_length`.", min_length=1
    )
    depths: list[float] = Field(
        [0.0, 0.25, 0.5, 0.75, 1.0],
        description="Where in them the fact stands: 0 at the beginning, 1 at the end.",
        min_length=1,
    )
    repeats: int = Field(1, description="Facts for each language, length and depth.", ge=1)
    confidence: float = Field(0.95, description="Level of the intervals.", gt=0.5, lt=1)
    seed: int = Field(17, description="Seed of the facts, and of where in the documents the texts begin.", ge=0)


class Context(Options):
    """How far a model can look back."""

    method: Literal["none", "linear", "dynamic", "yarn", "alibi"] = Field(
        "none",
        description="How rotary positions are stretched: `linear` (position interpolation, Chen et al. 2023, arXiv "
        "2306.15595), `dynamic` (NTK-aware, only beyond the base's length; llama.cpp does not know it), `yarn` (Peng "
        "et al. 2023, 2309.00071). `alibi` lengthens a model whose attention falls with distance (Press et al. 2021, "
        "2108.12409): Bloom, MPT and some Falcons.",
    )
    factor: float = Field(2.0, description="How many times as long the context becomes.", gt=1)
    needles: Needles = Field(default=Needles(), description="Whether facts are found again in long texts.")

    @property
    def on(self) -> bool:
        """Whether the context is stretched at all."""
        return self.method != "none"
