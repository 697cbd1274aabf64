"""Predictor processes: from a model format to a command line, and a process that is kept running."""

import asyncio
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml
from kubernetes.utils.quantity import parse_quantity

from components.common.errors import HeadraceError, UsageError
from components.common.vault import Vault, files_of, is_sealed
from serving.plane.processes import Child, free_port, is_free
from serving.plane.reconcile import Revision

Runtimes = Mapping[str, list[str]]

RUNTIMES: Runtimes = {
    "huggingface": [
        *(sys.executable, "-m", "serving.predictor", "--host", "127.0.0.1", "--http_port", "{port}"),
        *("--model_dir", "{model_dir}", "--model_name", "{name}", "--revision", "{revision}"),
        *("--threads", "{threads}"),
    ]
}
"""Command line per model format, as a ServingRuntime gives it on a cluster; the manifest's own `args` follow it.

Filled in: `{port}`, `{model_dir}`, `{name}` of the service, `{revision}`, and `{threads}` from the CPU limit.
"""

_FILLED_IN = ("port", "model_dir", "name", "revision", "threads")
OPENED = "opened"
"""Where a plane has working copies of models that are sealed, while it serves them."""

_CRASH_LOOP = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 30.0
_STEADY_SECONDS = 60.0


def read_runtimes(path: Path | None) -> Runtimes:
    """Read runtimes from a YAML mapping of model format to command line; the built-in ones when there is no file.

    Raises:
        UsageError: The file is not such a mapping.
    """
    if path is None:
        return RUNTIMES
    try:
        runtimes = yaml.safe_load(path.read_text("utf-8"))
        for argv in runtimes.values():
            [part.format_map(dict.fromkeys(_FILLED_IN, "")) for part in argv]
    except (OSError, yaml.YAMLError, AttributeError, TypeError) as error:
        raise UsageError(f"{path}: not a YAML mapping of model format to a list of strings: {error}") from error
    except (KeyError, ValueError, IndexError) as error:
        known = ", ".join(f"{{{name}}}" for name in _FILLED_IN)
        raise UsageError(f"{path}: {error} is not filled in; known: {known}") from error
    return runtimes


def model_directory(model: Mapping[str, Any]) -> Path:
    """Return the folder that a `file://` storage URI names."""
    # The store's URIs are not quoted, and a folder's name may hold # and ?.
    return Path(model["storageUri"].removeprefix("file://"))


def threads(model: Mapping[str, Any]) -> int:
    """Return the whole processors that the model's CPU limit allows, at least one."""
    limits = (model.get("resources") or {}).get("limits") or {}
    return max(1, math.floor(parse_quantity(limits.get("cpu", 1))))


class Predictor:
    """A model server for one revision: started, watched, restarted with growing pauses when it dies."""

    def __init__(
        self,
        revision: Revision,
        model: Mapping[str, Any],
        runtimes: Runtimes,
        vault: Vault,
        home: Path,
        changed: Callable[[], None],
    ) -> None:
        """Describe the predictor; `run` starts it.

        Args:
            revision: What it serves; clients ask for the model by the service's name.
            model: `predictor.model` of the manifest.
            runtimes: Command line per model format.
            vault: What opens the model if it is sealed.
            home: Folder of the plane.
            changed: Called when the predictor's state changes.
        """
        self.child = Child(revision.cluster, home)
        self.port = free_port()
        self.ready = False
        self.restarts = 0
        self.reason = "Starting"
        self.message = "the model is being loaded"
        self._model = model
        self._revision = revision
        self._argv = runtimes[model["modelFormat"]["name"]]
        self._changed = changed
        self._stopping = False
        self._vault = vault
        self._opened = home / OPENED / revision.cluster

    async def run(self) -> None:
        """Keep the model server running until `stop` is called."""
        deaths = 0
        while not self._stopping:
            began = asyncio.get_running_loop().time()
            status = await self._live()
            if self._stopping:
                return
            deaths = 1 if asyncio.get_running_loop().time() - began > _STEADY_SECONDS else deaths + 1
            self._died(status, deaths)
            await asyncio.sleep(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (deaths - 1)))
            self.restarts += 1

    async def stop(self, grace: float) -> None:
        """End the process for good."""
        self._stopping = True
        self.ready = False
        await self.child.stop(grace)
        shutil.rmtree(self._opened, ignore_errors=True)

    async def _live(self) -> int | None:
        directory = model_directory(self._model)
        if not directory.is_dir():
            self.message = f"storageUri: {directory} is not a folder"
            return None
        try:
            directory = await asyncio.to_thread(self._readable, directory)
        except (HeadraceError, OSError) as error:
            self.message = str(error)
            return None
        if self._stopping:
            return None
        if not is_free(self.port):
            self.port = free_port()
        filling = {
            "port": self.port,
            "model_dir": directory,
            "name": self._revision.service.name,
            "revision": self._revision.name,
            "threads": threads(self._model),
        }
        argv = [part.format_map(filling) for part in self._argv] + list(self._model.get("args") or [])
        variables = {entry["name"]: entry.get("value", "") for entry in self._model.get("env") or []}
        try:
            await self.child.start(argv, {"OMP_NUM_THREADS": str(filling["threads"]), **variables})
        except OSError as error:
            self.message = f"the predictor cannot be started: {error}"
            return None
        watch = asyncio.create_task(self._watch())
        try:
            return await self.child.wait()
        finally:
            watch.cancel()

    def _readable(self, directory: Path) -> Path:
        """The model as a model server can read it: a working copy of one that is sealed.

        It runs beside `stop`, which may remove the copy before it is made; then this removes it.
        """
        if not any(map(is_sealed, files_of(directory))):
            return directory
        shutil.rmtree(self._opened, ignore_errors=True)
        whole = False
        try:
            self._opened.mkdir(parents=True)
            self._vault.open_tree(directory, self._opened)
            whole = True
        finally:
            if self._stopping or not whole:
                shutil.rmtree(self._opened, ignore_errors=True)
        return self._opened

    async def _watch(self) -> None:
        async with httpx.AsyncClient(timeout=5) as client:
            while not self.ready:
                await asyncio.sleep(0.05)
                try:
                    answer = await client.get(f"http://127.0.0.1:{self.port}/v2/health/ready")
                except httpx.HTTPError:
                    continue
                if answer.is_success and not self._stopping:
                    self.ready, self.reason, self.message = True, "", ""
                    self._changed()

    def _died(self, status: int | None, deaths: int) -> None:
        self.ready = False
        self.reason = "CrashLoopBackOff" if deaths >= _CRASH_LOOP else "Exited"
        if status is not None:
            how = f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
            times = f", {deaths} times in a row" if deaths > 1 else ""
            last = self.child.last_line()
            self.message = f"the predictor {how}{times}" + (f"; its last line: {last}" if last else "")
        self._changed()
