"""Options of data/ingest."""

from pydantic import Field

from components.common.options import Options
from components.data.sources import Source


class Ingest(Options):
    """What to read, and how much of it."""

    sources: list[Source] = Field(default_factory=list, description="Declared sources, read in this order.")
    code_files_per_package: int = Field(
        16,
        ge=0,
        description="Most Python files taken from one installed package; which ones depends on their paths only.",
    )
    max_file_bytes: int = Field(1_000_000, ge=1, description="Files larger than this are left out and counted.")
    stop_on_unreadable: bool = Field(
        False,
        description="Fail at the first file that cannot be read, instead of counting and naming it in the report.",
    )
    observed: str = Field(
        "", description="Fingerprint of the sources when the run was submitted, so that a cached step notices a change."
    )
