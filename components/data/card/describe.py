"""Describe a dataset version: its Hugging Face card and its Croissant metadata, as pure functions from its manifest."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from components.data.card.options import Card

CARD_LICENSES = frozenset(
    {"0bsd", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-4.0", "cc0-1.0", "isc", "mit"}
    | {"mpl-2.0", "unlicense", "zlib"}
)
"""Licence names of the Hugging Face hub that are also SPDX identifiers in lower case."""

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

_SCALARS = {
    "id": "SHA-256 of source, URL and the text as first ingested; kept for life.",
    "revision": "SHA-256 of the text.",
    "text": "The text.",
    "source": "Id of the declared source.",
    "kind": "prose, code, table, math, dialogue, ticket or log.",
    "domain": "Subject area.",
    "language": "Language as a BCP-47 tag; und where it is not known.",
    "license": "Licence as an SPDX expression.",
    "confidentiality": "public, internal, confidential or restricted.",
    "pii": "Personal data: none, masked or present.",
    "url": "Where the document came from.",
}
_LISTS = {"parents": "Ids of the documents it derives from."}

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def card(options: Card, counts: Mapping[str, Mapping[str, int]], documents: int, size: int) -> str:
    """Write the dataset card.

    Args:
        options: What people say about the dataset.
        counts: Documents by value of each described column.
        documents: Number of documents.
        size: Bytes of text.
    """
    licenses = list(counts["license"])
    sole = licenses[0].lower() if len(licenses) == 1 else ""
    header: dict[str, Any] = {
        "pretty_name": options.name,
        "language": sorted(language for language in counts["language"] if language not in ("", "und", "zxx")),
        "license": sole if sole in CARD_LICENSES else "other",
        "size_categories": [next((name for bound, name in SIZES if documents < bound), "1M<n<10M")],
        "task_categories": ["text-generation"],
        "tags": ["croissant", "headrace"],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "part-*.parquet"}]}],
    }
    if header["license"] == "other":
        header["license_name"] = "per-document"
    lines = [
        "---",
        yaml.safe_dump(header, sort_keys=False, allow_unicode=True).rstrip(),
        "---",
        f"# {options.name}",
        options.description,
        f"{documents:,} documents, {size / 1e6:,.1f} MB of text. Owner: {options.owner}.",
        "## Purpose",
        options.purpose,
        "## Limits",
        options.limits,
        "## Licences",
        "Every document keeps its own licence, in the column `license`.",
    ]
    body = "\n\n".join(lines[3:])
    tables = "\n\n".join(_counts(name, values) for name, values in counts.items())
    return "\n".join(lines[:3]) + f"\n\n{body}\n\n## Documents\n\n{tables}\n"


def _counts(name: str, values: Mapping[str, int], limit: int = 30) -> str:
    shown = list(values.items())[:limit]
    rows = [f"| {value or '(none)'} | {count:,} |" for value, count in shown]
    if len(values) > limit:
        rows.append(f"| {len(values) - limit:,} more | {sum(values.values()) - sum(dict(shown).values()):,} |")
    return "\n".join([f"| {name} | documents |", "| --- | ---: |", *rows])


def croissant(options: Card, licenses: list[str], files: Mapping[str, Mapping[str, Any]], digest: str, day: str) -> str:
    """Write the Croissant metadata.

    Args:
        options: What people say about the dataset.
        licenses: SPDX expressions of the documents.
        files: SHA-256 and size of each part.
        digest: Hash that tells this version of the data from others.
        day: Date of the newest document.
    """
    fields = [_field(name, text, repeated=False) for name, text in _SCALARS.items()]
    fields += [_field(name, text, repeated=True) for name, text in _LISTS.items()]
    parts = [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name,
            "contentSize": f"{file['bytes']} B",
            "encodingFormat": "application/x-parquet",
            "sha256": file["sha256"],
        }
        for name, file in files.items()
    ]
    every = {
        "@type": "cr:FileSet",
        "@id": "parts",
        "name": "parts",
        "description": "All parts of the dataset.",
        "encodingFormat": "application/x-parquet",
        "includes": "part-*.parquet",
    }
    metadata = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": options.name,
        "description": options.description,
        "creator": {"@type": "sc:Organization", "name": options.owner},
        "datePublished": day,
        "license": [_license_url(license_) for license_ in licenses],
        "url": f"urn:headrace:datasets:{options.name}",
        "version": f"1.0.0+{digest[:16]}",
        "distribution": [every, *parts],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "documents", "name": "documents", "field": fields}],
    }
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def _field(name: str, description: str, repeated: bool) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"documents/{name}",
        "name": name,
        "description": description,
        "dataType": "sc:Text",
        **({"repeated": True} if repeated else {}),
        "source": {"fileSet": {"@id": "parts"}, "extract": {"column": name}},
    }


def _license_url(license_: str) -> str:
    simple = license_.replace("-", "").replace(".", "").isalnum()
    return f"https://spdx.org/licenses/{license_}.html" if simple else license_ or "unknown"
