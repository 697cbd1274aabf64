"""Plain text made clean, and values made into Markdown tables."""

import csv
import io
import re
from collections.abc import Sequence

from components.data.parse.parsed import Parsed, ParseError

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\u200b\u2028\u2029]")
csv.field_size_limit(2**31 - 1)  # the text's size is what bounds a cell
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")


def plain(text: str) -> str:
    """Clean text without markup: no control characters, no space at line ends, no runs of blank lines."""
    return squeeze([line.rstrip() for line in printable(text).split("\n")])


def printable(text: str) -> str:
    """Leave out control characters and invisible ones; a form feed ends a line."""
    return _UNPRINTABLE.sub("", text.replace("\x0c", "\n"))


def squeeze(lines: Sequence[str]) -> str:
    """Join lines with at most one blank line in a row outside fenced code."""
    out: list[str] = []
    fence = ""
    for line in lines:
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        if line or fence or (out and out[-1]):
            out.append(line)
    while out and not out[-1].strip():
        out.pop()
    return "\n".join(out) + "\n" if out else ""


def fenced(code: str, language: str = "") -> str:
    """Fence code with more backticks than it holds in a row."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code.rstrip()}\n{fence}"


def as_table(rows: Sequence[Sequence[str]], most: int) -> tuple[str, int]:
    """Write rows as a Markdown table whose head is the first of them.

    Args:
        rows: Cells; short rows are filled up.
        most: Rows below the head that are written.

    Returns:
        The table ('' for no rows), and how many rows were left out.
    """
    shown = rows[: most + 1]
    width = max(map(len, shown), default=0)
    if not width:
        return "", 0
    cells = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] + [""] * (width - len(row)) for row in shown]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, f"| {' | '.join(['---'] * width)} |")
    return "\n".join(lines) + "\n", max(0, len(rows) - 1 - most)


def parse_values(text: str, delimiters: str, most: int) -> Parsed:
    """Parse delimited values; the delimiter is the first that gives all rows as many cells.

    Raises:
        ParseError: They break the rules of CSV.
    """
    text = printable(text)
    readings: list[list[list[str]]] = []
    problem: csv.Error | None = None
    for delimiter in delimiters:
        try:
            readings.append(_rows(text, delimiter))
        except csv.Error as error:  # a quotation mark that ends no cell, or none at all
            problem = problem or error
    if not readings:
        raise ParseError("a quotation mark in it is not closed, or closed within a cell") from problem
    rows = next(filter(_is_even, readings), readings[0])
    table, cut = as_table(rows, most)
    return Parsed(table, "markdown", rows_cut=cut)


def _is_even(rows: list[list[str]]) -> bool:
    """Tell whether a delimiter was the right one: every row has as many cells, and more than one."""
    widths = {len(row) for row in rows}
    return len(widths) == 1 and widths != {1}


def _rows(text: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return [row for row in reader if any(cell.strip() for cell in row)]
