"""InferenceServices behind a Kubernetes API: the plane's on a laptop, a cluster's elsewhere."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release.manifest import API_VERSION, Manifest

_GROUP, _VERSION = API_VERSION.split("/")
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
        self.namespace = serving.namespace
        self._serving = serving
        self._api = client.CustomObjectsApi(client.ApiClient(configuration(serving)))

    def get(self, name: str) -> Manifest | None:
        """Return a service as it is now, None if there is none."""
        try:
            return self._call(self._api.get_namespaced_custom_object, name=name)
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise self._refusal(error) from error

    def names(self) -> list[str]:
        """Return the names of the namespace's services, sorted."""
        try:
            listed = self._call(self._api.list_namespaced_custom_object)
        except client.ApiException as error:
            raise self._refusal(error) from error
        return sorted(item["metadata"]["name"] for item in listed["items"])

    def change(self, name: str, edit: Callable[[Manifest | None], Manifest]) -> Manifest:
        """Change a service from what it is now to what `edit` makes of it; nothing is written if that is the same.

        Args:
            name: Name of the service.
            edit: From the service seen (None: there is none) to the service wanted. It is called again when somebody
                else was faster.

        Returns:
            The service as it is stored.

        Raises:
            HeadraceError: The API refuses, or others change the service without end.
        """
        for attempt in range(_ATTEMPTS):
            seen = self.get(name)
            wanted = edit(seen)
            if wanted == seen:
                return wanted
            try:
                if seen is None:
                    return self._call(self._api.create_namespaced_custom_object, body=wanted)
                return self._call(self._api.replace_namespaced_custom_object, name=name, body=wanted)
            except client.ApiException as error:
                if error.status != 409:
                    raise self._refusal(error) from error
            time.sleep(0.05 * attempt)
        raise HeadraceError(f"InferenceService {name}: changed by others {_ATTEMPTS} times in a row; try again")

    def _call(self, method: Callable[..., Any], **arguments: Any) -> Any:
        try:
            return method(_GROUP, _VERSION, self.namespace, "inferenceservices", **arguments)
        except urllib3.exceptions.HTTPError as error:
            if self._serving.mode == "plane":
                raise HeadraceError("the serving plane is not running; start it with `headrace serve up`") from error
            host = self._api.api_client.configuration.host
            raise HeadraceError(f"the Kubernetes API at {host} does not answer: {error}") from error

    def _refusal(self, error: client.ApiException) -> HeadraceError:
        try:
            message = json.loads(error.body)["message"]
        except (TypeError, ValueError, KeyError):
            message = f"{error.status} {error.reason}"
        return HeadraceError(f"the serving API in namespace {self.namespace} says: {message}")


def configuration(serving: Serving) -> client.Configuration:
    """Say how the environment's API is reached: its address, or the kubeconfig's, or the pod's own.

    Raises:
        HeadraceError: No API is configured and none is found.
    """
    found = client.Configuration()
    if serving.api:
        found.host = serving.api
    else:
        # The client library reads KUBECONFIG once, when it is imported, and prints a warning where there is no file.
        file = Path(os.environ.get("KUBECONFIG", "~/.kube/config")).expanduser()
        try:
            if file.exists() or "KUBERNETES_SERVICE_HOST" not in os.environ:
                config.load_kube_config(str(file), serving.context or None, found)
            else:
                config.load_incluster_config(found)
        except (config.ConfigException, yaml.YAMLError) as error:
            message = f"no Kubernetes API: {error}; set serving.api of the environment or KUBECONFIG"
            raise HeadraceError(" ".join(message.split())) from error
    found.retries = False
    return found
