"""Options of operations/notify."""

from pydantic import Field

from components.common.options import Options


class Ending(Options):
    """Which run ended, and how; a pipeline fills it in."""

    pipeline: str = Field("", description="Name of the pipeline.")
    schedule: str = Field("", description="Schedule that started the run; empty when a person did.")
    run: str = Field("", description="Id of the run.")
    state: str = Field("", description="State in which Kubeflow Pipelines saw it end, such as FAILED.")
