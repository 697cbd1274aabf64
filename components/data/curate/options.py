"""Options of data/curate."""

from pydantic import Field

from components.common.options import Options


class Curate(Options):
    """How many facts become questions, and how they are asked."""

    facts: int = Field(60, ge=1, le=100_000, description="Most facts to teach and to ask about.")
    minimum: int = Field(20, ge=1, description="Fewest facts worth training on; with fewer the step fails.")
    wordings: int = Field(2, ge=1, le=3, description="Training wordings of each question; one more is held out.")
    answer_words: int = Field(
        12, ge=1, le=200, description="Most words in an answer; a Chinese, Japanese or Korean character is one."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the selection and of the order.")
