"""The base of every step's options, and how files of settings are read and refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from components.common.errors import UsageError


class Options(BaseModel):
    """Typed, documented, immutable options of one step; unknown fields are refused.

    Defaults must not be None: Kubeflow Pipelines cannot carry it in a parameter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class Files:
    """Marks an option whose text names files: `Annotated[str, Files()]`.

    A path of a file or folder, `file://`, `gs://`, `package:NAME` or a URL; empty names none.

    Attributes:
        or_version: Whether it may name a version of the store, `models/<name>/<hash>`, instead.
    """

    or_version: bool = False


def read_yaml(path: Path) -> Any:
    """Read a YAML file.

    Raises:
        UsageError: It cannot be read or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def describe_validation(error: ValidationError) -> str:
    """Say in one line which fields are wrong and why."""
    problems = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"]) or "value"
        unknown = item["type"] == "extra_forbidden"
        problem = "there is no such field" if unknown else item["msg"].removeprefix("Value error, ")
        problems.append(f"{name}: {problem}")
    return "; ".join(problems)
