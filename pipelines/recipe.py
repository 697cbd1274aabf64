"""The recipe of a run on this machine."""

import getpass
import os
from collections.abc import Sequence
from pathlib import Path

from components.common.errors import UsageError
from components.common.parameters import refuse_rewritten
from components.common.recipes import Recipe, load_recipe
from components.data.sources import Source

IN_HOUSE = "LicenseRef-in-house"


def local_recipe(recipe: str | Path, overrides: Sequence[str], docs: Path | None = None) -> Recipe:
    """Read a recipe, and put a person's own folder in the place of its sources.

    Args:
        recipe: A file, or the name of one in `pipelines/recipes`.
        overrides: `key=value` pairs.
        docs: A folder of documents, taken as an in-house source.

    Raises:
        UsageError: The recipe or the folder is wrong.
    """
    chosen = load_recipe(recipe, overrides)
    if docs is None:
        return chosen
    if not docs.is_dir():
        raise UsageError(f"--docs {docs}: there is no such folder")
    folder = docs.resolve()
    source = Source(
        id="docs",
        **{"class": "in_house"},
        location=str(folder),
        license=IN_HOUSE,
        confidentiality="internal",
        owner=_owner(),
        cadence="on_change",
    )
    data = chosen.data.model_copy(
        update={
            "ingest": chosen.data.ingest.model_copy(update={"sources": [source]}),
            "card": chosen.data.card.model_copy(update={"name": "docs", "description": "In-house documents."}),
        }
    )
    refuse_rewritten(data.model_dump(mode="json"), f"--docs {docs}")
    return chosen.model_copy(update={"data": data})


def _owner() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that has no name
        return f"user {os.getuid()}"
