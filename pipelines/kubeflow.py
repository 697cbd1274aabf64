"""The Kubeflow Pipelines API of an environment: versions, runs and recurring runs, through `kfp.Client`.

Faults come out as one sentence with a next step. What is read is asked for again while the API is busy or broken; what
is created is looked for before anything is created again, because an answer may be lost and not the work.
"""

import json
import os
import re
import time
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3
from kfp import Client
from kfp.client.set_volume_credentials import ServiceAccountTokenVolumeCredentials
from kfp_server_api import (
    ApiException,
    Configuration,
    V2beta1Experiment,
    V2beta1GetHealthzResponse,
    V2beta1Pipeline,
    V2beta1PipelineVersion,
    V2beta1RecurringRun,
    V2beta1Run,
)
from kfp_server_api.rest import RESTClientObject

from components.common.environment import Environment, Kubeflow
from components.common.errors import HeadraceError, UsageError
from pipelines.compile import dump_documents, load_documents

VARIABLES = {"token": "HEADRACE_KFP_TOKEN", "cookie": "HEADRACE_KFP_COOKIE"}
"""Where a person's login comes from, by `kubeflow.auth`."""
SUCCEEDED = "SUCCEEDED"
ENDED = (SUCCEEDED, "FAILED", "SKIPPED", "CANCELED")
_PAGE = 50
_TIMEOUT = (5, 30)
"""Seconds to connect, and to wait for an answer."""
_PAUSES = (0.5, 1.0, 2.0, 4.0)
"""Seconds between attempts at reading."""
_AWAY = (429, 500, 502, 503, 504)
_LOGIN = (301, 302, 303, 307, 308, 401)
_EXECUTOR = re.compile(r"executor(\(\d+\))?")
"""What the workflow calls the pod of a step, and its attempts."""
_PUBLISHES, _HOLDS = "publish", "notify-hold"
"""Tasks that say by running what the gate decided."""


class Refused(HeadraceError):
    """The API said no."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status beside the sentence."""
        super().__init__(message)
        self.status = status


class Unanswered(HeadraceError):
    """The API did not answer, or could not say what became of the request."""


@dataclass(frozen=True)
class Task:
    """One step of a run."""

    name: str
    state: str
    seconds: float
    pods: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class Run:
    """One run of a pipeline."""

    id: str
    name: str
    pipeline: str
    version: str
    state: str
    decision: str
    url: str
    started: datetime
    finished: datetime | None
    schedule: str
    error: str
    tasks: tuple[Task, ...]

    @property
    def ended(self) -> bool:
        """Tell whether anything is still going to happen."""
        return self.state in ENDED


@dataclass(frozen=True)
class Recurring:
    """A recurring run as the API has it."""

    id: str
    name: str
    pipeline: str
    version: str
    cron: str
    description: str
    enabled: bool


