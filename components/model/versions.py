"""A model version: an immutable model directory that says what it was made from and is named by its content.

Beside the model it holds `MODEL_CARD.md`, `evaluation.json` and `provenance.json`. The provenance lists the SHA-256 of
every other file, and its own SHA-256 is the version: `models/<name>/<version>/` in the store.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.errors import HeadraceError
from components.common.ledger import artifact_files, canonical, sha256

BASE = "base.json"
"""Which base model a model directory is or was made from: name, origin, digest and licence."""

ADAPTER = "adapter"
"""Where a merged model keeps the adapter, for engines that load it beside an unchanged base."""

TRAINING = "training.json"
"""In an adapter: what it was trained with and how the loss went."""

ALIGNMENT = "alignment.json"
"""In an aligned adapter: how it was aligned, and what that changed."""

QUOTABLE = "quotable"
"""In what a training says of itself: whether all that was learnt from, until then, may be quoted."""

QUANTIZATION = "quantization.json"
"""In a merged model: its files for serving, and what quantizing them costs."""

CARD = "MODEL_CARD.md"
EVALUATION = "evaluation.json"
SCORES = "scores.json"
"""The score of every item that the version was evaluated on, by arm and metric."""

PROVENANCE = "provenance.json"

REGISTERED = frozenset({CARD, EVALUATION, SCORES, PROVENANCE})
"""What registration adds to a model."""


@dataclass(frozen=True)
class Origins:
    """What a model version was made from.

    Attributes:
        base: SHA-256 of the base model's source.
        dataset: SHA-256 of the dataset version's manifest, which names the version; empty for a base model.
        recipe: SHA-256 of the parts of the recipe that shaped it.
        code: Digest of the code that ran.
        ledger: Ledger entry that made the model.
    """

    base: str
    dataset: str
    recipe: str
    code: str
    ledger: str


@dataclass(frozen=True)
class ModelVersion:
    """What a model version says about itself."""

    model: str
    version: str
    origins: Origins
    evaluation: dict[str, Any]

    @property
    def key(self) -> str:
        """Where it is in the store, and what the ledger signs."""
        return f"models/{self.model}/{self.version}"


def seal(path: Path, model: str, origins: Origins) -> ModelVersion:
    """Make a model directory a version; nothing in it may change afterwards.

    Args:
        path: The model, with its card and evaluation.
        model: Name of the model.
        origins: What it was made from.
    """
    files = {name: digest for name, digest in artifact_files(path).items() if name != PROVENANCE}
    provenance = {"model": model, **vars(origins), "files": files}
    version = sha256(canonical(provenance))
    (path / PROVENANCE).write_bytes(canonical({**provenance, "version": version}))
    return ModelVersion(model, version, origins, read_json(path / EVALUATION))


def read_version(path: Path) -> ModelVersion:
    """Read what a model version says about itself, unverified.

    Raises:
        HeadraceError: The directory is no model version.
    """
    provenance = read_json(path / PROVENANCE)
    try:
        origins = Origins(**{name: provenance[name] for name in Origins.__dataclass_fields__})
        return ModelVersion(provenance["model"], provenance["version"], origins, read_json(path / EVALUATION))
    except KeyError as error:
        raise HeadraceError(f"{path / PROVENANCE} has no field {error}; register the model again") from error


def verify_version(path: Path) -> ModelVersion:
    """Read a model version and check every byte of it.

    Raises:
        HeadraceError: It is no model version, or a file was changed, added or removed.
    """
    version = read_version(path)
    provenance = read_json(path / PROVENANCE)
    named = provenance.pop("version")
    seen = {name: digest for name, digest in artifact_files(path).items() if name != PROVENANCE}
    changed = _changed(provenance["files"], seen)
    if changed:
        raise HeadraceError(f"{path}: {', '.join(changed)} changed since registration; fetch the version again")
    if sha256(canonical(provenance)) != named:
        raise HeadraceError(f"{path / PROVENANCE} changed since registration; fetch the version again")
    return version


def may_show_answers(model: str | Path) -> bool:
    """Tell whether reports may show what a model says: it may repeat what it learnt from, whatever it is asked.

    Args:
        model: A model directory; of one that nothing was trained into, and of a URL, nothing is known that forbids it.
    """
    folder = Path(model)
    records = [folder / ADAPTER / name for name in (TRAINING, ALIGNMENT)]
    learnt = all(read_json(record).get(QUOTABLE, False) for record in records if record.is_file())
    return learnt and (not (folder / BASE).is_file() or read_json(folder / BASE).get(QUOTABLE, True))


def read_json(path: Path) -> Any:
    """Read a JSON file of a model directory.

    Raises:
        HeadraceError: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise HeadraceError(f"{path.parent} holds no {path.name}; run the step that makes it") from error
    except ValueError as error:
        raise HeadraceError(f"{path} is not valid JSON; run the step that makes it again") from error


def _changed(recorded: Mapping[str, str], seen: Mapping[str, str]) -> list[str]:
    return sorted(name for name in recorded.keys() | seen.keys() if recorded.get(name) != seen.get(name))
