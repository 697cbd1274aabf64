"""What reports may quote of a document."""

from collections.abc import Mapping
from typing import Any

COLUMNS = ("text", "confidentiality", "pii")
"""What `excerpt` looks at."""


def may_quote(document: Mapping[str, Any]) -> bool:
    """Tell whether showing a document's words does no harm: not those of confidential or unmasked ones."""
    return document["confidentiality"] in ("public", "internal") and document["pii"] != "present"


def excerpt(document: Mapping[str, Any]) -> str:
    """Give a document's first words, if they may be quoted."""
    return " ".join(document["text"][:120].split()) if may_quote(document) else "(not shown)"
