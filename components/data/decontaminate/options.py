"""Options of data/decontaminate."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from components.common.options import Files, Options

DECONTAMINATION = "decontamination.json"
"""What was done, beside the documents: data/mix hands it on to the dataset's card."""


class EvaluationSet(Options):
    """Questions that a model will be judged by, and where their words stand."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$", description="What reports and the card call it.")
    location: Annotated[str, Files()] = Field(
        min_length=1,
        description="JSON Lines or Parquet: a file, or a folder of them, as a path, `file://` or `gs://`. The "
        "documents of another run (its held-out questions) are such a folder.",
    )
    question: str = Field(
        "question",
        min_length=1,
        description="Field of the question, or of the only text; dots descend. Records with `messages` need none.",
    )
    answer: str = Field("", description="Field of the answer or answers; dots descend. Empty: there is none.")


class Decontaminate(Options):
    """Which questions must not be trained on, and how they are found."""

    sets: list[EvaluationSet] = Field([], description="Evaluation sets.")
    ngram: int = Field(
        13,
        ge=5,
        le=50,
        description="Words in a row that give a question or answer away; two Chinese, Japanese or Korean characters "
        "are one.",
    )
    min_words: int = Field(
        8, ge=3, le=50, description="Fewest words that are looked for: shorter questions stand everywhere."
    )
    remove: Literal["passage", "document"] = Field(
        "passage", description="What goes: the passage with `window` characters around it, or the whole document."
    )
    window: int = Field(
        200, ge=0, description="Characters that go on each side of a passage; what is left between two is as long."
    )
    max_passages: int = Field(10, ge=1, description="Passages beyond which the whole document goes.")
    max_documents: int = Field(
        10,
        ge=1,
        description="Documents that may have the same words before they count as a common phrase and stay; a question "
        "with its answer is never one.",
    )
    observed: str = Field(
        "", description="State of the sets when `headrace run` began, so that a cached step notices a change."
    )

    @field_validator("sets")
    @classmethod
    def _have_names_of_their_own(cls, value: list[EvaluationSet]) -> list[EvaluationSet]:
        names = [one.name for one in value]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two sets are called {twice[0]}; give each a name of its own")
        return value
