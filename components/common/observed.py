"""Files that options name beside the recipe, and what state they are in, so that a cached step notices a change."""

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from components.common.errors import UsageError
from components.common.ledger import canonical, file_digest, sha256
from components.common.options import Files
from components.common.store import open_store
from components.common.vault import files_of

OBSERVED = "observed"
"""Option that holds the state of what the other options of a step name."""

Observing = TypeVar("Observing", bound=BaseModel)


def observe(options: Observing, where: str = "") -> Observing:
    """Note in each step's `observed` what the files look like now that its options name.

    What has the `mode` off is left as it is: nobody reads its files.

    Args:
        options: A recipe, or a part of it.
        where: What to call it in messages: a path of fields, with a dot at its end.

    Raises:
        UsageError: A file is not there; the message names the field.
    """
    if getattr(options, "mode", "") == "off":
        return options
    update: dict[str, Any] = {
        name: observe(value, f"{where}{name}.") for name, value in options if isinstance(value, BaseModel)
    }
    if OBSERVED in type(options).model_fields:
        states = [_state(place, field) for field, place in _named(options, where)]
        return options.model_copy(update={**update, OBSERVED: sha256(canonical(states)) if states else ""})
    return options.model_copy(update=update)


def _named(options: BaseModel, where: str) -> Iterator[tuple[str, str]]:
    """Each option that names files, by its path of fields, with what it names."""
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        marks = [mark for mark in field.metadata if isinstance(mark, Files)]
        # A version of the store is named by what it holds.
        if value and any(not (mark.or_version and value.startswith("models/")) for mark in marks):
            yield f"{where}{name}", value
        for number, inner in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(inner, BaseModel):
                yield from _named(inner, f"{where}{name}.{number}." if isinstance(value, list) else f"{where}{name}.")


def _state(place: str, field: str) -> object:
    """What tells files from those that were there before; of a served model nothing does."""
    scheme, _, name = place.partition(":")
    if scheme in ("http", "https"):
        return ""
    if scheme == "package":
        try:
            return version(name)
        except PackageNotFoundError:  # the step says so, if it needs it
            return ""
    if scheme == "gs":
        root, _, name = place.rstrip("/").rpartition("/")
        root, name = (place, "") if root == "gs:/" else (root, name)
        store = open_store(root)
        keys = [key for key in store.list(name) if not name or key == name or key.startswith(f"{name}/")]
        found = {key: sha256(store.read(key)) for key in sorted(keys)}
    else:
        path = Path(place.removeprefix("file://")).expanduser()
        files = files_of(path) if path.is_dir() else [path] if path.is_file() else []
        # Python writes into the one while lm-eval loads a task, git into .git whenever it looks for changes.
        own = (file for file in files if not {"__pycache__", ".git"} & set(file.relative_to(path).parts))
        found = {file.relative_to(path).as_posix(): file_digest(file) for file in own}
    if not found:
        raise UsageError(f"{field}: {place} holds no file; give the whole path of one, or of a folder of them")
    return found
