"""Run a program in a process that has given up its rights, and tell what came of it."""

import contextlib
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components.common.errors import HeadraceError
from components.evaluation.benchmark.sandbox.confine import ALLOWED
from components.evaluation.benchmark.sandbox.limits import Limits

CONFINE = Path(__file__).with_name("confine.py")
_LOOK = 0.05
"""Seconds between two looks at what a program has written."""
_MIB = 2**20

PROBE = """
import hashlib, json, math, os, random, re, socket, datetime, collections, itertools, functools, heapq, string, typing
import fcntl

assert sum(range(10)) == 45 and math.isclose(math.tau, 2 * math.pi) and hashlib.sha256(b"").hexdigest()
with open("mine", "w") as file:
    file.write("x")
os.rename("mine", "still mine")
held = []

def holds(name, act, *errors):
    try:
        act()
    except errors:
        held.append(name)

holds("network", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM), OSError)
holds("local sockets", lambda: socket.socketpair(), OSError)
holds("processes", os.fork, OSError)
holds("other programs", lambda: os.execv("/bin/sh", ["sh"]), OSError)
holds("signals to others", lambda: os.kill(os.getppid(), 0), OSError)
holds("reading outside", lambda: open({secret!r}).read(), OSError)
holds("writing outside", lambda: open({secret!r}, "a"), OSError)
holds("truncating outside", lambda: os.truncate({secret!r}, 0), OSError)
holds("times outside", lambda: os.utime({secret!r}), OSError)
holds("owners of files", lambda: fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid()), OSError)
holds("owners of files at large", lambda: fcntl.fcntl(0, 15, bytes(8)), OSError)  # F_SETOWN_EX
holds("signals of files", lambda: fcntl.fcntl(0, fcntl.F_SETSIG, 9), OSError)
holds("listing outside", lambda: os.listdir("/proc"), OSError)
holds("large files", lambda: open("large", "wb").truncate({file_bytes} + 1), OSError)
holds("memory", lambda: bytearray({memory_bytes}), MemoryError)
os.environ.pop("LC_CTYPE", None)  # Python's own
if not os.environ:
    held.append("environment")
raise SystemExit(json.dumps(held))
"""
HELD = (
    "network",
    "local sockets",
    "processes",
    "other programs",
    "signals to others",
    "reading outside",
    "writing outside",
    "truncating outside",
    "times outside",
    "owners of files",
    "owners of files at large",
    "signals of files",
    "listing outside",
    "large files",
    "memory",
    "environment",
)
"""What the probe must find closed."""


@dataclass(frozen=True)
class Verdict:
    """What came of a program.

    Attributes:
        passed: It ran to its end without an exception.
        reason: `passed`, `timeout`, `disk`, `signal N`, or the name of the exception that ended it.
        message: The exception's own words, at most 500 characters.
        seconds: How long it ran.
    """

    passed: bool
    reason: str
    message: str
    seconds: float


def run_program(program: str, limits: Limits) -> Verdict:
    """Run a Python program with the standard library only, in a scratch directory of its own.

    A program that was written to deceive could still claim to have passed: it shares a process with its own tests, as
    in every published harness. It can do nothing else: see `confine`.

    Args:
        program: Its source.
        limits: What it may use.

    Raises:
        HeadraceError: This machine cannot confine a program.
    """
    ensure_confined(limits)
    return _run(program, limits)


def _run(program: str, limits: Limits) -> Verdict:
    scratch = tempfile.mkdtemp(prefix="headrace-sandbox-")
    readable, writable = os.pipe()
    try:
        word = secrets.token_hex(16)
        job = {
            "program": program,
            "word": word,
            "report": writable,
            "scratch": scratch,
            "limits": {
                "CPU": int(limits.seconds) + 1,
                "AS": limits.memory_mib * _MIB,
                "FSIZE": limits.file_mib * _MIB,
                "NOFILE": limits.open_files,
                "CORE": 0,
            },
        }
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", str(CONFINE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=scratch,
            env={},
            pass_fds=(writable,),
            start_new_session=True,
        )
        os.close(writable)
        writable = -1
        assert process.stdin
        with contextlib.suppress(BrokenPipeError), process.stdin as given:
            given.write(json.dumps(job).encode())
        ended = _wait(process, Path(scratch), limits, began)
        seconds = time.perf_counter() - began
        os.set_blocking(readable, False)
        with contextlib.suppress(BlockingIOError):
            return _judge(os.read(readable, 65_536), word, ended, process.returncode, seconds)
        return _judge(b"", word, ended, process.returncode, seconds)
    finally:
        os.close(readable)
        if writable >= 0:
            os.close(writable)
        shutil.rmtree(scratch, ignore_errors=True)


def _wait(process: "subprocess.Popen[bytes]", scratch: Path, limits: Limits, began: float) -> str:
    """Wait for a program's end, or bring it about; says why if it was not its own."""
    while True:
        try:
            process.wait(_LOOK)
            return ""
        except subprocess.TimeoutExpired:
            late = time.perf_counter() - began > limits.seconds
            if late or _written(scratch) > 4 * limits.file_mib * _MIB:
                process.kill()
                process.wait()
                return "timeout" if late else "disk"


def _written(folder: Path) -> int:
    """Bytes of the files in a folder; each file and directory counts for a block at least."""
    total = 0
    for parent, _, files in os.walk(folder):
        total += 4096
        for name in files:
            with contextlib.suppress(OSError):
                total += max(4096, (Path(parent) / name).lstat().st_blocks * 512)
    return total


def _judge(report: bytes, word: str, ended: str, code: int, seconds: float) -> Verdict:
    if ended:
        return Verdict(False, ended, "", seconds)
    try:
        said = json.loads(report)
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        said = {}
    if said.get("word") == word and code == 0:
        return Verdict(True, "passed", "", seconds)
    if "error" in said:
        return Verdict(False, str(said["error"])[:80], str(said.get("message", ""))[:500], seconds)
    return Verdict(False, f"signal {-code}" if code < 0 else "left early", "", seconds)


@cache
def ensure_confined(limits: Limits) -> None:
    """See for oneself that a program is confined on this machine.

    Raises:
        HeadraceError: It is not; the message says what stays open.
    """
    if sys.platform != "linux" or platform.machine() not in ALLOWED:
        raise HeadraceError(
            f"programs that a model wrote run on Linux ({', '.join(ALLOWED)}) only, where they can be confined; leave "
            "tasks of kind code out here"
        )
    with tempfile.TemporaryDirectory(prefix="headrace-outside-") as folder:
        secret = Path(folder) / "secret"
        secret.write_text("not for programs", "utf-8")
        filled = PROBE.format(
            secret=str(secret), file_bytes=limits.file_mib * _MIB, memory_bytes=limits.memory_mib * _MIB
        )
        verdict = _run(filled, limits)
    try:
        held = json.loads(verdict.message) if verdict.reason == "SystemExit" else []
    except ValueError:
        held = []
    if open_ := [name for name in HELD if name not in held]:
        why = f" ({verdict.reason}: {verdict.message})" if verdict.reason != "SystemExit" else ""
        raise HeadraceError(
            f"this machine cannot confine programs that a model wrote: {', '.join(open_)} stay open{why}; it takes "
            "Linux 6.2 with Landlock and seccomp. Leave tasks of kind code out, or run them on another node"
        )
