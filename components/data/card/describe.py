"""Describe a dataset version: its Hugging Face card and its Croissant metadata, as pure functions of its summary."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml

from components.common.documents import SCHEMA
from components.data.card.options import Card
from components.data.card.sections import cadence_of, personal_of, sections

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
_LISTS = {
    "subjects": "Keyed hashes of the people it mentions.",
    "parents": "Ids of the documents it derives from.",
}
_TIMES = {"retrieved_at": "When it was retrieved."}

_UNREPRESENTED = ("metadata",)
"""Columns whose type the `datasets` library has no word for."""

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


def card(options: Card, summary: Mapping[str, Any]) -> str:
    """Write the dataset card, in Markdown with the header that the Hugging Face hub reads.

    Args:
        options: What people say about the dataset.
        summary: What was counted.
    """
    header = yaml.safe_dump(_header(options, summary), sort_keys=False, allow_unicode=True).rstrip()
    lines = [f"# {options.name}", options.description]
    for section in sections(options, summary):
        if section.title:
            lines.append(f"## {section.title}")
        lines += filter(None, [section.text, _table(section.rows), _bars(section.bars)])
    return f"---\n{header}\n---\n\n" + "\n\n".join(lines) + "\n"


def _header(options: Card, summary: Mapping[str, Any]) -> dict[str, Any]:
    licenses = list(summary["shares"]["license"])
    sole = licenses[0].lower() if len(licenses) == 1 else ""
    languages = {language.partition("-")[0] for language in summary["shares"]["language"]}
    header: dict[str, Any] = {
        "pretty_name": options.name,
        "language": sorted(languages - {"", "und", "zxx"}),
        "license": sole if sole in CARD_LICENSES else "other",
        "size_categories": [next((name for bound, name in SIZES if summary["documents"] < bound), "1M<n<10M")],
        "task_categories": ["text-generation"],
        "tags": ["croissant", "headrace"],
    }
    if header["license"] == "other":
        header["license_name"] = "per-document"
    features = [_feature(field) for field in SCHEMA if field.name not in _UNREPRESENTED]
    files = [{"split": "train", "path": "part-*.parquet"}]
    columns = [feature["name"] for feature in features]
    header["configs"] = [{"config_name": "default", "data_files": files, "columns": columns}]
    header["dataset_info"] = {"features": features}
    return header


def _feature(field: pa.Field) -> dict[str, Any]:
    """Describe a column as the `datasets` library does."""
    return {"name": field.name, **_typed(field.type)}


def _typed(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        inner = kind.value_type
        fields = [_feature(field) for field in inner] if pa.types.is_struct(inner) else str(inner)
        return {"list": fields}
    return {"dtype": str(kind)}


def _table(rows: Sequence[Mapping[str, Any]], limit: int = 30) -> str:
    if not rows:
        return ""
    columns = list(rows[0])
    numeric = [all(isinstance(row[name], int) or str(row[name]).endswith("%") for row in rows) for name in columns]
    lines = [
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---:' if number else '---' for number in numeric)} |",
        *(f"| {' | '.join(_cell(row[name]) for name in columns)} |" for row in rows[:limit]),
    ]
    if len(rows) > limit:
        lines.append(f"\n… and {len(rows) - limit:,} more.")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    """Write a value that may come from a document into a Markdown table: it must not end the cell or begin a tag."""
    text = f"{value:,}" if isinstance(value, int) else " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _bars(bars: Mapping[str, int], width: int = 40) -> str:
    """Draw bars with characters; Markdown has no other plot that shows everywhere."""
    if not bars:
        return ""
    widest = max(map(len, bars))
    largest = max(bars.values()) or 1
    lines = [f"{label:>{widest}}  {'█' * round(width * value / largest)} {value:,}" for label, value in bars.items()]
    return "\n".join(["```text", *lines, "```"])


def croissant(options: Card, summary: Mapping[str, Any], files: Mapping[str, Mapping[str, Any]], digest: str) -> str:
    """Write the Croissant metadata.

    Args:
        options: What people say about the dataset.
        summary: What was counted.
        files: SHA-256 and size of each part.
        digest: Hash that tells this version of the data from others.
    """
    fields = [_field(name, text) for name, text in _SCALARS.items()]
    fields += [_field(name, text, kind="sc:DateTime") for name, text in _TIMES.items()]
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
        "citeAs": f"{options.owner}: {options.name}, version {digest[:16]}.",
        "creator": {"@type": "sc:Organization", "name": options.owner},
        "datePublished": summary["retrieved"][1],
        "license": [_license_url(license_) for license_ in summary["shares"]["license"]],
        "inLanguage": [language for language in summary["shares"]["language"] if language not in ("", "und", "zxx")],
        "rai:dataCollection": "; ".join(_collected(source) for source in summary["sources"]),
        "rai:dataUseCases": options.purpose,
        "rai:dataLimitations": options.limits,
        "rai:dataReleaseMaintenancePlan": cadence_of(summary),
        "rai:personalSensitiveInformation": personal_of(summary),
        "url": f"urn:headrace:datasets:{options.name}",
        "version": f"1.0.0+{digest[:16]}",
        "distribution": [every, *parts],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "documents", "name": "documents", "field": fields}],
    }
    return json.dumps(metadata, indent=2, ensure_ascii=False) + "\n"


def _collected(source: Mapping[str, Any]) -> str:
    return f"{source['id']} ({source['class'] or 'class not declared'}): {source['documents']:,} documents"


def _field(name: str, description: str, kind: str = "sc:Text", repeated: bool = False) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"documents/{name}",
        "name": name,
        "description": description,
        "dataType": kind,
        **({"repeated": True} if repeated else {}),
        "source": {"fileSet": {"@id": "parts"}, "extract": {"column": name}},
    }


def _license_url(license_: str) -> str:
    simple = license_.replace("-", "").replace(".", "").isalnum()
    return f"https://spdx.org/licenses/{license_}.html" if simple else license_ or "unknown"
