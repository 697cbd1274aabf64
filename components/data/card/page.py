"""Render a card as a page: the same sections as in Markdown, with bars that are drawn."""

from collections.abc import Mapping
from typing import Any

from components.common.report import Report
from components.data.card.options import Card
from components.data.card.sections import sections

_PLOTTED = {"language", "domain", "kind", "license"}


def page(options: Card, summary: Mapping[str, Any]) -> Report:
    """Lay out the card of a dataset version.

    Its bars are drawn by the page itself, so that no plotting library has a say in the version's name.

    Args:
        options: What people say about the dataset.
        summary: What was counted.
    """
    report = Report(options.name, options.description)
    report.metrics(
        {
            "documents": summary["documents"],
            "tokens": summary["tokens"],
            "megabytes of text": summary["text_bytes"] / 1e6,
            "sources": len(summary["sources"]),
            "languages": len(summary["shares"]["language"]),
            "licences": len(summary["shares"]["license"]),
        }
    )
    for section in sections(options, summary):
        if section.title:
            report.heading(section.title)
        if section.text:
            report.text(section.text)
        column = next(iter(section.rows[0]), "") if section.rows else ""
        if column in _PLOTTED:
            report.bars({row[column]: row["tokens"] for row in section.rows[:12]}, f"Tokens by {column}")
        if section.rows:
            report.table(section.rows, limit=60)
        if section.bars:
            report.bars(section.bars)
    return report
