"""Start, stop and look at the plane from another process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from serving.plane.processes import end_orphans, last_line, read_pid


@dataclass(frozen=True)
class Plane:
    """A serving plane: its folder, its two loopback ports, and what of the environment says how models are opened."""

    home: Path
    api_port: int = 8081
    gateway_port: int = 8080
    runtimes: Path | None = None
    workplace: Mapping[str, Any] | None = None

    @property
    def gateway_url(self) -> str:
        """Base URL that clients call."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def pid(self) -> int:
        """The daemon's process id, 0 when it does not run."""
        return read_pid(self.home / "plane.json")

    @property
    def log(self) -> Path:
        """The daemon's log."""
        return self.home / "plane.log"

    def start(self, deadline: float = 30) -> bool:
        """Start the daemon and wait until the gateway listens and the API answers.

        Returns:
            False if it was running already.

        Raises:
            HeadraceError: It did not come up; the message is the daemon's own.
        """
        if pid := self.pid:
            self._answers(pid)
            return False
        self.home.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "serving.plane", "--home", str(self.home)]
        argv += ["--api_port", str(self.api_port), "--gateway_port", str(self.gateway_port)]
        argv += ["--runtimes", str(self.runtimes)] if self.runtimes else []
        argv += ["--workplace", json.dumps(self.workplace)] if self.workplace else []
        with self.log.open("wb") as log:
            # In its own session and without our streams: a pipeline step that starts it must not wait for it.
            daemon = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            self._wait_for(daemon, deadline)
        except BaseException:
            daemon.terminate()
            daemon.wait()
            end_orphans(self.home)
            raise
        return True

    def stop(self, grace: float = 30) -> bool:
        """Stop the daemon and all that belongs to it.

        Returns:
            False if nothing was running.
        """
        pid = self.pid
        if pid:
            process = psutil.Process(pid)
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
                try:
                    process.wait(grace)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(5)
        orphans = end_orphans(self.home)
        return bool(pid or orphans)

    def revisions(self) -> list[dict[str, Any]]:
        """Describe every revision: role, weights, readiness, requests, latency, restarts.

        Raises:
            HeadraceError: The plane does not run.
        """
        return self._get("/plane/revisions")

    def _wait_for(self, daemon: subprocess.Popen[bytes], deadline: float) -> None:
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            if daemon.poll() is not None:
                raise HeadraceError(f"the serving plane did not start: {last_line(self.log)}")
            with contextlib.suppress(HeadraceError, LookupError, TypeError):
                status = self._get("/plane/status")
                # Another folder's plane may hold the port: its answer says nothing about ours.
                if status["pid"] == daemon.pid and status["gateway"]["ready"]:
                    return
            time.sleep(0.05)
        raise HeadraceError(f"the serving plane did not come up within {deadline:.0f} s; see {self.log}")

    def _answers(self, pid: int) -> None:
        with contextlib.suppress(HeadraceError, LookupError, TypeError):
            if self._get("/plane/status")["pid"] == pid:
                return
        raise HeadraceError(
            f"a serving plane runs from {self.home}, but not on port {self.api_port}; "
            "stop it with `headrace serve down`"
        )

    def _get(self, path: str) -> Any:
        try:
            answer = httpx.get(f"http://127.0.0.1:{self.api_port}{path}", timeout=10)
            answer.raise_for_status()
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise HeadraceError("the serving plane is not running; start it with `headrace serve up`") from error


def plane_of(environment: Environment) -> Plane:
    """Return the plane that an environment describes.

    Raises:
        UsageError: The environment is served by a cluster, or a URL has no port.
    """
    serving = environment.serving
    if serving.mode != "plane":
        raise UsageError(f"environment {environment.name} is served by a cluster ({serving.mode}), not by a plane")
    api, gateway = _port("api", environment), _port("gateway", environment)
    if api == gateway:
        raise UsageError(f"environment {environment.name}: serving.api and serving.gateway share port {api}")
    return Plane(Path(environment.home) / "plane", api, gateway, workplace=environment.workplace())


def _port(field: str, environment: Environment) -> int:
    url = getattr(environment.serving, field)
    with contextlib.suppress(ValueError):
        if port := urlsplit(url).port:
            return port
    raise UsageError(f"environment {environment.name}: serving.{field} is {url!r}; write http://127.0.0.1:PORT")
