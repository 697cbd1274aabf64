"""The Containerfile keeps its promises: four small images that run as nobody and hold no tools."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing

from components.common.code import code_digest
from components.common.step import image_reference
from pipelines.compile import COMPILED
from pipelines.images import CONTAINERFILE, ROOT, TARGETS

IMAGE = "release"
"""The smallest image stands for all in the build: they differ in an extra."""
PIP_MARK = "# this-configuration-stays-outside"
NOT_INSIDE = ("cc", "gcc", "ld", "make", "pip", "pip3")


@dataclass(frozen=True)
class Stage:
    name: str
    base: str
    instructions: list[tuple[str, str]]

    def all(self, keyword: str) -> list[str]:
        return [arguments for name, arguments in self.instructions if name == keyword]


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    lines = [line for line in CONTAINERFILE.read_text("utf-8").splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found: list[Stage] = []
    for keyword, _, arguments in (line.partition(" ") for line in joined):
        if keyword == "FROM":
            base, _, name = arguments.partition(" AS ")
            found.append(Stage(name, base, []))
        elif found:
            found[-1].instructions.append((keyword, arguments))
    return {stage.name: stage for stage in found}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    said = subprocess.run([hadolint, "--failure-threshold", "style", CONTAINERFILE], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, "")


def test_there_is_one_image_per_extra(stages: dict[str, Stage]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) - {"names", "plane", "wandb", "dev"} == set(TARGETS)
    assert {name for name in stages if f"{name}-build" in stages} == set(TARGETS)
    for target in TARGETS:
        installs = [run.split()[-1] for run in stages[f"{target}-build"].all("RUN") if "images/install" in run]
        assert installs == [target]


def test_every_image_runs_as_nobody_on_a_pinned_base_and_keeps_only_what_it_needs(stages: dict[str, Stage]) -> None:
    base = re.search(r"^ARG BASE=(\S+)$", CONTAINERFILE.read_text(), re.MULTILINE)
    assert base and re.search(r":3\.11[\w.-]*@sha256:[0-9a-f]{64}$", base[1])
    assert all(stage.base == "${BASE}" or stage.base in stages for stage in stages.values())
    assert stages["runtime"].base == "${BASE}" and not stages["runtime"].all("COPY")
    (user,) = stages["runtime"].all("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    for target in TARGETS:
        assert stages[target].base == "runtime"
        assert not stages[target].all("USER") and not stages[target].all("RUN")
        assert all(copy.startswith(f"--from={target}-build /") for copy in stages[target].all("COPY"))


def test_what_is_copied_exists_and_the_build_sees_it(stages: dict[str, Stage]) -> None:
    sources = {
        source.split("/")[0]
        for stage in stages.values()
        for copy in stage.all("COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }
    assert sources and all((ROOT / source).exists() for source in sources)
    seen = {line[1:] for line in (ROOT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    assert seen == sources | {"Containerfile"}


class Buildah:
    """Builds without a daemon, in a store of its own."""

    def __init__(self, folder: Path, base: Path) -> None:
        self._store = ("--root", folder / "root", "--runroot", folder / "run", "--storage-driver", "vfs")
        container = self("from", "scratch")
        self("add", "--quiet", container, base, "/")
        self("commit", "--quiet", "--timestamp", "0", container, "localhost/base")
        self("rm", container)

    def __call__(self, *arguments: object, check: bool = True) -> str:
        done = subprocess.run(["buildah", *map(str, self._store), *map(str, arguments)], capture_output=True, text=True)
        assert not check or done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip()

    def build(self, target: str, configuration: Path) -> str:
        """Build a target; returns the image's id."""
        return self(
            *("bud", "--quiet", "--isolation", "chroot", "--timestamp", "0", "--build-arg", "BASE=localhost/base"),
            *("--secret", f"id=pip,src={configuration}"),
            *(part for folder in index_folders() for part in ("--volume", f"{folder}:{folder}:ro")),
            *("--target", target, ROOT),
        ).splitlines()[-1]

    def run(self, container: str, *command: str, check: bool = True) -> str:
        return self("run", "--isolation", "chroot", container, "--", *command, check=check)


def pip_settings() -> dict[str, str]:
    """How pip reaches its index on this machine, from its files and its environment."""
    listed = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    settings = dict(line.split("=", 1) for line in listed.splitlines())
    wanted = ("cert", "extra-index-url", "find-links", "index-url", "no-index", "proxy", "timeout", "trusted-host")
    return {
        key.rpartition(".")[2]: value.strip("'") for key, value in settings.items() if key.rpartition(".")[2] in wanted
    }


