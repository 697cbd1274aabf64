"""Options of data/curate."""

from typing import Literal

from pydantic import Field, model_validator

from components.common.options import Options
from components.data.sources import Confidentiality

Selection = Literal["random", "varied", "scored"]


class Weights(Options):
    """What counts for how much where candidates are scored; each of the three lies between 0 and 1."""

    quality: float = Field(1.0, description="The document's quality, and an answer of words that are new.", ge=0)
    difficulty: float = Field(1.0, description="How rare the answer is among those to the same kind of question.", ge=0)
    diversity: float = Field(1.0, description="How little it is like what is chosen already.", ge=0)

    @model_validator(mode="after")
    def _something_counts(self) -> "Weights":
        if not self.quality + self.difficulty + self.diversity:
            raise ValueError("all weights are 0; give one of them a weight, or take selection: random")
        return self


class PolicyShare(Options):
    """How much of the safety policy (components/data/policy) is trained on."""

    share: float = Field(
        0.0,
        description="Share of the training pairs that show how to refuse, to refer to a professional, and to answer "
        "what only looks dangerous; 0 adds none. There are 268, so that a large share may not be reached.",
        ge=0,
        lt=1,
    )
    languages: list[Literal["en", "ko"]] = Field(["en", "ko"], description="Languages of the examples.", min_length=1)


class Curate(Options):
    """How questions and answers are derived from documents and chosen."""

    facts: int = Field(60, description="Most facts to teach and to ask about.", ge=1)
    minimum: int = Field(20, description="Fewest facts worth training on; with fewer the step fails.", ge=1)
    wordings: int = Field(2, description="Training wordings of each question; one more is held out.", ge=1, le=3)
    answer_words: int = Field(
        12, description="Most words in an answer; a Chinese, Japanese or Korean character is one.", ge=1
    )
    turns: int = Field(60, description="Most answers out of dialogues to train on, with what was said before.", ge=0)
    turn_words: int = Field(120, description="Most words in an answer out of a dialogue.", ge=1)
    policy: PolicyShare = Field(default=PolicyShare(), description="Examples of the safety policy.")
    outsiders: int = Field(
        24,
        description="Facts that are set aside and not trained on, by which evaluation/redteam tells what a model "
        "remembers of those that are; fewer if the documents hold no more.",
        ge=0,
    )
    selection: Selection = Field(
        "varied",
        description="`random`: by lot. `varied`: by lot, each kind and language in turn, new answers and documents "
        "first. `scored`: each kind and language in turn, by `weights`.",
    )
    weights: Weights = Field(default=Weights(), description="Of selection `scored`.")
    max_confidentiality: Confidentiality = Field(
        "internal",
        description="Ceiling: of what is more confidential nothing is taught, whatever recipe made the dataset. A "
        "recipe sets `data.max_confidentiality`.",
    )
    seed: int = Field(0, description="Seed of the selection and of the order.", ge=0)
