"""A piece of work that other processes are to do: what, on which folders, with which options."""

import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_type_hints

from components.common.environment import Environment
from components.common.errors import HeadraceError, Preempted, UsageError
from components.common.ledger import canonical
from components.common.report import Report
from components.common.step import Context, Outcome

JOB, OUTCOME, FAILURE = "job.json", "outcome.json", "failure.json"
"""Files beside a job's folders: the job, what it came to, and why it did not come to an end."""

_FAILURES: tuple[type[HeadraceError], ...] = (Preempted, UsageError, HeadraceError)
"""Errors that stay what they are from process to process; any other is the last of these."""


@dataclass(frozen=True)
class Job:
    """One call of a step's work.

    Attributes:
        work: `module:function` of the work.
        stage: `area/name` of the step.
        paths: Its artifact folders by the names of its parameters.
        outputs: Which of them it writes.
        options: Its options as plain values.
        environment: Where the run takes place, as plain values; no secret is among them.
    """

    work: str
    stage: str
    paths: Mapping[str, Path]
    outputs: tuple[str, ...]
    options: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The folders that it reads."""
        return tuple(name for name in self.paths if name not in self.outputs)

    def moved(self, folder: Path) -> Self:
        """The same job on folders of the same names below another one."""
        return dataclasses.replace(self, paths={name: folder / name for name in self.paths})

    def write(self, path: Path) -> None:
        """Write it to a file."""
        paths = {name: str(folder) for name, folder in self.paths.items()}
        path.write_bytes(canonical({**dataclasses.asdict(self), "paths": paths}))

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read it back."""
        fields = json.loads(data)
        paths = {name: Path(folder) for name, folder in fields["paths"].items()}
        return cls(**{**fields, "paths": paths, "outputs": tuple(fields["outputs"])})

    def run(self, context: type[Context] = Context) -> Outcome:
        """Do the work in this process."""
        module, _, name = self.work.partition(":")
        work: Callable[..., Outcome] = getattr(importlib.import_module(module), name)
        options = get_type_hints(work)["options"].model_validate(self.options)
        place = Environment.model_validate(self.environment)
        return work(**self.paths, options=options, context=context(self.stage, place))


def write_outcome(outcome: Outcome, path: Path) -> None:
    """Write what a job came to, its report as the page it is."""
    fields = {field.name: getattr(outcome, field.name) for field in dataclasses.fields(outcome)}
    path.write_bytes(canonical({**fields, "report": outcome.report.html()}))


def read_outcome(data: bytes) -> Outcome:
    """Read back what a job came to."""
    fields = json.loads(data)
    return Outcome(**{**fields, "report": Report.load(fields["report"])})


def write_failure(error: HeadraceError, path: Path) -> None:
    """Write why a job did not come to an end."""
    kind = next(kind for kind in _FAILURES if isinstance(error, kind))
    path.write_bytes(canonical({"kind": kind.__name__, "message": str(error)}))


def read_failure(data: bytes) -> HeadraceError:
    """Read back why a job did not come to an end."""
    said = json.loads(data)
    return {kind.__name__: kind for kind in _FAILURES}[said["kind"]](said["message"])
