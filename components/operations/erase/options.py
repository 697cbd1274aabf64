"""Options of operations/erase."""

from pydantic import Field

from components.common.options import Options


class Erase(Options):
    """Which sealed request is carried out."""

    request: str = Field(
        pattern=r"^[0-9a-f]{16}$",
        description="Name of the sealed request in the store, as `headrace erase submit` prints it.",
    )
