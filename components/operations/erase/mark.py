"""Mark the InferenceServices that serve, or may go back to, a model trained on what was erased."""

import json
from pathlib import Path

from components.common import tombstones
from components.common.environment import Environment
from components.common.keys import subject_key
from components.common.sealed_store import store_of
from components.release.manifest import Manifest
from components.release.notes import ERASURE, NotedServices, edited, note, noted, unless_same
from components.release.services import InferenceServices


def mark(environment: Environment, case: str) -> list[dict[str, str]]:
    """Mark every service that mentions a model version which the case lists; marking it again changes nothing.

    Args:
        environment: Whose services.
        case: The case.

    Returns:
        The services marked, with the model versions.

    Raises:
        HeadraceError: The services cannot be seen or changed.
    """
    records = tombstones.records(store_of(environment), subject_key(environment), case)
    models = {model for record in records for model in record["models"]}
    if not models or not _serves_anything(environment):
        return []
    backend = _backend(environment)
    marked = []
    for name in backend.names():
        seen = backend.get(name)
        served = _served(seen, models) if seen else []
        if served:
            backend.change(name, lambda current: _with_mark(current, case))
            marked.append({"service": name, "namespace": backend.namespace, "models": ", ".join(served)})
    return marked


def make_sure_of_services(environment: Environment) -> None:
    """See the services before anything is erased, rather than fail to mark them afterwards.

    Raises:
        HeadraceError: They cannot be seen; a laptop's plane must run if anything was ever published on it.
    """
    if _serves_anything(environment):
        _backend(environment).names()


def _backend(environment: Environment) -> InferenceServices | NotedServices:
    services = InferenceServices(environment.serving)
    return services if environment.serving.mode == "plane" else NotedServices(services)


def _serves_anything(environment: Environment) -> bool:
    """Whether a laptop's plane has services, running or not; a cluster is asked."""
    if environment.serving.mode != "plane":
        return True
    return any((Path(environment.home) / "plane" / "services").glob("*.json"))


def _served(service: Manifest, models: set[str]) -> list[str]:
    said = json.dumps({field: value for field, value in service.items() if field != "status"})
    return sorted(model for model in models if model.rpartition("/")[2] in said)


def _with_mark(seen: Manifest | None, case: str) -> Manifest:
    assert seen is not None
    wanted = edited(seen)
    cases = [one for one in note(seen, ERASURE).split(",") if one]
    noted(wanted, erasure=",".join(sorted({*cases, case})))
    return unless_same(seen, wanted)
