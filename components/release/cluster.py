"""What surrounds an InferenceService on a cluster: Deployments, routes, Knative revisions."""

from typing import Any

from kubernetes import client

from components.release.api import Api, Refused

_GATEWAY = ("gateway.networking.k8s.io", "v1")
_KNATIVE = ("serving.knative.dev", "v1")
_ATTEMPTS = 10


class Cluster:
    """The neighbours of the InferenceServices of one namespace."""

    def __init__(self, api: Api) -> None:
        """Use a connection.

        Args:
            api: The connection, which knows the namespace.
        """
        self.api = api
        self.core = client.CoreV1Api(api.client)
        self._apps = client.AppsV1Api(api.client)
        self._custom = client.CustomObjectsApi(api.client)
        self._routes = (*_GATEWAY, api.namespace, "httproutes")

    def deployments(self, service: str) -> list[dict[str, Any]]:
        """Return the Deployments that KServe made for a service."""
        selector = f"serving.kserve.io/inferenceservice={service}"
        found = self.api.read(self._apps.list_namespaced_deployment, self.api.namespace, label_selector=selector)
        return self.api.client.sanitize_for_serialization(found.items)

    def revisions(self, service: str) -> list[dict[str, Any]]:
        """Return the Knative revisions of a service."""
        selector = f"serving.knative.dev/service={service}-predictor"
        where = (*_KNATIVE, self.api.namespace, "revisions")
        return self.api.read(self._custom.list_namespaced_custom_object, *where, label_selector=selector)["items"]

    def route(self, name: str) -> dict[str, Any] | None:
        """Return an HTTPRoute, None if there is none."""
        return found(self.api, self._custom.get_namespaced_custom_object, *self._routes, name)

    def apply_route(self, name: str, wanted: dict[str, Any] | None) -> None:
        """Make an HTTPRoute what it should be; None removes it. Nothing is written if it is so already.

        A gateway writes the route's status at any moment, so what was read is read again where it has changed.
        """
        for left in reversed(range(_ATTEMPTS)):
            seen = self.route(name)
            try:
                if wanted is None:
                    if seen:
                        found(self.api, self._custom.delete_namespaced_custom_object, *self._routes, name)
                elif seen is None:
                    self.api.call(self._custom.create_namespaced_custom_object, *self._routes, wanted)
                elif seen["spec"] != wanted["spec"]:
                    version = {"resourceVersion": seen["metadata"]["resourceVersion"]}
                    body = {**wanted, "metadata": {**wanted["metadata"], **version}}
                    self.api.call(self._custom.replace_namespaced_custom_object, *self._routes, name, body)
                return
            except Refused as error:
                if error.status != 409 or not left:
                    raise


def found(api: Api, method: Any, *arguments: Any) -> Any:
    """Read or delete an object; None if there is none."""
    try:
        return api.read(method, *arguments)
    except Refused as error:
        if error.status == 404:
            return None
        raise
