"""Turns LaTeX into Markdown; formulas stay LaTeX between dollars."""

import re
from collections.abc import Sequence

from pylatexenc.latex2text import LatexNodes2Text
from pylatexenc.latexwalker import (
    LatexCharsNode,
    LatexCommentNode,
    LatexEnvironmentNode,
    LatexGroupNode,
    LatexMacroNode,
    LatexMathNode,
    LatexNode,
    LatexSpecialsNode,
    LatexWalker,
)

from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed
from components.data.parse.tables import as_table, fenced, plain

_HEADINGS = {"part": 1, "chapter": 1, "section": 2, "subsection": 3, "subsubsection": 4, "paragraph": 5}
_MATH = {"equation", "displaymath", "math"}
_ALIGNED = {"align", "alignat", "eqnarray", "flalign", "gather", "multline", "split"}
_TABLES = {"tabular", "tabularx", "longtable", "array"}
_LISTS = {"itemize", "enumerate", "description"}
_WRAPPED = {"emph": "*", "textit": "*", "textsl": "*", "textbf": "**", "texttt": "`"}
_DROPPED = {
    "author",
    "begin",
    "bibliographystyle",
    "centering",
    "date",
    "documentclass",
    "end",
    "hline",
    "includegraphics",
    "input",
    "label",
    "maketitle",
    "newcommand",
    "newpage",
    "noindent",
    "pagestyle",
    "renewcommand",
    "setlength",
    "tableofcontents",
    "usepackage",
}
_CODE = re.compile(
    r"\\begin\{(?P<name>verbatim\*?|lstlisting|minted|Verbatim)\}(?P<options>(?:\[[^\]]*\])?(?:\{[^}]*\})?)[ \t]*\n?"
    r"(?P<code>.*?)\n?[ \t]*\\end\{(?P=name)\}",
    re.DOTALL,
)
_LANGUAGE = re.compile(r"language=\{?(\w+)|\{(\w+)\}")
_MARK = re.compile("\ue000(\\d+)\ue001")
_BODY = re.compile(r"\\begin\{document\}(.*?)(?:\\end\{document\}|\Z)", re.DOTALL)
_TITLE = re.compile(r"\\title(?:\[[^\]]*\])?\{((?:[^{}]|\{[^{}]*\})*)\}")
_SYMBOLS = LatexNodes2Text(strict_latex_spaces=True, math_mode="verbatim")


def parse_latex(text: str, options: Parse) -> Parsed:
    """Parse a LaTeX document or a part of one.

    Args:
        text: The source; what it includes is not read, macros it defines are not expanded.
        options: Bounds of tables.
    """
    code: list[str] = []

    def keep(match: re.Match[str]) -> str:
        language = _LANGUAGE.search(match["options"])
        code.append(fenced(match["code"], (language[1] or language[2]).lower() if language else ""))
        return f"\n\n\ue000{len(code) - 1}\ue001\n\n"

    marked = _CODE.sub(keep, text)
    title = _TITLE.search(marked)
    body = _BODY.search(marked)
    writer = _Writer(options.table_rows)
    name = " ".join(writer.walk(_nodes(title[1])).split()) if title else ""
    written = writer.walk(_nodes(body[1] if body else marked))
    whole = f"# {name}\n\n{written}" if name else written
    lines = [line.strip() if not line.lstrip().startswith("- ") else line for line in whole.split("\n")]
    result = _MARK.sub(lambda match: code[int(match[1])], plain("\n".join(lines)))
    first = next((line.lstrip("# ") for line in result.split("\n") if line.startswith("#")), "")
    return Parsed(result, "markdown", {"title": name or first} if name or first else {}, writer.rows_cut)


def _nodes(text: str) -> Sequence[LatexNode]:
    return LatexWalker(text, tolerant_parsing=True).get_latex_nodes()[0]


