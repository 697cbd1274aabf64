"""Write what an image is made of: a CycloneDX bill of materials and the licences. Runs while the image is built."""

import json
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LICENSE_FILE = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
TOOLS = Path(sys.executable).parent


def python_packages(environment: Path) -> list[Distribution]:
    """The distributions of a virtual environment by name."""
    found = distributions(path=[str(site_packages(environment))])
    return sorted(found, key=lambda distribution: distribution.metadata["Name"].lower())


def site_packages(environment: Path) -> Path:
    """Where a virtual environment keeps its packages."""
    return next(environment.glob("lib/python3.*/site-packages"))


def system_packages() -> list[tuple[str, str, str]]:
    """Name, version and architecture of what the base image brings."""
    columns = "${Package}\t${Version}\t${Architecture}\n"
    listed = subprocess.run(
        ["dpkg-query", "--show", "--showformat", columns], capture_output=True, text=True, check=True
    )
    return sorted((name, version, machine) for name, version, machine in map(str.split, listed.stdout.splitlines()))


def bill_of_materials(environment: Path) -> str:
    """Describe the environment and the system under it as CycloneDX, the same bytes each time."""
    options = ["--output-reproducible", "--no-validate"]  # the tests validate what is written in the end
    command = [TOOLS / "cyclonedx-py", "environment", *options, environment / "bin" / "python"]
    bom = Bom.from_json(json.loads(subprocess.check_output(command)))  # type: ignore[attr-defined]
    for name, version, machine in system_packages():
        purl = PackageURL("deb", "debian", name, version, {"arch": machine})
        bom.components.add(Component(name=name, version=version, purl=purl, bom_ref=str(purl)))
    written = json.loads(JsonV1Dot6(bom).output_as_string())
    written.pop("serialNumber", None)
    written["metadata"].pop("timestamp", None)
    return _pretty(written)


def licenses(environment: Path) -> str:
    """Name each package's licence: as SPDX where that is certain, in its own words, and where its text lies."""
    sys.path.append(str(site_packages(environment)))  # the project's own reading of licence statements
    from components.data.licenses import classifiers_to_spdx, refine, to_spdx

    listed: list[dict[str, Any]] = []
    for distribution in python_packages(environment):
        headers = distribution.metadata
        stated = [headers[field] for field in ("License-Expression", "License") if field in headers]
        classifiers = [text for text in headers.get_all("Classifier") or [] if text.startswith("License ::")]
        texts = [
            file
            for file in sorted(map(Path, distribution.files or []))
            if ".dist-info" in str(file.parent) and LICENSE_FILE.search(file.name)
        ]
        contents = [Path(distribution.locate_file(file)).read_text("utf-8", "replace") for file in texts]
        spdx = next(filter(None, map(to_spdx, stated)), "") or classifiers_to_spdx(classifiers)
        listed.append(
            {
                "name": headers["Name"],
                "version": distribution.version,
                "spdx": refine(spdx, contents),
                "stated": (stated[0].strip().partition("\n")[0] if stated else "") or "; ".join(classifiers),
                "texts": [str(distribution.locate_file(file)) for file in texts],
            }
        )
    system = [
        {"name": name, "version": version, "texts": [f"/usr/share/doc/{name}/copyright"]}
        for name, version, _ in system_packages()
    ]
    return _pretty({"python": listed, "system": system})


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    where, target = map(Path, sys.argv[1:])
    target.mkdir(parents=True, exist_ok=True)
    (target / "sbom.cdx.json").write_text(bill_of_materials(where), "utf-8")
    (target / "licenses.json").write_text(licenses(where), "utf-8")
