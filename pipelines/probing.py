"""`headrace probe`: what a dataset version is worth, found on this machine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.observed import observe
from components.common.recipes import Recipe
from components.common.sealed_store import store_of
from components.common.store import Store
from components.data.card.version import MANIFEST
from components.data.probe.weigh import PROBE
from pipelines.compile import load_pipeline
from pipelines.display import Display
from pipelines.line import only_run, output_of, run_folder
from pipelines.local_run import run_pipeline, when_stopped

_SHORTEST = 8
"""Characters of a hash that are enough."""


@dataclass(frozen=True)
class Probed:
    """What a probe came to: its record, and the pages it left."""

    record: Mapping[str, Any]
    report: Path
    evidence: Path


def run_probe(recipe: Recipe, present: str, proposed: str, environment: Environment, display: Display) -> Probed:
    """Compare two dataset versions of this machine's store by what the base model learns from them.

    Args:
        recipe: How to curate, train, ask and judge.
        present: Version in use, as NAME/HASH.
        proposed: Version with the new data.
        environment: Where the versions are.
        display: Shows how the run is getting on.

    Raises:
        UsageError: A version is not there, or the store is elsewhere.
        HeadraceError: A step failed, or another run is under way.
    """
    store = store_of(environment)
    versions = {"present": find_version(store, present), "proposed": find_version(store, proposed)}
    if not store.uri.startswith("file://"):
        given = " ".join(f"{name}={store.uri}/{version}" for name, version in versions.items())
        raise UsageError(
            f"the store of {environment.name} is not on this machine; let its cluster do it: "
            f"`headrace submit probe_data {given} probe.compare={recipe.probe.compare} -e {environment.name}`"
        )
    if versions["present"] == versions["proposed"] and recipe.probe.compare == "versions":
        raise UsageError(f"both are {versions['present']}; give another --proposed, or compare selections: --ablation")
    home = Path(environment.home)
    root = store.uri.removeprefix("file://")  # KFP's local importer takes paths
    arguments = {
        **{name: f"{root}/{version}" for name, version in versions.items()},
        "recipe": observe(recipe).parameter(),
        "environment": environment.parameter(),
    }
    with only_run(home), when_stopped(), run_folder(home, store.vault) as folder:
        with (folder / "run.log").open("w", encoding="utf-8") as log:
            run = run_pipeline(load_pipeline("probe_data"), arguments, home, log, display)
        made = output_of(run, "probe", "evidence", home, store.vault)
        evidence, report = folder / PROBE, folder / "probe.html"
        store.vault.open_file(made / PROBE, evidence)  # sealed under their own names when the run's folder is left
        store.vault.open_file(made.parent / "report", report)
    return Probed(json.loads(store.vault.read(evidence)), report, evidence)


def find_version(store: Store, asked: str) -> str:
    """Find a dataset version in the store.

    Args:
        store: The store.
        asked: `NAME/HASH`, with or without `datasets/` before it; eight characters of the hash do.

    Returns:
        `datasets/NAME/HASH`.

    Raises:
        UsageError: There is none, or several.
    """
    known = sorted(key.removesuffix(f"/{MANIFEST}") for key in store.list("datasets/") if key.endswith(f"/{MANIFEST}"))
    name, _, digest = asked.removeprefix("datasets/").rpartition("/")
    found = [key for key in known if len(digest) >= _SHORTEST and name and key.startswith(f"datasets/{name}/{digest}")]
    if len(found) == 1:
        return found[0]
    short = (f"{key.removeprefix('datasets/')[: -64 + _SHORTEST]}" for key in known)
    problem = f"{len(found)} dataset versions" if found else "no dataset version"
    listed = ", ".join(short) or "none yet; `headrace run` makes one"
    raise UsageError(f"{asked!r} names {problem} of {store.uri}; write NAME/HASH; there are: {listed}")
