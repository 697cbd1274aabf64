"""Releases: the compiled pipelines frozen with their images pinned by digest, one immutable folder each.

`cut_release` writes a folder, `read_release` reads one and refuses it if a byte has changed since. A release's name is
the day it was cut and a hash of what runs: the pipelines and the image lock.
"""

import difflib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from kfp.compiler import Compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions
from kfp.components import load_component_from_text

from components.common.code import code_digest
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, sha256
from components.common.options import read_yaml
from components.common.step import IMAGES, MODEL_SERVER, VERSION, image_reference
from pipelines.compile import COMPILED, PIPELINES, check_compiled, compile_pipeline, load_documents
from pipelines.diff import Change, compare_releases, describe

RELEASES = Path(__file__).parent / "releases"
LOCK = "images.lock.yaml"
SUMMARY = "release.yaml"
NOTE = "UPGRADE.md"
MANIFESTS = "manifests"
YOURS = "<!-- Below this line the words are yours; they may change after the release was cut. -->\n"
_PINNED = re.compile(r"^[\w.\-:/]+@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Release:
    """A release, or what the current source compiles to.

    Attributes:
        version: Name of the release; `compiled` for what the current source compiles to.
        folder: Where its files are.
        previous: The release cut before it; '' for the first.
        images: Reference of every image by its short name.
        pipelines: KFP IR by pipeline, as YAML: the pipeline and, if a step needs one, its platform specification.
    """

    version: str
    folder: Path
    previous: str
    images: Mapping[str, str]
    pipelines: Mapping[str, str]

    @cached_property
    def specifications(self) -> dict[str, list[Any]]:
        """The pipelines' YAML documents, parsed."""
        return {name: load_documents(text) for name, text in self.pipelines.items()}


def read_lock(path: Path) -> dict[str, str]:
    """Read an image lock: a mapping of the project's images to references pinned by digest.

    Raises:
        UsageError: The file is missing or malformed, lacks an image or names another, or an image floats.
    """
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist; an image lock maps {', '.join(IMAGES)} to NAME@sha256:DIGEST, as your registry "
            "printed it when you pushed the images"
        )
    lock = read_yaml(path)
    if not isinstance(lock, Mapping) or set(lock) - {MODEL_SERVER} != set(IMAGES):
        raise UsageError(
            f"{path}: an image lock names exactly these images: {', '.join(IMAGES)}; {MODEL_SERVER} may stand there too"
        )
    for image, reference in lock.items():
        if not is_pinned(reference):
            raise UsageError(f"{path}: {image}: {reference!r} floats; write NAME@sha256:DIGEST")
    return dict(lock)


def is_pinned(reference: object) -> bool:
    """Tell whether an image's reference says which bytes it means."""
    return isinstance(reference, str) and bool(_PINNED.match(reference))


def cut_release(lock: Path, folder: Path = RELEASES, today: date | None = None) -> Path:
    """Freeze the current pipelines as an immutable release.

    Args:
        lock: Image lock to pin with.
        folder: Where releases live.
        today: Date of the release's name; the current date (UTC) by default.

    Returns:
        The release's folder, `<date>-<content hash>`; an identical one made earlier is returned as it is.

    Raises:
        HeadraceError: The committed YAML is stale, so that nobody could have reviewed what would be released; or the
            release before this one was changed.
    """
    check_compiled()
    images = read_lock(lock)
    return write_release(
        {name: compile_pipeline(name, images.__getitem__) for name in PIPELINES}, images, folder, today
    )


def write_release(
    pipelines: Mapping[str, str], images: Mapping[str, str], folder: Path = RELEASES, today: date | None = None
) -> Path:
    """Write compiled pipelines as a release; see `cut_release`."""
    pipelines = dict(sorted(pipelines.items()))
    sources = {f"{name}.yaml": text for name, text in pipelines.items()}
    sources[LOCK] = yaml.safe_dump(dict(images), sort_keys=True)
    content = _content(sources)
    for earlier in folder.glob(f"*-{content}"):
        return read_release(earlier.name, folder).folder
    target = folder / f"{today or datetime.now(UTC).date():%Y.%m.%d}-{content}"
    latest = latest_release(folder)
    release = Release(target.name, target, latest.version if latest else "", images, pipelines)
    files = {
        **sources,
        **{f"{MANIFESTS}/{name}.yaml": render_manifest(text, target.name) for name, text in pipelines.items()},
        NOTE: upgrade_note(release, latest),
    }
    files[SUMMARY] = _summary(release, files)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        (temporary / MANIFESTS).mkdir()
        for name, text in files.items():
            (temporary / name).write_text(text, "utf-8")
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError as error:
        raise HeadraceError(f"{target}: {error.strerror}; nothing was released") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def read_release(name: str, folder: Path = RELEASES) -> Release:
    """Read a release and verify every byte of it.

    Raises:
        UsageError: There is no such release; the nearest names are given.
        HeadraceError: A file was changed, lost or added since the release was cut.
    """
    place = folder / name
    known = release_names(folder)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or [one for one in known if name in one]
        hint = f"did you mean {near[-1]}?" if name and near else f"known: {', '.join(known) or 'none, cut one first'}"
        raise UsageError(f"there is no release {name!r} in {folder}; {hint}")
    found = {
        str(path.relative_to(place)): path.read_bytes().decode("utf-8", "surrogateescape")
        for path in sorted(place.rglob("*"))
        if path.is_file()
    }
    summary: dict[str, Any] = read_yaml(place / SUMMARY) if SUMMARY in found else {}
    if not _is_sealed(summary):
        raise _changed(name, SUMMARY, "was changed" if SUMMARY in found else "is missing")
    if different := sorted(set(summary["files"]) ^ (set(found) - {SUMMARY})):
        raise _changed(name, different[0], "is missing" if different[0] in summary["files"] else "was added")
    for file, digest in summary["files"].items():
        if _digest(file, found[file]) != digest:
            raise _changed(name, file)
    names = [
        Path(file).stem for file in summary["files"] if file.endswith(".yaml") and "/" not in file and file != LOCK
    ]
    if summary["version"] != name or not name.endswith(
        f"-{_content({file: found[file] for file in (LOCK, *(f'{one}.yaml' for one in names))})}"
    ):
        raise _changed(name, SUMMARY)
    pipelines = {one: found[f"{one}.yaml"] for one in names}
    return Release(name, place, summary["previous"], yaml.safe_load(found[LOCK]), pipelines)


