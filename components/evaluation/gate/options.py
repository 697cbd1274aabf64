"""Options of evaluation/gate."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Threshold(Options):
    """One demand on one metric."""

    metric: str = Field(description="Name of the metric in the evidence.", min_length=1)
    rule: Literal["min", "max", "min_gain_over_base"] = Field(
        description="`min` and `max` bound the candidate's value, `min_gain_over_base` its lead over the base model."
    )
    value: float = Field(description="The bound.")
    certain: bool = Field(
        False,
        description="Compare the unfavourable end of the confidence interval rather than the measured value.",
    )
    min_items: int = Field(0, description="Fewest items that it may rest on; 0: the gate's `min_items`.", ge=0)


class Gate(Options):
    """What evidence a release needs."""

    thresholds: list[Threshold] = Field(
        [
            Threshold(metric="exact_match", rule="min", value=0.6),
            Threshold(metric="exact_match", rule="min_gain_over_base", value=0.2, certain=True),
        ],
        description="Every one must hold; a metric that the evidence lacks counts as not met.",
        min_length=1,
    )
    min_items: int = Field(20, description="Fewest items that a demand may rest on.", ge=1)
