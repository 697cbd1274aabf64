"""Reads the Python distributions installed in the environment.

Each distribution becomes a source of its own, `<declared id>/<name>`, with up to four kinds of documents: its long
description, its metadata as a table, its licence files, and a sample of its Python source.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from email.utils import getaddresses
from fnmatch import fnmatchcase
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from components.common.documents import new_document
from components.common.errors import UsageError
from components.data.ingest.items import Found, Skipped, modified_at, read_text
from components.data.ingest.options import Ingest
from components.data.licenses import classifiers_to_spdx, declared_license, refine, to_spdx
from components.data.sources import Source

SCHEME = "packages:"

_LICENSE_NAME = re.compile(r"licen[cs]e|copying|notice", re.IGNORECASE)
_FORMATS = {"text/markdown": "markdown", "text/x-rst": "rst", "text/plain": "text"}
_PERSONAL = ("author", "author_email", "maintainer", "maintainer_email")
_REPOSITORY = ("repository", "source", "source code", "code", "github", "sources")
_LOOKS_LIKE_MARKDOWN = re.compile(r"^(?:#{1,3} \S|```|\[!\[)", re.MULTILINE)


class Packages:
    """Reader of installed distributions.

    Args:
        source: Declaration with location `packages:` or `packages:name,pattern*`.
        options: Bounds on what is taken.
    """

    def __init__(self, source: Source, options: Ingest) -> None:
        self._source = source
        self._options = options
        self._found = find_distributions(source)

    def __len__(self) -> int:
        """Count the distributions."""
        return len(self._found)

    def state(self) -> Iterator[str]:
        """Yield names, versions and times of installation."""
        for name, distribution in self._found.items():
            file = _metadata_file(distribution)
            yield f"{name} {distribution.version} {modified_at(file) if file else ''}"

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield each distribution's documents, by name."""
        for name, distribution in self._found.items():
            yield read_package(name, distribution, self._source, self._options)


def find_distributions(source: Source) -> dict[str, Distribution]:
    """Find the installed distributions that a declaration names, by normalised name; of two copies the one imported.

    Raises:
        UsageError: There are none.
    """
    patterns = [canonical(part) for part in source.location.removeprefix(SCHEME).split(",") if part.strip()]
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        name = canonical(distribution.metadata["Name"] or "")
        wanted = not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
        if name and wanted and name not in found and _metadata_file(distribution):
            found[name] = distribution
    if not found:
        raise UsageError(f"source {source.id}: no installed package matches {source.location}")
    return dict(sorted(found.items()))


def canonical(name: str) -> str:
    """Normalise a distribution's name as package indexes do (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _metadata_file(distribution: Distribution) -> Path | None:
    """Find the METADATA of an installed wheel; source trees on the path have none and are not installed."""
    files = distribution.files or []
    return next((Path(str(file.locate())) for file in files if file.name == "METADATA"), None)


def read_package(name: str, distribution: Distribution, source: Source, options: Ingest) -> list[Found]:
    """Make the documents of one distribution: description, metadata, licences, code."""
    url = f"pkg:pypi/{name}@{distribution.version}"
    files = {file.as_posix(): Path(str(file.locate())) for file in distribution.files or []}
    chosen = [*filter(_is_license, sorted(files)), *_choose_code(files, options.code_files_per_package)]
    contents = {path: read_text(files[path], f"{url}#{path}", options.max_file_bytes) for path in chosen}

    stated, spdx = _license(distribution, [text for path, text in contents.items() if _is_license(path)])
    spdx = declared_license(source) or spdx
    facts = _facts(distribution, spdx)
    tags = {**source.tags, "license_stated": stated, "package": name, "version": distribution.version}
    common: dict[str, Any] = {
        "source": f"{source.id}/{name}",
        "retrieved_at": modified_at(_metadata_file(distribution) or Path()),
        "domain": "software",
        "license": spdx,
        "confidentiality": source.confidentiality,
        "pii": source.pii,
    }

    def document(text: str, item: str, path: str, kind: str, **metadata: str) -> dict[str, Any]:
        metadata = {**tags, "item": item, "path": path, **metadata}
        return new_document(text=text, url=f"{url}#{path}", kind=kind, metadata=metadata, **common)

    made: list[Found] = []
    description = _header(distribution, "Description").strip()
    if description and description != "UNKNOWN":
        form = _description_format(distribution, description)
        made.append(document(description, "readme", "README", "prose", format=form))
    table = _as_table(f"{distribution.metadata['Name']} {distribution.version}", facts)
    searchable = {field: value for field, value in facts.items() if field not in _PERSONAL}
    made.append(document(table, "metadata", "METADATA", "table", format="markdown", **searchable))
    for path, text in contents.items():
        if isinstance(text, Skipped):
            made.append(text)
        elif _is_license(path):
            made.append(document(text, "license", path, "prose", format="text"))
        else:
            made.append(document(text, "code", path, "code", format="code", code_language="python"))
    return made


def _header(distribution: Distribution, name: str) -> str:
    return distribution.metadata[name] if name in distribution.metadata else ""  # noqa: SIM401 (it has no get)


def _is_license(path: str) -> bool:
    """Tell licence files, which wheels keep beside their metadata."""
    folder, _, name = path.rpartition("/")
    return ".dist-info" in folder and bool(_LICENSE_NAME.search(name))


def _choose_code(files: dict[str, Path], most: int) -> list[str]:
    """Choose Python files in the order of their paths' hashes: a fair sample that stays when other files come or go."""
    code = [path for path in files if path.endswith(".py") and not path.startswith("..")]
    return sorted(sorted(code, key=lambda path: hashlib.sha256(path.encode()).digest())[:most])