class _Writer:
    """Writes nodes as Markdown."""

    def __init__(self, table_rows: int) -> None:
        self.rows_cut = 0
        self._table_rows = table_rows

    def walk(self, nodes: Sequence[LatexNode]) -> str:
        return "".join(self._write(node) for node in nodes if node is not None)

    def _write(self, node: LatexNode) -> str:
        if isinstance(node, LatexCharsNode):
            return node.chars
        if isinstance(node, LatexCommentNode):
            return ""
        if isinstance(node, LatexGroupNode):
            return self.walk(node.nodelist)
        if isinstance(node, LatexMathNode):
            inner = _verbatim(node.nodelist).strip()
            return f"${inner}$" if node.displaytype == "inline" else f"\n\n$$\n{inner}\n$$\n\n"
        if isinstance(node, LatexSpecialsNode):
            return {"~": " ", "&": "&"}.get(node.specials_chars) or _SYMBOLS.nodelist_to_text([node])
        if isinstance(node, LatexEnvironmentNode):
            return self._environment(node)
        return self._macro(node) if isinstance(node, LatexMacroNode) else ""

    def _environment(self, node: LatexEnvironmentNode) -> str:
        name = node.environmentname.rstrip("*")
        if name in _MATH:
            return f"\n\n$$\n{_verbatim(node.nodelist).strip()}\n$$\n\n"
        if name in _ALIGNED:
            return f"\n\n$$\n{node.latex_verbatim().strip()}\n$$\n\n"
        if name in _TABLES:
            return self._table(node)
        if name in _LISTS:
            return self._list(node, name)
        inner = self.walk(node.nodelist)
        if name in ("quote", "quotation"):
            return "\n\n" + "\n".join(f"> {line.strip()}" for line in inner.strip().split("\n")) + "\n\n"
        if name == "abstract":
            return f"\n\n## Abstract\n\n{inner.strip()}\n\n"
        return f"\n\n{inner.strip()}\n\n"

    def _list(self, node: LatexEnvironmentNode, name: str) -> str:
        items: list[list[LatexNode]] = []
        for part in node.nodelist:
            if isinstance(part, LatexMacroNode) and part.macroname == "item":
                label = _arguments(part)
                items.append([*([label[-1]] if label else [])])
            elif items:
                items[-1].append(part)
        lines: list[str] = []
        for number, item in enumerate(items, 1):
            text = [line for line in self.walk(item).strip().split("\n") if line.strip()]
            mark = f"{number}. " if name == "enumerate" else "- "
            lines += [
                f"{mark if place == 0 else '  '}{line if place else line.strip()}" for place, line in enumerate(text)
            ]
        return "\n\n" + "\n".join(lines) + "\n\n"

    def _table(self, node: LatexEnvironmentNode) -> str:
        rows: list[list[str]] = [[""]]
        for part in _without_columns(node):
            if isinstance(part, LatexMacroNode) and part.macroname == "\\":
                rows.append([""])
            elif isinstance(part, LatexSpecialsNode) and part.specials_chars == "&":
                rows[-1].append("")
            elif not (isinstance(part, LatexMacroNode) and re.match(r"hline|cline|\w+rule", part.macroname)):
                pieces = self._write(part).split("&")
                rows[-1][-1] += pieces[0]
                rows[-1] += pieces[1:]
        table, cut = as_table([row for row in rows if any(cell.strip() for cell in row)], self._table_rows)
        self.rows_cut += cut
        return f"\n\n{table}\n\n"

    def _macro(self, node: LatexMacroNode) -> str:
        name = node.macroname
        arguments = _arguments(node)
        last = self.walk([arguments[-1]]) if arguments else ""
        if name in _HEADINGS:
            return f"\n\n{'#' * _HEADINGS[name]} {' '.join(last.split())}\n\n"
        if name in _WRAPPED:
            mark = _WRAPPED[name]
            return f"{mark}{last.strip()}{mark}" if last.strip() else ""
        if name in ("\\", "newline", "par"):
            return "\n\n" if name == "par" else "\n"
        if name == "caption":
            return f"\n\n{last.strip()}\n\n"
        if name == "footnote":
            return f" ({last.strip()})"
        if name == "href" and len(arguments) > 1:
            return f"[{last}]({_verbatim([arguments[0]]).strip('{}')})"
        if name == "url":
            return f"<{_verbatim([arguments[-1]]).strip('{}')}>" if arguments else ""
        if name.startswith(("cite", "ref", "eqref", "autoref", "cref")):
            return f"[{_verbatim([arguments[-1]]).strip('{}')}]" if arguments else ""
        if name in _DROPPED:
            return ""
        return _SYMBOLS.nodelist_to_text([node]) or last


def _arguments(node: LatexMacroNode) -> list[LatexNode]:
    given = node.nodeargd.argnlist if node.nodeargd is not None and node.nodeargd.argnlist else []
    return [argument for argument in given if argument is not None]


def _without_columns(node: LatexEnvironmentNode) -> Sequence[LatexNode]:
    """Give what is in a table without the column specification, where the walker took it for content."""
    nodes = list(node.nodelist)
    known = node.nodeargd is not None and any(node.nodeargd.argnlist or [])
    while not known and nodes and isinstance(nodes[0], LatexGroupNode):
        nodes.pop(0)
    return nodes


def _verbatim(nodes: Sequence[LatexNode]) -> str:
    return "".join(node.latex_verbatim() for node in nodes if node is not None)
