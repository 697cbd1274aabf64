"""What a service needs beside it on a cluster: a disruption budget, a network policy, and an account that exists.

Both objects are applied on the server's side and belong to the InferenceService, so they go when it goes.
"""

import re
from typing import Any

from kubernetes import client

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.release.api import Api, Refused
from components.release.manifest import Manifest
from components.release.publish.options import Publish
from components.release.services import FIELD_MANAGER, InferenceServices

_PODS = "serving.kserve.io/inferenceservice"
_NAMESPACE = "kubernetes.io/metadata.name"
_KNATIVE = "knative-serving"
_METADATA = [("169.254.169.252/32", 987), ("169.254.169.252/32", 988), ("169.254.169.254/32", 80)]
"""GKE's metadata server, where Workload Identity gives out tokens (Google's documentation on network policies)."""


def companions(
    service: Manifest, options: Publish, environment: Environment, policy_api: str = "policy/v1"
) -> list[Manifest]:
    """Render what goes beside an InferenceService.

    Args:
        service: The service as it is stored.
        options: Who talks to its pods.
        environment: Where the gateway and Prometheus are, and where models are stored.
        policy_api: Which version of disruption budgets the cluster knows.

    Raises:
        UsageError: It is not known where requests come from.
    """
    budget = {"apiVersion": policy_api, "kind": "PodDisruptionBudget"}
    # One pod at a time, never none: a node with a service's only replica could not be drained otherwise.
    rendered = [_beside(service, {**budget, "spec": {"maxUnavailable": 1, "selector": _pods(service)}})]
    if options.network.policy:
        policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
        rendered.append(_beside(service, {**policy, "spec": _network(service, options, environment)}))
    return rendered


def accompany(environment: Environment, options: Publish) -> None:
    """Apply a service's companions on a cluster; without the service, and on the plane, there is nothing to do.

    Raises:
        HeadraceError: The API refuses.
    """
    if environment.serving.mode == "plane":
        return
    services = InferenceServices(environment.serving)
    service = services.get(options.name)
    if service is None:
        return
    policies = services.api.read(client.PolicyApi(services.api.client).get_api_group)
    for companion in companions(service, options, environment, policies.preferred_version.group_version):
        _apply(services.api, companion)


def check_account(environment: Environment) -> None:
    """Check that the pods' service account exists.

    Raises:
        HeadraceError: It does not.
    """
    account, namespace = environment.serving.service_account, environment.serving.namespace
    if not account:
        return
    api = Api(environment.serving)
    try:
        api.read(client.CoreV1Api(api.client).read_namespaced_service_account, account, namespace)
    except Refused as error:
        if error.status != 404:
            raise
        raise HeadraceError(
            f"namespace {namespace} has no service account {account}, which the predictors run as; apply the "
            "manifests of "
            f"environment {environment.name}, or correct its serving.service_account"
        ) from error


def check_callers(options: Publish, environment: Environment) -> list[str]:
    """Return the namespaces that may call the pods; none where no policy is wanted.

    Raises:
        UsageError: It is not known where requests come from.
    """
    if not options.network.policy:
        return []
    callers = _callers(options, environment)
    if not callers:
        raise UsageError(
            f"environment {environment.name} names no serving.parent_gateway, so it is not known who calls the "
            "pods; set it or publish.network.ingress_namespaces, or turn publish.network.policy off"
        )
    return callers


def _apply(api: Api, companion: Manifest) -> None:
    metadata = companion["metadata"]
    plural = {"PodDisruptionBudget": "poddisruptionbudgets", "NetworkPolicy": "networkpolicies"}[companion["kind"]]
    # The client's typed methods know merge patches only.
    api.call(
        api.client.call_api,
        f"/apis/{companion['apiVersion']}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}",
        "PATCH",
        query_params=[("fieldManager", FIELD_MANAGER), ("force", "true")],
        header_params={"Content-Type": "application/apply-patch+yaml"},
        body=companion,
        response_type="object",
        auth_settings=["BearerToken"],
    )


def _beside(service: Manifest, companion: Manifest) -> Manifest:
    metadata = service["metadata"]
    owner = {
        "apiVersion": service["apiVersion"],
        "kind": service["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    labels = {"app.kubernetes.io/name": metadata["name"], "app.kubernetes.io/managed-by": "headrace"}
    described = {
        "name": f"{metadata['name']}-predictor",
        "namespace": metadata["namespace"],
        "labels": labels,
        "ownerReferences": [owner],
    }
    return {**companion, "metadata": described}


def _pods(service: Manifest) -> Manifest:
    return {"matchLabels": {_PODS: service["metadata"]["name"], "component": "predictor"}}


def _network(service: Manifest, options: Publish, environment: Environment) -> Manifest:
    callers = check_callers(options, environment)
    names: list[dict[str, Any]] = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    https = [{"protocol": "TCP", "port": 443}]
    egress: list[Manifest] = [{"ports": names}]
    if options.network.egress:
        egress.append({"ports": https, "to": [{"ipBlock": {"cidr": cidr}} for cidr in options.network.egress]})
    if environment.store.startswith("gs://"):
        egress += [
            {"ports": [{"protocol": "TCP", "port": port}], "to": [{"ipBlock": {"cidr": cidr}}]}
            for cidr, port in _METADATA
        ]
    ingress: Manifest = {"from": [{"namespaceSelector": {"matchLabels": {_NAMESPACE: name}}} for name in callers]}
    if environment.serving.mode != "knative":  # whose proxy stands before the model server, on ports of its own
        ingress["ports"] = [{"protocol": "TCP", "port": options.probes.port}]
    return {
        "podSelector": _pods(service),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [ingress],
        "egress": egress,
    }


def _callers(options: Publish, environment: Environment) -> list[str]:
    """Return the namespaces that requests and scrapes come from; none while no gateway is known."""
    gateways = {environment.serving.parent_gateway.partition("/")[0], *options.network.ingress_namespaces} - {""}
    if not gateways:
        return []
    # http://NAME.NAMESPACE.svc:PORT
    scraper = re.match(r"https?://[^./]+\.([^.:/]+)\.svc\b", environment.prometheus)
    if scraper:
        gateways.add(scraper[1])
    if environment.serving.mode == "knative":
        gateways.add(_KNATIVE)
    return sorted(gateways)