def _license(distribution: Distribution, texts: list[str | Skipped]) -> tuple[str, str]:
    """Find what a distribution says about its licence, in its own words and as SPDX."""
    headers = distribution.metadata
    expression, wording = _header(distribution, "License-Expression"), _header(distribution, "License")
    classifiers = [text for text in headers.get_all("Classifier") or [] if text.startswith("License ::")]
    spdx = to_spdx(expression) or to_spdx(wording) or classifiers_to_spdx(classifiers)
    stated = expression or wording.strip().partition("\n")[0][:200] or "; ".join(classifiers)
    return stated, refine(spdx, [text for text in texts if isinstance(text, str)])


def _facts(distribution: Distribution, spdx: str) -> dict[str, str]:
    """Collect what the metadata says, empty fields left out."""
    headers = distribution.metadata
    people = {role: getaddresses([_header(distribution, f"{role}-email")]) for role in ("Author", "Maintainer")}
    addresses = {role: [address for _, address in found if "@" in address] for role, found in people.items()}
    domains = [address.rpartition("@")[2] for role in ("Maintainer", "Author") for address in addresses[role]]
    urls = dict(text.partition(", ")[::2] for text in headers.get_all("Project-URL") or [])
    requires = [name for text in headers.get_all("Requires-Dist") or [] if (name := _required(text))]
    facts = {
        "name": headers["Name"],
        "version": distribution.version,
        "summary": _header(distribution, "Summary"),
        "license": spdx or _header(distribution, "License-Expression"),
        "requires_python": _header(distribution, "Requires-Python"),
        "requires": ", ".join(dict.fromkeys(requires)),
        "keywords": _header(distribution, "Keywords"),
        "homepage": _header(distribution, "Home-page") or urls.get("Homepage", "") or urls.get("homepage", ""),
        "repository": next((urls[label] for label in urls if label.lower() in _REPOSITORY), ""),
        "maintainer_domain": domains[0].lower() if domains else "",
        "author": _header(distribution, "Author") or ", ".join(name for name, _ in people["Author"] if name),
        "author_email": ", ".join(addresses["Author"]),
        "maintainer": _header(distribution, "Maintainer")
        or ", ".join(name for name, _ in people["Maintainer"] if name),
        "maintainer_email": ", ".join(addresses["Maintainer"]),
    }
    return {field: " ".join(value.split()) for field, value in facts.items() if value.strip() not in ("", "UNKNOWN")}


def _required(requirement: str) -> str:
    """Name the distribution that a requirement asks for here, without extras; '' if its marker rules it out."""
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement:
        return ""
    return canonical(parsed.name) if parsed.marker is None or parsed.marker.evaluate({"extra": ""}) else ""


def _as_table(title: str, facts: dict[str, str]) -> str:
    rows = [f"| {field.replace('_', ' ')} | {value.replace('|', chr(92) + '|')} |" for field, value in facts.items()]
    return "\n".join([f"# {title}", "", facts.get("summary", ""), "", "| field | value |", "| --- | --- |", *rows])


def _description_format(distribution: Distribution, description: str) -> str:
    """Tell the markup of a description: undeclared it is reStructuredText by the standard, but often Markdown."""
    declared = _header(distribution, "Description-Content-Type").partition(";")[0].strip().lower()
    return _FORMATS.get(declared) or ("markdown" if _LOOKS_LIKE_MARKDOWN.search(description) else "rst")
