"""Source declarations: what may be ingested, from where, on whose authority.

A source is declared before anything is read from it. One without a licence or an owner is refused: nobody could later
say why its documents were allowed into a model.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from components.common.errors import UsageError
from components.common.options import Options, read_yaml

GIT, CLOUD, WEB = "git:", "gs://", ("https://", "http://")
"""How locations begin that are no folder; `packages:` is the fourth."""

PER_ITEM = "per-item"
"""Licence of a source whose items each state their own, like a package index."""

Confidentiality = Literal["public", "internal", "confidential", "restricted"]

Use = Literal["commercial", "modification"]
"""What a use of documents may need their licence to allow."""


class TicketExport(Options):
    """How a ticket or chat system names its columns; the defaults are `ticket_id,role,content,created_at`."""

    ticket: str = Field("ticket_id", description="Column that tells whose turn a row is; in JSON the ticket's name.")
    messages: str = Field("messages", description="Field of a JSON ticket that lists its turns.")
    role: str = Field("role", description="Who speaks.")
    content: str = Field("content", description="What is said.")
    time: str = Field("created_at", description="When: ISO 8601 or seconds since 1970. It puts the turns in order.")
    roles: dict[str, Literal["system", "user", "assistant"]] = Field(
        {
            "agent": "assistant",
            "assistant": "assistant",
            "bot": "assistant",
            "customer": "user",
            "requester": "user",
            "system": "system",
            "user": "user",
        },
        description="The role that each speaker has; a ticket with another speaker is refused.",
    )


class LogFiles(Options):
    """How a log is cut into documents."""

    session: str = Field("", description="Regular expression whose first group names a line's session; empty: none.")
    window_minutes: float = Field(10, gt=0, description="Silence, or in a log without sessions time, that ends one.")

    @field_validator("session")
    @classmethod
    def _one_group(cls, value: str) -> str:
        try:
            groups = re.compile(value).groups if value else 1
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from error
        if groups < 1:
            raise ValueError("has no group; put parentheses around the session's name")
        return value


class Crawl(Options):
    """How a site is crawled."""

    user_agent: str = Field(
        "Headrace/0.1", pattern=r"^[A-Za-z_-]+(/\S+)?( .+)?$", description="Name that robots.txt is asked about."
    )
    max_pages: int = Field(1_000, ge=1, description="Most pages requested in a crawl.")
    seconds_between: float = Field(
        1.0, ge=0, description="Least time between two requests; robots.txt may ask for more, and gets it."
    )
    follow_links: bool = Field(True, description="Follow links beside the sitemap's list.")


class Source(Options):
    """One declared source of documents."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", description="Name of the source, kept in every document.")
    class_: Literal["public", "in_house", "third_party"] = Field(
        "third_party", alias="class", description="Where the right to use it comes from."
    )
    location: str = Field(
        description="A folder of files or of imported documents, `gs://bucket/prefix`, `git:FOLDER` (what is committed "
        "in a repository), `https://…` (a site to crawl), or `packages:` (installed Python distributions; "
        "`packages:a,b*` for some of them)."
    )
    kind: Literal["auto", "prose", "code", "table", "math", "dialogue", "ticket", "log"] = Field(
        "auto", description="Kind of its documents; `auto` tells by the file. CSV and JSON of `ticket` are exports."
    )
    license: str = Field(description="SPDX expression, or `per-item` where each item states its own.")
    copyright: str = Field("", description="Who holds the copyright, where it is not the owner.")
    terms: str = Field("", description="URL or file of the licence text or terms of use; its bytes are kept.")
    confidentiality: Confidentiality = Field("internal", description="Who may see its documents.")
    pii: Literal["none", "masked", "present"] = Field("present", description="Whether personal data is to be expected.")
    owner: str = Field(description="Who answers for the source: a person, a team, a mailbox.")
    cadence: Literal["once", "daily", "weekly", "monthly", "on_change"] = Field(
        "once", description="How often it changes."
    )
    tickets: TicketExport = Field(default=TicketExport(), description="Columns of ticket exports.")
    logs: LogFiles = Field(default=LogFiles(), description="How log files are cut.")
    crawl: Crawl = Field(default=Crawl(), description="How a site is crawled.")

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}

    @property
    def tags(self) -> dict[str, str]:
        """What of the declaration every document carries in its metadata."""
        stated = {"copyright": self.copyright, "terms": self.terms}
        given = {name: value for name, value in stated.items() if value}
        return {"robots": "not applicable", "source_class": self.class_, **given}

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
    "location": "give a folder, gs://…, git:…, https://… or packages:",
    "id": "give it a name of letters, digits and . _ - /",
}


def load_sources(path: Path) -> list[Source]:
    """Read a declaration file: a YAML list of sources, or a mapping with `sources:`.

    A file of terms is looked for beside the declaration file.

    Raises:
        UsageError: The file is missing or malformed, or a declaration is; the message names file, line, source and
            field.
    """
    content = read_yaml(path)
    if isinstance(content, Mapping):
        content = content.get("sources")
    if not isinstance(content, list) or not content:
        raise UsageError(f"{path} declares no sources; it must hold a list, each with id, location, license and owner")
    sources = declare(content, str(path), _lines(path))
    return [_with_terms_beside(source, path.parent) for source in sources]


def declare(declarations: list[Any], where: str, lines: Mapping[tuple[int, str], int] | None = None) -> list[Source]:
    """Validate source declarations.

    Args:
        declarations: Mappings with the fields of `Source`.
        where: What to call their origin in messages: a file, a recipe.
        lines: Lines by the number of a declaration and its field ('' for the whole), if they are known.

    Raises:
        UsageError: A field is missing, unknown or wrong, or two sources share an id.
    """

    def at(number: int, field: str) -> str:
        line = (lines or {}).get((number, field)) or (lines or {}).get((number, ""))
        return f"{where}, line {line}" if line else where

    sources: list[Source] = []
    for number, declaration in enumerate(declarations, 1):
        if not isinstance(declaration, Mapping):
            raise UsageError(
                f"{at(number, '')}: source {number} is not a mapping of fields (id, location, license, owner, …)"
            )
        name = declaration.get("id") or f"number {number}"
        try:
            source = Source.model_validate(dict(declaration))
        except ValidationError as error:
            first = error.errors()[0]
            top = str(first["loc"][0])
            field = ".".join(str(part) for part in first["loc"])
            problem = _PROBLEMS.get(first["type"], first["msg"].removeprefix("Value error, "))
            fix = f"; {_FIXES[field]}" if field in _FIXES else ""
            raise UsageError(f"{at(number, top)}: source {name}: {field}: {problem}{fix}") from error
        if any(source.id == other.id for other in sources):
            raise UsageError(f"{at(number, 'id')}: source {source.id} is declared twice; give one of them another id")
        sources.append(source)
    return sources


def _lines(path: Path) -> dict[tuple[int, str], int]:
    """Find the line of each declaration and of each of its fields."""
    root = yaml.compose(path.read_text("utf-8"), yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        root = next((value for key, value in root.value if key.value == "sources"), None)
    lines: dict[tuple[int, str], int] = {}
    if isinstance(root, yaml.SequenceNode):
        for number, node in enumerate(root.value, 1):
            lines[number, ""] = node.start_mark.line + 1
            if isinstance(node, yaml.MappingNode):
                lines |= {(number, str(key.value)): key.start_mark.line + 1 for key, _ in node.value}
    return lines


def _with_terms_beside(source: Source, folder: Path) -> Source:
    if not source.terms or "://" in source.terms:
        return source
    return source.model_copy(update={"terms": str((folder / Path(source.terms).expanduser()).resolve())})
