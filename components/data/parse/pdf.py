"""Turns PDF into Markdown: headings by the size of type, ruled tables, code by its typeface.

A PDF holds characters at places, no structure; what is found here is what the eye goes by.
"""

import io
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pdfplumber
from pdfminer.pdfdocument import PDFPasswordIncorrect
from pdfplumber.page import Page
from pdfplumber.utils.exceptions import PdfminerException

from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed, ParseError
from components.data.parse.tables import as_table, fenced, plain

_FIXED = re.compile(r"courier|mono|consol|menlo|typewriter|cmtt", re.IGNORECASE)
_BULLET = re.compile(r"^[•‣◦▪●∙·–*-]\s+")
_HEADING = 1.15
"""Times the size of body text from which a line is a heading."""
_APART = 0.6
"""Lines further apart than this times their height begin a new paragraph."""


@dataclass(frozen=True)
class _Line:
    """A line of text, or a table in its place."""

    text: str
    size: float
    top: float
    bottom: float
    left: float
    fixed: bool = False
    width: float = 0
    table: bool = False


def parse_pdf(data: bytes, options: Parse) -> Parsed:
    """Parse a PDF.

    Raises:
        ParseError: It is none, or needs a password.
    """
    pages: list[list[_Line]] = []
    cut = 0
    try:
        with pdfplumber.open(io.BytesIO(data)) as opened:
            for page in opened.pages:
                lines, left_out = _lines(page, options.table_rows)
                pages.append(lines)
                cut += left_out
                page.close()
            stated = opened.metadata.get("Title")
    except PdfminerException as error:
        cause = error.args[0] if error.args else None
        if isinstance(cause, MemoryError | RecursionError):
            raise cause from error
        locked = isinstance(cause, PDFPasswordIncorrect)
        raise ParseError("it needs a password" if locked else "it is no PDF") from error
    headings = _headings(line for page in pages for line in page)
    text = plain("\n".join(_render(_without_running_heads(pages), headings)))
    first = next((line.removeprefix("#").lstrip("# ") for line in text.split("\n") if line.startswith("#")), "")
    title = first or (stated if isinstance(stated, str) and stated not in ("untitled", "(anonymous)") else "")
    return Parsed(text, "markdown", {"title": title} if title else {}, cut)


def _lines(page: Page, most: int) -> tuple[list[_Line], int]:
    """Give a page's lines and tables from top to bottom, and how many rows were left out of the tables."""
    tables = page.find_tables()
    boxes = [table.bbox for table in tables]
    lines: list[_Line] = []
    cut = 0
    for table in tables:
        rows = [[cell or "" for cell in row] for row in table.extract()]
        text, left_out = as_table([row for row in rows if any(cell.strip() for cell in row)], most)
        cut += left_out
        left, top, _, bottom = table.bbox
        lines.append(_Line(text, 0, top, bottom, left, table=True))
    outside = page.filter(lambda item: not any(_is_inside(item, box) for box in boxes)) if boxes else page
    for found in outside.extract_text_lines(strip=True, return_chars=True):
        characters = found["chars"]
        size = Counter(round(character["size"] * 2) / 2 for character in characters).most_common(1)[0][0]
        fixed = all(_FIXED.search(character["fontname"]) for character in characters)
        width = sum(character["width"] for character in characters) / len(characters)
        lines.append(_Line(found["text"], size, found["top"], found["bottom"], found["x0"], fixed, width))
    return sorted(lines, key=lambda line: (line.top, line.left)), cut


def _is_inside(item: dict[str, float], box: tuple[float, float, float, float]) -> bool:
    middle, height = (item["x0"] + item["x1"]) / 2, (item["top"] + item["bottom"]) / 2
    return box[0] <= middle <= box[2] and box[1] <= height <= box[3]


def _headings(lines: Iterable[_Line]) -> dict[float, int]:
    """Tell the level of heading for each size of type that is larger than body text."""
    sizes: Counter[float] = Counter()
    for line in lines:
        if not line.table:
            sizes[line.size] += len(line.text)
    if not sizes:
        return {}
    body = sizes.most_common(1)[0][0]
    larger = sorted((size for size in sizes if size > body * _HEADING), reverse=True)
    return {size: min(level, 6) for level, size in enumerate(larger, 1)}


def _without_running_heads(pages: list[list[_Line]]) -> list[list[_Line]]:
    """Leave out first and last lines that most pages share, page numbers apart."""
    if len(pages) < 3:
        return pages
    ends = Counter(_unnumbered(line) for page in pages for line in page[:1] + page[-1:])
    shared = {text for text, count in ends.items() if count > len(pages) / 2}
    return [
        [line for place, line in enumerate(page) if place not in (0, len(page) - 1) or _unnumbered(line) not in shared]
        for page in pages
    ]


def _unnumbered(line: _Line) -> str:
    return re.sub(r"\d+", "0", line.text)


def _render(pages: list[list[_Line]], headings: dict[float, int]) -> list[str]:
    out: list[str] = []
    paragraph = ""
    code: list[_Line] = []
    before: _Line | None = None

    def finish() -> None:
        nonlocal paragraph
        if paragraph:
            out.extend(["", paragraph, ""])
        if code:
            left = min(line.left for line in code)
            indented = [" " * round((line.left - left) / (line.width or 1)) + line.text for line in code]
            out.extend(["", fenced("\n".join(indented)), ""])
        paragraph = ""
        code.clear()

    for page in pages:
        for line in page:
            apart = before is None or not 0 <= line.top - before.bottom <= _APART * (line.bottom - line.top)
            if line.table or line.size in headings:
                finish()
                text = line.text if line.table else f"{'#' * headings[line.size]} {line.text}"
                out += ["", text, ""]
            elif line.fixed:
                if paragraph:
                    finish()
                code.append(line)
            elif bullet := _BULLET.match(line.text):
                finish()
                paragraph = f"- {line.text[bullet.end() :]}"
            else:
                if apart or code:
                    finish()
                paragraph = _joined(paragraph, line.text)
            before = line
    finish()
    return out


def _joined(paragraph: str, line: str) -> str:
    if not paragraph:
        return line
    if re.search(r"[a-z]-$", paragraph) and line[:1].islower():
        return paragraph[:-1] + line
    return f"{paragraph} {line}"
