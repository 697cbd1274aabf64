"""The Kubernetes API for InferenceServices, on loopback, so that one publishing path serves plane and cluster."""

import os
import re
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from components.release.manifest import API_VERSION, KIND, violations
from components.release.notes import ASSIGNMENT, note
from components.release.pins import HEADER
from serving.plane.manifests import Manifests, Refused, merge
from serving.plane.predictors import Runtimes, threads
from serving.plane.reconcile import Manifest, Service
from serving.plane.supervisor import Supervisor

_ASSIGNMENT = re.compile(f"cookie|header {HEADER.pattern}")
_COLLECTION = f"/apis/{API_VERSION}/namespaces/{{namespace}}/inferenceservices"


def application(supervisor: Supervisor) -> Starlette:
    """Serve a supervisor's manifests and what it observes.

    Args:
        supervisor: Who keeps the manifests and realises them.

    Returns:
        The ASGI application.
    """
    api = _InferenceServices(supervisor)
    return Starlette(
        routes=[
            Route(f"/apis/{API_VERSION}/inferenceservices", api.list, methods=["GET"]),
            Route(_COLLECTION, api.list, methods=["GET"]),
            Route(_COLLECTION, api.create, methods=["POST"]),
            Route(f"{_COLLECTION}/{{name}}", api.read, methods=["GET"]),
            Route(f"{_COLLECTION}/{{name}}", api.replace, methods=["PUT"]),
            Route(f"{_COLLECTION}/{{name}}", api.patch, methods=["PATCH"]),
            Route(f"{_COLLECTION}/{{name}}", api.delete, methods=["DELETE"]),
            Route("/plane/revisions", api.revisions, methods=["GET"]),
            Route("/plane/status", api.status, methods=["GET"]),
        ],
        exception_handlers={Refused: _refuse, 404: _refuse, 405: _refuse},
    )


class _InferenceServices:
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    @property
    def _manifests(self) -> Manifests:
        return self._supervisor.manifests

    async def list(self, request: Request) -> JSONResponse:
        namespace = request.path_params.get("namespace")
        items = [self._with_status(m) for m in self._manifests if namespace in (None, m["metadata"]["namespace"])]
        metadata = {"resourceVersion": self._manifests.version}
        return JSONResponse({"apiVersion": API_VERSION, "kind": f"{KIND}List", "metadata": metadata, "items": items})

    async def read(self, request: Request) -> JSONResponse:
        return self._answer(self._manifests.get(_service(request)))

    async def create(self, request: Request) -> JSONResponse:
        manifest = _named(await _body(request), Service(request.path_params["namespace"], ""))
        _admit(manifest, self._supervisor.runtimes)
        return self._changed(self._manifests.create(manifest, _dry_run(request)), 201)

    async def replace(self, request: Request) -> JSONResponse:
        manifest = _named(await _body(request), _service(request))
        self._manifests.get(_service(request))
        if not manifest["metadata"].get("resourceVersion"):
            raise Refused(422, "Invalid", "metadata.resourceVersion: must be specified for an update")
        _admit(manifest, self._supervisor.runtimes)
        return self._changed(self._manifests.replace(manifest, _dry_run(request)))

    async def patch(self, request: Request) -> JSONResponse:
        kind = request.headers.get("content-type", "").partition(";")[0]
        if kind != "application/merge-patch+json":
            raise Refused(415, "UnsupportedMediaType", f"{kind}: patch with application/merge-patch+json")
        service = _service(request)
        manifest = _named(merge(self._manifests.get(service), await _body(request)), service)
        _admit(manifest, self._supervisor.runtimes)
        return self._changed(self._manifests.replace(manifest, _dry_run(request)))

    async def delete(self, request: Request) -> JSONResponse:
        manifest = self._manifests.delete(_service(request))
        self._supervisor.changed()
        details = {"name": manifest["metadata"]["name"], "uid": manifest["metadata"]["uid"]}
        return JSONResponse({"apiVersion": "v1", "kind": "Status", "status": "Success", "details": details})

    async def revisions(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._supervisor.revisions())

    async def status(self, request: Request) -> JSONResponse:
        envoy = self._supervisor.envoy
        ready = await envoy.observe() is not None
        gateway = {"port": envoy.port, "ready": ready, "pid": envoy.child.pid, "restarts": envoy.restarts}
        return JSONResponse({"pid": os.getpid(), "gateway": gateway})

    def _changed(self, manifest: Manifest, code: int = 200) -> JSONResponse:
        self._supervisor.changed()
        return self._answer(manifest, code)

    def _answer(self, manifest: Manifest, code: int = 200) -> JSONResponse:
        return JSONResponse(self._with_status(manifest), code)

    def _with_status(self, manifest: Manifest) -> Manifest:
        return {**manifest, "status": self._supervisor.status(manifest)}


def _admit(manifest: Manifest, runtimes: Runtimes) -> None:
    found = violations(manifest) or _unservable(manifest, runtimes)
    if found:
        name = manifest["metadata"].get("name", "")
        raise Refused(422, "Invalid", f'InferenceService.serving.kserve.io "{name}" is invalid: {"; ".join(found)}')


def _unservable(manifest: Manifest, runtimes: Runtimes) -> list[str]:
    spec, assignment = manifest["spec"], note(manifest, ASSIGNMENT)
    predictors = {"spec.predictor": spec["predictor"]}
    predictors |= {
        f"spec.canary[{i}].predictor": canary["predictor"] for i, canary in enumerate(spec.get("canary") or [])
    }
    found = []
    if assignment and not _ASSIGNMENT.fullmatch(assignment):
        found.append(f"metadata.annotations[{ASSIGNMENT}]: must be 'cookie' or 'header NAME', not {assignment!r}")
    for path, predictor in predictors.items():
        model = predictor.get("model")
        if not model:
            found.append(f"{path}.model: required: the plane runs models, not containers")
            continue
        if (kind := model["modelFormat"]["name"]) not in runtimes:
            found.append(f"{path}.model.modelFormat.name: no runtime for {kind!r}; known: {', '.join(runtimes)}")
        if not model.get("storageUri", "").startswith("file://"):
            found.append(f"{path}.model.storageUri: the plane serves file:// folders only")
        if any(variable.get("valueFrom") for variable in model.get("env") or []):
            found.append(f"{path}.model.env: the plane knows plain values only, not valueFrom")
        try:
            threads(model)
        except ValueError:
            found.append(f"{path}.model.resources.limits[cpu]: not a quantity")
    return found


def _service(request: Request) -> Service:
    return Service(request.path_params["namespace"], request.path_params["name"])


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError as error:
        raise Refused(400, "BadRequest", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "BadRequest", "the body is not a JSON object")
    return body


def _named(body: dict[str, Any], service: Service) -> Manifest:
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise Refused(422, "Invalid", "metadata: required")
    metadata = {**metadata, "namespace": metadata.get("namespace") or service.namespace}
    wanted = {"namespace": service.namespace, "name": service.name or metadata.get("name")}
    for field, value in wanted.items():
        if metadata.get(field) != value:
            raise Refused(
                400, "BadRequest", f"metadata.{field}: {metadata.get(field)!r} is not the request's {value!r}"
            )
    return {**body, "metadata": metadata}


def _dry_run(request: Request) -> bool:
    return request.query_params.get("dryRun") == "All"


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, Refused):
        error = Refused(404, "NotFound", f"{request.method} {request.url.path}: the plane has no such resource")
    body = {"apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {}}
    return JSONResponse({**body, "reason": error.reason, "message": error.message, "code": error.code}, error.code)
