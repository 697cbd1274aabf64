"""Whether an answer keeps the format it was asked for: JSON of a schema, a function call, LaTeX, a table, code.

Pure functions over text. `components/model/breaks.py` makes answers that violate a format on purpose.
"""

import ast
import re
import warnings
from enum import StrEnum

from pylatexenc.latexwalker import LatexWalker, LatexWalkerParseError

from components.common.errors import UsageError
from components.data.parse.code import GRAMMARS, parser_of
from components.model.json_answers import Schema, call_violation, json_violation


class Format(StrEnum):
    """A format that an answer can have, beside the programming languages of `CODE`."""

    JSON = "json"
    CALL = "call"
    LATEX = "latex"
    TABLE = "table"


CODE = tuple(GRAMMARS)
"""Programming languages whose syntax is checked; Python's by Python itself."""

FORMATS = (*(str(name) for name in Format), *CODE)

_FENCED = re.compile(r"\A(`{3,}|~{3,})[ \t]*([\w+#-]*)[^\n]*\n(.*?)\n?\1[ \t]*\Z", re.DOTALL)
_CELLS = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"\s*:?-+:?\s*")
_SIDES = re.compile(r"\\(left|right)(?![A-Za-z])")
_MATHEMATICAL = re.compile(r"[\\$^_]")


def violation(text: str, format: str, schema: Schema = "") -> str:
    """Say how an answer violates a format.

    JSON and calls have to be the whole answer, as a program would read it. Code, LaTeX and tables may stand in one
    fence; around a table there may be words.

    Args:
        text: The answer.
        format: One of `FORMATS`.
        schema: For `json` the schema it must meet, for `call` the tools that may be called (each `{name, parameters}`,
            also inside `{type: function, function: …}`).

    Returns:
        What is wrong in a few words that quote nothing of the answer; '' for an answer that keeps the format.

    Raises:
        UsageError: The format is unknown, or the schema is none.
    """
    if format not in FORMATS:
        raise UsageError(f"{format!r} is no format of an answer; the formats are {', '.join(FORMATS)}")
    if not text.strip():
        return "empty"
    if format == Format.JSON:
        return json_violation(text, schema)
    if format == Format.CALL:
        return call_violation(text, schema)
    inner = unfenced(text)
    if format == Format.LATEX:
        return _latex(inner)
    if format == Format.TABLE:
        return _table(inner)
    return _python(inner) if format == "python" else _code(inner, format)


def detect(text: str) -> str:
    """Tell which of `FORMATS` an answer is in; '' for words.

    JSON must be an object or a list; a table, LaTeX in dollars and an environment are known by their marks, code by the
    language of its fence.
    """
    stripped = text.strip()
    if stripped[:1] in ("{", "[") and not json_violation(stripped, ""):
        return str(Format.JSON)
    fence = _FENCED.match(stripped)
    if fence and fence[2].lower() in _LANGUAGES:
        return _LANGUAGES[fence[2].lower()]
    if _tables(stripped):
        return str(Format.TABLE)
    if re.search(r"\$[^$\s][^$]*\$|\\begin\{\w+\*?\}|\\\(|\\\[", stripped):
        return str(Format.LATEX)
    return ""


def unfenced(text: str) -> str:
    """What stands in the fence when an answer is nothing but one fenced block, else the answer."""
    fence = _FENCED.match(text.strip())
    return fence[3] if fence else text.strip()


def _latex(text: str) -> str:
    if not _MATHEMATICAL.search(text):
        return "no formula"
    try:
        LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    except (LatexWalkerParseError, RecursionError) as error:
        first = str(error).splitlines()[0] if isinstance(error, LatexWalkerParseError) else ""
        return "unfinished" if "nd of stream" in first or "nd of input" in first else "does not parse as LaTeX"
    depth = 0
    for side in _SIDES.finditer(text):
        depth += 1 if side[1] == "left" else -1
        if depth < 0:
            break
    return r"\left and \right do not match" if depth else ""


def _table(text: str) -> str:
    tables = _tables(text)
    if not tables:
        return "no table"
    if any(len(row) != len(table[0]) for table in tables for row in table):
        return "ragged: rows differ in their number of cells"
    return "" if all(len(table) > 1 for table in tables) else "no rows"


def _tables(text: str) -> list[list[list[str]]]:
    """The pipe tables of a Markdown text, each with its header and rows, without the rule between them."""
    tables: list[list[list[str]]] = []
    lines = text.splitlines()
    number = 0
    while number + 1 < len(lines):
        head, rule = _cells(lines[number]), _cells(lines[number + 1])
        if not head or not rule or not all(_RULE.fullmatch(cell) for cell in rule):
            number += 1
            continue
        rows = [head]
        if len(rule) != len(head):
            rows.append(rule)  # ragged already
        number += 2
        while number < len(lines) and (row := _cells(lines[number])):
            rows.append(row)
            number += 1
        tables.append(rows)
    return tables


def _cells(line: str) -> list[str]:
    stripped = line.strip()
    if not _CELLS.search(stripped):
        return []
    cells = _CELLS.split(stripped)
    return cells[1 if stripped.startswith("|") else 0 : -1 if cells[-1] == "" and len(cells) > 1 else None]


def _python(text: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError):
        return "does not parse as Python"
    except (RecursionError, MemoryError):
        return "nested too deeply"
    return ""


def _code(text: str, language: str) -> str:
    root = parser_of(language).parse(text.encode("utf-8", "surrogatepass")).root_node
    return f"does not parse as {language}" if root.has_error else ""


_LANGUAGES = {
    **{language: language for language in CODE},
    **{"py": "python", "js": "javascript", "ts": "typescript", "tsx": "typescript", "cpp": "c++", "csharp": "c#"},
    **{"cs": "c#", "golang": "go", "rs": "rust", "rb": "ruby", "kt": "kotlin", "sh": "shell", "bash": "shell"},
    **{"json": str(Format.JSON), "latex": str(Format.LATEX), "tex": str(Format.LATEX)},
}
"""What a fence may be called, and the format that means."""
