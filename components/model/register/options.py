"""Options of model/register."""

from pydantic import Field

from components.common.options import Options


class Register(Options):
    """What the model version is called and what its card says about its use."""

    name: str = Field(
        "assistant",
        description="Name of the model; its versions live in the store under models/<name>/.",
        pattern=r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$",
    )
    intended_use: str = Field(
        "Answering short questions about the documents it was tuned on.",
        description="One or two sentences for the model card: what the model is for, and what it is not for.",
    )
    intended_use_ko: str = Field("", description="The same in Korean; empty: the card says it in English only.")
    languages: list[str] = Field(["en"], description="BCP-47 languages for the model card.")
    recipe: str = Field("", description="Digest of the recipe that made the model; the plan fills it in.")
