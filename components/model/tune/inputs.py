"""Options of model/tune about what goes into training and how it is scored."""

from typing import Literal

from pydantic import Field

from components.common.options import Options

Order = Literal["similar", "random", "short_first"]


class Chunks(Options):
    """What happens to examples longer than `max_length`."""

    on: bool = Field(False, description="Split them; off, they are left out and counted.")
    overlap: int = Field(
        32,
        description="Tokens that a chunk repeats from the one before it, as context; they are scored once. Less than "
        "half of `max_length`.",
        ge=0,
    )


class Loss(Options):
    """What a scored token counts."""

    length_weight: float = Field(
        1.0,
        description="How much a long answer outweighs a short one: each token of an answer of n tokens counts "
        "n^(length_weight - 1). 1: every token counts the same (mean over the tokens of a step); 0: every answer does "
        "(mean of the answers' means); 0.5: the square root of its length (InternVL 2.5, arXiv 2412.05271).",
        ge=0,
        le=1,
    )
    label_smoothing: float = Field(
        0.0,
        description="Share of each target spread evenly over the vocabulary (Szegedy et al. 2016, arXiv 1512.00567).",
        ge=0,
        lt=1,
    )