class Kfp:
    """A Kubeflow Pipelines API.

    Args:
        environment: Whose; its `kubeflow` section says where and how to log in.

    Raises:
        UsageError: The environment has no such API, or the login is not at hand.
    """

    def __init__(self, environment: Environment) -> None:
        kubeflow = environment.kubeflow
        if not kubeflow.host:
            raise UsageError(
                f"environment {environment.name} has no Kubeflow Pipelines; `headrace run` runs the line on this "
                "machine, and --environment names another place"
            )
        self._environment = environment
        self._client = _connect(kubeflow)
        self._namespace = kubeflow.namespace or None
        self._pipelines: dict[str, V2beta1Pipeline] = {}
        self._experiment_id = ""
        self._known: dict[tuple[str, str], tuple[str, str]] = {}

    def version(self, pipeline: str, version: str) -> V2beta1PipelineVersion | None:
        """Find an uploaded version of a pipeline by its name."""
        found = self._pipeline(pipeline)
        if found is None:
            return None
        pages = _pages(
            lambda **page: self._client.list_pipeline_versions(found.pipeline_id, **page), "pipeline_versions"
        )
        return next((item for item in pages if _version_name(pipeline, item) == version), None)

    def uploaded(self, pipeline: str, version: str) -> bytes | None:
        """The YAML that an uploaded version runs, in the form that compiling gives it; None if it is not there."""
        found = self.version(pipeline, version)
        return None if found is None else dump_documents(*_documents(found)).encode()

    def upload(self, pipeline: str, version: str, path: Path) -> V2beta1PipelineVersion:
        """Upload a version; nothing happens if it is there already.

        Raises:
            HeadraceError: A version of that name is there, and is another.
        """
        found = self.version(pipeline, version)
        if found is not None and _documents(found) != load_documents(path.read_text("utf-8")):
            raise HeadraceError(
                f"{pipeline} {version} is uploaded already and is not what {path} holds; a version is never changed, "
                "cut a new release"
            )
        if found is None:
            owner = self._pipeline(pipeline) or self._create_pipeline(pipeline)
            found = _write(
                lambda: self._client.pipeline_uploads.upload_pipeline_version(
                    str(path),
                    name=f"{_resource_name(pipeline)}-{version}",
                    display_name=version,
                    pipelineid=owner.pipeline_id,
                ),
                lambda: self.version(pipeline, version),
            )
        return found

    def submit(self, pipeline: str, version: str, arguments: Mapping[str, Any]) -> Run:
        """Start a run of an uploaded version.

        Raises:
            UsageError: That version is not uploaded.
        """
        found = self._need(pipeline, version)
        name = f"{_resource_name(pipeline)} {datetime.now(UTC):%Y-%m-%d %H:%M} {uuid.uuid4().hex[:6]}"
        experiment = self._experiment()
        run = V2beta1Run(
            display_name=name,
            experiment_id=experiment,
            pipeline_version_reference=_reference(found),
            runtime_config={"parameters": dict(arguments)},
            service_account=self._service_account(pipeline),
        )
        created = _write(
            lambda: self._client.runs.run_service_create_run(run=run, experiment_id=experiment),
            lambda: next(iter(self._list_runs(display_name=name)), None),
        )
        return self._run(created)

    def run(self, run: str) -> Run:
        """Look at one run, with its steps.

        Raises:
            UsageError: There is no such run.
        """
        try:
            return self._run(self._client.get_run(run))
        except Refused as error:
            if error.status not in (400, 404):
                raise
            raise UsageError(
                f"there is no run {run!r} in {self._environment.name}; `headrace runs --environment "
                f"{self._environment.name}` lists them"
            ) from error

    def runs(self, pipeline: str = "", failed: bool = False) -> Iterator[Run]:
        """List the environment's runs, newest first."""
        for found in self._list_runs():
            run = self._run(found)
            if pipeline in ("", run.pipeline) and (not failed or run.state == "FAILED"):
                yield run

    def last_run(self, pipeline: str, version: str) -> Run | None:
        """The run of a version that was started last; None if there is none."""
        last = next((run for run in self.runs(pipeline) if run.version == version), None)
        return last and self.run(last.id)

    def recurring(self) -> list[Recurring]:
        """List the environment's recurring runs, by name."""
        experiment = self._find_experiment()
        if not experiment:
            return []
        pages = _pages(
            lambda **page: self._client.list_recurring_runs(experiment_id=experiment, **page), "recurring_runs"
        )
        return sorted(map(self._recurring, pages), key=lambda found: (found.name, found.id))

    def create_recurring(
        self,
        name: str,
        pipeline: str,
        version: str,
        cron: str,
        arguments: Mapping[str, Any],
        description: str,
        enabled: bool,
    ) -> None:
        """Create a recurring run: one run at a time, and none for the times that were missed."""
        found = self._need(pipeline, version)
        experiment = self._experiment()
        _write(
            lambda: self._client.create_recurring_run(
                experiment,
                name,
                description=description,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                params=dict(arguments),
                pipeline_id=found.pipeline_id,
                version_id=found.pipeline_version_id,
                enabled=enabled,
                service_account=self._service_account(pipeline),
            ),
            lambda: next(
                (seen for seen in self.recurring() if (seen.name, seen.description) == (name, description)), None
            ),
        )

    def enable(self, recurring: str, enabled: bool) -> None:
        """Resume or pause a recurring run; it may be in that state already."""
        if enabled:
            self._client.enable_recurring_run(recurring)
        else:
            self._client.disable_recurring_run(recurring)

    def delete_recurring(self, recurring: str) -> None:
        """Delete a recurring run; nothing happens if it is gone."""
        try:
            self._client.delete_recurring_run(recurring)
        except Refused as error:
            if error.status != 404:
                raise

    def move_schedules(self, pipeline: str, version: str) -> list[str]:
        """Have the pipeline's recurring runs run this version; says what was done."""
        from pipelines.schedule import move

        return move(self._environment, self, pipeline, version)

    def _service_account(self, pipeline: str) -> str | None:
        kubeflow = self._environment.kubeflow
        return kubeflow.service_accounts.get(pipeline, kubeflow.service_account) or None

    def _need(self, pipeline: str, version: str) -> V2beta1PipelineVersion:
        found = self.version(pipeline, version)
        if found is None:
            raise UsageError(
                f"{pipeline} {version} is not uploaded to {self._environment.name}; `headrace submit {pipeline} "
                f"--environment {self._environment.name}` uploads the release that runs there"
            )
        return found

    def _pipeline(self, name: str) -> V2beta1Pipeline | None:
        if name not in self._pipelines:
            pages = _pages(
                lambda **page: self._client.list_pipelines(
                    namespace=self._namespace, filter=_filter(display_name=name), **page
                ),
                "pipelines",
            )
            found = next((item for item in pages if item.display_name == name), None)
            if found is None:
                return None
            self._pipelines[name] = found
        return self._pipelines[name]

    def _create_pipeline(self, name: str) -> V2beta1Pipeline:
        """Create it empty: the API would name the first version of an uploaded one after the pipeline."""
        pipeline = V2beta1Pipeline(display_name=name, name=_resource_name(name), namespace=self._namespace)
        return _write(
            lambda: self._client.pipelines.pipeline_service_create_pipeline(pipeline=pipeline),
            lambda: self._pipeline(name),
        )

    def _find_experiment(self) -> str:
        """Id of the environment's experiment; '' before its first run."""
        if not self._experiment_id:
            name = self._environment.kubeflow.experiment
            pages = _pages(
                lambda **page: self._client.list_experiments(
                    namespace=self._namespace, filter=_filter(display_name=name), **page
                ),
                "experiments",
            )
            self._experiment_id = next((item.experiment_id for item in pages if item.display_name == name), "")
        return self._experiment_id

    def _experiment(self) -> str:
        if not self._find_experiment():
            name, namespace = self._environment.kubeflow.experiment, self._namespace
            body = V2beta1Experiment(display_name=name, namespace=namespace)
            _write(
                lambda: self._client.experiments.experiment_service_create_experiment(experiment=body),
                lambda: self._find_experiment() or None,
            )
        return self._find_experiment()

    def _list_runs(self, **equal: str) -> Iterator[V2beta1Run]:
        experiment = self._find_experiment()
        if not experiment:
            return iter(())
        wanted = _filter(**equal)
        return _pages(
            lambda **page: self._client.list_runs(
                experiment_id=experiment, sort_by="created_at desc", filter=wanted, **page
            ),
            "runs",
        )

    def _names(self, reference: Any) -> tuple[str, str]:
        """Names of a pipeline and of its version, from their ids."""
        if reference is None:
            return "", ""
        identifiers = (reference.pipeline_id, reference.pipeline_version_id)
        if identifiers not in self._known:
            try:
                pipeline = self._client.get_pipeline(identifiers[0])
                version = self._client.get_pipeline_version(*identifiers)
                self._known[identifiers] = (
                    pipeline.display_name,
                    _version_name(pipeline.display_name, version),
                )
            except Refused as error:
                if error.status != 404:
                    raise
                self._known[identifiers] = ("deleted", identifiers[1])
        return self._known[identifiers]

    def _recurring(self, found: V2beta1RecurringRun) -> Recurring:
        pipeline, version = self._names(found.pipeline_version_reference)
        schedule = found.trigger.cron_schedule if found.trigger else None
        return Recurring(
            found.recurring_run_id,
            found.display_name,
            pipeline,
            version,
            schedule.cron if schedule else "",
            found.description or "",
            found.status == "ENABLED",
        )

    def _run(self, found: V2beta1Run) -> Run:
        pipeline, version = self._names(found.pipeline_version_reference)
        tasks = _tasks(found.run_details.task_details or [] if found.run_details else [])
        done = {task.name for task in tasks if task.state == SUCCEEDED}
        decision = "hold" if _HOLDS in done else "release" if _PUBLISHES in done else ""
        parameters = (found.runtime_config.parameters if found.runtime_config else None) or {}
        template = self._environment.notify.run_url or f"{self._environment.kubeflow.host}/#/runs/details/{{run}}"
        finished = found.finished_at if found.finished_at and found.finished_at.year > 1970 else None
        return Run(
            id=found.run_id,
            name=found.display_name,
            pipeline=pipeline,
            version=version,
            state=found.state or "PENDING",
            decision=decision,
            url=template.replace("{run}", found.run_id),
            started=found.created_at,
            finished=finished,
            schedule=str(parameters.get("schedule", "")),
            error=(found.error.message or "") if found.error else "",
            tasks=tasks,
        )


