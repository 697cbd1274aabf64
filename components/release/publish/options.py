"""Options of release/publish."""

from pydantic import Field

from components.common.options import Options


class Publish(Options):
    """How a model version is put in front of its users."""

    name: str = Field(
        "assistant",
        pattern="^[a-z]([-a-z0-9]{0,36}[a-z0-9])?$",
        description="Name of the InferenceService, and of the model that clients ask for.",
    )
    canary_percent: int = Field(
        10, ge=0, le=100, description="Share of the requests for a new version, when another one serves already."
    )
    deadline_seconds: int = Field(
        300, ge=1, le=86400, description="How long to wait until the version is seen to serve its share."
    )
    cpu: str = Field("1", pattern=r"^\d+(\.\d+)?m?$", description="Processors of a predictor.")
    memory: str = Field(
        "1Gi",
        pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|K|M|G|T)?$",
        description="Memory of a predictor.",
    )
    replicas: int = Field(1, ge=1, description="Replicas that each revision has at least; the plane always runs one.")
    arguments: list[str] = Field([], description="Further command-line arguments of the model server.")
