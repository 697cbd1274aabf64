"""InferenceServices behind a Kubernetes API: the plane's on a laptop, a cluster's elsewhere.

An API server may restart in the middle of a rollout: what is read is asked for again for a while, and nothing is
written twice without reading first, because the answer may be lost and not the change.
"""

import time
from collections.abc import Callable

from kubernetes import client

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release.api import PATIENCE, Api, Refused, Unanswered, check_accepted
from components.release.manifest import API_VERSION, PREFIX, Manifest

FIELD_MANAGER = PREFIX
"""Who changed a field, in an object's `managedFields`."""

_GROUP, _VERSION = API_VERSION.split("/")
_PLURAL = "inferenceservices"
_ATTEMPTS = 10


class InferenceServices:
    """The InferenceServices of one namespace."""

    def __init__(self, serving: Serving) -> None:
        """Connect to the environment's API; nothing is sent yet.

        Args:
            serving: Where models are served.

        Raises:
            HeadraceError: No API is configured and none is found.
        """
        self.api = Api(serving)
        self.namespace = serving.namespace
        self._on_plane = serving.mode == "plane"
        self._objects = client.CustomObjectsApi(self.api.client)
        self._where = (_GROUP, _VERSION, self.namespace, _PLURAL)

    def get(self, name: str) -> Manifest | None:
        """Return a service as it is now, None if there is none."""
        return self.api.find(self._objects.get_namespaced_custom_object, *self._where, name)

    def names(self) -> list[str]:
        """Return the names of the namespace's services, sorted."""
        listed = self.api.read(self._objects.list_namespaced_custom_object, *self._where)
        return sorted(item["metadata"]["name"] for item in listed["items"])

    def change(self, name: str, edit: Callable[[Manifest | None], Manifest]) -> Manifest:
        """Change a service from what it is now to what `edit` makes of it; nothing is written if that is the same.

        A cluster is asked first what it would make of the change, so that what it refuses or drops is an error before
        anything has changed.

        Args:
            name: Name of the service.
            edit: From the service seen (None: there is none) to the service wanted. It is called again when somebody
                else was faster.

        Returns:
            The service as it is stored.

        Raises:
            HeadraceError: The API refuses, others change the service without end, or it is being deleted.
        """
        trouble: HeadraceError | None = None
        end = time.monotonic() + PATIENCE
        for attempt in range(_ATTEMPTS):
            seen = self._settled(name, end)
            wanted = edit(seen)
            if wanted == seen:
                return wanted
            try:
                return self._write(name, seen, wanted)
            except Unanswered as error:
                if self._on_plane:
                    raise
                trouble = error
            except Refused as error:
                if error.status != 409:
                    raise
                trouble = None
            time.sleep(0.05 * attempt)
        raise trouble or HeadraceError(
            f"InferenceService {name}: changed by others {_ATTEMPTS} times in a row; try again"
        )

    def _settled(self, name: str, end: float) -> Manifest | None:
        """Return a service that nobody is deleting."""
        while True:
            seen = self.get(name)
            since = (seen or {}).get("metadata", {}).get("deletionTimestamp")
            if not since:
                return seen
            if time.monotonic() > end:
                waiting = ", ".join((seen or {})["metadata"].get("finalizers") or ["its owner's deletion"])
                raise HeadraceError(
                    f"InferenceService {name} has been going since {since} and waits for {waiting}; look at "
                    "kserve-controller-manager, and publish again when the service is gone"
                )
            time.sleep(0.5)

    def _write(self, name: str, seen: Manifest | None, wanted: Manifest) -> Manifest:
        arguments: tuple[str, ...] = self._where
        method = self._objects.create_namespaced_custom_object
        if seen is not None:
            method, arguments = self._objects.replace_namespaced_custom_object, (*self._where, name)
        options = {"body": wanted, "field_manager": FIELD_MANAGER}
        if not self._on_plane:
            accepted = self.api.call(method, *arguments, **options, dry_run="All", field_validation="Strict")
            check_accepted(wanted, accepted)
        return self.api.call(method, *arguments, **options)
