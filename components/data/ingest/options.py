"""Options of data/ingest."""

from pydantic import Field

from components.common.options import Options
from components.data.sources import Confidentiality, Source


class Ingest(Options):
    """What to read, and how much of it."""

    sources: list[Source] = Field(default_factory=list, description="Declared sources, read in this order.")
    code_files_per_package: int = Field(
        16,
        ge=0,
        description="Most Python files taken from one installed package; which ones depends on their paths only.",
    )
    max_file_bytes: int = Field(1_000_000, ge=1, description="Text files larger than this are left out and counted.")
    max_binary_bytes: int = Field(
        32_000_000, ge=1, description="PDF and office files larger than this are left out and counted."
    )
    max_record_bytes: int = Field(
        16_000_000, ge=1, description="Lines, rows, tickets and mails longer than this are left out and counted."
    )
    max_confidentiality: Confidentiality = Field(
        "internal",
        description="Ceiling: what is more confidential stays where it is. A recipe sets `data.max_confidentiality`.",
    )
    max_quarantined_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of bad input, by records, above which the step fails.",
    )
    observed: str = Field(
        "", description="State of the sources when `headrace run` began, so that a cached step notices a change."
    )
