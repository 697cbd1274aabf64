"""The loop that makes what runs agree with the manifests."""

import asyncio
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.vault import Vault
from components.release.notes import ASSIGNMENT
from serving.plane import reconcile
from serving.plane.envoy import Envoy, Split, Traffic
from serving.plane.manifests import Manifests
from serving.plane.predictors import OPENED, Predictor, Runtimes
from serving.plane.reconcile import Manifest, Revision, Route, Service, Wanted

_TICK_SECONDS = 1.0
_OBSERVE_SECONDS = 2.0
_DRAIN_SECONDS = 120.0
_STOP_GRACE_SECONDS = 10.0
_NOT_STARTED = "it has not been started yet"

log = logging.getLogger("headrace.plane")


class Supervisor:
    """Predictors and gateway of all services. Everything happens in one event loop, so there is nothing to lock."""

    def __init__(self, home: Path, gateway_port: int, runtimes: Runtimes, vault: Vault) -> None:
        """Take up the manifests that `home` holds.

        Args:
            home: Folder of the plane.
            gateway_port: Loopback port that clients call.
            runtimes: Command line per model format.
            vault: What opens models that are sealed.
        """
        self.manifests = Manifests(home / "services")
        self.envoy = Envoy(home, gateway_port)
        self.runtimes = runtimes
        self._vault = vault
        self._home = home
        self._changed = asyncio.Event()
        self._tasks: dict[Any, asyncio.Task[None]] = {}
        self._predictors: dict[Revision, Predictor] = {}
        self._retiring: dict[Revision, asyncio.Task[None]] = {}
        self._routes: dict[Service, Route] = {}
        self._observed: dict[str, Split] = {}

    async def run(self) -> None:
        """Reconcile until cancelled; then end every process."""
        shutil.rmtree(self._home / OPENED, ignore_errors=True)  # left by a plane that was killed
        self._tasks["envoy"] = asyncio.create_task(self.envoy.run())
        try:
            await self.envoy.started()
            while True:
                self._changed.clear()
                try:
                    await self._step()
                except OSError as error:  # a full disk must not end what is being served
                    log.error("%s; trying again", error)
                try:
                    await asyncio.wait_for(self._changed.wait(), _TICK_SECONDS)
                except TimeoutError:
                    continue
        finally:
            await self._close()

    def changed(self) -> None:
        """Ask for a look at what has changed, now."""
        self._changed.set()

    def status(self, manifest: Manifest) -> dict[str, Any]:
        """Describe a service the way KServe does, with the split that the gateway applies."""
        want = reconcile.read(manifest)
        observed = self._observed_weights(want)
        canaries = [revision for revision in want.weights if revision != want.stable]
        ready = self._condition("PredictorReady", [want.stable])
        conditions = [ready, {**ready, "type": "Ready"}]
        if canaries:
            conditions.append(self._condition("CanaryPredictorReady", canaries))
        assignment = self._observed.get(".".join(want.stable.service), Split({})).assignment
        url = f"http://127.0.0.1:{self.envoy.port}"
        return {
            "observedGeneration": manifest["metadata"]["generation"],
            "annotations": {ASSIGNMENT: assignment} if assignment else {},
            "deploymentMode": "Standard",
            "url": url,
            "address": {"url": url},
            "conditions": conditions,
            "components": {
                "predictor": {
                    "url": url,
                    "traffic": [
                        {"revisionName": revision.name, "percent": weight, "latestRevision": revision == want.stable}
                        for revision, weight in observed.items()
                    ],
                }
            },
            "canaryStatuses": [
                {
                    "name": revision.name,
                    "ready": self._is_ready(revision),
                    "trafficPercent": observed.get(revision, 0),
                }
                for revision in canaries
            ],
        }

    async def revisions(self) -> list[dict[str, Any]]:
        """Describe every revision that is wanted or still running: state, weights, requests and latency."""
        traffic = await self.envoy.traffic() or {}
        rows = []
        for manifest in self.manifests:
            want = reconcile.read(manifest)
            observed = self._observed_weights(want)
            leaving = [r for r in self._predictors if r.service == want.stable.service and r not in want.weights]
            for revision in [*want.weights, *leaving]:
                role = "stable" if revision == want.stable else "canary" if revision in want.weights else "leaving"
                weights = {"wanted": want.weights.get(revision, 0), "observed": observed.get(revision, 0)}
                rows.append(self._row(revision, role, weights, traffic.get(revision.cluster, Traffic())))
        return rows

    async def _step(self) -> None:
        wanted: dict[Service, Wanted] = {}
        for manifest in self.manifests:
            want = reconcile.read(manifest)
            wanted[want.stable.service] = want
        ready = [revision for revision in self._predictors if self._is_ready(revision)]
        plan = reconcile.plan(wanted, list(self._predictors), ready, self._routes)
        for revision, predictor in plan.start.items():
            self._start(revision, predictor)
        self._routes = dict(plan.routes)
        # A leaving revision keeps its cluster until its process is gone: requests in flight still use it.
        ports = {revision: predictor.port for revision, predictor in self._predictors.items()}
        routes = {service: self._routes.get(service) for service in wanted}
        self.envoy.configure(ports, routes)
        if await self._applied(routes):
            for revision in plan.retire - self._retiring.keys():
                self._retiring[revision] = asyncio.create_task(self._retire(revision))

    async def _applied(self, routes: Mapping[Service, Route | None]) -> bool:
        split = {".".join(service): _split(route) for service, route in routes.items()}
        end = asyncio.get_running_loop().time() + _OBSERVE_SECONDS
        while True:
            self._observed = await self.envoy.observe() or {}
            if self._observed == split:
                return True
            if asyncio.get_running_loop().time() > end:
                log.warning("the gateway has not applied the routes yet")
                return False
            await asyncio.sleep(0.002)

    def _start(self, revision: Revision, predictor: Manifest) -> None:
        process = Predictor(revision, predictor["model"], self.runtimes, self._vault, self._home, self.changed)
        log.info("start %s", revision.cluster)
        self._predictors[revision] = process
        self._tasks[revision] = asyncio.create_task(process.run())

    async def _retire(self, revision: Revision) -> None:
        """Let a revision finish what it has begun, then end it, unless it is wanted again by then."""
        try:
            await self._drained(revision)
            if self._is_needed(revision):
                return
            await self._end(revision)
            log.info("ended %s", revision.cluster)
        finally:
            del self._retiring[revision]
            self.changed()

    async def _drained(self, revision: Revision) -> None:
        end = asyncio.get_running_loop().time() + _DRAIN_SECONDS
        quiet = 0
        # Twice in a row, because a request can be between the route and the count.
        while quiet < 2 and not self._is_needed(revision) and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.1)
            quiet = quiet + 1 if await self.envoy.active(revision) == 0 else 0

    async def _end(self, revision: Revision) -> None:
        await self._predictors[revision].stop(_STOP_GRACE_SECONDS)
        self._tasks.pop(revision).cancel()
        del self._predictors[revision]

    def _is_needed(self, revision: Revision) -> bool:
        routed = any(revision in route.weights for route in self._routes.values())
        return routed or any(revision in reconcile.read(manifest).weights for manifest in self.manifests)

    def _is_ready(self, revision: Revision) -> bool:
        predictor = self._predictors.get(revision)
        return predictor is not None and predictor.ready

    def _observed_weights(self, want: Wanted) -> dict[Revision, int]:
        split = self._observed.get(".".join(want.stable.service), Split({})).weights
        known = {revision.cluster: revision for revision in [*want.weights, *self._predictors]}
        return {known[cluster]: weight for cluster, weight in split.items() if cluster in known}

    def _condition(self, kind: str, revisions: list[Revision]) -> dict[str, Any]:
        for revision in revisions:
            if not self._is_ready(revision):
                predictor = self._predictors.get(revision)
                reason = predictor.reason if predictor else "Starting"
                message = predictor.message if predictor else _NOT_STARTED
                return {
                    "type": kind,
                    "status": "Unknown" if reason == "Starting" else "False",
                    "reason": reason,
                    "message": f"revision {revision.name}: {message}",
                }
        return {"type": kind, "status": "True"}

    def _row(self, revision: Revision, role: str, weights: dict[str, int], traffic: Traffic) -> dict[str, Any]:
        predictor = self._predictors.get(revision)
        return {
            "namespace": revision.service.namespace,
            "service": revision.service.name,
            "revision": revision.name,
            "role": role,
            "weight": weights,
            "ready": self._is_ready(revision),
            "message": predictor.message if predictor else _NOT_STARTED,
            "pid": predictor.child.pid if predictor else 0,
            "port": predictor.port if predictor else 0,
            "restarts": predictor.restarts if predictor else 0,
            "requests": traffic.requests,
            "active": traffic.active,
            "latency_ms": {"p50": traffic.p50_ms, "p95": traffic.p95_ms},
        }

    async def _close(self) -> None:
        for task in [*self._tasks.values(), *self._retiring.values()]:
            task.cancel()
        await self.envoy.close()
        await asyncio.gather(*(predictor.stop(_STOP_GRACE_SECONDS) for predictor in self._predictors.values()))


def _split(route: Route | None) -> Split:
    if route is None:
        return Split({})
    return Split({revision.cluster: weight for revision, weight in route.weights.items()}, route.assignment)
