"""Run one step on its own, without a pipeline: `headrace step`."""

import contextlib
import importlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl.python_component import PythonComponent

from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.recipes import apply_override

STEPS = Path(__file__).parents[1] / "components"
_ENVELOPE = ("metrics", "report")


def step_names() -> list[str]:
    """Every step as `area/name`."""
    return sorted("/".join(path.parent.relative_to(STEPS).parts) for path in STEPS.glob("*/*/component.py"))


def load_steps(name: str) -> dict[str, PythonComponent]:
    """Import the components of a step folder, the folder's own first.

    Raises:
        UsageError: There is no such step.
    """
    if name not in step_names():
        raise UsageError(f"there is no step {name!r}; known: {', '.join(step_names())}")
    module = importlib.import_module(f"components.{name.replace('/', '.')}.component")
    found = {key: value for key, value in vars(module).items() if isinstance(value, PythonComponent)}
    own = name.rpartition("/")[2]
    return dict(sorted(found.items(), key=lambda item: item[0] != own))


def describe_step(name: str) -> str:
    """Say what a step does and how to call it on its own."""
    described = []
    for component in load_steps(name).values():
        specification = component.component_spec
        artifacts = _artifacts(component)
        flags = [f"--in {key}=DIR" for key in specification.inputs or {} if key in artifacts]
        flags += [f"--out {key}=DIR" for key in specification.outputs or {} if key in artifacts]
        described.append(f"{specification.description}\n\n  headrace step {name} {' '.join(flags)} [--set key=value …]")
    return "\n\n".join(described)


def run_single(
    name: str,
    inputs: Mapping[str, Path],
    outputs: Mapping[str, Path],
    options: Mapping[str, Any],
    environment: Environment,
) -> dict[str, Any]:
    """Run one step.

    Args:
        name: `area/name`.
        inputs: Artifact directories to read, by name.
        outputs: Directories to write, by name.
        options: The step's options; those left out take their defaults.
        environment: Where the step takes place.

    Returns:
        The step's metrics.

    Raises:
        UsageError: The step is unknown, or the artifacts given are not the ones it takes.
    """
    component = _choose(name, set(inputs) | set(outputs))
    specification = component.component_spec
    told = [key for key in specification.inputs or {} if key not in {*_artifacts(component), "options", "environment"}]
    if told:
        raise UsageError(f"step {name} is told {', '.join(told)} by its pipeline; it cannot run on its own")
    wanted_inputs = [key for key in specification.inputs or {} if key not in ("options", "environment")]
    wanted_outputs = [key for key in specification.outputs or {} if key not in (*_ENVELOPE, "Output")]
    _match("--in", wanted_inputs, inputs, name)
    _match("--out", [key for key in wanted_outputs if key in _artifacts(component)], outputs, name)
    for key, path in inputs.items():
        if not path.is_dir():
            raise UsageError(f"--in {key}={path}: there is no such directory")
    for key, path in outputs.items():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UsageError(f"--out {key}={path}: exists already; remove it or choose another folder")
    first = next(iter(outputs.values()))
    first.parent.mkdir(parents=True, exist_ok=True)
    beside = {
        "metrics": dsl.Metrics(name="metrics", uri=str(first.with_name(f"{first.name}.metrics.json").resolve())),
        "report": dsl.HTML(name="report", uri=str(first.with_name(f"{first.name}.html").resolve())),
    }
    artifacts: dict[str, Any] = {
        key: dsl.Artifact(name=key, uri=str(path.resolve())) for key, path in {**inputs, **outputs}.items()
    }
    for key in inputs:
        if specification.inputs[key].is_artifact_list:
            artifacts[key] = [artifacts[key]]
    place = environment.model_dump(mode="json")
    with contextlib.redirect_stdout(_Unmarked()):
        component.python_func(**artifacts, **beside, options=dict(options), environment=place)
    return json.loads(Path(beside["metrics"].path).read_text("utf-8"))


def parse_pairs(pairs: Sequence[str], option: str) -> dict[str, str]:
    """Split `name=value` arguments.

    Raises:
        UsageError: One has no `=`.
    """
    parsed = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} {pair!r}: write name=value")
        parsed[name] = value
    return parsed


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Read `--set key=value` arguments; values are YAML, dots descend."""
    options: dict[str, Any] = {}
    for pair in pairs:
        apply_override(options, pair)
    return options


class _Unmarked(io.TextIOBase):
    """What a step prints, as standard error, without the lines that are meant for whoever drives a run."""

    def __init__(self) -> None:
        self._line = ""

    def write(self, text: str) -> int:
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if not line.startswith("::"):
                print(line, file=sys.stderr)
        return len(text)


def _choose(name: str, given: set[str]) -> PythonComponent:
    steps = list(load_steps(name).values())
    return next((step for step in steps if _artifacts(step) == given), steps[0])


def _artifacts(component: PythonComponent) -> set[str]:
    specification = component.component_spec
    slots = {**(specification.inputs or {}), **(specification.outputs or {})}
    return {key for key, slot in slots.items() if "@" in slot.type and key not in _ENVELOPE}


def _match(option: str, wanted: Sequence[str], given: Mapping[str, Path], name: str) -> None:
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    if missing or unknown:
        shape = " ".join(f"{option} {key}=DIR" for key in wanted) or f"no {option}"
        problem = f"{missing[0]} is missing" if missing else f"{unknown[0]} is none of its artifacts"
        raise UsageError(f"step {name}: {problem}; it takes {shape}")
