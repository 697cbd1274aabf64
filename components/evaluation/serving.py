"""What serves now, and how a candidate compares with it: what `incumbent` hands to the gate."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common.errors import HeadraceError
from components.common.ledger import canonical
from components.evaluation.evidence import Evidence
from components.model.versions import read_json

SERVING = "serving.json"

NOTHING = "none"
"""Stands for the version where nothing serves: Kubeflow Pipelines carries no empty text everywhere."""


@dataclass(frozen=True)
class Serving:
    """A candidate against the model that serves now.

    Attributes:
        version: `name/version` of the model; `none` when nothing serves.
        sentence: What it was compared with, or why not.
        evidence: Metrics whose base is the serving model, with the scores of both.
        asked: How the candidate was asked, as a digest by task; a later release compares only what is asked alike.
    """

    version: str = NOTHING
    sentence: str = "nothing serves yet"
    evidence: Evidence = field(default_factory=lambda: Evidence(0.95, []))
    asked: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return what the verdict remembers."""
        return {**self._found(), **self.evidence.record()}

    def write(self, folder: Path) -> None:
        """Write `serving.json`, and the evidence beside it."""
        (folder / SERVING).write_bytes(canonical(self._found()))
        self.evidence.write(folder)

    def _found(self) -> dict[str, Any]:
        return {"version": self.version, "sentence": self.sentence, "asked": dict(self.asked)}

    @classmethod
    def read(cls, folder: Path) -> "Serving":
        """Read back what `write` wrote.

        Raises:
            HeadraceError: A file is missing, or is not of that form.
        """
        written = read_json(folder / SERVING)
        try:
            return cls(written["version"], written["sentence"], Evidence.read(folder), written["asked"])
        except (KeyError, TypeError) as error:
            raise HeadraceError(f"{folder / SERVING} says not what serves; run evaluation/incumbent again") from error
