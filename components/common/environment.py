"""The environment: where a run takes place, as opposed to what it does (the recipe).

Environments live in `pipelines/environments/<name>.yaml`. The command reads one when it submits or schedules a run and
hands it over as the run's `environment` parameter, so nothing of it is baked into compiled pipelines.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.common.errors import UsageError
from components.common.options import Options, describe_validation, read_yaml
from components.common.parameters import refuse_rewritten

KEYSET, KMS = "keyset", "gcp-kms://"
"""What `encryption` may name: a keyset among the keys, or a key in Cloud KMS by its URI."""

_KEY = r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s]+"
"""A key in Cloud KMS, by its resource name."""

ENVIRONMENTS = Path(__file__).parents[2] / "pipelines" / "environments"


class Toleration(Options):
    """A taint that pods of a pool accept, as in a pod's `tolerations`."""

    key: str = Field("", description="Taint key; empty with operator Exists tolerates everything.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="How the value is compared.")
    value: str = Field("", description="Taint value.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field("", description="Empty means all.")


class Pool(Options):
    """A group of nodes that one kind of work is kept to."""

    node_selector: dict[str, str] = Field({}, description="Labels that a node of the pool has.")
    tolerations: list[Toleration] = Field([], description="Taints that keep other work away from it.")


class Pools(Options):
    """Where pods run, so that serving, training and trying out do not take each other's nodes."""

    online: Pool = Field(default=Pool(), description="What answers users: predictors.")
    batch: Pool = Field(default=Pool(), description="Pipeline steps.")
    experiment: Pool = Field(default=Pool(), description="What may be interrupted: tuning, probing; spot nodes.")


class Size(Options):
    """What the pod of a step gets, neither less nor more."""

    cpu: str = Field("4", pattern=r"^\d+(\.\d+)?m?$", description="Processors.")
    memory: str = Field("6Gi", pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|K|M|G|T)?$", description="Memory.")


class Accelerated(Size):
    """What the pod of a step gets that computes on accelerators where it has some."""

    accelerator: str = Field("nvidia.com/gpu", min_length=1, description="What nodes call their accelerators.")
    accelerators: int = Field(0, ge=0, description="How many; 0: the step computes on processors.")


class Spread(Size):
    """What each pod of a step gets that can be spread over several, and over how many."""

    shards: int = Field(4, ge=1, le=200, description="Pods that share the work where the pipeline spreads it.")


class Sizes(Options):
    """What the heavy steps get on a cluster; model and corpus decide it, not the step."""

    deduplicate: Spread = Field(
        default=Spread(cpu="2", memory="4Gi"), description="Search for duplicates; memory grows with the corpus."
    )
    fetch: Size = Field(default=Size(), description="Download and conversion of the base model.")
    tune: Accelerated = Field(default=Accelerated(cpu="8", memory="10Gi"), description="Training.")
    align: Accelerated = Field(default=Accelerated(cpu="8", memory="10Gi"), description="Alignment with preferences.")
    merge: Size = Field(default=Size(), description="Adapter and base become one model.")
    benchmark: Accelerated = Field(default=Accelerated(), description="Base against candidate.")
    retrieval: Accelerated = Field(default=Accelerated(), description="Search, and both models with what it finds.")
    redteam: Accelerated = Field(default=Accelerated(), description="Attacks on base and candidate.")
    probe: Accelerated = Field(default=Accelerated(cpu="8", memory="10Gi"), description="Trainings of a probe.")


class Training(Options):
    """Over what a training is spread. How large a node is, `sizes.tune` says, and which nodes, `pools.experiment`."""

    nodes: int = Field(1, ge=1, le=1000, description="Nodes that train together; more than one: by Kubeflow Trainer.")
    shard: bool = Field(
        False,
        description="Spread the weights over all accelerators (FSDP), for models that one does not hold; else each has "
        "all of them.",
    )
    runtime: str = Field("torch-distributed", min_length=1, description="Name of Trainer's ClusterTrainingRuntime.")
    hours: int = Field(24, ge=1, description="Hours after which a training on several nodes is taken for stuck.")
    image: str = Field("", description="Image of the nodes; empty means that of the step which asks for them.")
    namespace: str = Field("", description="Namespace of the TrainJob; empty means that of the step.")
    service_account: str = Field("", description="Service account of the nodes; empty means that of the step.")


class Serving(Options):
    """Where models are served."""

    mode: Literal["plane", "standard", "knative"] = Field("plane", description="Who realises an InferenceService.")
    api: str = Field("", description="Kubernetes API; empty means kubeconfig or the pod's service account.")
    context: str = Field("", description="Context of the kubeconfig; empty means the current one.")
    gateway: str = Field("", description="Base URL of the gateway that clients call.")
    parent_gateway: str = Field(
        "", description="NAMESPACE/NAME of the Gateway that KServe's routes hang from; A/B tests add routes to it."
    )
    namespace: str = Field("default", description="Namespace of the InferenceService.")
    service_account: str = Field("", description="Service account of predictors, which may read models and no more.")


class Kubeflow(Options):
    """Where pipelines run: a Kubeflow Pipelines API, spoken to by the command on a person's machine or by CI."""

    host: str = Field("", description="Base URL of the KFP API; empty on a laptop, where KFP's local runner runs.")
    namespace: str = Field("", description="Profile namespace in multi-user Kubeflow; empty in single-user.")
    experiment: str = Field("headrace", description="Experiment that runs belong to.")
    service_account: str = Field("", description="Service account of runs, where a pipeline names none of its own.")
    service_accounts: dict[str, str] = Field({}, description="Service account by pipeline.")
    auth: Literal["none", "token", "cookie", "in_cluster"] = Field(
        "none",
        description="How to log in: nothing; a bearer token or a Dex/OIDC session cookie from the environment variable "
        "HEADRACE_KFP_TOKEN or HEADRACE_KFP_COOKIE; or the pod's projected token.",
    )


class Schedule(Options):
    """A recurring run."""

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,50}[a-z0-9])?$", description="Name of the recurring run.")
    pipeline: str = Field(description="Pipeline to run.")
    cron: str = Field(description="Six fields, seconds first: second minute hour day month weekday.")
    recipe: str = Field("default", description="Recipe of its runs.")
    overrides: list[str] = Field([], description="`key=value` changes to the recipe.")


