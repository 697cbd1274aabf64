"""What a release pulls: listed, pinned by digest, and moved to another registry.

The copying is skopeo's. A digest is what the registry's manifest hashes to, computed here and compared after every
copy, so that what a cluster pulls is, byte for byte, what was released.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from pydantic import Field, TypeAdapter, ValidationError, field_validator

from components.common.errors import HeadraceError, UsageError
from components.common.options import Options, describe_validation, read_yaml
from components.common.step import IMAGES, MODEL_SERVER, VERSION

ROOT = Path(__file__).parents[1]
CONTAINERFILE = ROOT / "Containerfile"
THIRD_PARTY = ROOT / "images" / "third-party.yaml"
TARGETS = (*IMAGES, MODEL_SERVER)
"""What the Containerfile builds: the steps' images and the model server's."""

_REFERENCE = re.compile(
    r"(?P<name>[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d+)?(?:/[a-z0-9][a-z0-9._-]*)+)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_BASE = re.compile(r"^ARG BASE=(\S+)$", re.MULTILINE)
_SKOPEO_SAYS = re.compile(r'msg="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Reference:
    """An image by name: `registry/path`, with a tag, a digest or both."""

    name: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference with its registry spelled out.

        Raises:
            UsageError: It is none, or it has neither tag nor digest.
        """
        found = _REFERENCE.fullmatch(text)
        if not found or not (found["tag"] or found["digest"]):
            raise UsageError(f"{text!r} is no image; write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST")
        return cls(found["name"], found["tag"] or "", found["digest"] or "")

    def __str__(self) -> str:
        """The reference as tools write it."""
        return self.name + f":{self.tag}" * bool(self.tag) + f"@{self.digest}" * bool(self.digest)

    @property
    def pinned(self) -> str:
        """Name and digest, as a cluster should pull it."""
        return f"{self.name}@{self.digest}"

    def at(self, registry: str) -> "Reference":
        """The same image in another registry, under the last part of its name; one without a tag gets its digest's."""
        tag = self.tag or f"sha256-{self.digest.removeprefix('sha256:')[:12]}"
        return replace(self, name=f"{registry.rstrip('/')}/{self.name.rpartition('/')[2]}", tag=tag)


@dataclass(frozen=True)
class Image:
    """An image that a release needs.

    Attributes:
        reference: Where it is.
        purpose: What for.
        target: The Containerfile's target, if it is one of the project's own.
    """

    reference: Reference
    purpose: str
    target: str = ""

    @property
    def manifest_name(self) -> str:
        """What `manifests/` calls it: a name without a registry, which an overlay's kustomization replaces."""
        return f"headrace/{self.target}" if self.target else self.reference.name.partition("/")[2]


class ThirdParty(Options):
    """An entry of `images/third-party.yaml`."""

    image: str = Field(description="The image, with registry and tag.")
    purpose: str = Field(description="What it does in a cluster.")

    @field_validator("image")
    @classmethod
    def _is_a_reference(cls, image: str) -> str:
        try:
            return str(Reference.parse(image))
        except UsageError as error:
            raise ValueError(str(error)) from error


def read_images(lock: Path) -> dict[str, Reference]:
    """Read an image lock: the project's own images by target.

    Raises:
        UsageError: It is malformed or an image floats.
    """
    from pipelines.release import read_lock

    return {target: Reference.parse(image) for target, image in read_lock(lock).items()}


def needed(own: Mapping[str, Reference]) -> list[Image]:
    """List what a release needs: its own images, the base they are built on, and what runs beside them.

    Raises:
        UsageError: `images/third-party.yaml` is malformed.
    """
    base = _BASE.search(CONTAINERFILE.read_text("utf-8"))
    if base is None:
        raise UsageError(f"{CONTAINERFILE}: there is no ARG BASE=IMAGE")
    try:
        others = TypeAdapter(list[ThirdParty]).validate_python(read_yaml(THIRD_PARTY))
    except ValidationError as error:
        raise UsageError(f"{THIRD_PARTY}: {describe_validation(error)}") from error
    return [
        *(Image(reference, f"Headrace, target {target}", target) for target, reference in own.items()),
        Image(Reference.parse(base[1]), "base of Headrace's images, for building them"),
        *(Image(Reference.parse(other.image), other.purpose) for other in others),
    ]


def by_version() -> dict[str, Reference]:
    """The project's own images by its version, before they are pinned."""
    return {target: Reference(f"headrace/{target}", VERSION) for target in TARGETS}


def digest_of(reference: Reference) -> str:
    """Ask the registry for an image's digest; '' if there is no such image.

    Raises:
        HeadraceError: The registry cannot be asked, or its answer is not what the reference's digest says.
    """
    asked = reference.pinned if reference.digest else f"{reference.name}:{reference.tag}"
    finished = _skopeo("inspect", "--raw", f"docker://{asked}")
    if finished.returncode:
        said = finished.stderr.decode("utf-8", "replace")
        if "manifest unknown" in said or "name unknown" in said or "repository name not known" in said:
            return ""
        raise HeadraceError(f"{reference}: {_reason(said)}")
    digest = f"sha256:{hashlib.sha256(finished.stdout).hexdigest()}"
    if reference.digest and digest != reference.digest:
        raise HeadraceError(f"{reference}: the registry answered with {digest}; do not use this registry")
    return digest


