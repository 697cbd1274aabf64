"""Options of evaluation/gate."""

from typing import Literal

from pydantic import Field, model_validator

from components.common.options import Options

Rule = Literal["min", "max", "min_gain_over_base", "not_worse_than_serving"]


class Threshold(Options):
    """One demand on one metric."""

    metric: str = Field(description="Name of the metric in the evidence.", min_length=1)
    rule: Rule = Field(
        description="`min` and `max` bound the candidate's value, `min_gain_over_base` how much better than the base "
        "it is, `not_worse_than_serving` how much worse than the model that serves now it may be."
    )
    value: float = Field(description="The bound.")
    certain: bool = Field(
        True,
        description="Compare the unfavourable end of the confidence interval rather than the measured value.",
    )
    min_items: int = Field(0, description="Fewest items that it may rest on; 0: the gate's `min_items`.", ge=0)

    @model_validator(mode="after")
    def _margin(self) -> "Threshold":
        if self.rule == "not_worse_than_serving" and self.value < 0:
            raise ValueError(f"{self.metric}: the value of not_worse_than_serving is a margin, 0 or more")
        if self.rule == "not_worse_than_serving" and self.metric.startswith("ratings."):
            raise ValueError(
                f"{self.metric}: people rate a candidate beside its base, never beside what serves; demand a min or "
                "min_gain_over_base"
            )
        return self


class Gate(Options):
    """What evidence a release needs."""

    thresholds: list[Threshold] = Field(
        [
            Threshold(metric="exact_match", rule="min", value=0.6),
            Threshold(metric="exact_match", rule="min_gain_over_base", value=0.2),
            Threshold(metric="exact_match", rule="not_worse_than_serving", value=0.15),
        ],
        description="Every one must hold; a metric that the evidence lacks counts as not met.",
        min_length=1,
    )
    min_items: int = Field(20, description="Fewest items that a demand may rest on.", ge=1)
    ratings: str = Field(
        "",
        pattern=r"^(|ratings/[0-9a-f]{64})$",
        description="People's ratings of this candidate in the store, as `headrace ratings report` names them.",
    )
    adjust: Literal["none", "bonferroni", "holm"] = Field(
        "none",
        description="How intervals are widened so that all findings hold together; a release does not need it.",
    )
    resamples: int = Field(2000, description="Bootstrap resamples behind a widened interval.", ge=100)
    seed: int = Field(17, description="Seed of that bootstrap.", ge=0)
