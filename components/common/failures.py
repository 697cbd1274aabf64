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


def leave(store: Store, environment: str, failure: Failure) -> None:
    """Leave word of a failure; a later one of the same run takes its place."""
    store.write(_key(environment), canonical(asdict(failure)))


def collect(store: Store, environment: str) -> Failure | None:
    """Take the word that a failed step of this run left, if one did."""
    key = _key(environment)
    if not store.exists(key):
        return None
    failure = Failure(**json.loads(store.read(key)))
    store.delete(key)
    return failure


def _key(environment: str) -> str:
    """Where word is left: by workflow in a pod; on a laptop one run is under way at a time."""
    found = _WORKFLOW.match(os.environ.get("KFP_POD_NAME", ""))
    return f"notifications/{environment}/failures/{found[1] if found else 'here'}.json"