class _Client(Client):
    """KFP's client without what it does unasked: reading a file in the home folder, asking for the API's health."""

    def _load_context_setting_or_default(self) -> None:
        self._context_setting = {"namespace": ""}

    def get_kfp_healthz(self, sleep_duration: int = 5) -> V2beta1GetHealthzResponse:
        return V2beta1GetHealthzResponse(multi_user=False)


class _Wire(RESTClientObject):
    """The one place that requests go through: deadlines, further attempts at reading, faults as sentences."""

    def __init__(self, configuration: Configuration, kubeflow: Kubeflow) -> None:
        # A login page is not to be followed, and attempts are counted here.
        configuration.retries = urllib3.Retry(total=False, redirect=False)
        super().__init__(configuration)
        self._kubeflow = kubeflow

    def request(self, method: str, url: str, **options: Any) -> Any:
        for pause in (*_PAUSES, None):
            try:
                return self._once(method, url, options)
            except Unanswered:
                if method != "GET" or pause is None:
                    raise
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _once(self, method: str, url: str, options: dict[str, Any]) -> Any:
        host = self._kubeflow.host
        try:
            answer = super().request(method, url, **{**options, "_request_timeout": _TIMEOUT})
        except ApiException as error:
            raise _fault(error, self._kubeflow) from None
        except urllib3.exceptions.NameResolutionError as error:
            raise Refused(0, f"{host}: there is no such host; see kubeflow.host, and the VPN") from error
        except urllib3.exceptions.NewConnectionError as error:
            raise Unanswered(
                f"nothing listens at {host}; see kubeflow.host, the VPN, or a port-forward that ended"
            ) from error
        except urllib3.exceptions.HTTPError as error:
            raise Unanswered(f"the KFP API at {host} does not answer; see the VPN, or try again") from error
        kind = answer.getheader("Content-Type") or ""
        if answer.data and "json" not in kind:
            raise Refused(0, f"{host} answers with {kind or 'no type'}, not as the KFP API does; {_where(host)}")
        return answer


