"""Logs of a run's pods, through the Kubernetes API."""

import contextlib
import json
from collections.abc import Iterator

import urllib3
from kubernetes import client

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.step import DONE, ERROR, PROGRESS
from components.release.api import Api, Refused
from pipelines.kubeflow import Run, Task

_MARKED = {ERROR: "error: {message}", PROGRESS: "{done}/{total} {note}", DONE: "done; report: {report}"}
_CONTAINER = "main"
"""Container of a step's pod in which the step runs; the others are the workflow's own."""
_CONNECT_SECONDS = 5
"""Patience with a connection; a step that is followed may say nothing for hours."""


def read_logs(run: Run, environment: Environment, step: str = "", follow: bool = False) -> Iterator[str]:
    """Read what the steps of a run printed, line by line.

    Args:
        run: The run.
        environment: Where it took place.
        step: Only this one; otherwise those that failed, or all if none did.
        follow: Keep reading while a pod runs.

    Raises:
        UsageError: The run has no such step.
        HeadraceError: No pod is left, or the Kubernetes API does not answer.
    """
    tasks = _chosen(run, step)
    api = Api(environment.serving)
    namespace = environment.kubeflow.namespace or "kubeflow"
    pods = [(task.name, pod) for task in tasks for pod in task.pods]
    gone = []
    for name, pod in pods:
        try:
            answer = api.call(
                client.CoreV1Api(api.client).read_namespaced_pod_log,
                pod,
                namespace,
                container=_CONTAINER,
                follow=follow,
                _preload_content=False,
                **({"_request_timeout": (_CONNECT_SECONDS, None)} if follow else {}),
            )
        except Refused as error:
            if error.status != 404:
                raise
            gone.append(pod)
            continue
        yield f"── {name} ({pod})"
        yield from map(_readable, _lines(answer))
    if len(gone) == len(pods):
        steps = ", ".join(task.name for task in tasks) or "no step"
        what = f"its pods are gone from {namespace}" if gone else "it had no pod: reused from a cache, or not begun"
        raise HeadraceError(
            f"no log of {steps} is left: {what}; Kubeflow may have archived it: see the Logs tab at {run.url}"
        )


def _chosen(run: Run, step: str) -> list[Task]:
    if not step:
        return [task for task in run.tasks if task.state == "FAILED" and task.pods] or list(run.tasks)
    chosen = [task for task in run.tasks if task.name == step]
    if not chosen:
        known = ", ".join(task.name for task in run.tasks) or "none yet"
        raise UsageError(f"{run.name} has no step {step!r}; it has {known}")
    return chosen


def _readable(line: str) -> str:
    """What a step says to whoever drives the run, as a person would say it."""
    for marker, template in _MARKED.items():
        if line.startswith(marker):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                return template.format_map(json.loads(line.removeprefix(marker)))
    return line


def _lines(answer: urllib3.HTTPResponse) -> Iterator[str]:
    rest = b""
    try:
        for chunk in answer.stream(2**16):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in lines)
    except urllib3.exceptions.HTTPError as error:
        raise HeadraceError("the log broke off: the connection to the Kubernetes API was lost; try again") from error
    finally:
        answer.release_conn()
    if rest:
        yield rest.decode("utf-8", "replace")
