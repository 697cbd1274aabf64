"""The environment: where a run takes place, as opposed to what it does (the recipe).

Environments live in `pipelines/environments/<name>.yaml`. The command reads one when it submits or schedules a run and
hands it over as the run's `environment` parameter, so nothing of it is baked into compiled pipelines.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from components.common.errors import UsageError
from components.common.options import Options

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
    fields = _fill(yaml.safe_load(path.read_text("utf-8")) or {}, folder)
    try:
        return Environment(**{"name": path.stem, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: {field}: {first['msg']}") from error


def _fill(value: Any, home: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, home) for key, item in value.items()}
    return value.replace("{home}", home) if isinstance(value, str) else value