class Notify(Options):
    """Who hears of a failed or held run. Addresses with secrets in them come from the secret `headrace-notify`."""

    channels: list[Literal["webhook", "email"]] = Field([], description="How; empty means the run's report only.")
    recipients: list[str] = Field([], description="E-mail addresses.")
    sender: str = Field("", description="E-mail address of the sender.")
    run_url: str = Field("", description="Link to a run in the UI, with {run} in the place of its id.")


class Policy(Options):
    """What a release must be to be promoted here."""

    after: str = Field("", description="Environment where a release must have run first; empty for the first one.")
    registries: list[str] = Field([], description="Registries that images may come from, as reference prefixes.")


class Environment(Options):
    """One place where runs take place."""

    name: str = Field(description="Name of the environment.")
    home: str = Field("", description="Folder for local state; on a laptop everything lives below it.")
    store: str = Field(description="Root of datasets, models and ledger: file:///… or gs://….")
    tracking: str = Field(description="MLflow tracking URI.")
    signing_key: str = Field(description="File of the Ed25519 key that signs the ledger's heads.")
    keys: str = Field(
        "",
        description="Folder of the other keys; empty means the folder of `signing_key`. `subjects/subjects.key` names "
        "people and what was erased, `erasure/erasure.pem` opens sealed requests; on a laptop made on first use.",
    )
    encryption: str = Field(
        "",
        pattern=f"^(|{KEYSET}|{KMS}{_KEY})$",
        description="What seals all that is derived from documents: nothing, `keyset` (`encryption/keyset.json` in the "
        "folder of keys), or `gcp-kms://projects/…/locations/…/keyRings/…/cryptoKeys/…`.",
    )
    cmek: str = Field(
        "",
        pattern=f"^(|{_KEY})$",
        description="Key that Cloud Storage encrypts new objects with, `projects/…/cryptoKeys/…`; empty means the "
        "bucket's own.",
    )
    release: str = Field("", description="The release that runs here, a folder of pipelines/releases; set by promote.")
    recipe: str = Field("default", description="Recipe of runs that name none.")
    overrides: list[str] = Field([], description="`key=value` changes to every recipe here: thresholds, sizes.")
    serving: Serving = Field(default=Serving(), description="Where models are served.")
    pools: Pools = Field(default=Pools(), description="Which nodes pods run on.")
    sizes: Sizes = Field(default=Sizes(), description="What the heavy steps get.")
    training: Training = Field(default=Training(), description="Over what a training is spread.")
    prometheus: str = Field("", description="Base URL of the Prometheus that scrapes the predictors.")
    kubeflow: Kubeflow = Field(default=Kubeflow(), description="Where pipelines run.")
    schedules: list[Schedule] = Field([], description="Recurring runs.")
    notify: Notify = Field(default=Notify(), description="Who hears of trouble.")
    policy: Policy = Field(default=Policy(), description="What a release must be to run here.")

    def parameter(self) -> dict[str, Any]:
        """Return what a run is given: all but what only the submitting command needs.

        A new release pointer, schedule or API address so leaves every cache of the steps as it is.
        """
        return self.model_dump(
            mode="json", exclude={"release", "recipe", "overrides", "kubeflow", "schedules", "policy"}
        )

    def workplace(self) -> dict[str, Any]:
        """Return what a step that only reads and makes artifacts is given.

        Another gateway, port or pool so leaves its cache as it is.
        """
        return self.model_dump(
            mode="json", include={"name", "home", "store", "tracking", "signing_key", "keys", "encryption", "cmek"}
        )

    def trainplace(self) -> dict[str, Any]:
        """Return what a training is given: where it is spread over more than a pod has by itself, over what, too.

        What is trained depends on that, so it belongs into its cache.
        """
        if self.training == Training():
            return self.workplace()
        return self.workplace() | self.model_dump(
            mode="json", include={"training": True, "sizes": {"tune"}, "pools": {"experiment"}}
        )


