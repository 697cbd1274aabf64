"""Source declarations: what may be ingested, from where, on whose authority.

A source is declared before anything is read from it. One without a licence or an owner is refused: nobody could later
say why its documents were allowed into a model.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from components.common.errors import UsageError
from components.common.options import Options, read_yaml

PER_ITEM = "per-item"
"""Licence of a source whose items each state their own, like a package index."""

Confidentiality = Literal["public", "internal", "confidential", "restricted"]

Use = Literal["commercial", "modification"]
"""What a use of documents may need their licence to allow."""


class Source(Options):
    """One declared source of documents."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", description="Name of the source, kept in every document.")
    class_: Literal["public", "in_house", "third_party"] = Field(
        "third_party", alias="class", description="Where the right to use it comes from."
    )
    location: str = Field(
        description="`packages:` (installed Python distributions; `packages:a,b*` for some of them), or a folder of "
        "files or of imported documents."
    )
    kind: Literal["auto", "prose", "code", "table", "math", "dialogue", "ticket", "log"] = Field(
        "auto", description="Kind of its documents; `auto` tells by the file."
    )
    license: str = Field(description="SPDX expression, or `per-item` where each item states its own.")
    terms: str = Field("", description="URL of the licence text or the terms of use.")
    confidentiality: Confidentiality = Field("internal", description="Who may see its documents.")
    pii: Literal["none", "masked", "present"] = Field("present", description="Whether personal data is to be expected.")
    owner: str = Field(description="Who answers for the source: a person, a team, a mailbox.")
    cadence: Literal["once", "daily", "weekly", "monthly", "on_change"] = Field(
        "once", description="How often it changes."
    )

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}

    @property
    def tags(self) -> dict[str, str]:
        """What of the declaration every document carries in its metadata."""
        terms = {"terms": self.terms} if self.terms else {}
        return {"robots": "not applicable", "source_class": self.class_, **terms}

    @field_validator("location", "license", "owner")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("is empty")
        return value.strip()


_PROBLEMS = {"missing": "is missing", "extra_forbidden": "is no field of a source"}
_FIXES = {
    "license": "name the SPDX licence under which you may use it (or per-item)",
    "owner": "name who answers for it",
    "location": "give a folder, or packages:",
    "id": "give it a name of letters, digits and . _ - /",
}


def load_sources(path: Path) -> list[Source]:
    """Read a declaration file: a YAML list of sources, or a mapping with `sources:`.

    Raises:
        UsageError: The file is missing or malformed, or a declaration is; the message names file, source and field.
    """
    content = read_yaml(path)
    if isinstance(content, Mapping):
        content = content.get("sources")
    if not isinstance(content, list) or not content:
        raise UsageError(f"{path} declares no sources; it must hold a list, each with id, location, license and owner")
    return declare(content, str(path))


def declare(declarations: list[Any], where: str) -> list[Source]:
    """Validate source declarations.

    Args:
        declarations: Mappings with the fields of `Source`.
        where: What to call their origin in messages: a file, a recipe.

    Raises:
        UsageError: A field is missing, unknown or wrong, or two sources share an id.
    """
    sources: list[Source] = []
    for number, declaration in enumerate(declarations, 1):
        if not isinstance(declaration, Mapping):
            raise UsageError(f"{where}: source {number} is not a mapping of fields (id, location, license, owner, …)")
        name = declaration.get("id") or f"number {number}"
        try:
            source = Source.model_validate(dict(declaration))
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            problem = _PROBLEMS.get(first["type"], first["msg"].removeprefix("Value error, "))
            fix = f"; {_FIXES[field]}" if field in _FIXES else ""
            raise UsageError(f"{where}: source {name}: {field}: {problem}{fix}") from error
        if any(source.id == other.id for other in sources):
            raise UsageError(f"{where}: source {source.id} is declared twice; give one of them another id")
        sources.append(source)
    return sources