def _connect(kubeflow: Kubeflow) -> Client:
    options: dict[str, Any] = {}
    if variable := VARIABLES.get(kubeflow.auth):
        secret = os.environ.get(variable, "").strip()
        if not secret:
            raise UsageError(f"{variable} is not set, and kubeflow.auth is {kubeflow.auth}; {_login(kubeflow)}")
        if any(not letter.isprintable() for letter in secret):
            raise UsageError(f"{variable} holds line breaks or control characters; {_login(kubeflow)}")
        options = {"existing_token": secret} if kubeflow.auth == "token" else {"cookies": secret}
    if kubeflow.auth == "in_cluster":
        credentials = ServiceAccountTokenVolumeCredentials()
        if not Path(credentials._token_path).is_file():
            raise UsageError(
                f"{credentials._token_path} does not exist: kubeflow.auth in_cluster is for pods with a projected "
                "token for the audience pipelines.kubeflow.org; use token or cookie elsewhere"
            )
        options = {"credentials": credentials}
    if urlsplit(kubeflow.host).scheme not in ("http", "https"):
        raise UsageError(f"kubeflow.host is {kubeflow.host!r}; write https://HOST/pipeline")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = _Client(host=kubeflow.host, **options)
    api = client.runs.run_service_get_run.__self__.api_client
    api.rest_client = _Wire(api.configuration, kubeflow)
    return client


def _write(create: Callable[[], Any], find: Callable[[], Any]) -> Any:
    """Create something; if the answer is lost, look whether it is there before saying so."""
    try:
        return create()
    except Unanswered:
        found = find()
        if found is None:
            raise
        return found
    except Refused as error:
        found = find() if error.status == 409 else None  # somebody else was faster
        if found is None:
            raise
        return found


def _pages(ask: Callable[..., Any], field: str) -> Iterator[Any]:
    token = ""
    while True:
        answer = ask(page_token=token, page_size=_PAGE)
        yield from getattr(answer, field) or []
        token = answer.next_page_token or ""
        if not token:
            return


def _filter(**equal: str) -> str | None:
    predicates = [{"operation": "EQUALS", "key": key, "string_value": value} for key, value in equal.items() if value]
    return json.dumps({"predicates": predicates}) if predicates else None


