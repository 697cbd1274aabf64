"""A Kubernetes API: faults as sentences with a next step, and reads that outlive its restart."""

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

Manifest = dict[str, Any]

_TIMEOUT = (5, 30)
"""Seconds to connect, and to wait for an answer."""
_FIRST_PATIENCE, PATIENCE = 2.0, 30.0
"""Seconds that an API may be away: at first, where it is more likely a wrong address, and once it has answered."""
_AWAY = (429, 500, 502, 503, 504)
_NO_KSERVE = (
    "knows no InferenceService of serving.kserve.io/v1beta1: KServe's resource definitions are missing or too old; "
    "install KServe 0.21 or newer, or choose another context"
)
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

    def __init__(self, serving: Serving, missing: str = _NO_KSERVE) -> None:
        """Connect; nothing is sent yet.

        Args:
            serving: Where the API and the namespace are.
            missing: What it means when the API does not know a resource.

        Raises:
            HeadraceError: No API is configured and none is found, or the kubeconfig is wrong.
        """
        self.namespace = serving.namespace
        self.client = client.ApiClient(configuration(serving))
        self._on_plane = serving.mode == "plane"
        self._missing = missing
        self._answered = False

    def read(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call a method that only reads; asked again while the API is away.

        Raises:
            Refused: The API says no.
            Unanswered: It stays away.
        """
        patience = 0.0 if self._on_plane else PATIENCE if self._answered else _FIRST_PATIENCE
        end, pause = time.monotonic() + patience, 0.1
        while True:
            try:
                return self.call(method, *arguments, **options)
            except Unanswered:
                if time.monotonic() + pause > end:
                    raise
            time.sleep(pause)
            pause = min(2.0, pause * 2)

    def find(self, method: Callable[..., Any], *where: str) -> Any:
        """Read an object by where it is, its name last; None if there is none.

        Raises:
            Refused: The API says no, or knows no such objects at all.
            Unanswered: It stays away.
        """
        try:
            return self.read(method, *where)
        except Refused as error:
            if error.status == 404 and f'"{where[-1]}"' in str(error):
                return None
            raise

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
        return Refused(status, _sentence(status, said, host, self._missing))


def check_accepted(sent: Manifest, accepted: Manifest, owner: str = "KServe") -> None:
    """Compare what was sent with what the API server would store.

    An API server before 1.25 drops without a word what its resource definition does not know.

    Args:
        sent: What was sent.
        accepted: What would be stored.
        owner: Whose resource definition it is.

    Raises:
        HeadraceError: Something would be lost; names it.
    """
    lost = list(_lost(sent, accepted, ""))
    if any(field == "spec.canary" or field.startswith("spec.canary[") for field in lost):
        raise HeadraceError(f"{_NEEDS_CANARY}; the API server would drop {', '.join(lost)}")
    if lost:
        raise HeadraceError(
            f"the API server would drop {', '.join(lost)}: {owner} here does not know the field; upgrade {owner}, or "
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


def _sentence(status: int, said: str, host: str, missing: str) -> str:
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
        return f"the Kubernetes API at {host} {missing}"
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
