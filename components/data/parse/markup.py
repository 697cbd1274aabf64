"""Turns markup into clean Markdown with its structure kept: headings, lists, tables, code.

Markdown is the form of everything downstream, because it is what models read and write: reStructuredText goes through
docutils and HTML, HTML through html-to-markdown.
"""

import re
from functools import cache
from html import unescape

import yaml
from docutils import nodes
from docutils.core import publish_parts
from docutils.parsers.rst import Directive, directives, roles
from docutils.readers.standalone import Reader as Standalone
from docutils.transforms import Transform
from docutils.utils import SystemMessage
from html_to_markdown import ConversionOptions, convert
from markdown_it import MarkdownIt

from components.data.parse.parsed import Parsed, ParseError
from components.data.parse.tables import printable, squeeze


def parse_markup(text: str, form: str) -> Parsed:
    """Parse Markdown, reStructuredText or HTML.

    Raises:
        ParseError: The text breaks the rules of its format.
    """
    text = printable(text)
    metadata: dict[str, str] = {}
    if form == "markdown":
        metadata, text = _front_matter(text)
    elif form == "rst":
        text = _from_rst(text)
    else:
        text = from_html(text)
    return as_markdown(text, metadata)


def as_markdown(text: str, metadata: dict[str, str] | None = None, rows_cut: int = 0) -> Parsed:
    """Tidy Markdown that a parser made; its first heading is the title unless the document has told one."""
    text, title = tidy_markdown(text)
    return Parsed(text, "markdown", {**({"title": title} if title else {}), **(metadata or {})}, rows_cut)


def tidy_markdown(text: str) -> tuple[str, str]:
    """Normalise Markdown: `#` headings, embedded HTML converted, badges and needless space removed, code untouched.

    Returns:
        The text, and its first heading.
    """
    lines = text.split("\n")
    out: list[str] = []
    position = 0
    title = ""
    tokens = _markdown().parse(text)
    for index, token in enumerate(tokens):
        if token.map is None or token.map[0] < position:
            continue
        begin, end = token.map
        if token.type == "heading_open" and not title:
            title = _PLAIN_TITLE.sub("", tokens[index + 1].content).strip()
        if token.type in ("fence", "code_block"):
            out += [_line(line) for line in lines[position:begin]] + [*lines[begin:end]]
        elif token.type == "html_block" and token.level == 0:
            out += [_line(line) for line in lines[position:begin]] + [
                "",
                *map(_line, from_html(token.content).split("\n")),
                "",
            ]
        elif token.type == "heading_open" and token.level == 0 and token.markup in ("=", "-"):
            heading = " ".join(tokens[index + 1].content.split())
            out += [_line(line) for line in lines[position:begin]] + [f"{'#' * int(token.tag[1])} {heading}"]
        else:
            continue
        position = end
    out += [_line(line) for line in lines[position:]]
    return squeeze(out), title


_PLAIN_TITLE = re.compile(r"<[^>]*>|[*`]|!\[[^\]]*\]\([^)]*\)")
_IMAGE = r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])"
_BADGES = re.compile(rf"^\s*(?:(?:{_IMAGE}|\[(?:\s|{_IMAGE})*\](?:\([^)]*\)|\[[^\]]*\]))\s*)+$")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table").disable("inline")  # only blocks are looked at: half the time


def _line(line: str) -> str:
    return "" if _BADGES.match(line) else line.rstrip()


def _front_matter(text: str) -> tuple[dict[str, str], str]:
    """Take YAML front matter off a Markdown text; what is no mapping of plain values stays text."""
    match = _FRONT_MATTER.match(text)
    if not match:
        return {}, text
    try:
        content = yaml.load(match[1], yaml.BaseLoader)  # values as written: a date need not exist
    except (yaml.YAMLError, RecursionError):
        return {}, text
    if not isinstance(content, dict):
        return {}, text
    metadata = {}
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if value and all(isinstance(item, str) for item in (name, *values)):
            metadata[_whole(name)] = _whole(", ".join(values))
    return metadata, text[match.end() :]


def _whole(text: str) -> str:
    """Leave out halves of surrogate pairs, which YAML can spell and no text may hold."""
    return text.encode("utf-8", "ignore").decode("utf-8")


_DOCUTILS = {
    "_disable_config": True,
    "doctitle_xform": False,
    "file_insertion_enabled": False,
    "halt_level": 5,
    "initial_header_level": 1,
    "math_output": "LaTeX",
    "raw_enabled": False,
    "report_level": 5,
    "smart_quotes": False,
    "syntax_highlight": "none",
}