def copy_command(source: Reference, target: Reference) -> list[str]:
    """The command that copies an image with all its platforms and its digest."""
    origin = source.pinned if source.digest else f"{source.name}:{source.tag}"
    return [
        *("skopeo", "copy", "--all", "--preserve-digests", "--retry-times", "3"),
        *(f"docker://{origin}", f"docker://{target.name}:{target.tag}"),
    ]


def plan_mirror(images: Sequence[Image], registry: str) -> list[tuple[Image, Reference]]:
    """Say where each image will be.

    Raises:
        UsageError: The registry has no valid name, or two images would get the same one.
    """
    planned = [(image, image.reference.at(registry)) for image in images]
    taken: dict[str, Reference] = {}
    for image, target in planned:
        Reference.parse(f"{target.name}:{target.tag}")
        other = taken.setdefault(target.name, image.reference)
        if other.name != image.reference.name:
            raise UsageError(f"{other} and {image.reference} would both become {target.name}; rename one")
    return planned


def mirror(planned: Sequence[tuple[Image, Reference]]) -> Iterator[tuple[Image, Reference, bool]]:
    """Copy what is not there yet, and compare digests afterwards.

    Yields:
        Each image, where it is now with its digest, and whether it had to be copied.

    Raises:
        HeadraceError: An image cannot be read, written, or is not the same afterwards.
    """
    for image, target in planned:
        digest = digest_of(image.reference)
        if not digest:
            raise HeadraceError(f"{image.reference} does not exist; see the lock or {THIRD_PARTY.name}")
        wanted = replace(target, digest=digest)
        there = replace(target, digest="")
        copied = digest_of(there) != digest
        if copied:
            command = copy_command(replace(image.reference, digest=digest), wanted)
            finished = _skopeo(*command[1:])
            if finished.returncode:
                raise HeadraceError(f"{image.reference} → {there}: {_reason(finished.stderr.decode())}")
            if (arrived := digest_of(there)) != digest:
                raise HeadraceError(f"{there} is {arrived or 'missing'} after the copy, not {digest}; do not use it")
        yield image, wanted, copied


def pushed(registry: str, tag: str) -> dict[str, Reference]:
    """Ask a registry for the digests of the project's images that were pushed to it.

    Raises:
        HeadraceError: One is missing, or the registry cannot be asked.
        UsageError: The registry or the tag has no valid name.
    """
    found = {}
    for target in TARGETS:
        reference = Reference.parse(f"{registry.rstrip('/')}/{target}:{tag}")
        digest = digest_of(reference)
        if not digest:
            raise HeadraceError(f"{reference} does not exist; build and push it with make images REGISTRY={registry}")
        found[target] = Reference(reference.name, digest=digest)
    return found


def write_lock(path: Path, own: Mapping[str, Reference]) -> None:
    """Write the lock that `headrace cut --images` pins a release with."""
    _write(path, yaml.safe_dump({target: reference.pinned for target, reference in own.items()}, sort_keys=True))


def pin_manifests(path: Path, pins: Mapping[str, Reference]) -> list[str]:
    """Write digests into the `images` of a kustomization, for those that it names.

    Args:
        path: A kustomization, such as `manifests/overlays/prod/images/kustomization.yaml`.
        pins: Pinned images by the names that the manifests use.

    Returns:
        The names that were pinned.

    Raises:
        UsageError: The file is no kustomization, or names none of them.
    """
    kustomization = read_yaml(path)
    entries = kustomization.get("images") if isinstance(kustomization, Mapping) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{path}: there are no images to pin; name them under `images`")
    named = [entry for entry in entries if entry.get("name") in pins]
    if not named:
        raise UsageError(f"{path}: images names none of {', '.join(pins)}")
    for entry in named:
        reference = pins[entry["name"]]
        entry.pop("newTag", None)
        entry.update(newName=reference.name, digest=reference.digest)
    text = path.read_text("utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True)[: _comment_lines(text)])
    _write(path, comment + yaml.safe_dump(kustomization, sort_keys=False, allow_unicode=True))
    return [entry["name"] for entry in named]


def _comment_lines(text: str) -> int:
    lines = text.splitlines()
    return next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text, "utf-8")
    temporary.rename(path)


def _skopeo(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    if shutil.which("skopeo") is None:
        raise HeadraceError("skopeo is not installed; install it with your package manager, or `make tools`")
    return subprocess.run(["skopeo", *arguments], capture_output=True, check=False)


def _reason(said: str) -> str:
    """What skopeo says went wrong, and what to do about it."""
    found = _SKOPEO_SAYS.findall(said)
    reason = json.loads(f'"{found[-1]}"') if found else " ".join(said.split()) or "skopeo said nothing"
    lowered = reason.lower()
    if "unauthorized" in lowered or "denied" in lowered or "authentication required" in lowered:
        return f"{reason}; log in with `skopeo login REGISTRY`"
    if "http response to https client" in lowered or "x509" in lowered:
        return f"{reason}; tell containers-registries.conf(5) about this registry"
    return reason
