"""Options of data/card."""

from pydantic import Field

from components.common.options import Options


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
