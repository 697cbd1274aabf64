"""Why a run failed, left in the store for the step that tells people.

Kubeflow Pipelines tells an exit handler that the run failed, and nothing more. So a step that fails leaves its own
sentence under the name of the workflow that its pod belongs to, which the exit handler's pod carries too.
"""

import json
import os
import re
from dataclasses import asdict, dataclass

from components.common.ledger import canonical
from components.common.store import Store

_WORKFLOW = re.compile(r"(.+?)-(?:retry-)?system-")


@dataclass(frozen=True)
class Failure:
    """The step that failed, and the sentence it failed with."""

    step: str
    message: str


def leave(store: Store, environment: str, task: str, failure: Failure) -> None:
    """Leave word of a task's failure; that of its next attempt takes its place."""
    store.write(f"{_folder(environment)}{task}.json", canonical(asdict(failure)))


def mend(store: Store, environment: str, task: str) -> None:
    """Take back the word of a task whose next attempt succeeded."""
    key = f"{_folder(environment)}{task}.json"
    if store.exists(key):
        store.delete(key)


def read(store: Store, environment: str) -> Failure | None:
    """Return the word that the first failed step of this run left, if one did."""
    left = sorted(store.describe(_folder(environment)), key=lambda stored: (stored.written, stored.key))
    return Failure(**json.loads(store.read(left[0].key))) if left else None


def forget(store: Store, environment: str) -> None:
    """Remove what the steps of this run left, when people have been told."""
    for key in list(store.list(_folder(environment))):
        store.delete(key)


def _folder(environment: str) -> str:
    """Where word is left: by workflow in a pod; on a laptop one run is under way at a time."""
    found = _WORKFLOW.match(os.environ.get("KFP_POD_NAME", ""))
    return f"notifications/{environment}/failures/{found[1] if found else 'here'}/"
