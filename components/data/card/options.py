"""Options of data/card."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Declared(Options):
    """What the card says of a declared source; the fields mean what they mean in the declaration."""

    id: str = Field(description="Name of the source.")
    class_: Literal["public", "in_house", "third_party"] = Field(alias="class", description="Whose it is.")
    owner: str = Field(description="Who answers for it.")
    license: str = Field(description="SPDX expression, or `per-item`.")
    terms: str = Field("", description="Where its terms are.")
    cadence: str = Field("once", description="How often it changes.")

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class Card(Options):
    """What a dataset version says about itself."""

    name: str = Field(
        "corpus", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Name of the dataset: lower case, digits, hyphens."
    )
    description: str = Field("Documents prepared by Headrace.", min_length=1, description="What the dataset is.")
    purpose: str = Field("Training and evaluating language models.", description="What it is meant for.")
    limits: str = Field(
        "Personal data is masked by rules, which miss some; read the counts before other uses.",
        description="What it should not be used for, and known gaps.",
    )
    owner: str = Field("unknown", min_length=1, description="Person or team that answers for it.")
    previous: str = Field(
        "",
        pattern=r"^(datasets/[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{64})?$",
        description="Version that the card compares itself with, `datasets/<name>/<hash>`. Empty: the report compares "
        "with the newest one in the store, the card with none, so that the same documents make the same version.",
    )
    sources: list[Declared] = Field(
        [],
        description="Who answers for the sources, and how often they change; a pipeline takes it from `data.ingest`.",
    )