def _reference(version: V2beta1PipelineVersion) -> dict[str, str]:
    return {"pipeline_id": version.pipeline_id, "pipeline_version_id": version.pipeline_version_id}


def _documents(version: V2beta1PipelineVersion) -> list[dict[str, Any]]:
    """What a version runs, as the documents of its YAML."""
    whole = version.pipeline_spec
    return [whole["pipeline_spec"], whole["platform_spec"]] if "pipeline_spec" in whole else [whole]


def _resource_name(pipeline: str) -> str:
    """A pipeline's name where the API keeps pipelines as Kubernetes objects."""
    return pipeline.replace("_", "-")


def _version_name(pipeline: str, version: V2beta1PipelineVersion) -> str:
    """A version's name; among Kubernetes objects, and in old APIs, the pipeline's comes first."""
    return version.display_name.removeprefix(f"{_resource_name(pipeline)}-")


def _tasks(details: list[Any]) -> tuple[Task, ...]:
    """Steps, and groups of steps, in the order they began; drivers, executors and their attempts belong to a step."""
    known = {key: detail for detail in details for key in (detail.pod_name, detail.task_id) if key}
    tasks = []
    for detail in sorted(details, key=lambda detail: detail.start_time or datetime.max.replace(tzinfo=UTC)):
        name = detail.display_name or ""
        if not name or name == "root" or _EXECUTOR.fullmatch(name) or name.endswith("-driver"):
            continue
        began, ended = detail.start_time, detail.end_time
        seconds = (ended - began).total_seconds() if began and ended and ended > began else 0.0
        pods = tuple(dict.fromkeys(pod for pod in _pods(detail, known) if "-driver-" not in pod))
        error = (detail.error.message or "") if detail.error else ""
        tasks.append(Task(name, detail.state or "PENDING", seconds, pods, error))
    return tuple(tasks)


def _pods(detail: Any, known: Mapping[str, Any]) -> Iterator[str]:
    """The pods that did a step's work: its executor's, or those of the executor's attempts."""
    children = detail.child_tasks or []
    if detail.pod_name and not children:
        yield detail.pod_name
    for child in children:
        found = known.get(child.task_id) or known.get(child.pod_name)
        if found is None and child.pod_name:
            yield child.pod_name
        elif found is not None and _EXECUTOR.fullmatch(found.display_name or ""):
            yield from _pods(found, known)


def _fault(error: ApiException, kubeflow: Kubeflow) -> HeadraceError:
    host, status, said = kubeflow.host, error.status or 0, _said(error)
    if status in _LOGIN:
        return Refused(status, f"the KFP API at {host} does not know you ({status}); {_login(kubeflow)}")
    if status == 403:
        place = f"the profile {kubeflow.namespace}" if kubeflow.namespace else "Kubeflow Pipelines"
        return Refused(status, f"the KFP API at {host} knows you and says no: {said}; ask for access to {place}")
    if status == 404:
        return Refused(status, f"the KFP API at {host} does not have it: {said}; {_where(host)}")
    if status in _AWAY:
        return Unanswered(f"the KFP API at {host} is in trouble ({status}: {said}); try again in a minute")
    if status == 0:
        return Refused(0, f"{host}: {said}; see the certificate and kubeflow.host")
    return Refused(status, f"the KFP API at {host} refuses ({status}): {said}")


def _said(error: ApiException) -> str:
    try:
        body = json.loads(error.body or "")
        text = str(body.get("message") or body.get("error") or error.reason)
    except (ValueError, AttributeError):
        text = str(error.reason or "no reason given")
    return " ".join(text.split())[:300].rstrip(".")


def _login(kubeflow: Kubeflow) -> str:
    if kubeflow.auth == "token":
        return "put a fresh bearer token into HEADRACE_KFP_TOKEN"
    if kubeflow.auth == "cookie":
        return (
            "log in with a browser and put the session's cookie into HEADRACE_KFP_COOKIE, such as "
            "authservice_session=… or oauth2_proxy_kubeflow=…"
        )
    if kubeflow.auth == "in_cluster":
        return "give the pod a projected token for the audience pipelines.kubeflow.org"
    return "set kubeflow.auth to token or cookie"


def _where(host: str) -> str:
    path = urlsplit(host).path.rstrip("/")
    return "see kubeflow.host" + ("" if path else "; behind Kubeflow's gateway it ends in /pipeline")
