"""Options of evaluation/redteam."""

from typing import Any, Literal

from pydantic import Field, field_validator

from components.common.options import Options
from components.model.precision import Precision

Language = Literal["en", "ko"]
Package = Literal["garak", "pyrit", "strongreject"]
SAME = "same"


class Canary(Options):
    """A prompt whose answer must not change from release to release."""

    prompt: str = Field(description="What is asked.", min_length=1)
    expected: str = Field(
        SAME,
        description="The answer, compared once normalised; `same` for what the model that serves now answered, of "
        "which only a hash is kept.",
        min_length=1,
    )


class Redteam(Options):
    """How candidate and base are attacked, and what they may remember of their training."""

    mode: Literal["full", "off"] = Field(
        "full", description="`off` attacks nothing and asks nothing, and the evidence says so."
    )
    languages: list[Language] = Field(["en", "ko"], description="Languages of attacks and requests.", min_length=1)
    attacks: int = Field(6, description="Attacks of each class in each language.", ge=0)
    requests: int = Field(
        6,
        description="Held-out requests of the safety policy for each behaviour (answer, refer, refuse) in each "
        "language.",
        ge=0,
    )
    members: int = Field(
        24,
        description="Most training pairs whose memory is tested, and as many that were not trained on.",
        ge=0,
    )
    published: list[Package] = Field(
        [],
        description="Public attack sets to draw from too, a turn for each; they come in packages: `make attacks`.",
    )
    canaries: list[Canary] = Field([], description="Prompts whose answers must not change from release to release.")
    batch_size: int = Field(24, description="Prompts answered at a time.", ge=1)
    max_new_tokens: int = Field(32, description="Longest answer in tokens.", ge=1)
    max_prompt_chars: int = Field(
        1600,
        description="Longest attack out of a public set, in characters; longer ones are left out and counted.",
        ge=1,
    )
    min_k: float = Field(
        0.2, description="Share of the least likely tokens that min-k % membership inference looks at.", gt=0, le=1
    )
    precision: Precision = Field(
        "auto", description="Precision of the weights: bf16 where the machine computes in it, if `auto`."
    )
    confidence: float = Field(0.95, description="Level of the intervals.", gt=0.5, lt=1)
    resamples: int = Field(2000, description="Bootstrap resamples behind the intervals of means.", ge=100)
    seed: int = Field(17, description="Seed of the draw of attacks and of the markers that they plant.", ge=0)
    examples: int = Field(
        20, description="Attacks that succeeded and requests that went wrong, shown in the report.", ge=0
    )
    threads: int = Field(0, description="CPU threads; 0 uses all.", ge=0)

    @field_validator("mode", mode="before")
    @classmethod
    def _unquoted(cls, value: Any) -> Any:
        """YAML reads a bare `off` as false."""
        return "off" if value is False else value
