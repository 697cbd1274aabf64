"""Routes of our own on a cluster: they pin a request to a revision, or a user to a group, by a header.

KServe's HTTPRoute splits by weight only. Ours copies its host and rules and adds a header to every match, so that it is
the more specific one and wins, whatever the weights are.
"""

import copy
import re
from collections.abc import Mapping
from typing import Any

from components.release.manifest import Manifest
from components.release.notes import ASSIGNMENT, note

PIN = "x-headrace-revision"
"""Request header that names the one revision to use."""

GROUP = "x-headrace-group"
"""Request header that says which revision a user keeps: `stable` or `candidate`."""

HEADER = re.compile(r"[A-Za-z0-9][-A-Za-z0-9]*")
"""Name of a request header that may name a user."""

BY_GROUP = f"header {GROUP}"
"""The one assignment that a cluster's gateway can make sticky."""


def pin_route(manifest: Manifest, route: Mapping[str, Any] | None, gateway: str) -> dict[str, Any] | None:
    """Describe the HTTPRoute that pins.

    Args:
        manifest: The service, with its notes.
        route: KServe's HTTPRoute for it.
        gateway: NAMESPACE/NAME of the Gateway.

    Returns:
        The route; None where there is no candidate or nothing to copy from.
    """
    canaries = manifest["spec"].get("canary") or []
    if not canaries or route is None:
        return None
    metadata, stable = manifest["metadata"], manifest["spec"]["predictor"].get("name", "")
    candidate, percent = canaries[0]["predictor"]["name"], canaries[0]["trafficPercent"]
    pins = [(PIN, candidate, candidate)] + ([(PIN, stable, stable)] if stable else [])
    if percent and note(manifest, ASSIGNMENT) == BY_GROUP:
        pins += [(GROUP, "candidate", candidate), (GROUP, "stable", stable)]
    namespace, _, name = gateway.partition("/")
    parent = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": namespace, "name": name}
    owner = {
        "apiVersion": manifest["apiVersion"],
        "kind": manifest["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": pin_route_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {"app.kubernetes.io/managed-by": "headrace"},
            "ownerReferences": [owner],
        },
        "spec": {
            "hostnames": list(route["spec"].get("hostnames") or []),
            "parentRefs": [parent],
            "rules": [
                _pinned(rule, metadata["name"], header, value, revision)
                for header, value, revision in pins
                for rule in route["spec"]["rules"]
                if rule.get("backendRefs")
            ],
        },
    }


def pin_route_name(service: str) -> str:
    """Return the name of the HTTPRoute that pins requests of a service."""
    return f"{service}-pins"


def predictor_of(service: str, revision: str) -> str:
    """Return the name that KServe gives to a revision's Deployment and Service."""
    return f"{service}-{revision}-predictor" if revision else f"{service}-predictor"


def assigned_by(route: Mapping[str, Any]) -> str:
    """Return how users keep a revision by a pinning route that a gateway has accepted."""
    headers = [
        header["name"] for rule in route["spec"]["rules"] for match in rule["matches"] for header in match["headers"]
    ]
    return BY_GROUP if GROUP in headers else ""


def _pinned(rule: Mapping[str, Any], service: str, header: str, value: str, revision: str) -> dict[str, Any]:
    pinned = copy.deepcopy(dict(rule))
    exact = {"type": "Exact", "name": header, "value": value}
    matches = pinned.get("matches") or [{}]
    pinned["matches"] = [{**match, "headers": [*(match.get("headers") or []), exact]} for match in matches]
    backend = {field: item for field, item in pinned["backendRefs"][0].items() if field != "weight"}
    pinned["backendRefs"] = [{**backend, "name": predictor_of(service, revision)}]
    return pinned
