"""Options of data/parse."""

from typing import Literal

from pydantic import Field

from components.common.options import Options


class Parse(Options):
    """How documents become clean text with their structure kept."""

    table_rows: int = Field(
        500, ge=1, description="Most rows of a table in one document; the rest is left out and counted."
    )
    code: Literal["whole", "symbols"] = Field(
        "whole", description="Source files as they are, or a document for each function and class."
    )
    cpu_seconds: float = Field(
        30, gt=0, description="Processor time for one document; a parser that takes more is stopped."
    )
    memory_mib: int = Field(1024, ge=256, description="Address space of the process that parses.")
    unpacked_mib: int = Field(256, ge=1, description="Most that an office document may unpack to.")
    max_characters: int = Field(
        16_000_000, ge=1, description="Longest text that a document may become; more is taken for a bomb."
    )
    max_quarantined_share: float = Field(
        0.1, ge=0, le=1, description="Share of documents that cannot be parsed above which the step fails."
    )
