"""Options of release/publish."""

from typing import Literal

from pydantic import Field, model_validator

from components.common.options import Options

_SIGNALS = {
    "none": ("requests",),
    "hpa": ("cpu", "memory"),
    "keda": ("requests", "tokens"),
    "knative": ("requests",),
}


class Scaling(Options):
    """How the number of replicas follows the load of a cluster. A canary keeps `replicas`, as KServe wants."""

    autoscaler: Literal["none", "hpa", "keda", "knative"] = Field(
        "none",
        description="none: always `replicas`; hpa (cpu, memory) and keda (requests, tokens) in Standard mode; knative "
        "(requests) in Knative mode.",
    )
    max_replicas: int = Field(1, ge=1, description="Replicas at most; at least are `replicas`.")
    signal: Literal["requests", "tokens", "cpu", "memory"] = Field(
        "requests",
        description="What the target is about: requests waiting or being answered, tokens (of prompt and answer) of "
        "those requests, or per cent of the processors or memory asked for.",
    )
    target: int = Field(8, ge=1, description="Of the signal, per replica.")

    @model_validator(mode="after")
    def _can_follow(self) -> "Scaling":
        if self.signal not in (known := _SIGNALS[self.autoscaler]):
            raise ValueError(f"signal: {self.autoscaler} follows {' or '.join(known)}, not {self.signal}")
        if self.signal in ("cpu", "memory") and self.target > 100:
            raise ValueError(f"target: {self.target} is more than 100 per cent of the {self.signal}")
        return self


class Placement(Options):
    """Which nodes of a cluster a revision's pods run on."""

    pool: Literal["online", "experiment"] = Field("online", description="One of the environment's pools.")
    zones: Literal["any", "prefer", "require"] = Field(
        "prefer", description="Spread over zones: not at all, where possible, or else wait for a node."
    )
    priority_class: str = Field("", description="Priority class of the pods; empty means the cluster's default.")


class Probes(Options):
    """How a cluster finds out whether a model server is alive; large models load for minutes."""

    ready_path: str = Field("/v2/health/ready", pattern="^/", description="Answers 200 once the model is loaded.")
    live_path: str = Field("/v2/health/live", pattern="^/", description="Answers 200 while the server lives.")
    port: int = Field(8080, ge=1, le=65535, description="Port of the model server.")
    start_seconds: int = Field(
        900, ge=10, le=86400, description="Loading may take so long; after that the container is started anew."
    )


class Network(Options):
    """Who a revision's pods talk to on a cluster."""

    policy: bool = Field(True, description="Write a NetworkPolicy for the service's pods.")
    ingress_namespaces: list[str] = Field(
        [],
        description="Namespaces that may call the pods, besides those of the environment's parent_gateway and "
        "prometheus.",
    )
    egress: list[str] = Field(
        ["199.36.153.4/30", "199.36.153.8/30"],
        description="Networks that the pods may reach by HTTPS, to fetch the model; these are Google's private "
        "addresses for its APIs. Names are always resolved.",
    )


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
    gpus: int = Field(0, ge=0, description="GPUs (nvidia.com/gpu) of a predictor.")
    replicas: int = Field(1, ge=1, description="Replicas that each revision has at least; the plane always runs one.")
    arguments: list[str] = Field([], description="Further command-line arguments of the model server.")
    runtime: str = Field(
        "",
        pattern=r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
        description="ServingRuntime of a cluster, such as headrace-vllm on GPUs; empty means the one for the format.",
    )
    encrypted: bool = Field(
        False, description="On a cluster, serve the version's encrypted copy, which `headrace models encrypt` makes."
    )
    read_only_root: bool = Field(
        True, description="On a cluster the model server's files cannot be changed, but for /tmp."
    )
    scaling: Scaling = Field(default=Scaling(), description="Replicas on a cluster.")
    placement: Placement = Field(default=Placement(), description="Nodes of a cluster.")
    probes: Probes = Field(default=Probes(), description="Health on a cluster.")
    network: Network = Field(default=Network(), description="Who talks to the pods on a cluster.")

    @model_validator(mode="after")
    def _room_to_grow(self) -> "Publish":
        if self.scaling.autoscaler != "none" and self.scaling.max_replicas < self.replicas:
            raise ValueError(f"scaling.max_replicas: {self.scaling.max_replicas} is less than replicas {self.replicas}")
        return self
