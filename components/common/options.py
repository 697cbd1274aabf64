"""The base of every step's options."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Typed, documented, immutable options of one step; unknown fields are refused.

    Defaults must not be None: Kubeflow Pipelines cannot carry it in a parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
