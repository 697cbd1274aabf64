"""Turns markup into clean Markdown with its structure kept: headings, lists, tables, code.

Markdown is the form of everything downstream, because it is what models read and write: reStructuredText goes through
docutils and HTML, HTML through html-to-markdown, tables of values become Markdown tables. Code and plain text stay.
"""

import csv
import io
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pyarrow as pa
import yaml
from docutils import nodes
from docutils.core import publish_parts
from docutils.parsers.rst import Directive, directives, roles
from docutils.utils import SystemMessage
from html_to_markdown import ConversionOptions, convert
from markdown_it import MarkdownIt

from components.common.documents import SCHEMA, DocumentWriter, count_documents, read_batches, with_text
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.parse.options import Parse
from components.data.reasons import Reason

ROWS = 500


class Unparsed(Reason):
    """Why a document could not be parsed."""

    MALFORMED = "malformed", "It breaks the rules of its format."
    EMPTY = "empty", "Nothing is left of it but markup."


class ParseError(ValueError):
    """A text that breaks the rules of its format."""


@dataclass(frozen=True)
class Parsed:
    """A text in the form that the steps downstream expect."""

    text: str
    format: str
    metadata: dict[str, str] = field(default_factory=dict)
    rows_cut: int = 0


def run(documents: Path, parsed: Path, options: Parse, context: Context) -> Outcome:
    """Parse every document by the format that ingest noted.

    Args:
        documents: Documents as ingested.
        parsed: Folder for the parsed documents.
        options: Bounds.
        context: Where the run takes place.

    Returns:
        Counts by format, and what could not be parsed.
    """
    total = count_documents(documents)
    dropped: Counter[Unparsed] = Counter()
    failures: list[dict[str, str]] = []
    formats: dict[str, Counter[str]] = {}
    done = rows_cut = 0
    with DocumentWriter(parsed) as writer:
        for batch in read_batches(documents, rows=ROWS):
            table = pa.Table.from_batches([batch])
            keep: list[bool] = []
            texts: list[str] = []
            metadata: list[list[tuple[str, str]]] = []
            for text, pairs, url in zip(
                *(table[name].to_pylist() for name in ("text", "metadata", "url")), strict=True
            ):
                tags = dict(pairs)
                form = tags.get("format", "text")
                counts = formats.setdefault(form, Counter())
                try:
                    result = parse(text, form, options)
                    reason = None if result.text.strip() else Unparsed.EMPTY
                    detail = ""
                except ParseError as error:
                    reason, detail = Unparsed.MALFORMED, str(error)
                keep.append(reason is None)
                counts["documents"] += 1
                counts["characters in"] += len(text)
                if reason is not None:
                    dropped[reason] += 1
                    failures.append({"document": url, "format": form, "reason": reason.value, "detail": detail})
                    continue
                counts["characters out"] += len(result.text)
                rows_cut += result.rows_cut
                texts.append(result.text)
                metadata.append(
                    sorted({**result.metadata, **tags, "format": result.format, "format_found": form}.items())
                )
            kept = with_text(table.filter(pa.array(keep, pa.bool_())), texts)
            column = pa.array(metadata, SCHEMA.field("metadata").type)
            writer.write(kept.set_column(kept.schema.get_field_index("metadata"), SCHEMA.field("metadata"), column))
            done += len(keep)
            context.progress(done, total, f"{done:,} documents")
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        dropped={reason.value: count for reason, count in sorted(dropped.items())},
        metrics={"table_rows_cut": rows_cut},
        report=_report(total, writer.rows, formats, failures, rows_cut),
    )


def parse(text: str, form: str, options: Parse) -> Parsed:
    """Parse one text.

    Args:
        text: The text as found.
        form: `markdown`, `rst`, `html`, `csv`, `tsv`, `code` or `text`.
        options: Bounds.

    Raises:
        ParseError: The text breaks the rules of its format.
    """
    if form == "code":
        return Parsed(text if text.endswith("\n") else text + "\n", "code")
    text = _printable(unicodedata.normalize("NFC", text))
    if form in ("csv", "tsv"):
        return _table(text, "\t" if form == "tsv" else ",;\t|", options.table_rows)
    if form not in ("markdown", "rst", "html"):
        return Parsed(_plain(text), "text")
    metadata: dict[str, str] = {}
    if form == "markdown":
        metadata, text = _front_matter(text)
    elif form == "rst":
        text = _from_rst(text)
    else:
        text = _from_html(text)
    text, title = tidy_markdown(text)
    return Parsed(text, "markdown", {**({"title": title} if title else {}), **metadata})


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
                *map(_line, _from_html(token.content).split("\n")),
                "",
            ]
        elif token.type == "heading_open" and token.level == 0 and token.markup in ("=", "-"):
            heading = " ".join(tokens[index + 1].content.split())
            out += [_line(line) for line in lines[position:begin]] + [f"{'#' * int(token.tag[1])} {heading}"]
        else:
            continue
        position = end
    out += [_line(line) for line in lines[position:]]
    return _squeeze(out), title


