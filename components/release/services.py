"""InferenceServices behind a Kubernetes API: the plane's on a laptop, a cluster's elsewhere.

An API server may restart in the middle of a rollout: what is read is asked for again for a while, and nothing is
written twice without reading first, because the answer may be lost and not the change.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release.manifest import API_VERSION, PREFIX, Manifest

FIELD_MANAGER = PREFIX
"""Who changed a field, in an object's `managedFields`."""

_GROUP, _VERSION = API_VERSION.split("/")
_PLURAL = "inferenceservices"
_ATTEMPTS = 10
_TIMEOUT = (5, 30)
"""Seconds to connect, and to wait for an answer."""
_FIRST_PATIENCE, _PATIENCE = 2.0, 30.0
"""Seconds that an API may be away: at first, where it is more likely a wrong address, and once it has answered."""
_AWAY = (429, 500, 502, 503, 504)
_NEEDS_CANARY = (
    "KServe here is too old for canaries in Standard mode: they need 0.21 or newer with its resource definition"
)


class Refused(HeadraceError):
    """The API said no."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status beside the sentence."""
        super().__init__(message)
        self.status = status


class Unanswered(HeadraceError):
    """The API did not answer, or could not say what became of the request."""


class Api:
    """A Kubernetes API: faults as sentences with a next step, and reads that outlive its restart."""

    def __init__(self, serving: Serving) -> None:
        """Connect; nothing is sent yet.

        Args:
            serving: Where models are served.

        Raises:
            HeadraceError: No API is configured and none is found, or the kubeconfig is wrong.
        """
        self.namespace = serving.namespace
        self.client = client.ApiClient(configuration(serving))
        self._on_plane = serving.mode == "plane"
        self._answered = False

    def read(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method that only reads; asked again while the API is away.

        Raises:
            Refused: The API says no.
            Unanswered: It stays away.
        """
        patience = 0.0 if self._on_plane else _PATIENCE if self._answered else _FIRST_PATIENCE
        end, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                return self.call(method, *arguments, **options)
            except Unanswered:
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
            pause = min(2.0, pause * 2)

    def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method once.

        Raises:
            Refused: The API says no.
            Unanswered: It does not answer, and what it has done is not known.
        """
        try:
            answer = method(*arguments, **{"_request_timeout": _TIMEOUT, **options})
        except client.ApiException as error:
            if not error.status:  # The client library's way to say that TLS failed.
                raise self._untrusted(error.reason.split("] ")[-1]) from error
            self._answered = True
            raise self._refusal(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise self._unanswered(error) from error
        self._answered = True
        return answer

    def _unanswered(self, error: Exception) -> HeadraceError:
        if self._on_plane:
            return Unanswered("the serving plane is not running; start it with `headrace serve up`")
        host = self.client.configuration.host
        return Unanswered(
            f"the Kubernetes API at {host} does not answer ({_cause(error)}); "
            "check the address in the kubeconfig, the network and the VPN, and run again: nothing is done twice"
        )

    def _untrusted(self, why: str) -> HeadraceError:
        return Refused(
            0,
            f"the certificate of the Kubernetes API at {self.client.configuration.host} is not accepted ({why}); put "
            "its authority into certificate-authority-data of the kubeconfig, and compare the clocks (`date`)",
        )

    def _refusal(self, error: client.ApiException) -> HeadraceError:
        said, status = _said(error), error.status or 0
        if self._on_plane:
            return Refused(status, f"the serving API in namespace {self.namespace} says: {said}")
        host = self.client.configuration.host
        if "failed calling webhook" in said:
            return Unanswered(f"{said}; an admission webhook is down: look at kserve-controller-manager and run again")
        if status in _AWAY:
            return Unanswered(f"the Kubernetes API at {host} is not able to answer now ({status}: {said}); run again")
        return Refused(status, _sentence(status, said, host))


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
        try:
            return self.api.read(self._objects.get_namespaced_custom_object, *self._where, name)
        except Refused as error:
            if error.status == 404 and f'"{name}"' in str(error):
                return None
            raise

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
        end = time.monotonic() + _PATIENCE
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


def check_accepted(sent: Manifest, accepted: Manifest) -> None:
    """Compare what was sent with what the API server would store.

    An API server before 1.25 drops without a word what its resource definition does not know.

    Raises:
        HeadraceError: Something would be lost; names it.
    """
    lost = list(_lost(sent, accepted, ""))
    if any(field == "spec.canary" or field.startswith("spec.canary[") for field in lost):
        raise HeadraceError(f"{_NEEDS_CANARY}; the API server would drop {', '.join(lost)}")
    if lost:
        raise HeadraceError(
            f"the API server would drop {', '.join(lost)}: KServe here does not know the field; upgrade KServe, or "
            "leave the option that asks for it at its default"
        )


def _lost(sent: Any, accepted: Any, path: str) -> Iterator[str]:
    if isinstance(sent, dict) and isinstance(accepted, dict):
        for field, value in sent.items():
            where = f"{path}.{field}" if path else field
            if where == "metadata.managedFields":
                continue  # the server's own book-keeping
            if field in accepted:
                yield from _lost(value, accepted[field], where)
            elif value and where not in ("status", "metadata"):
                yield where
    elif isinstance(sent, list) and isinstance(accepted, list):
        for position, (one, other) in enumerate(zip(sent, accepted, strict=False)):
            yield from _lost(one, other, f"{path}[{position}]")
        if len(sent) > len(accepted):
            yield path


def _said(error: client.ApiException) -> str:
    """Return the API's own words."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.body or error.reason).strip() or str(error.status)


def _sentence(status: int, said: str, host: str) -> str:
    if status == 401:
        return (
            f"the Kubernetes API at {host} does not accept who you are ({said}): the token is wrong, has expired, or "
            "is not valid yet by the server's clock; log in again, check the context, and compare the clocks (`date`)"
        )
    if "exceeded quota" in said:
        return f"{said}; lower the resources in the recipe, or ask for a larger quota"
    if "denied the request" in said:
        return f"{said}; change what the webhook objects to"
    if status == 403:
        return f"{said}; bind a role that allows it, and check with `kubectl auth can-i`"
    if status == 404 and ("404 page not found" in said or "could not find the requested resource" in said):
        return (
            f"the Kubernetes API at {host} knows no InferenceService of {API_VERSION}: KServe's resource definitions "
            "are missing or too old; install KServe 0.21 or newer, or choose another context"
        )
    if status == 404 and said.startswith("namespaces "):
        return f"{said}; create the namespace, or correct serving.namespace of the environment"
    if 'unknown field "spec.canary' in said:
        return f"{_NEEDS_CANARY}; it says: {said}"
    return f"the Kubernetes API at {host} says: {said}"


def _cause(error: BaseException) -> str:
    """Return the innermost reason, without the address of a Python object."""
    while inner := getattr(error, "reason", None) or error.__cause__:
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = getattr(error, "strerror", None) or str(error.args[-1] if error.args else error)
    return " ".join(str(text).split(">: ")[-1].split())


def configuration(serving: Serving) -> client.Configuration:
    """Say how the environment's API is reached: its address, or the kubeconfig's, or the pod's own.

    Raises:
        HeadraceError: No API is configured and none is found.
    """
    found = client.Configuration()
    found.retries = False
    if serving.api:
        found.host = serving.api
        return found
    # The client library looks at KUBECONFIG when it is imported only.
    named = os.environ.get("KUBECONFIG", "")
    files = [Path(file) for file in named.split(os.pathsep) if file] or [Path.home() / ".kube" / "config"]
    existing = [str(file) for file in files if file.is_file()]
    try:
        if existing:
            config.load_kube_config(os.pathsep.join(existing), serving.context or None, client_configuration=found)
        elif named:
            raise HeadraceError(f"no Kubernetes API: KUBECONFIG names {named}, which is no file; correct or unset it")
        else:
            config.load_incluster_config(client_configuration=found)
    except config.ConfigException as error:
        if existing:
            wanted = f"context {serving.context!r} of the environment: " if serving.context else ""
            raise HeadraceError(
                f"{', '.join(existing)}: {wanted}{error}; choose a context with `kubectl config use-context` or "
                "serving.context of the environment"
            ) from error
        raise HeadraceError(
            f"no Kubernetes API: there is no {files[0]}, and this is no pod with a service account ({error}); set "
            "KUBECONFIG, or serving.api of the environment"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise HeadraceError(
            f"{', '.join(existing)} is not a usable kubeconfig: {' '.join(str(error).split())}"
        ) from error
    return found
