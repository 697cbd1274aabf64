"""Options of data/mix."""

from pydantic import Field

from components.common.options import Options


class Mix(Options):
    """What share of the tokens each group of documents gets."""

    by: str = Field(
        "kind",
        pattern=r"^(kind|domain|source|language|license|confidentiality|metadata\.[\w.-]+)$",
        description="What groups documents: a column, or a key of the metadata as `metadata.<key>`.",
    )
    weights: dict[str, float] = Field(
        {},
        description="Weight of each group; `*` is the weight of each group not named. Without weights all is kept.",
    )
    tokens: int = Field(
        0, ge=0, description="Size of the mixture; 0 makes the largest one that meets the weights exactly."
    )
    repeats: int = Field(1, ge=1, le=10, description="Most times one document may appear, to fill a small group.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of the sample and of the order.")
