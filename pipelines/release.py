"""Cut a release: the compiled pipelines frozen with their images pinned by digest."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path

import yaml

from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, sha256
from components.common.options import read_yaml
from components.common.step import IMAGES
from pipelines.compile import PIPELINES, check_compiled, compile_pipeline

RELEASES = Path(__file__).parent / "releases"
LOCK = "images.lock.yaml"
_PINNED = re.compile(r"^[\w.\-:/]+@sha256:[0-9a-f]{64}$")


def read_lock(path: Path) -> dict[str, str]:
    """Read an image lock: a mapping of `data`, `model`, `release` to references pinned by digest.

    Raises:
        UsageError: The file is missing or malformed, lacks an image, or an image floats.
    """
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist; an image lock maps {', '.join(IMAGES)} to NAME@sha256:DIGEST, as your registry "
            "printed it when you pushed the images"
        )
    lock = read_yaml(path)
    if not isinstance(lock, Mapping) or set(lock) != set(IMAGES):
        raise UsageError(f"{path}: an image lock names exactly these images: {', '.join(IMAGES)}")
    for image, reference in lock.items():
        if not isinstance(reference, str) or not _PINNED.match(reference):
            raise UsageError(f"{path}: {image}: {reference!r} floats; write NAME@sha256:DIGEST")
    return dict(lock)


def cut_release(lock: Path, folder: Path = RELEASES, today: date | None = None) -> Path:
    """Freeze the current pipelines as an immutable release.

    Args:
        lock: Image lock to pin with.
        folder: Where releases live.
        today: Date of the release's name; the current date (UTC) by default.

    Returns:
        The release's folder, `<date>-<content hash>`; an identical one made earlier is returned as it is.

    Raises:
        HeadraceError: The committed YAML is stale, so that nobody could have reviewed what would be released.
    """
    check_compiled()
    images = read_lock(lock)
    files = {f"{name}.yaml": compile_pipeline(name, images.__getitem__) for name in PIPELINES}
    files[LOCK] = yaml.safe_dump(images, sort_keys=True)
    content = sha256(canonical(files))[:12]
    for earlier in folder.glob(f"*-{content}"):
        return earlier
    target = folder / f"{today or datetime.now(UTC).date():%Y.%m.%d}-{content}"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        for name, text in files.items():
            (temporary / name).write_text(text, "utf-8")
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError as error:
        raise HeadraceError(f"{target}: {error.strerror}; nothing was released") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target
