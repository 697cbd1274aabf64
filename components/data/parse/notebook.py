"""Turns Jupyter notebooks into Markdown: text cells as they are, code in its language, what it printed."""

import json
import re
from typing import Any

from components.data.parse.markup import as_markdown
from components.data.parse.parsed import Parsed, ParseError
from components.data.parse.tables import fenced, printable

_LANGUAGE = re.compile(r"[\w+#.-]{1,40}", re.ASCII)


def parse_notebook(text: str) -> Parsed:
    """Parse a notebook of format 3 or 4; pictures and other rich outputs are left out.

    Raises:
        ParseError: It is none.
    """
    try:
        notebook = json.loads(text)
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        metadata = notebook.get("metadata", {})
        kernel = metadata.get("kernelspec", {}).get("language", "python")
        stated = metadata.get("language_info", {}).get("name", kernel)
        language = stated if isinstance(stated, str) and _LANGUAGE.fullmatch(stated) else ""
        parts = [part for cell in cells for part in _cell(cell, language)]
    except ParseError:
        raise
    except json.JSONDecodeError as error:
        raise ParseError(f"it is not JSON ({error.msg}, line {error.lineno})") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ParseError("it is no notebook") from error
    return as_markdown(printable("\n\n".join(parts)), {"code_language": language} if language else {})


def _cell(cell: dict[str, Any], language: str) -> list[str]:
    source = _text(cell.get("source", cell.get("input", "")))
    kind = cell["cell_type"]
    if not source.strip():
        return []
    if kind == "heading":
        return [f"{'#' * min(cell.get('level', 1), 6)} {source}"]
    if kind != "code":
        return [source]
    printed = [_printed(output).rstrip() for output in cell.get("outputs", [])]
    return [fenced(source, language), *(fenced(output, "text") for output in printed if output.strip())]


def _printed(output: dict[str, Any]) -> str:
    if "text" in output:
        return _text(output["text"])
    return _text(output.get("data", {}).get("text/plain", ""))


def _text(value: Any) -> str:
    text: str = "".join(value) if isinstance(value, list) else value
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ParseError("it holds half of a surrogate pair, which no text does") from error
    return text
