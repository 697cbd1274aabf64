"""Child processes that never outlive the plane.

Three nets, because a supervisor can itself be killed: Linux ends a child with its parent; `Child.stop` ends the child's
whole process group; and a pid file with the process's start time lets the next supervisor find what is left.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_LOOPBACK = "127.0.0.1"


def _die_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One process at a time, with its log and its pid file; started again with the same name after it has ended."""

    def __init__(self, name: str, home: Path) -> None:
        """Name the process; nothing is started.

        Args:
            name: Unique below `home`; part of file names.
            home: Folder of the plane.
        """
        self.name = name
        self.log = home / "logs" / f"{name}.log"
        self.pid_file = home / "pids" / f"{name}.json"
        self._process: asyncio.subprocess.Process | None = None
        for folder in (self.log.parent, self.pid_file.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """The running process's id, 0 when there is none."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start the process in its own session, writing to the log.

        Args:
            argv: Program and arguments.
            environment: Variables on top of the plane's own.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        write_pid(self.pid_file, self._process.pid)

    async def wait(self) -> int:
        """Wait for the end of the process and return its exit status (negative: the signal that killed it)."""
        assert self._process is not None
        status = await self._process.wait()
        self.pid_file.unlink(missing_ok=True)
        return status

    async def stop(self, grace: float) -> None:
        """Ask the process to end, and make it after `grace` seconds."""
        if not self.pid:
            return
        _signal_group(self.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), grace)
        except TimeoutError:
            _signal_group(self.pid, signal.SIGKILL)
            await self.wait()

    def last_line(self) -> str:
        """The last line the process has written, for a person to read."""
        return last_line(self.log)


def last_line(log: Path, limit: int = 300) -> str:
    """Return the last non-empty line of a log, cut to `limit` characters; empty if there is none."""
    with contextlib.suppress(FileNotFoundError), log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - 8192))
        lines = [line.strip() for line in stream.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return lines[-1][:limit] if lines else ""
    return ""


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one move, so that a reader sees the old or the new text and nothing between."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def write_pid(path: Path, pid: int) -> None:
    """Record a process so that it can be told from a later one with the same id."""
    with contextlib.suppress(psutil.NoSuchProcess):
        write_atomically(path, json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}))


def read_pid(path: Path) -> int:
    """Return the id of the process that a pid file names if that very process still runs, else 0."""
    try:
        record = json.loads(path.read_text("utf-8"))
        process = psutil.Process(record["pid"])
        same = abs(process.create_time() - record["started"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, ValueError, KeyError, psutil.Error):
        return 0
    return process.pid if same else 0


def end_orphans(home: Path) -> list[str]:
    """Kill the children that an earlier supervisor left behind.

    Returns:
        The names of the processes that were still there.
    """
    found = []
    for path in sorted((home / "pids").glob("*.json")):
        if pid := read_pid(path):
            _signal_group(pid, signal.SIGKILL)
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).wait(10)
            found.append(path.stem)
        path.unlink(missing_ok=True)
    return found


def is_free(port: int) -> bool:
    """Say whether a port of the loopback interface can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        return probe.getsockname()[1]


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