_RST_CODE = re.compile(
    r'<pre class="code (\S+) (?:literal-block|doctest)">(?:<code>)?(.*?)(?:</code>)?</pre>', re.DOTALL
)
_RST_FORMULA = re.compile(r'<(pre|tt) class="math">(.*?)</\1>', re.DOTALL)
_RST_LITERAL = re.compile(r'<span class="docutils literal">(.*?)</span>', re.DOTALL)


class _Passage(Directive):
    """A directive that Sphinx adds to the language: what it says is kept."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        passage = nodes.container()
        if self.arguments:
            passage += nodes.paragraph(text=" ".join(self.arguments))
        self.state.nested_parse(self.content, self.content_offset, passage)
        return [passage]


for _name in ("centered", "deprecated", "seealso", "versionadded", "versionchanged"):
    directives.register_directive(_name, _Passage)
for _name in ("attr", "class", "data", "doc", "envvar", "exc", "file", "func", "meth", "mod", "obj", "option", "ref"):
    roles.register_generic_role(_name, nodes.literal)


class _KeptTables(Transform):
    """Keeps a table that breaks the rules, as Korean ones drawn by eye do, as it was typed: docutils drops it."""

    default_priority = 1

    def apply(self) -> None:
        for message in list(self.document.findall(nodes.system_message)):
            if message[0].astext().startswith("Malformed table"):
                message.parent.replace(message, list(message.findall(nodes.literal_block)))


class _Reader(Standalone):
    def get_transforms(self) -> list[type[Transform]]:
        return [*super().get_transforms(), _KeptTables]


def _from_rst(text: str) -> str:
    try:
        html = publish_parts(text, reader=_Reader(), writer="html5", settings_overrides=_DOCUTILS)["body"]
        html = _RST_FORMULA.sub(_as_script, html)
        html = _RST_CODE.sub(r'<pre><code class="language-\1">\2</code></pre>', html)
        return from_html(_RST_LITERAL.sub(r"<code>\1</code>", html))
    except (SystemMessage, RecursionError, AttributeError, ValueError) as error:
        raise ParseError(f"docutils: {str(error).partition(chr(10))[0][:120]}") from error


def _as_script(match: re.Match[str]) -> str:
    mode = "; mode=display" if match[1] == "pre" else ""
    script = f'<script type="math/tex{mode}">{unescape(match[2])}</script>'
    return f"<p>{script}</p>" if mode else script


_TEX = "application/x-tex"
_FORMULA = re.compile(
    r"<math\b[^>]*>.*?</math>"
    r"|<script\b[^>]*\btype=[\"']?math/tex[^>]*>.*?</script>"
    r"|\\\([^<]{1,2000}?\\\)|\\\[[^<]{1,4000}?\\\]|\$\$[^<$]{1,4000}?\$\$",
    re.DOTALL | re.IGNORECASE,
)
_ANNOTATION = re.compile(rf"<annotation\b[^>]*{_TEX}[^>]*>(.*?)</annotation>", re.DOTALL)
_ALTERNATIVE = re.compile(r"^<math\b[^>]*\balttext=\"([^\"]*)\"", re.IGNORECASE)
_PLACE = re.compile("\ue002(\\d+)\ue003")


def from_html(text: str) -> str:
    """Turn HTML into Markdown; formulas stay LaTeX, between the marks that they have or between dollars.

    Raises:
        ParseError: It cannot be done, or something would be lost.
    """
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        latex = _latex(match[0])
        if latex is None:
            return match[0]
        formulas.append(latex)
        return f"\ue002{len(formulas) - 1}\ue003"

    marked = _FORMULA.sub(keep, _PLACE.sub("", text))
    try:
        result = convert(marked, ConversionOptions(extract_metadata=False, compact_tables=True))
    except (RuntimeError, ValueError) as error:
        raise ParseError("HTML: it cannot be converted") from error
    if any(str(warning.kind) == "depth_limit_exceeded" for warning in result.warnings):
        raise ParseError("HTML: it is nested too deeply")
    return _PLACE.sub(lambda match: formulas[int(match[1])], result.content or "")


def _latex(found: str) -> str | None:
    """Give the LaTeX of a formula in a page, None if it has none."""
    if found[0] != "<":
        return unescape(found)
    if found[1:5].lower() != "math":
        latex, display = found.partition(">")[2].rpartition("<")[0], "mode=display" in found.partition(">")[0]
    else:
        said = _ANNOTATION.search(found) or _ALTERNATIVE.search(found)
        if not said:
            return None
        latex, display = unescape(said[1]), 'display="block"' in found.partition(">")[0]
    latex = latex.strip()
    return f"$${latex}$$" if display else f"${latex}$"
