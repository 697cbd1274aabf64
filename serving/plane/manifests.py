"""The manifests the plane has accepted: one JSON file each, with Kubernetes' optimistic locking."""

import copy
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from serving.plane.processes import write_atomically
from serving.plane.reconcile import Manifest, Service, service_of


class Refused(Exception):
    """A request that the API answers with a Kubernetes `Status`."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        """Name the HTTP status, Kubernetes' word for it, and what a person should know."""
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


class Manifests:
    """InferenceServices by name, on disk."""

    def __init__(self, folder: Path) -> None:
        """Read what an earlier plane has stored.

        Args:
            folder: Where the files are.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        manifests = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
        manifests.sort(key=lambda manifest: manifest["metadata"]["creationTimestamp"])
        self._manifests = {service_of(manifest): manifest for manifest in manifests}
        self._version = max((int(manifest["metadata"]["resourceVersion"]) for manifest in manifests), default=0)

    def __iter__(self) -> Iterator[Manifest]:
        """Iterate over the manifests, oldest first."""
        return iter(self._manifests.values())

    @property
    def version(self) -> str:
        """Resource version of the whole list."""
        return str(self._version)

    def get(self, service: Service) -> Manifest:
        """Return a manifest.

        Raises:
            Refused: There is none (404).
        """
        try:
            return self._manifests[service]
        except KeyError:
            raise Refused(404, "NotFound", f'inferenceservices.serving.kserve.io "{service.name}" not found') from None

    def create(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Store a new manifest.

        Raises:
            Refused: The name is taken (409).
        """
        service = service_of(manifest)
        if service in self._manifests:
            message = f'inferenceservices.serving.kserve.io "{service.name}" already exists'
            raise Refused(409, "AlreadyExists", message)
        new = _plain(manifest)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        new["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
        return self._store(service, new, dry_run)

    def replace(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Store a manifest in place of the one its resource version names.

        Raises:
            Refused: There is none (404), or it has changed since it was read (409).
        """
        service = service_of(manifest)
        old, given = self.get(service), manifest["metadata"].get("resourceVersion")
        if given != old["metadata"]["resourceVersion"]:
            message = (
                f'Operation cannot be fulfilled on inferenceservices.serving.kserve.io "{service.name}": '
                "the object has been modified; please apply your changes to the latest version and try again"
            )
            raise Refused(409, "Conflict", message)
        new = _plain(manifest)
        new["metadata"] |= {field: old["metadata"][field] for field in ("uid", "creationTimestamp", "generation")}
        if new == old:
            return old
        new["metadata"]["generation"] += new["spec"] != old["spec"]
        return self._store(service, new, dry_run)

    def delete(self, service: Service) -> Manifest:
        """Remove a manifest and return it.

        Raises:
            Refused: There is none (404).
        """
        manifest = self.get(service)
        self._path(service).unlink(missing_ok=True)
        del self._manifests[service]
        self._version += 1
        return manifest

    def _store(self, service: Service, manifest: Manifest, dry_run: bool) -> Manifest:
        manifest["metadata"]["resourceVersion"] = str(self._version + 1)
        if not dry_run:
            write_atomically(self._path(service), json.dumps(manifest, indent=1, ensure_ascii=False))
            self._version += 1
            self._manifests[service] = manifest
        return manifest

    def _path(self, service: Service) -> Path:
        return self._folder / f"{service.namespace}.{service.name}.json"


def merge(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386): null removes a field, a list replaces a list."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, Mapping) else {}
    for field, value in patch.items():
        if value is None:
            merged.pop(field, None)
        else:
            merged[field] = merge(merged.get(field), value)
    return merged


def _plain(manifest: Manifest) -> Manifest:
    return copy.deepcopy({field: value for field, value in manifest.items() if field != "status"})