def environment_file(name: str) -> Path:
    """Find the file of an environment, given by its name or by the file's path.

    Raises:
        UsageError: There is no such environment.
    """
    path = Path(name) if name.endswith(".yaml") else ENVIRONMENTS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in ENVIRONMENTS.glob("*.yaml")))
        raise UsageError(f"there is no environment {name!r}; known: {known}, or a .yaml file")
    return path


def load_environment(name: str = "local", home: Path | None = None) -> Environment:
    """Read an environment and resolve its `{home}` references.

    Args:
        name: Name of a file in `pipelines/environments` without `.yaml`, or the path of another one with it.
        home: Folder for local state; `.headrace` in the working folder by default.

    Raises:
        UsageError: There is no such environment, or a field is wrong.
    """
    path = environment_file(name)
    folder = str((home or Path(".headrace")).resolve())
    if "python3" in folder or "{{" in folder:
        raise UsageError(f"{folder}: KFP's local runner rewrites 'python3' and '{{{{' in paths; use another folder")
    blocked = next(place for place in (Path(folder), *Path(folder).parents) if place.exists())
    if not blocked.is_dir():
        raise UsageError(f"{blocked} is a file; choose another folder for local state")
    fields = _fill(read_yaml(path) or {}, folder)
    if not isinstance(fields, dict):
        raise UsageError(f"{path}: an environment is a mapping of fields (store, tracking, signing_key, serving)")
    refuse_rewritten(fields, str(path))
    try:
        return Environment(**{"name": path.stem, **fields})
    except ValidationError as error:
        raise UsageError(f"{path}: {describe_validation(error)}") from error


def _fill(value: Any, home: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, home) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    # SQLAlchemy decodes %XX in the file name of a URI and ends it at ?.
    escaped = home.replace("%", "%25").replace("?", "%3F") if value.startswith("sqlite:") else home
    return value.replace("{home}", escaped)
