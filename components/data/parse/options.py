"""Options of data/parse."""

from pydantic import Field

from components.common.options import Options


class Parse(Options):
    """How documents become clean text with their structure kept."""

    table_rows: int = Field(
        500, ge=1, description="Most rows of a CSV in one document; the rest is left out and counted."
    )
