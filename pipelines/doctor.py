"""What a machine needs for the laptop's run, and what to type when it lacks it."""

import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.keys import SUBJECTS, key_folder, subject_key
from components.common.store import open_store
from components.common.tombstones import PREFIX as TOMBSTONES
from serving.plane.client import plane_of
from serving.plane.processes import is_free

_DISK_GIB = 4
_MEMORY_GIB = 7
_MODELS = Path(__file__).parents[1] / "requirements-models.txt"
"""Packages that are installed without what they declare to need, so no extra can name them."""


class Mark(StrEnum):
    """What came of looking at something."""

    GOOD = "✓"
    BAD = "✗"
    UNSURE = "!"
    """It could not be seen, or it works now and will not always."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, whether it will do, and what to do if not."""

    what: str
    mark: Mark = Mark.GOOD
    fix: str = ""


def examine(environment: Environment) -> list[Finding]:
    """Look at everything a run on this machine needs."""
    home = Path(environment.home)
    return [
        _python(),
        _system(),
        *_tools(),
        *_packages(),
        _disk(home),
        _memory(),
        _naming(environment),
        *_ports(environment),
    ]


def _finding(what: str, ok: bool, fix: str) -> Finding:
    return Finding(what) if ok else Finding(what, Mark.BAD, fix)


def _python() -> Finding:
    version = platform.python_version()
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    return _finding(f"Python {version}", ok, "install Python 3.11 or 3.12, then `make clean run PYTHON=…`")


def _system() -> Finding:
    ok = sys.platform in ("linux", "darwin") and platform.machine() in ("x86_64", "aarch64", "arm64")
    return _finding(f"{platform.system()} on {platform.machine()}", ok, "use Linux or macOS on x86-64 or Arm")


def _tools() -> list[Finding]:
    return [
        _finding(f"{tool} is installed", shutil.which(tool) is not None, f"install {tool} with your package manager")
        for tool in ("git", "make")
    ]


def _packages() -> list[Finding]:
    declared = [Requirement(line) for line in metadata.requires("headrace") or ()]
    extras = [name for name in metadata.metadata("headrace").get_all("Provides-Extra") or () if name != "dev"]
    groups = {"headrace": [need for need in declared if not need.marker]} | {
        extra: [need for need in declared if need.marker and need.marker.evaluate({"extra": extra})] for extra in extras
    }
    if _MODELS.is_file():
        lines = _MODELS.read_text("utf-8").splitlines()
        groups["models"] = [Requirement(line) for line in lines if line and not line.startswith("#")]
    findings = []
    for group, needs in groups.items():
        problems = list(_unmet(needs))
        what = f"packages of {group}" + (f": {', '.join(problems)}" if problems else "")
        findings.append(_finding(what, not problems, "make environment"))
    return findings


def _unmet(needs: Iterable[Requirement]) -> Iterable[str]:
    for need in needs:
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            yield f"{need.name} missing"
            continue
        if not need.specifier.contains(version, prereleases=True):
            yield f"{need.name} is {version}, not {need.specifier}"


def _disk(home: Path) -> Finding:
    folder = next(place for place in (home, *home.parents) if place.exists())
    free = shutil.disk_usage(folder).free / 2**30
    fix = f"free {_DISK_GIB} GiB (`headrace gc` says what can go), or choose another --home"
    return _finding(f"{free:.0f} GiB free in {folder}", free >= _DISK_GIB, fix)


def _memory() -> Finding:
    total = psutil.virtual_memory().total / 2**30
    return _finding(f"{total:.0f} GiB of memory", total >= _MEMORY_GIB, "tune a smaller batch: model.tune.batch_size=2")


def _naming(environment: Environment) -> Finding:
    """The key that names people in documents; one made anew would name other people, so none may take its place."""
    path = key_folder(environment) / SUBJECTS
    if path.is_file():
        try:
            subject_key(environment)
        except HeadraceError as error:
            return Finding("key that names people", Mark.BAD, str(error))
        return Finding("key that names people")
    erased = next(open_store(environment.store).list(TOMBSTONES), None)
    fix = f"put back the copy of {path} that you keep: without it nobody can tell who was erased and may not come back"
    return _finding("key that names people is " + ("gone" if erased else "made when it is needed"), not erased, fix)


def _ports(environment: Environment) -> list[Finding]:
    plane = plane_of(environment)
    if plane.pid:
        try:
            plane.revisions()
        except HeadraceError as error:
            return [Finding("serving plane", Mark.BAD, str(error))]
        return [Finding(f"serving plane is up (process {plane.pid})")]
    return [
        _finding(
            f"port {port} is free",
            is_free(port),
            f"stop what listens on {port}, or change serving in pipelines/environments/local.yaml",
        )
        for port in (plane.gateway_port, plane.api_port)
    ]
