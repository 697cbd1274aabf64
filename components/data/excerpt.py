"""What reports may quote of a document."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.documents import read_batches

COLUMNS = ("text", "confidentiality", "pii")
"""What `excerpt` looks at."""


def may_quote(document: Mapping[str, Any]) -> bool:
    """Tell whether showing a document's words does no harm: not those of confidential or unmasked ones."""
    return document["confidentiality"] in ("public", "internal") and document["pii"] != "present"


def may_quote_all(documents: Path) -> bool:
    """Tell whether showing the words of every document of an artifact does no harm."""
    batches = read_batches(documents, ["confidentiality", "pii"])
    return all(may_quote(row) for batch in batches for row in batch.to_pylist())


def excerpt(document: Mapping[str, Any]) -> str:
    """Give a document's first words, if they may be quoted."""
    return " ".join(document["text"][:120].split()) if may_quote(document) else "(not shown)"