_PLAIN_TITLE = re.compile(r"<[^>]*>|[*`]|!\[[^\]]*\]\([^)]*\)")
_IMAGE = r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])"
_BADGES = re.compile(rf"^\s*(?:(?:{_IMAGE}|\[(?:\s|{_IMAGE})*\](?:\([^)]*\)|\[[^\]]*\]))\s*)+$")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\u200b\u2028\u2029]")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


def _printable(text: str) -> str:
    return _UNPRINTABLE.sub("", text.replace("\x0c", "\n"))


def _line(line: str) -> str:
    return "" if _BADGES.match(line) else line.rstrip()


def _squeeze(lines: list[str]) -> str:
    """Join lines with at most one blank line in a row outside fenced code."""
    out: list[str] = []
    fence = ""
    for line in lines:
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        if line or fence or (out and out[-1]):
            out.append(line)
    while out and not out[-1].strip():
        out.pop()
    return "\n".join(out) + "\n" if out else ""


def _plain(text: str) -> str:
    return _squeeze([line.rstrip() for line in text.split("\n")])


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


def _from_rst(text: str) -> str:
    try:
        html = publish_parts(text, writer="html5", settings_overrides=_DOCUTILS)["body"]
        html = _RST_CODE.sub(r'<pre><code class="language-\1">\2</code></pre>', html)
        return _from_html(_RST_LITERAL.sub(r"<code>\1</code>", html))
    except (SystemMessage, RecursionError, AttributeError, ValueError) as error:
        raise ParseError(f"docutils: {' '.join(str(error).split())[:200]}") from error


def _from_html(text: str) -> str:
    try:
        content = convert(text, ConversionOptions(extract_metadata=False)).content
    except (RuntimeError, ValueError) as error:
        raise ParseError(f"HTML: {error}") from error
    return content or ""


def _table(text: str, delimiters: str, most: int) -> Parsed:
    try:
        readings = [_rows(text, delimiter) for delimiter in delimiters]
    except csv.Error as error:
        raise ParseError(str(error)) from error
    rows = next(filter(_is_even, readings), readings[0])
    if not rows:
        return Parsed("", "markdown")
    width = max(len(row) for row in rows[: most + 1])
    shown = [
        [" ".join(cell.split()).replace("|", r"\|") for cell in row] + [""] * (width - len(row))
        for row in rows[: most + 1]
    ]
    lines = [f"| {' | '.join(row)} |" for row in shown]
    lines.insert(1, f"| {' | '.join(['---'] * width)} |")
    return Parsed("\n".join(lines) + "\n", "markdown", rows_cut=max(0, len(rows) - 1 - most))


def _is_even(rows: list[list[str]]) -> bool:
    """Tell whether a delimiter was the right one: every row has as many cells, and more than one."""
    widths = {len(row) for row in rows}
    return len(widths) == 1 and widths != {1}


def _rows(text: str, delimiter: str) -> list[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [row for row in reader if any(cell.strip() for cell in row)]


def _report(
    total: int, kept: int, formats: dict[str, Counter[str]], failures: list[dict[str, str]], rows_cut: int
) -> Report:
    """Show what changed by numbers; the texts are not masked yet, so none is shown."""
    report = Report("Parse", f"{kept:,} of {total:,} documents are clean text.")
    report.metrics({"documents": total, "parsed": kept, "not parsed": len(failures), "table rows cut": rows_cut})
    report.bars({form: formats[form]["documents"] for form in sorted(formats)}, "Documents by format found")
    report.table([{"format": form, **formats[form]} for form in sorted(formats)], "Characters before and after")
    if failures:
        report.table(failures, "Not parsed")
    return report
