"""What a rollout must remember of a service, and where it is kept.

The plane keeps it in annotations of the InferenceService. On a cluster these would do harm: KServe copies them into
every pod template, so that pausing a rollout would restart all model servers, and in Knative mode make a new revision.
There it is kept in a ConfigMap beside the service, and shown as annotations to the functions that edit manifests.
"""

import copy
from collections.abc import Callable
from typing import Any

from kubernetes import client

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release.api import Refused
from components.release.cluster import found
from components.release.manifest import PREFIX, Manifest
from components.release.services import InferenceServices

PREVIOUS = f"{PREFIX}/previous"
"""The predictor that was stable before the last promotion."""

PAUSED = f"{PREFIX}/paused"
"""Keeps automation from giving a candidate more traffic; its value says who paused it and why."""

ASSIGNMENT = f"{PREFIX}/assignment"
"""How users keep the revision they once got: `header NAME` or `cookie`."""

INTRODUCING = f"{PREFIX}/introducing"
"""The candidate whose publication has not given it its share yet, so that a publication killed half-way goes on."""

RETURNED = f"{PREFIX}/returned"
"""The revision that the last rollback took away, where it does not stay as a candidate."""

STABLE = f"{PREFIX}/stable"
"""Knative mode: the stable predictor, while the candidate is in `spec.predictor`."""

STRAY = f"{PREFIX}/stray"
"""Knative mode: the revision that got the requests by mistake, while the stable one is being brought back."""

SCALE = f"{PREFIX}/scale"
"""Standard mode: the stable predictor's own `minReplicas` and `maxReplicas`, while the candidate is being enlarged."""

_ATTEMPTS = 10

ERASURE = f"{PREFIX}/erasure"
"""Cases whose erased records a model of the service was trained on, separated by commas."""

KEYS = (PREVIOUS, PAUSED, ASSIGNMENT, INTRODUCING, RETURNED, STABLE, STRAY, SCALE, ERASURE)


def note(manifest: Manifest, key: str) -> str:
    """Return what is remembered of a service under a key, '' if nothing is."""
    return (manifest["metadata"].get("annotations") or {}).get(key, "")


def noted(manifest: Manifest, **changes: str) -> None:
    """Change what is remembered of a manifest, in place; an empty value forgets."""
    annotations = manifest["metadata"].setdefault("annotations", {})
    for name, value in changes.items():
        key = f"{PREFIX}/{name}"
        annotations.pop(key, None)
        if value:
            annotations[key] = value


def edited(seen: Manifest) -> Manifest:
    """Return a copy of a service to edit; its status is the controller's."""
    return copy.deepcopy({field: value for field, value in seen.items() if field != "status"})


def unless_same(seen: Manifest, wanted: Manifest) -> Manifest:
    """Return the service seen if an edit changed nothing, so that nothing is written."""
    return seen if _plain(wanted) == _plain(seen) else wanted


class NotedServices:
    """InferenceServices of a cluster, each with its notes.

    The two objects cannot be written at once. What is added to the notes is written before the service, and what is
    forgotten after it; every note is read in a way that an interruption between the two does no harm.
    """

    def __init__(self, services: InferenceServices) -> None:
        """Keep the notes of a namespace's services.

        Args:
            services: The services.
        """
        self.api = services.api
        self.namespace = services.namespace
        self._services = services
        self._core = client.CoreV1Api(services.api.client)

    def names(self) -> list[str]:
        """Return the names of the namespace's services, sorted."""
        return self._services.names()

    def get(self, name: str) -> Manifest | None:
        """Return a service with its notes, None if there is none."""
        seen = self._services.get(name)
        return None if seen is None else _with_notes(seen, self._notes(self._map(name)))

    def change(self, name: str, edit: Callable[[Manifest | None], Manifest]) -> Manifest:
        """Change a service and its notes; nothing is written if they are as wanted. As `InferenceServices.change`."""
        notes: dict[str, str] = {}
        forgotten: dict[str, str] = {}
        created = False

        def plain(seen: Manifest | None) -> Manifest:
            nonlocal notes, forgotten, created
            stored = self._map(name) if seen else None
            before = self._notes(stored)
            wanted = edit(seen and _with_notes(seen, before))
            notes = {key: value for key in KEYS if (value := note(wanted, key))}
            forgotten = {key: value for key, value in before.items() if key not in notes}
            created = seen is None
            if seen and not self._write(name, seen, stored, before | notes):
                raise _disturbed(name)
            without = _without_notes(wanted)
            return seen if seen is not None and _plain(without) == _plain(seen) else without

        service = self._services.change(name, plain)
        for _ in range(_ATTEMPTS):
            stored = self._map(name)
            # What others have noted meanwhile stays; what is there before a service is made is of another one.
            kept = {key: value for key, value in self._notes(stored).items() if forgotten.get(key) != value}
            wanted = notes if created else kept
            if self._write(name, service, stored, wanted):
                return _with_notes(service, wanted)
        raise _disturbed(name)

    def _map(self, name: str) -> Any:
        return found(self.api, self._core.read_namespaced_config_map, _map_name(name), self.namespace)

    def _notes(self, stored: Any) -> dict[str, str]:
        return {f"{PREFIX}/{key}": value for key, value in ((stored and stored.data) or {}).items()}

    def _write(self, name: str, service: Manifest, stored: Any, notes: dict[str, str]) -> bool:
        """Write the notes; False if somebody else has changed them since they were read."""
        if notes == self._notes(stored):
            return True
        metadata = service["metadata"]
        owner = client.V1OwnerReference(
            api_version=service["apiVersion"], kind=service["kind"], name=metadata["name"], uid=metadata["uid"]
        )
        body = client.V1ConfigMap(
            metadata=client.V1ObjectMeta(
                name=_map_name(name),
                labels={"app.kubernetes.io/managed-by": "headrace"},
                owner_references=[owner],
                resource_version=stored.metadata.resource_version if stored else None,
            ),
            data={key.removeprefix(f"{PREFIX}/"): value for key, value in sorted(notes.items())},
        )
        try:
            if stored:
                self.api.call(self._core.replace_namespaced_config_map, _map_name(name), self.namespace, body)
            else:
                self.api.call(self._core.create_namespaced_config_map, self.namespace, body)
        except Refused as error:
            if error.status != 409:
                raise
            return False
        return True


def open_services(serving: Serving) -> InferenceServices | NotedServices:
    """Connect to the services of an environment, each with its notes; nothing is sent yet."""
    services = InferenceServices(serving)
    return services if serving.mode == "plane" else NotedServices(services)


def _map_name(service: str) -> str:
    return f"{service}-rollout"


def _disturbed(service: str) -> HeadraceError:
    return HeadraceError(
        f"{service}: somebody else changed its rollout at this moment; look at `headrace rollout status` and decide "
        "again"
    )


def _with_notes(seen: Manifest, notes: dict[str, str]) -> Manifest:
    if not notes:
        return seen
    metadata = {**seen["metadata"], "annotations": {**(seen["metadata"].get("annotations") or {}), **notes}}
    return {**seen, "metadata": metadata}


def _without_notes(manifest: Manifest) -> Manifest:
    kept = {key: value for key, value in (manifest["metadata"].get("annotations") or {}).items() if key not in KEYS}
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": kept}}


def _plain(manifest: Manifest) -> Manifest:
    annotations = manifest["metadata"].get("annotations") or {}
    content = {field: value for field, value in manifest.items() if field != "status"}
    return {**content, "metadata": {**manifest["metadata"], "annotations": annotations}}
