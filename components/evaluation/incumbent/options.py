"""Options of evaluation/incumbent."""

from pydantic import Field

from components.common.options import Options
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.redteam.options import Redteam
from components.evaluation.retrieval.options import Retrieval
from components.evaluation.serving import NOTHING


class Incumbent(Options):
    """How the model that serves now is compared with the candidate."""

    coverage: float = Field(
        1.0,
        description="Least share of the questions on which the serving version was scored when it was released; below "
        "it, it is asked those that are missing.",
        ge=0,
        le=1,
    )
    service: str = Field("", description="Name of the InferenceService; the plan fills it in.")


class Comparing(Incumbent):
    """What the comparison is given: the recipe's part, what was found to serve, and how the evaluations ask."""

    benchmark: Benchmark = Field(default=Benchmark(), description="The recipe's `evaluation.benchmark`.")
    retrieval: Retrieval = Field(default=Retrieval(), description="The recipe's `evaluation.retrieval`.")
    redteam: Redteam = Field(default=Redteam(), description="The recipe's `evaluation.redteam`.")
    version: str = Field(NOTHING, description="`name/version` that serves, or `none`; the pipeline fills it in.")
