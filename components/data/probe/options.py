"""Options of data/probe."""

from typing import Literal

from pydantic import Field

from components.common.options import Options
from components.data.curate.options import Curate
from components.evaluation.benchmark.options import Benchmark
from components.model.tune.options import Tune


class Cost(Options):
    """What documents of some sources cost, in the recipe's unit."""

    source: str = Field(
        "*", min_length=1, description="Id of a source, or a pattern such as `tickets/*`; the first that fits counts."
    )
    licence: float = Field(0.0, ge=0, description="Paid once for each source that the present version does not hold.")
    document: float = Field(0.0, ge=0, description="Paid for each new document: labelling, or a licence by the piece.")


class Probe(Options):
    """How two dataset versions are compared by what a model learns from them."""

    compare: Literal["versions", "selection"] = Field(
        "versions",
        description="`versions`: the present dataset version against the proposed one. `selection`: a choice by lot "
        "against `model.curate.selection`, of the same size and out of the same version, rated by withheld documents.",
    )
    seeds: int = Field(3, ge=2, description="Trainings on each side; both sides have the same seeds.")
    withheld: int = Field(
        24,
        ge=2,
        description="Most documents that no side is trained on, at most a quarter of those with facts. A fact of each "
        "is asked where selections are compared, and measures perplexity in any case.",
    )
    score: Literal["token_f1", "exact_match"] = Field(
        "token_f1", description="Which measure of correctness costs are set against."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of the intervals.")
    costs: list[Cost] = Field([Cost(document=1)], description="What documents cost; what no pattern fits is free.")
    unit: str = Field("document", min_length=1, description="One unit of the costs: an hour of labelling, a euro.")
    examples: int = Field(20, ge=0, description="Questions shown in the report.")


class Probing(Probe):
    """What the step is given: the recipe's probe, and how it curates, trains and asks."""

    curate: Curate = Field(default=Curate(), description="The recipe's `model.curate`.")
    tune: Tune = Field(default=Tune(), description="The recipe's `model.tune`; each training has a seed of its own.")
    benchmark: Benchmark = Field(default=Benchmark(), description="The recipe's `evaluation.benchmark`.")