def compiled_release(folder: Path = COMPILED) -> Release:
    """What the current source compiles to, as if it were a release; its images are named by project version."""
    images = {image: image_reference(image) for image in IMAGES}
    pipelines = {path.stem: path.read_text("utf-8") for path in sorted(folder.glob("*.yaml"))}
    return Release(COMPILED.name, folder, "", images, pipelines)


def release_names(folder: Path = RELEASES) -> list[str]:
    """Every release, oldest day first."""
    return sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())


def latest_release(folder: Path = RELEASES) -> Release | None:
    """The release that no other one follows; of several, the one cut on the latest day."""
    releases = [read_release(name, folder) for name in release_names(folder)]
    followed = {release.previous for release in releases}
    return next((release for release in reversed(releases) if release.version not in followed), None)


def changes_between(old: Release, new: Release) -> list[Change]:
    """What changed from one release to another; what is only compiled has no digests to compare."""
    changes = compare_releases(old.specifications, old.images, new.specifications, new.images)
    cut = COMPILED.name not in (old.version, new.version)
    return [change for change in changes if cut or change.pipeline]


def render_manifest(pipeline: str, version: str) -> str:
    """Render a pipeline as `Pipeline` and `PipelineVersion` resources, for clusters that are fed from git.

    Args:
        pipeline: KFP IR as YAML.
        version: Name of the release.
    """
    component = load_component_from_text(pipeline)
    name = component.pipeline_spec.pipeline_info.name
    options = KubernetesManifestOptions(
        pipeline_name=name,
        pipeline_display_name=component.pipeline_spec.pipeline_info.display_name,
        pipeline_version_name=f"{name}-{version}",
        pipeline_version_display_name=version,
        include_pipeline_manifest=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.yaml"
        Compiler().compile(component, str(path), kubernetes_manifest_format=True, kubernetes_manifest_options=options)
        documents = list(yaml.safe_load_all(path.read_text("utf-8")))
    return yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120)


def upgrade_note(release: Release, previous: Release | None) -> str:
    """Write what somebody who goes from one release to the next should know, with room for a person's own words."""
    if previous is None:
        generated = f"# {release.version}\n\nThe first release: there is nothing to upgrade from.\n"
    else:
        changes = changes_between(previous, release)
        breaking = [change for change in changes if change.breaking]
        advice = (
            "Breaking: whoever submits or schedules these pipelines changes what they pass. "
            "`headrace promote --dry-run` says whether an environment's recipe and schedules fit."
            if breaking
            else "Nothing is breaking: what submits and schedules these pipelines may stay as it is."
        )
        generated = f"# {release.version}\n\nAfter {previous.version}. {advice}\n\n"
        generated += (describe(changes, markdown=True) or "Nothing changed.") + "\n"
    return f"{generated}\n{YOURS}\n"


def _summary(release: Release, files: Mapping[str, str]) -> str:
    fields: dict[str, Any] = {
        "version": release.version,
        "project": VERSION,
        "code": code_digest(),
        "previous": release.previous,
        "files": {file: _digest(file, text) for file, text in files.items()},
    }
    fields["seal"] = sha256(canonical(fields))
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


def _is_sealed(summary: Any) -> bool:
    if not isinstance(summary, dict) or not {"version", "previous", "files", "seal"} <= set(summary):
        return False
    return summary["seal"] == sha256(canonical({key: value for key, value in summary.items() if key != "seal"}))


def _content(sources: Mapping[str, str]) -> str:
    """Hash of what runs, short enough for a name."""
    return sha256(canonical(dict(sources)))[:12]


def _digest(file: str, text: str) -> str:
    """SHA-256 of a file; of the upgrade note only the part that was generated."""
    sealed = text.partition(YOURS)[0] if file == NOTE else text
    return sha256(sealed.encode("utf-8", "surrogateescape"))


def _changed(name: str, file: str, what: str = "was changed") -> HeadraceError:
    return HeadraceError(
        f"release {name}: {file} {what} since it was cut; get it back with `git checkout`, or cut a new release"
    )
