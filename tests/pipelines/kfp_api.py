"""A Kubeflow Pipelines API for tests: real HTTP that speaks v2beta1, kept to the published definitions.

Every body that comes in and every answer that goes out is checked, field by field, against the models of
`kfp-server-api`, which are generated from the API's own description: this server cannot drift from it. Nothing runs by
itself: a test moves runs along, as the backend would.
"""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import kfp_server_api
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from pipelines.compile import load_documents

ROOT = "/pipeline/apis/v2beta1"
_PLAIN = {"str": str, "bool": bool, "int": int, "object": object, "float": float}


class Fault(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def conform(kind: str, value: Any, where: str = "") -> None:
    """Check JSON against a model of `kfp-server-api`: known fields, their types, enumerations."""
    where = where or kind
    if match := re.fullmatch(r"list\[(.*)\]", kind):
        assert isinstance(value, list), f"{where}: no list"
        for number, item in enumerate(value):
            conform(match[1], item, f"{where}[{number}]")
    elif match := re.fullmatch(r"dict\(str, (.*)\)", kind):
        assert isinstance(value, dict), f"{where}: no mapping"
        for key, item in value.items():
            conform(match[1], item, f"{where}.{key}")
    elif kind == "datetime":
        datetime.fromisoformat(value)
    elif kind in _PLAIN:
        int64 = kind == "str" and isinstance(value, int) and not isinstance(value, bool)
        assert int64 or isinstance(value, _PLAIN[kind]), f"{where}: {value!r} is no {kind}"
    else:
        model = getattr(kfp_server_api, kind)
        if not model.openapi_types:
            assert value in model.allowable_values, f"{where}: {value!r} is none of {model.allowable_values}"
            return
        assert isinstance(value, dict), f"{where}: no object"
        kinds = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
        for key, item in value.items():
            assert key in kinds, f"{where}: there is no field {key}"
            if item is not None:
                conform(kinds[key], item, f"{where}.{key}")


@dataclass
class State:
    """What the API holds, and how it is to behave."""

    multi_user: bool = False
    token: str = ""
    cookie: str = ""
    namespaces: tuple[str, ...] = ("headrace-dev",)
    page: int = 2
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: list[tuple[str, int]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    login_page: bool = False
    lose_answers: int = 0
    _clock: datetime = datetime(2026, 11, 2, 3, 0, tzinfo=UTC)
    _count: int = 0

    def stamp(self) -> str:
        self._clock += timedelta(minutes=1)
        return self._clock.isoformat()

    def identifier(self, kind: str) -> str:
        self._count += 1
        return f"{kind}-{self._count:04d}"

    def fail(self, request: str, *statuses: int) -> None:
        """Answer the next requests that begin so (`GET /runs`) with these statuses."""
        self.faults += [(request, status) for status in statuses]

    def move(self, run: str, state: str, **tasks: str) -> None:
        """Bring a run, and steps of it, into a state, as the workflow's controller does."""
        found = self.runs[run]
        found["state"] = state
        if state in ("SUCCEEDED", "FAILED"):
            found["finished_at"] = self.stamp()
        details = found["run_details"]["task_details"]
        details[:] = [detail for detail in details if detail["display_name"] != "exit-handler-1"]
        group = "FAILED" if state == "FAILED" else "RUNNING"
        details.append(self._task(run, "exit-handler-1", group, [f"{run}-{name}" for name in tasks]))
        for name, task_state in tasks.items():
            step = name.replace("_", "-")
            details[:] = [detail for detail in details if not detail["task_id"].startswith(f"{run}-{step}")]
            pod, error = f"{run}-system-container-impl-{step}", {"error": {"code": 2, "message": f"{step} failed"}}
            attempts = [f"{pod}-{number}" for number in range(3)] if task_state == "FAILED" else [pod]
            details += [
                self._task(run, f"{step}-driver", "SUCCEEDED", pod_name=f"{run}-system-container-driver-{step}"),
                self._task(run, step, task_state, [f"{run}-{step}-executor"], **(error if attempts[1:] else {})),
            ]
            if task_state == "SKIPPED":
                details[-1]["child_tasks"] = []
            elif attempts[1:]:
                details.append(self._task(run, "executor", task_state, attempts, f"{run}-{step}-executor"))
                for number, attempt in enumerate(attempts):
                    executor = f"{run}-{step}-executor-{number}"
                    details.append(self._task(run, f"executor({number})", task_state, [], executor, pod_name=attempt))
            else:
                details.append(self._task(run, "executor", task_state, [], f"{run}-{step}-executor", pod_name=pod))

    def _task(
        self, run: str, name: str, state: str, children: Sequence[str] = (), task_id: str = "", **fields: Any
    ) -> dict[str, Any]:
        """One node of the workflow; its children are named by task or, as pods, by name."""
        return {
            "run_id": run,
            "task_id": task_id or f"{run}-{name}",
            "display_name": name,
            "create_time": self.stamp(),
            "start_time": self.stamp(),
            "end_time": self.stamp(),
            "state": state,
            "child_tasks": [
                {"task_id": child} if child.endswith("-executor") else {"pod_name": child} for child in children
            ],
            **fields,
        }


class Api:
    """The routes."""

    def __init__(self, state: State) -> None:
        self.state = state

    def routes(self) -> list[Route]:
        state = self.state
        listed = {
            "pipelines": (state.pipelines, "V2beta1ListPipelinesResponse"),
            "experiments": (state.experiments, "V2beta1ListExperimentsResponse"),
            "runs": (state.runs, "V2beta1ListRunsResponse"),
            "recurringruns": (state.recurring, "V2beta1ListRecurringRunsResponse"),
        }
        routes = [
            ("/healthz", "GET", "V2beta1GetHealthzResponse", lambda request: {"multi_user": state.multi_user}),
            ("/pipelines", "POST", "V2beta1Pipeline", self.create_pipeline),
            ("/pipelines/upload_version", "POST", "V2beta1PipelineVersion", self.upload_version),
            ("/pipelines/{id}", "GET", "V2beta1Pipeline", self.get(state.pipelines)),
            ("/pipelines/{id}/versions", "GET", "V2beta1ListPipelineVersionsResponse", self.list_versions),
            ("/pipelines/{id}/versions/{version}", "GET", "V2beta1PipelineVersion", self.get_version),
            ("/experiments", "POST", "V2beta1Experiment", self.create_experiment),
            ("/runs", "POST", "V2beta1Run", self.create_run),
            ("/runs/{id}", "GET", "V2beta1Run", self.get(state.runs)),
            ("/recurringruns", "POST", "V2beta1RecurringRun", self.create_recurring),
            ("/recurringruns/{id}:enable", "POST", "object", self.switch("ENABLED")),
            ("/recurringruns/{id}:disable", "POST", "object", self.switch("DISABLED")),
            ("/recurringruns/{id}", "DELETE", "object", self.delete),
        ]
        names = {"recurringruns": "recurringRuns"}
        for name, (store, kind) in listed.items():
            routes.append((f"/{name}", "GET", kind, self.listing(store, names.get(name, name))))
        return [
            Route(ROOT + path, self.answer(path, method, kind, act), methods=[method])
            for path, method, kind, act in routes
        ]

    def answer(
        self, path: str, method: str, kind: str, act: Callable[[Request], Any]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            state = self.state
            called = f"{method} {request.url.path.removeprefix(ROOT)}"
            state.requests.append(called)
            try:
                if (page := self.check_login(request)) is not None:
                    return page
                fault = next((found for found in state.faults if called.startswith(found[0])), None)
                if fault:
                    state.faults.remove(fault)
                    raise Fault(fault[1], "injected")
                if method == "POST" and "multipart" not in request.headers.get("content-type", ""):
                    request.state.body = await request.json() if await request.body() else {}
                made = act(request)
                if asyncio.iscoroutine(made):
                    made = await made
                conform(kind, made)
                if method == "POST" and state.lose_answers:
                    state.lose_answers -= 1
                    raise Fault(503, "the answer was lost")
                return JSONResponse(made)
            except AssertionError as error:
                return JSONResponse({"error": str(error), "code": 3, "message": str(error)}, 400)
            except Fault as error:
                return JSONResponse({"error": str(error), "code": error.status, "message": str(error)}, error.status)

        return endpoint

    def check_login(self, request: Request) -> Response | None:
        state = self.state
        if state.login_page:
            return HTMLResponse("<html>Log in</html>")
        if state.token and request.headers.get("authorization") != f"Bearer {state.token}":
            raise Fault(401, "Unauthenticated")
        if state.cookie and request.headers.get("cookie") != state.cookie:
            return RedirectResponse("/dex/auth")
        return None

    def check_namespace(self, namespace: str | None) -> None:
        if self.state.multi_user:
            if not namespace:
                raise Fault(400, "Invalid input error: namespace is empty in multi-user mode")
            if namespace not in self.state.namespaces:
                raise Fault(403, f"User 'ada@example.com' is not authorized in namespace {namespace}")

    def get(self, store: dict[str, dict[str, Any]]) -> Callable[[Request], Any]:
        def act(request: Request) -> Any:
            identifier = request.path_params["id"]
            if identifier not in store:
                raise Fault(404, f"{identifier} not found")
            return store[identifier]

        return act

    def listing(self, store: dict[str, dict[str, Any]], field_name: str) -> Callable[[Request], Any]:
        def act(request: Request) -> Any:
            query = request.query_params
            found = list(store.values())
            if field_name in ("pipelines", "experiments"):
                self.check_namespace(query.get("namespace"))
                found = [item for item in found if (item.get("namespace") or "") == query.get("namespace", "")]
            else:
                if self.state.multi_user and not query.get("experiment_id"):
                    self.check_namespace(query.get("namespace"))
                found = [item for item in found if item["experiment_id"] == query["experiment_id"]]
            if query.get("sort_by") == "created_at desc":
                found.sort(key=lambda item: item["created_at"], reverse=True)
            return self.paged(found, field_name, query)

        return act

    def paged(self, found: list[dict[str, Any]], field_name: str, query: Any) -> dict[str, Any]:
        chosen = json.loads(query.get("filter") or "{}")
        conform("V2beta1Filter", chosen)
        for predicate in chosen.get("predicates", []):
            assert predicate["operation"] == "EQUALS"
            found = [item for item in found if item[predicate["key"]] == predicate["string_value"]]
        start = int(query.get("page_token") or 0)
        assert int(query["page_size"]) > 0
        end = start + min(self.state.page, int(query["page_size"]))
        more = {"next_page_token": str(end)} if end < len(found) else {}
        return {field_name: found[start:end], "total_size": len(found), **more}

    def create_pipeline(self, request: Request) -> Any:
        body = request.state.body
        conform("V2beta1Pipeline", body)
        self.check_namespace(body.get("namespace"))
        if any(item["display_name"] == body["display_name"] for item in self.state.pipelines.values()):
            raise Fault(409, "already exists")
        made = {**body, "pipeline_id": self.state.identifier("pipeline"), "created_at": self.state.stamp()}
        self.state.pipelines[made["pipeline_id"]] = made
        return made

    async def upload_version(self, request: Request) -> Any:
        query = request.query_params
        if query["pipelineid"] not in self.state.pipelines:
            raise Fault(404, f"pipeline {query['pipelineid']} not found")
        async with request.form() as form:
            documents = load_documents(await form["uploadfile"].read())  # type: ignore[union-attr]
        whole = {"pipeline_spec": documents[0], "platform_spec": documents[1]} if documents[1:] else documents[0]
        if any(item["name"] == query["name"] for item in self.state.versions.values()):
            raise Fault(409, f"version {query['name']} already exists")
        made = {
            "pipeline_id": query["pipelineid"],
            "pipeline_version_id": self.state.identifier("version"),
            "name": query["name"],
            "display_name": query.get("display_name", query["name"]),
            "created_at": self.state.stamp(),
            "pipeline_spec": whole,
        }
        self.state.versions[made["pipeline_version_id"]] = made
        return made

    def list_versions(self, request: Request) -> Any:
        owner = request.path_params["id"]
        found = [item for item in self.state.versions.values() if item["pipeline_id"] == owner]
        return self.paged(found, "pipeline_versions", request.query_params)

    def get_version(self, request: Request) -> Any:
        if request.path_params["version"] not in self.state.versions:
            raise Fault(404, f"version {request.path_params['version']} not found")
        return self.state.versions[request.path_params["version"]]

    def create_experiment(self, request: Request) -> Any:
        body = request.state.body
        conform("V2beta1Experiment", body)
        self.check_namespace(body.get("namespace"))
        made = {**body, "experiment_id": self.state.identifier("experiment"), "created_at": self.state.stamp()}
        self.state.experiments[made["experiment_id"]] = made
        return made

    def check_started(self, body: dict[str, Any], kind: str) -> None:
        """What the backend checks of a run: its experiment, its version, its parameters."""
        conform(kind, body)
        assert body["experiment_id"] in self.state.experiments, "no such experiment"
        reference = body["pipeline_version_reference"]
        version = self.state.versions[reference["pipeline_version_id"]]
        assert version["pipeline_id"] == reference["pipeline_id"]
        specification = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        wanted = specification["root"]["inputDefinitions"]["parameters"]
        given = body["runtime_config"]["parameters"]
        assert not set(given) - set(wanted), f"unknown parameters {set(given) - set(wanted)}"
        required = {name for name, parameter in wanted.items() if not parameter.get("isOptional")}
        assert not required - set(given), f"missing parameters {required - set(given)}"

    def create_run(self, request: Request) -> Any:
        body = request.state.body
        self.check_started(body, "V2beta1Run")
        made = {
            **body,
            "run_id": self.state.identifier("run"),
            "state": "PENDING",
            "created_at": self.state.stamp(),
            "finished_at": "1970-01-01T00:00:00Z",
            "run_details": {"task_details": []},
        }
        self.state.runs[made["run_id"]] = made
        return made

    def create_recurring(self, request: Request) -> Any:
        body = request.state.body
        self.check_started(body, "V2beta1RecurringRun")
        assert len(body["trigger"]["cron_schedule"]["cron"].split()) == 6
        made = {
            **body,
            "recurring_run_id": self.state.identifier("recurring"),
            "status": "ENABLED" if body["mode"] == "ENABLE" else "DISABLED",
            "created_at": self.state.stamp(),
        }
        self.state.recurring[made["recurring_run_id"]] = made
        return made

    def switch(self, status: str) -> Callable[[Request], Any]:
        def act(request: Request) -> Any:
            self.get(self.state.recurring)(request)["status"] = status
            return {}

        return act

    def delete(self, request: Request) -> Any:
        self.get(self.state.recurring)(request)
        del self.state.recurring[request.path_params["id"]]
        return {}


SILENCE = 0.4
"""Seconds that a step which is followed says nothing."""


class Pods:
    """Logs of pods, as the Kubernetes API gives them."""

    def __init__(self, logs: dict[str, str]) -> None:
        self.logs = logs

    def routes(self) -> list[Route]:
        async def log(request: Request) -> Response:
            name = request.path_params["pod"]
            if request.query_params.get("container") != "main" or name not in self.logs:
                return JSONResponse({"message": f'pods "{name}" not found', "reason": "NotFound", "code": 404}, 404)
            return StreamingResponse(
                written(self.logs[name], "follow" in request.query_params), media_type="text/plain"
            )

        async def written(text: str, followed: bool) -> AsyncIterator[str]:
            """A pod that is followed says nothing for a while."""
            if followed:
                await asyncio.sleep(SILENCE)
            yield text

        return [Route("/api/v1/namespaces/{namespace}/pods/{pod}/log", log)]


@contextmanager
def serving(routes: list[Route]) -> Iterator[str]:
    """Serve routes over HTTP on a free port; gives the URL."""
    configuration = uvicorn.Config(Starlette(routes=routes), host="127.0.0.1", port=0, log_level="error")
    server = uvicorn.Server(configuration)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            thread.join(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
