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

ENVIRONMENTS = Path(__file__).parents[2] / "pipelines" / "environments"


class Serving(Options):
    """Where models are served."""

    mode: Literal["plane", "standard", "knative"] = Field("plane", description="Who realises an InferenceService.")
    api: str = Field("", description="Kubernetes API; empty means kubeconfig or the pod's service account.")
    gateway: str = Field("", description="Base URL of the gateway that clients call.")
    namespace: str = Field("default", description="Namespace of the InferenceService.")


class Environment(Options):
    """One place where runs take place."""

    name: str = Field(description="Name of the environment.")
    home: str = Field("", description="Folder for local state; on a laptop everything lives below it.")
    store: str = Field(description="Root of datasets, models and ledger: file:///… or gs://….")
    tracking: str = Field(description="MLflow tracking URI.")
    signing_key: str = Field(description="File of the Ed25519 key that signs the ledger's heads.")
    serving: Serving = Field(default=Serving(), description="Where models are served.")


def load_environment(name: str = "local", home: Path | None = None) -> Environment:
    """Read an environment and resolve its `{home}` references.

    Args:
        name: Name of a file in `pipelines/environments` without `.yaml`, or the path of another one with it.
        home: Folder for local state; `.headrace` in the working folder by default.

    Raises:
        UsageError: There is no such environment, or a field is wrong.
    """
    path = Path(name) if name.endswith(".yaml") else ENVIRONMENTS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in ENVIRONMENTS.glob("*.yaml")))
        raise UsageError(f"there is no environment {name!r}; known: {known}, or a .yaml file")
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
