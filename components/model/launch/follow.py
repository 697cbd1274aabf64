"""Follow a TrainJob: its conditions to their end, its pods' logs as they are written."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import urllib3
from kubernetes import client

from components.common.errors import HeadraceError
from components.common.step import PROGRESS
from components.model.launch.processes import LAST_LINES
from components.release.api import Api, Manifest, Refused, Unanswered

_OF_JOBSET = "jobset.sigs.k8s.io/jobset-name"
_INDEX = "batch.kubernetes.io/job-completion-index"
_CONTAINER = "node"
_LAST_WORDS = 10.0
"""Seconds that logs may still take to arrive when a TrainJob has ended."""
_READ = (5, 60)
"""Seconds to connect, and between two lines of a log before the connection is made anew."""


class Follower:
    """What is known of a TrainJob that runs.

    Args:
        api: The API and the namespace.
        look: Returns the TrainJob as it is now, None when it is gone.
        name: Its name.
        pause: Seconds between two looks.
    """

    def __init__(self, api: Api, look: Callable[[], Manifest | None], name: str, pause: float) -> None:
        self._core = client.CoreV1Api(api.client)
        self._api = api
        self._look = look
        self._name = name
        self._pause = pause
        self._logs: dict[str, _Log] = {}
        self._said = ""

    def follow(self) -> None:
        """Wait for the end.

        Raises:
            HeadraceError: It failed, or somebody deleted it.
        """
        while True:
            seen = self._look()
            if seen is None:
                raise HeadraceError(f"TrainJob {self._name} was deleted while it ran; run again")
            pods = self._pods()
            for pod in pods:
                self._read(pod)
            status = seen.get("status", {})
            states = {c["type"]: c for c in status.get("conditions", []) if c["status"] == "True"}
            if "Complete" in states:
                self._finish()
                return
            if failed := states.get("Failed"):
                self._finish()
                raise HeadraceError(self._why(failed, pods))
            self._tell(states, status, pods)
            time.sleep(self._pause)

    def _pods(self) -> list[Any]:
        selector = f"{_OF_JOBSET}={self._name}"
        listed = self._api.read(self._core.list_namespaced_pod, self._api.namespace, label_selector=selector)
        return sorted(listed.items, key=lambda pod: int((pod.metadata.labels or {}).get(_INDEX, "0")))

    def _read(self, pod: Any) -> None:
        name = pod.metadata.name
        if name not in self._logs and pod.status.phase in ("Running", "Succeeded", "Failed"):
            number = int((pod.metadata.labels or {}).get(_INDEX, "0"))
            self._logs[name] = _Log(self._api, self._core, name, number)

    def _finish(self) -> None:
        end = time.monotonic() + _LAST_WORDS
        for log in self._logs.values():
            log.join(max(0.0, end - time.monotonic()))

    def _tell(self, states: dict[str, Any], status: dict[str, Any], pods: list[Any]) -> None:
        """Say what is being waited for, once."""
        jobs = status.get("jobsStatus", [])
        ready, running = (sum(job.get(what, 0) for job in jobs) for what in ("ready", "active"))
        waiting = [_unschedulable(pod) for pod in pods]
        said = f"TrainJob {self._name}: {ready} of {running} nodes ready"
        if "Suspended" in states:
            said = f"TrainJob {self._name} waits in its queue"
        elif stuck := next(filter(None, waiting), ""):
            said = f"TrainJob {self._name} waits for nodes: {stuck}"
        if said != self._said:
            print(said, flush=True)
            self._said = said

    def _why(self, failed: dict[str, Any], pods: list[Any]) -> str:
        """What failed, with the last lines of the node that failed first, or else of the first node."""
        broken = [pod.metadata.name for pod in pods if pod.status.phase == "Failed" and pod.metadata.name in self._logs]
        read = self._logs.get(next(iter(broken), next(iter(self._logs), "")))
        last = " | ".join(filter(None, read.last)) if read else ""
        words = f"{failed.get('message', '').strip().rstrip('.')} ({failed.get('reason', 'Failed')})"
        return f"TrainJob {self._name} failed: {words}" + (f"; {read.name} said last: {last}" if read and last else "")


class _Log(threading.Thread):
    """Passes a pod's log on as it is written; of nodes but the first with their number before each line."""

    def __init__(self, api: Api, core: client.CoreV1Api, name: str, number: int) -> None:
        super().__init__(name=name, daemon=True)
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._api = api
        self._core = core
        self._number = number
        self.start()

    def run(self) -> None:
        """Read to the end; a connection that broke is made anew where it was."""
        heard = 0
        while True:
            try:
                answer = self._api.call(
                    self._core.read_namespaced_pod_log,
                    self.name,
                    self._api.namespace,
                    container=_CONTAINER,
                    follow=True,
                    _preload_content=False,
                    _request_timeout=_READ,
                )
                for count, line in enumerate(_lines(answer)):
                    if count >= heard:
                        heard += 1
                        self._pass_on(line)
                return
            except urllib3.exceptions.HTTPError:
                continue
            except Refused:  # the pod is gone, and what it said with it
                return
            except Unanswered:
                time.sleep(1)

    def _pass_on(self, line: str) -> None:
        if line.startswith(PROGRESS):
            if not self._number:
                print(line, flush=True)
            return
        self.last.append(line)
        print(line if not self._number else f"[node {self._number}] {line}", flush=True)


def _lines(answer: urllib3.HTTPResponse) -> Any:
    rest = b""
    for chunk in answer.stream(2**14):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def _unschedulable(pod: Any) -> str:
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.message or condition.reason}"
    return ""
