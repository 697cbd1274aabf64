"""Gives up every right a program does not need, then runs one. Started by `run.py` as a process of its own.

What is given up, in this order, needs no privilege, so that it holds in an unprivileged container as well as for root:

1. resource limits (processor time, address space, size of files, open files, no core dump);
2. all capabilities, and the way back to them (`no_new_privs`);
3. the file system but the standard library and the scratch directory (Landlock, which keeps files from being cut short
   since Linux 6.2), where the kernel has it also connections and signals;
4. every system call that is not listed below (seccomp): no sockets, no processes or threads, no signals to others, be
   it through the owner of a file.

Standard library only: it runs with `python -I -S` and nothing of the project. The job comes as JSON on standard input;
what came of it is written to the file descriptor that the job names.
"""

import ctypes
import json
import os
import platform
import resource
import struct
import sys
import sysconfig
from pathlib import Path

NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE, READ_DIR, WRITE_FILE = 1 << 2, 1 << 3, 1 << 1
LEAST_ABI = 3
"""The first Landlock ABI with a right to truncate files; before it, whoever could name a file could empty it."""
FILE_RIGHTS = {3: 15, 4: 15, 5: 16}
"""How many rights to files each Landlock ABI knows; later ones as the last."""
SCRATCH = WRITE_FILE | READ_FILE | READ_DIR | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 14
"""In the scratch directory: read, write, truncate, make and remove files and directories."""
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache")
"""Where shared libraries and time zones are, to read."""

ALLOWED = {
    "x86_64": (
        0xC000003E,
        # read … brk, rt_sigaction … writev, access, select … madvise without shared memory
        *(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28),
        # dup, nanosleep, timers, getpid, sendfile, exit, uname, fcntl, fsync, ftruncate, directories, unlink, readlink
        *(32, 33, 35, 36, 37, 38, 39, 40, 60, 63, 72, 74, 75, 77, 79, 80, 81, 82, 83, 84, 87, 89, 95, 96, 97),
        # getrusage … getppid, signals of its own, statfs, arch_prctl, gettid, time, futex, getdents64, clocks, exit
        *(98, 99, 100, 102, 104, 107, 108, 110, 127, 128, 131, 137, 138, 158, 186, 201, 202, 204, 217, 218, 219),
        *(221, 228, 229, 230, 231, 257, 258, 262, 263, 264, 267, 269, 270, 271, 273, 285, 290, 291, 292, 293),
        *(316, 318, 324, 326, 332, 334, 436, 439),
    ),
    "aarch64": (
        0xC00000B7,
        *(17, 19, 20, 23, 24, 25, 29, 34, 35, 38, 43, 44, 46, 47, 48, 49, 50, 56, 57, 59, 61, 62, 63, 64, 65, 66),
        *(67, 68, 71, 72, 73, 78, 79, 80, 82, 83, 93, 94, 96, 98, 99, 101, 102, 103, 113, 114, 115, 123, 124, 128),
        *(132, 134, 135, 136, 137, 139, 153, 160, 163, 165, 166, 169, 172, 173, 174, 175, 176, 177, 178, 179, 214),
        *(215, 216, 222, 223, 226, 227, 232, 233, 276, 278, 283, 285, 291, 293, 436, 439),
    ),
}
"""By machine: how seccomp calls it, and the numbers of the system calls that Python needs to compute and use files."""
FCNTL = {"x86_64": 72, "aarch64": 25}
OWNING = (8, 10, 15)
"""Commands of fcntl that decide whom a file signals, and how: F_SETOWN, F_SETSIG, F_SETOWN_EX."""

DENY, ALLOW, KILL = 0x00050000 | 1, 0x7FFF0000, 0x80000000
"""What the filter returns: an error (EPERM), the call, the end of the process."""

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Read the job, give up all rights, run the program, say what came of it."""
    job = json.load(sys.stdin)
    os.umask(0o077)
    _limit(job)
    _drop_capabilities()
    _call(_libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _restrict_files(job["scratch"])
    _restrict_calls()
    report = os.fdopen(job["report"], "w", encoding="utf-8")
    try:
        exec(compile(job["program"], "<program>", "exec"), {"__name__": "__main__"})
        said = {"word": job["word"]}
    except BaseException as error:
        said = {"error": type(error).__name__, "message": str(error)[:500]}
    report.write(json.dumps(said))
    report.flush()
    os._exit(0)


def _limit(job: dict) -> None:
    for name, value in job["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def _drop_capabilities() -> None:
    header = struct.pack("Ii", 0x20080522, 0)
    _call(_libc.capset(header, bytes(24)), "capset")


def _restrict_files(scratch: str) -> None:
    abi = _libc.syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    _call(abi, "landlock")
    if abi < LEAST_ABI:
        raise OSError(f"landlock: ABI {abi} cannot keep files from being truncated")
    known = (1 << FILE_RIGHTS.get(abi, FILE_RIGHTS[5])) - 1
    attributes = struct.pack("QQQ", known, 3 if abi >= 4 else 0, 3 if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _libc.syscall(LANDLOCK_CREATE, attributes[:size], ctypes.c_size_t(size), 0)
    _call(ruleset, "landlock")
    paths = sysconfig.get_paths()
    for path in {paths["stdlib"], paths["platstdlib"], *LIBRARIES}:
        _permit(ruleset, path, READ_FILE | READ_DIR, known)
    _permit(ruleset, "/dev/null", READ_FILE | WRITE_FILE, known)
    _permit(ruleset, "/dev/urandom", READ_FILE, known)
    _permit(ruleset, scratch, SCRATCH, known)
    _call(_libc.syscall(LANDLOCK_RESTRICT, ruleset, 0), "landlock")
    os.close(ruleset)


def _permit(ruleset: int, path: str, rights: int, known: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a library folder that this system does not have
    wanted = rights & known
    if not Path(path).is_dir():
        wanted &= READ_FILE | WRITE_FILE | 1
    _call(_libc.syscall(LANDLOCK_ADD, ruleset, 1, struct.pack("=Qi", wanted, opened), 0), f"landlock: {path}")
    os.close(opened)


def _restrict_calls() -> None:
    architecture, *numbers = ALLOWED[platform.machine()]
    program = [
        (0x20, 0, 0, 4),  # load the architecture
        (0x15, 1, 0, architecture),
        (0x06, 0, 0, KILL),
        (0x20, 0, 0, 0),  # load the number of the call
    ]
    program += [
        (0x15, 0, len(OWNING) + 3, FCNTL[platform.machine()]),
        (0x20, 0, 0, 24),  # load the command, the low half of the second argument
        *((0x15, len(OWNING) - at, 0, command) for at, command in enumerate(OWNING)),
        (0x06, 0, 0, ALLOW),
        (0x06, 0, 0, DENY),
    ]
    last = len(numbers) + 1
    program += [(0x15, last - at - 1, 0, number) for at, number in enumerate(numbers)]
    program += [(0x06, 0, 0, DENY), (0x06, 0, 0, ALLOW)]
    code = b"".join(struct.pack("HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    described = struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer))
    _call(_libc.prctl(SECCOMP, FILTER, described, 0, 0), "seccomp")


def _call(result: int, name: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
