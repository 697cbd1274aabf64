from pathlib import Path

import pytest

from components.common.errors import HeadraceError
from components.evaluation.benchmark.sandbox import Limits, ensure_confined, run, run_program

ABI = "abi = _libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)"
LIMITS = Limits(seconds=5, memory_mib=256, file_mib=1)


def test_a_program_that_holds_passes_and_one_that_does_not_says_why() -> None:
    assert run_program("import math\nassert math.gcd(12, 18) == 6\nprint('한국어' * 100_000)", LIMITS).passed
    failed = run_program("assert 1 == 2, '틀림'", LIMITS)
    assert (failed.passed, failed.reason, failed.message) == (False, "AssertionError", "틀림")
    assert run_program("def f(:", LIMITS).reason == "SyntaxError"


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os\nwhile True: os.fork()", "PermissionError"),
        ("import subprocess\nsubprocess.run(['ls'])", "PermissionError"),
        ("import threading\nwhile True: threading.Thread(target=print).start()", "RuntimeError"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 1))", "PermissionError"),
        ("import urllib.request\nurllib.request.urlopen('http://127.0.0.1:1')", "URLError"),
        ("import asyncio\nasyncio.run(asyncio.sleep(0))", "PermissionError"),  # wants a pair of sockets
        ("open('/etc/passwd').read()", "PermissionError"),
        ("import os\nos.listdir('/')", "PermissionError"),
        ("import os\nos.symlink('/etc/passwd', 'here')\nopen('here').read()", "PermissionError"),
        ("import os\nos.kill(os.getppid(), 9)", "PermissionError"),
        ("import os\nos.truncate('/etc/passwd', 0)", "PermissionError"),
        ("import os\nos.utime('/etc/passwd')", "PermissionError"),
        ("import fcntl, os\nfcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())", "PermissionError"),
        ("import fcntl\nfcntl.fcntl(0, fcntl.F_SETSIG, 9)", "PermissionError"),
        ("import fcntl\nfcntl.fcntl(0, 15, bytes(8))", "PermissionError"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "ValueError"),
        ("with open('big', 'wb') as file: file.truncate(10**9)", "OSError"),
        ("bytearray(10**9)", "MemoryError"),
        ("files = []\nwhile True: files.append(open('f', 'w'))", "OSError"),
        ("n = 0\nwhile True:\n  open(str(n), 'wb').write(bytes(10**6)); n += 1", "disk"),
        ("import os\nn = 0\nwhile True:\n  os.mkdir(str(n)); n += 1", "disk"),
        ("while True: pass", "timeout"),
        ("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)", "timeout"),
        ("def f(): f()\nf()", "RecursionError"),
        ("import ctypes\nctypes.string_at(0)", "signal 11"),
        ("import ctypes\nassert ctypes.CDLL(None).syscall(41, 2, 1, 0) >= 0", "AssertionError"),
        (
            "import ctypes\nassert ctypes.CDLL(None).syscall(72, 0, ctypes.c_long(1 << 32 | 10), 9) >= 0",
            "AssertionError",
        ),
        ("import ctypes\nassert ctypes.CDLL(None).syscall(0x40000029, 2, 1, 0) >= 0", "AssertionError"),
    ],
)
def test_a_hostile_program_gets_nowhere(program: str, reason: str) -> None:
    verdict = run_program(program, LIMITS)
    assert not verdict.passed
    assert verdict.reason == reason
    assert verdict.seconds < 10


@pytest.mark.parametrize(
    "program",
    [
        "import os\nos._exit(0)",
        "raise SystemExit(0)",
        "print('passed')\nraise SystemExit",
        "import os\nfor file in range(3, 20):\n  try: os.write(file, b'{}')\n  except OSError: pass\nos._exit(0)",
        "import sys\nsys.stdout.write('x' * 10**7)\nassert 0",
    ],
)
def test_leaving_early_is_not_passing(program: str) -> None:
    assert not run_program(program, LIMITS).passed


def test_what_files_are_for_stays_allowed() -> None:
    program = """
import fcntl, os
with open("x", "w+") as file:
    file.write("한국어")
    file.truncate(3)
    assert fcntl.fcntl(file, fcntl.F_GETFL) & os.O_RDWR
    fcntl.fcntl(file, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    assert fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10) >= 10
assert open("x").read() == "한"
open("x", "w").close()
assert os.stat("x").st_size == 0
"""
    assert run_program(program, LIMITS).reason == "passed"


def test_it_knows_nothing_of_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_SECRET", "told to nobody")
    program = (
        "import os\nassert 'told' not in str(dict(os.environ))\nassert os.listdir() == []\nopen('x', 'w').write('y')"
    )
    assert run_program(program, LIMITS).passed
    assert run_program(program, LIMITS).passed, "each program has a scratch directory of its own"


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = len(list(Path("/proc/self/fd").iterdir()))
    run_program("open('x', 'w').write('y')", LIMITS)
    assert list(tmp_path.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_cannot_be_confined_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = run.CONFINE.read_text("utf-8")
    for strong, weakened, left_open in (
        ("    _restrict_calls()\n", "", "network"),
        ('    _restrict_files(job["scratch"])\n', "", "reading outside"),
        ("OWNING = (8, 10, 15)", "OWNING = (10, 15)", ": owners of files stay"),
        ("OWNING = (8, 10, 15)", "OWNING = (8, 15)", ": signals of files stay"),
        ("271, 273, 285", "271, 273, 280, 285", ": times outside stay"),
        (ABI, "abi = 2", "writing outside, truncating outside"),
    ):
        assert strong in source
        weak = tmp_path / "weak.py"
        weak.write_text(source.replace(strong, weakened), "utf-8")
        monkeypatch.setattr(run, "CONFINE", weak)
        ensure_confined.cache_clear()
        with pytest.raises(HeadraceError, match=left_open):
            run_program("pass", LIMITS)
    monkeypatch.setattr(run.platform, "machine", lambda: "riscv64")
    ensure_confined.cache_clear()
    with pytest.raises(HeadraceError, match="Linux"):
        run_program("pass", LIMITS)
    ensure_confined.cache_clear()
