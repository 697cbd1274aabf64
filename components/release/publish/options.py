"""Options of release/publish."""

from pydantic import Field

from components.common.options import Options


class Publish(Options):
    """How a model version reaches its users."""

    name: str = Field(
        "assistant",
        pattern=r"^[a-z]([a-z0-9-]{0,40}[a-z0-9])?$",
        description="Name of the InferenceService.",
    )
    canary_percent: int = Field(10, ge=0, le=100, description="Share of traffic a new version begins with.")
    deadline_seconds: int = Field(300, ge=1, description="How long a revision may take to become ready.")
