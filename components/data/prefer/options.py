"""Options of data/prefer."""

from typing import Literal

from pydantic import Field

from components.common.options import Options
from components.data.decontaminate.options import Decontaminate
from components.data.sources import Confidentiality


class Prefer(Options):
    """Where preferences come from: feedback in the dataset, and answers made wrong on purpose."""

    most: int = Field(240, description="Most preferences: feedback first, then what is made; each drawn by lot.", ge=1)
    rating_gap: int = Field(
        1,
        description="Least difference between the ratings of two answers to a question that makes them a pair.",
        ge=1,
        le=4,
    )
    wrong_answers: bool = Field(
        True,
        description="Make pairs whose rejected answer is the answer to another question of the same kind, language and "
        "licence.",
    )
    formats: list[Literal["json", "table"]] = Field(
        ["json"],
        description="Formats in which facts are also asked; the rejected answer violates the format. Answers that "
        "have a format of their own are broken whatever is asked for here.",
    )
    max_confidentiality: Confidentiality = Field(
        "internal",
        description="Ceiling: of what is more confidential nothing is taught, whatever recipe made the dataset. A "
        "recipe sets `data.max_confidentiality`.",
    )
    decontaminate: Decontaminate = Field(
        default=Decontaminate(),
        description="Evaluation sets that feedback must not give away, beside the line's own held-out questions; a "
        "pipeline takes it from `data.decontaminate`.",
    )
    seed: int = Field(0, description="Seed of the draws.", ge=0)