def index_folders() -> list[Path]:
    """Folders of this machine that pip's configuration names; an index refers to files beside it."""
    folders = set()
    for key, value in pip_settings().items():
        for word in value.split():
            path = Path(urlsplit(word).path)
            if word.startswith(("/", "file://")) and path.exists():
                folders.add(path if path.is_dir() and not key.endswith("index-url") else path.parent)
    return sorted(folder for folder in folders if not folders & set(folder.parents))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for gigabytes, emptied afterwards."""
    missing = [tool for tool in ("buildah", "mmdebstrap") if not shutil.which(tool)]
    if missing or os.geteuid() != 0:
        pytest.skip(f"images are built as root with buildah; not installed: {', '.join(missing) or 'nothing'}")
    folder = tmp_path_factory.mktemp("images")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def base(scratch: Path) -> Path:
    """Debian with Python 3.11: the base where none can be pulled."""
    archive = scratch / "base.tar"
    packages = "--include=ca-certificates,python3,python3-venv"
    made = subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", packages, "bookworm", archive], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"no Debian mirror: {made.stderr.strip().splitlines()[-1]}")
    return archive


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_image_is_the_same_each_time_and_holds_what_its_steps_need_and_no_more(scratch: Path, base: Path) -> None:
    configuration = scratch / "pip.conf"
    lines = ["[global]", PIP_MARK, *(f"{key} = {value}" for key, value in pip_settings().items())]
    configuration.write_text("\n".join(lines))

    buildah = Buildah(scratch, base)
    image = buildah.build(IMAGE, configuration)
    assert buildah.build(IMAGE, configuration) == image
    inspected = json.loads(buildah("inspect", "--type", "image", image))
    container = buildah("from", image)
    root = Path(buildah("mount", container))

    assert inspected["OCIv1"]["config"]["User"] == "65532:65532"
    assert inspected["OCIv1"]["config"]["Labels"]["org.opencontainers.image.version"] == "0.1.0"
    assert PIP_MARK not in json.dumps(inspected)
    assert subprocess.run(["grep", "-rqsF", PIP_MARK, root]).returncode == 1

    program = "; ".join(f"import {module}" for module in steps_of(IMAGE))
    buildah.run(container, "python", "-c", program)
    digest = "from components.common.code import code_digest; print(code_digest())"
    assert buildah.run(container, "python", "-c", digest) == code_digest()
    assert "release/publish" in buildah.run(container, "headrace", "step")
    absent = "import importlib.util as u; print([m for m in ('pip', 'ensurepip', 'torch') if u.find_spec(m)])"
    assert buildah.run(container, "python", "-c", absent) == "[]"
    find = f"for tool in {' '.join(NOT_INSIDE)}; do command -v $tool; done"
    assert not buildah.run(container, "sh", "-c", find, check=False)
    elsewhere = " ".join(f"! -path '{folder}/*'" for folder in ("/dev", "/proc", "/sys", "/tmp"))
    writable = buildah.run(
        container, "sh", "-c", f"find / -xdev -writable ! -type l {elsewhere} 2> /dev/null", check=False
    )
    assert set(writable.split()) <= {"/tmp", "/var/tmp", "/run/lock"}

    check_description(root)


def steps_of(image: str) -> list[str]:
    """The modules that the steps of an image import, as the compiled pipelines say."""
    found = set()
    for path in COMPILED.glob("*.yaml"):
        (specification, *_) = yaml.safe_load_all(path.read_text("utf-8"))
        for executor in specification["deploymentSpec"]["executors"].values():
            if executor.get("container", {}).get("image") == image_reference(image):
                found |= set(re.findall(r"from (components\.[\w.]+) import", executor["container"]["command"][-1]))
    assert found
    return sorted(found)


def check_description(root: Path) -> None:
    """The bill of materials and the licences are valid, and speak of what is there."""
    folder = root / "usr/share/doc/headrace"
    bill = (folder / "sbom.cdx.json").read_text("utf-8")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    described = json.loads(bill)
    assert "serialNumber" not in described and "timestamp" not in described["metadata"]
    listed = {component["purl"].partition("?")[0] for component in described["components"]}
    packages = {
        f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
        for name, version in (
            path.name.removesuffix(".dist-info").rsplit("-", 1)
            for path in root.glob("opt/headrace/lib/python3.*/site-packages/*.dist-info")
        )
    }
    assert len(packages) > 50 and packages <= {purl.lower().replace("_", "-") for purl in listed}
    assert any(purl.startswith("pkg:deb/debian/libc6@") for purl in listed)

    licenses = json.loads((folder / "licenses.json").read_text("utf-8"))
    assert len(licenses["python"]) == len(packages)
    unclear = [entry["name"] for entry in licenses["python"] if not (entry["spdx"] or entry["stated"])]
    assert not unclear
    licensing = get_spdx_licensing()
    assert all(not licensing.validate(entry["spdx"]).errors for entry in licenses["python"] if entry["spdx"])
    texts = [text for entry in [*licenses["python"], *licenses["system"]] for text in entry["texts"]]
    assert all((root / text.lstrip("/")).is_file() for text in texts)
