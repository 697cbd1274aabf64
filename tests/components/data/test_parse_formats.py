"""A document is written with another library, parsed, and its structure is found again."""

import base64
import csv
import io
import json
import re
import string
import tempfile
import textwrap
from datetime import UTC, datetime
from html import escape
from pathlib import Path

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import parse_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from reportlab.lib import colors
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import Paragraph, Preformatted, SimpleDocTemplate, Table, TableStyle

from components.common.documents import read_table
from components.common.step import Context
from components.data.ingest.files import File
from components.data.ingest.options import Ingest
from components.data.ingest.tickets import read_tickets
from components.data.parse.code import GRAMMARS, find_symbols
from components.data.parse.formats import parse
from components.data.parse.formulas import as_latex
from components.data.parse.options import Parse
from components.data.parse.parsed import Parsed
from components.data.parse.run import run
from components.data.sources import Source

LATIN = st.text(string.ascii_letters, min_size=2, max_size=8)
WORD = LATIN | st.text("가나다라마바사", min_size=2, max_size=5)
ROWS = st.integers(2, 4).flatmap(
    lambda width: st.lists(st.lists(WORD, min_size=width, max_size=width), min_size=2, max_size=4)
)
FEW = settings(deadline=None, max_examples=15)


def saved(document) -> str:
    buffer = io.BytesIO()
    document.save(buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def read(text: str, form: str, **options) -> Parsed:
    return parse(text, form, Parse(**options))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def tables(markdown: str) -> list[list[list[str]]]:
    """Find the tables of a Markdown text, without the line below the head."""
    blocks = [block for block in markdown.split("\n\n") if block.startswith("|")]
    return [[cells(line) for place, line in enumerate(block.strip().splitlines()) if place != 1] for block in blocks]


@settings(deadline=None, max_examples=6)
@given(
    st.lists(st.tuples(st.integers(1, 4), WORD), min_size=1, max_size=4), ROWS, st.lists(WORD, min_size=1, max_size=4)
)
def test_word_keeps_headings_tables_and_lists(headings, rows, items):
    document = docx.Document()
    for level, name in headings:
        document.add_heading(name, level)
    table = document.add_table(len(rows), len(rows[0]))
    for row, values in zip(table.rows, rows, strict=True):
        for cell, value in zip(row.cells, values, strict=True):
            cell.text = value
    for item in items:
        document.add_paragraph(item, style="List Bullet")
    result = read(saved(document), "docx")
    lines = result.text.splitlines()
    assert [line for line in lines if line.startswith("#")] == [f"{'#' * level} {name}" for level, name in headings]
    assert tables(result.text) == [rows]
    assert [line for line in lines if line.startswith("- ")] == [f"- {item}" for item in items]
    assert result.metadata["title"] == headings[0][1]


def test_word_keeps_formulas_as_latex_and_code_with_its_indentation():
    math = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
    document = docx.Document()
    paragraph = document.add_paragraph("Mass ")
    paragraph._p.append(
        parse_xml(
            f"<m:oMath {math}><m:f><m:num><m:r><m:t>α</m:t></m:r></m:num><m:den><m:sSup><m:e><m:r><m:t>x</m:t></m:r>"
            "</m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup></m:den></m:f></m:oMath>"
        )
    )
    paragraph._p.append(paragraph.add_run(" after")._r)
    display = (
        f'<m:oMathPara {math}><m:oMath><m:nary><m:naryPr><m:chr m:val="∑"/></m:naryPr><m:sub><m:r><m:t>i</m:t></m:r>'
        "</m:sub><m:sup><m:r><m:t>n</m:t></m:r></m:sup><m:e><m:rad><m:deg/><m:e><m:r><m:t>i_1</m:t></m:r></m:e></m:rad>"
        "</m:e></m:nary></m:oMath></m:oMathPara>"
    )
    document.add_paragraph()._p.append(parse_xml(display))
    document.styles.add_style("Code", 1)
    for line in ("def f():", "    return 1"):
        document.add_paragraph(line, style="Code")
    text = read(saved(document), "docx").text
    assert r"Mass $\frac{\alpha}{x^{2}}$ after" in text
    assert r"$$\sum_{i}^{n}{\sqrt{i\_1}}$$" in text
    assert "```\ndef f():\n    return 1\n```" in text


@FEW
@given(st.dictionaries(LATIN, ROWS, min_size=1, max_size=3), st.integers(-9, 9))
def test_a_workbook_keeps_sheets_and_tables(sheets, number):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for place, (name, rows) in enumerate(sheets.items()):
        sheet = book.create_sheet(f"{name}{place}")
        for row in rows:
            sheet.append(row)
        sheet.append([number, number + 0.5])
    result = read(saved(book), "xlsx")
    names = [f"## {name}{place}" for place, name in enumerate(sheets)]
    assert [line for line in result.text.splitlines() if line.startswith("#")] == names
    width = [len(rows[0]) for rows in sheets.values()]
    last = [str(number), str(number + 0.5)]
    assert tables(result.text) == [
        [*rows, (last + [""] * 9)[:size]] for rows, size in zip(sheets.values(), width, strict=True)
    ]
    few = read(saved(book), "xlsx", table_rows=1)
    assert few.rows_cut == sum(len(rows) - 1 for rows in sheets.values())


@FEW
@given(st.lists(st.tuples(WORD, st.lists(WORD, min_size=1, max_size=3), ROWS), min_size=1, max_size=3))
def test_a_presentation_keeps_titles_lists_tables_and_notes(slides):
    show = pptx.Presentation()
    for title, items, rows in slides:
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = title
        frame = slide.placeholders[1].text_frame
        frame.text = items[0]
        for item in items[1:]:
            paragraph = frame.add_paragraph()
            paragraph.text, paragraph.level = item, 1
        table = slide.shapes.add_table(len(rows), len(rows[0]), 0, 6_000_000, 9, 9).table
        for row, values in enumerate(rows):
            for column, value in enumerate(values):
                table.cell(row, column).text = value
        slide.notes_slide.notes_text_frame.text = title
    result = read(saved(show), "pptx")
    lines = result.text.splitlines()
    assert [line for line in lines if line.startswith("##")] == [f"## {title}" for title, _, _ in slides]
    wanted = [f"{'  ' if place else ''}- {item}" for _, items, _ in slides for place, item in enumerate(items)]
    assert [line for line in lines if line.lstrip().startswith("- ")] == wanted
    assert tables(result.text) == [rows for _, _, rows in slides]
    assert lines.count(f"> {slides[0][0]}") >= 1


OMML = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
DRAWN = (
    'xmlns:a14="http://schemas.microsoft.com/office/drawing/2010/main" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)


def fraction(above: str, below: str) -> str:
    run = "<m:r><m:t>{}</m:t></m:r>"
    return f"<m:f><m:num>{run.format(above)}</m:num><m:den>{run.format(below)}</m:den></m:f>"


def test_a_presentation_keeps_formulas_and_the_boxes_that_hold_them():
    show = pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    box = slide.placeholders[1]
    box.text_frame.text = "Mass is "
    newer = f'<mc:AlternateContent {DRAWN}><mc:Choice Requires="a14">{{}}</mc:Choice></mc:AlternateContent>'
    formula = newer.format(f"<a14:m><m:oMath {OMML}>{fraction('α', '2')}</m:oMath></a14:m>")
    box.text_frame.paragraphs[0]._p.append(etree.fromstring(formula))
    whole = etree.fromstring(newer.format(""))
    box._element.addprevious(whole)
    whole[0].append(box._element)
    assert r"- Mass is $\frac{\alpha}{2}$" in read(saved(show), "pptx").text


LETTER = st.sampled_from(["x", "y", "α", "2"])
FORMULA = st.recursive(
    LETTER.map(lambda letter: (f"<m:r><m:t>{letter}</m:t></m:r>", {"α": r"\alpha"}.get(letter, letter))),
    lambda part: (
        st.tuples(part, part).map(
            lambda two: (
                f"<m:f><m:num>{two[0][0]}</m:num><m:den>{two[1][0]}</m:den></m:f>",
                rf"\frac{{{two[0][1]}}}{{{two[1][1]}}}",
            )
        )
        | part.map(lambda one: (f"<m:rad><m:deg/><m:e>{one[0]}</m:e></m:rad>", rf"\sqrt{{{one[1]}}}"))
        | st.tuples(part, part).map(
            lambda two: (
                f"<m:sSup><m:e>{two[0][0]}</m:e><m:sup>{two[1][0]}</m:sup></m:sSup>",
                f"{{{two[0][1]}}}^{{{two[1][1]}}}",
            )
        )
    ),
    max_leaves=6,
)


@FEW
@given(FORMULA)
def test_formulas_of_word_are_the_latex_that_says_the_same(formula):
    omml, latex = formula
    root = etree.fromstring(f"<m:oMath {OMML}>{omml}</m:oMath>")
    assert bare(as_latex(root)) == bare(latex)


def bare(latex: str) -> str:
    """Leave out spaces and braces around a single letter, which mean nothing."""
    return re.sub(r"(?<=\})\{(\w)\}(?=\^)|\{(\w)\}(?=\^)", r"\1\2", latex.replace(" ", ""))


CODE = st.lists(st.tuples(st.integers(0, 3), LATIN), min_size=1, max_size=4).map(
    lambda lines: "\n".join(["top", *("    " * depth + word for depth, word in lines)])
)
BLOCK = st.one_of(
    st.tuples(st.just("heading"), st.tuples(st.integers(1, 6), WORD)),
    st.tuples(st.just("words"), st.lists(WORD, min_size=1, max_size=6)),
    st.tuples(st.just("items"), st.lists(WORD, min_size=1, max_size=4)),
    st.tuples(st.just("rows"), ROWS),
    st.tuples(st.just("code"), st.tuples(st.sampled_from(["python", "c", ""]), CODE)),
    st.tuples(st.just("formula"), st.tuples(LATIN, LATIN)),
)


def as_markdown(kind: str, value) -> str:
    if kind == "heading":
        return f"{'#' * value[0]} {value[1]}"
    if kind == "words":
        return " ".join(value)
    if kind == "items":
        return "\n".join(f"- {item}" for item in value)
    if kind == "rows":
        head, *rest = (f"| {' | '.join(row)} |" for row in value)
        return "\n".join([head, f"| {' | '.join(['---'] * len(value[0]))} |", *rest])
    if kind == "code":
        return f"```{value[0]}\n{value[1]}\n```"
    return rf"Where \(\frac{{{value[0]}}}{{2}} < {value[1]}_1 * 2\) and $${value[0]}^*_{{1}}$$ hold"


def as_html(kind: str, value) -> str:
    if kind == "heading":
        return f"<h{value[0]}>{value[1]}</h{value[0]}>"
    if kind == "items":
        return f"<ul>{''.join(f'<li>{item}</li>' for item in value)}</ul>"
    if kind == "rows":
        return f"<table>{''.join('<tr><td>' + '</td><td>'.join(row) + '</td></tr>' for row in value)}</table>"
    if kind == "code":
        return f'<pre><code class="language-{value[0]}">{escape(value[1])}</code></pre>'
    return f"<p>{escape(as_markdown(kind, value))}</p>"


@settings(deadline=None, max_examples=60)
@given(st.lists(BLOCK, min_size=1, max_size=6))
def test_markdown_is_kept_and_html_becomes_the_same_markdown(blocks):
    # Two lists in a row are one in Markdown, so something stands between them.
    told = [part for block in blocks for part in (block, ("words", ["between"]))]
    text = "\n\n".join(as_markdown(*block) for block in told) + "\n"
    assert read(text, "markdown").text == text
    page = "".join(f"<div>{as_html(*block)}</div>" for block in told)
    made = read(f"<html><body><script>no()</script>{page}</body></html>", "html")
    assert made.text == text
    assert tables(made.text) == [value for kind, value in told if kind == "rows"]


@FEW
@given(st.lists(st.tuples(LATIN, LATIN), min_size=1, max_size=3), ROWS, CODE)
def test_restructuredtext_keeps_formulas_tables_and_code(formulas, rows, code):
    width = 12
    rule = "+".join(["", *["-" * width] * len(rows[0]), ""])
    lines = ["|".join(["", *(cell.ljust(width - wide(cell)) for cell in row), ""]) for row in rows]
    grid = "\n".join([rule, lines[0], rule.replace("-", "="), *(part for line in lines[1:] for part in (line, rule))])
    math = "\n\n".join(
        f".. math::\n\n   \\frac{{{a}}}{{{b}}} < {a}_1\n\nInline :math:`{a}_{{{b}}}` here." for a, b in formulas
    )
    source = f"{math}\n\n{grid}\n\n.. code-block:: python\n\n{textwrap.indent(code, '   ')}\n"
    text = read(source, "rst").text
    for a, b in formulas:
        assert f"$$\\frac{{{a}}}{{{b}}} < {a}_1$$\n\nInline ${a}_{{{b}}}$ here." in text
    assert tables(text) == [rows]
    assert f"```python\n{code}\n```" in text


def test_a_table_drawn_askew_is_kept_as_it_was_typed():
    text = read("before\n\n+---+---+\n| a | 가 |\n+---+---+\n\nafter\n", "rst").text
    assert text == "before\n\n```\n+---+---+\n| a | 가 |\n+---+---+\n```\n\nafter\n"


def wide(text: str) -> int:
    return sum(character >= "가" for character in text)


@FEW
@given(
    st.lists(st.tuples(st.sampled_from(["customer", "agent"]), WORD), min_size=1, max_size=6),
    st.booleans(),
    st.randoms(),
    st.sampled_from(["csv", "jsonl", "json"]),
)
def test_a_dialogue_comes_back_from_any_export_in_its_order(said, timed, random, form):
    turns = [("customer", "hello"), *said]
    rows = [
        {"ticket_id": "1", "role": role, "content": f"{word} {place}", "created_at": f"2026-01-01T00:{place:02}:00"}
        for place, (role, word) in enumerate(turns)
    ]
    if timed:
        random.shuffle(rows)
    else:
        rows = [{**row, "created_at": ""} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"export.{form}")
        if form == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)
        else:
            path.write_text("\n".join(map(json.dumps, rows)) if form == "jsonl" else json.dumps({"all": rows}))
        declared = Source(id="mine", license="MIT", owner="me", location=folder, kind="ticket")
        [found] = read_tickets(File(path, path.name, datetime.now(UTC)), declared, Ingest())
    assert isinstance(found, dict)
    spoken = [(message["role"], part) for message in found["messages"] for part in message["content"].split("\n\n")]
    roles = {"customer": "user", "agent": "assistant"}
    assert spoken == [(roles[role], f"{word} {place}") for place, (role, word) in enumerate(turns)]


def pdf(*parts) -> str:
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer, invariant=1).build(list(parts))
    return base64.b64encode(buffer.getvalue()).decode()


LATIN_ROWS = st.lists(st.lists(LATIN, min_size=3, max_size=3), min_size=2, max_size=5)


@settings(deadline=None, max_examples=8)
@given(st.lists(LATIN, min_size=1, max_size=3), LATIN_ROWS, st.lists(LATIN, min_size=8, max_size=60))
def test_pdf_keeps_headings_ruled_tables_code_and_paragraphs(headings, rows, words):
    styles = getSampleStyleSheet()
    code = "def f(x):\n    if x:\n        return 1"
    parts = []
    for heading in headings:
        parts += [Paragraph(heading, styles["Heading1"]), Paragraph(" ".join(words), styles["BodyText"])]
    grid = TableStyle([("GRID", (0, 0), (-1, -1), 1, colors.black)])
    text = read(pdf(*parts, Table(rows, style=grid), Preformatted(code, styles["Code"])), "pdf").text
    assert [line for line in text.splitlines() if line.startswith("#")] == [f"# {heading}" for heading in headings]
    assert text.splitlines().count(" ".join(words)) == len(headings)
    assert tables(text) == [rows]
    assert f"```\n{code}\n```" in text


def test_running_heads_of_a_pdf_are_left_out_and_its_words_kept():
    def head(canvas, page):
        canvas.drawString(72, 800, "Confidential draft")
        canvas.drawString(72, 20, f"page {page.page}")

    buffer = io.BytesIO()
    body = getSampleStyleSheet()["BodyText"]
    words = [f"word{number}" for number in range(3000)]
    SimpleDocTemplate(buffer, invariant=1).build(
        [Paragraph(" ".join(words), body)], onFirstPage=head, onLaterPages=head
    )
    text = read(base64.b64encode(buffer.getvalue()).decode(), "pdf").text
    assert text.split() == words


@FEW
@given(st.lists(st.tuples(st.sampled_from(["markdown", "code"]), WORD), min_size=1, max_size=5))
def test_a_notebook_keeps_text_code_and_what_was_printed(parts):
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# ", word]}
        if kind == "markdown"
        else {
            "cell_type": "code",
            "metadata": {},
            "source": f"def f():\n    return '{word}'",
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": [f"{word}\n"]},
                {"output_type": "display_data", "data": {"image/png": "QUJD"}},
            ],
        }
        for kind, word in parts
    ]
    notebook = {"nbformat": 4, "metadata": {"language_info": {"name": "python"}}, "cells": cells}
    text = read(json.dumps(notebook), "notebook").text
    for kind, word in parts:
        code = f"```python\ndef f():\n    return '{word}'\n```\n\n```text\n{word}\n```"
        assert (f"# {word}\n" if kind == "markdown" else code) in text
    assert "QUJD" not in text


@FEW
@given(st.lists(st.tuples(st.sampled_from(["section", "subsection"]), WORD), min_size=1, max_size=4), ROWS, LATIN)
def test_latex_keeps_headings_tables_code_and_formulas(headings, rows, letters):
    body = "\n".join(rf"\{kind}{{{name}}} Text \emph{{of}} {name} % comment" for kind, name in headings)
    table = " \\\\ \\hline\n".join(" & ".join(row) for row in rows)
    source = (
        rf"\documentclass{{article}}\title{{On {letters}}}\begin{{document}}\maketitle {body}"
        "\n"
        rf"\begin{{tabular}}{{{'l' * len(rows[0])}}} {table} \end{{tabular}}"
        rf" Inline $\frac{{{letters}}}{{2}}$ and \[ x_1 < y \]"
        "\n\\begin{lstlisting}[language=Python]\nif x:\n    y()\n\\end{lstlisting}\n"
        r"\begin{align} a &= b \\ c &= d \end{align}"
        rf"\begin{{itemize}}\item {letters}\end{{itemize}}\end{{document}}"
    )
    text = read(source, "latex").text
    lines = text.splitlines()
    wanted = [f"# On {letters}", *(f"{'##' if kind == 'section' else '###'} {name}" for kind, name in headings)]
    assert [line for line in lines if line.startswith("#")] == wanted
    assert tables(text) == [rows]
    assert rf"Inline $\frac{{{letters}}}{{2}}$ and" in text
    assert "$$\nx_1 < y\n$$" in text
    assert "```python\nif x:\n    y()\n```" in text
    assert "$$\n\\begin{align} a &= b \\\\ c &= d \\end{align}\n$$" in text
    assert f"- {letters}" in lines
    assert "comment" not in text


SAMPLES = {
    "c": ("#include <a.h>\n\n/* why */\nint add(int a) {\n  return a;\n}\n", "add"),
    "c#": ("using A;\nnamespace N {\n  // why\n  class Box { int a; }\n}\n", "Box"),
    "c++": ("#include <a>\n// why\ntemplate <class T> T add(T a) { return a; }\n", "add"),
    "cuda": ("__global__ void add(int a) { }\n", "add"),
    "go": ("package a\n\n// why\nfunc add(a int) int {\n\treturn a\n}\n", "add"),
    "java": ("import a.B;\n\n/** why */\nclass Box {\n  int a;\n}\n", "Box"),
    "javascript": ("import a from 'b'\n// why\nexport function add(a) { return a }\n", "add"),
    "kotlin": ("package a\n// why\nfun add(a: Int): Int = a\n", "add"),
    "python": ("import a\n\n# why\n@a.b\ndef add(a):\n    return a\n", "add"),
    "ruby": ("require 'a'\n# why\nclass Box\n  def a; end\nend\n", "Box"),
    "rust": ("use a;\n/// why\npub fn add(a: i32) -> i32 { a }\n", "add"),
    "shell": ("set -e\n# why\nadd() {\n  echo\n}\n", "add"),
    "typescript": ("import a from 'b';\n// why\nexport class Box<T> { a(): T {} }\n", "Box"),
}


@pytest.mark.parametrize("language", sorted(GRAMMARS))
def test_each_language_gives_its_symbols_with_their_comments(language):
    source, name = SAMPLES[language]
    symbols = find_symbols(source, language)
    [found] = [symbol for symbol in symbols if symbol.kind != "rest"]
    assert found.name == name
    assert ("why" in found.text) == ("why" in source)
    whole = [line for line in source.splitlines() if line.strip()]
    assert [line for symbol in symbols for line in symbol.text.splitlines() if line.strip()] == whole


FUNCTION = st.tuples(LATIN.map(str.lower), st.integers(1, 3), st.booleans())


@settings(deadline=None, max_examples=40)
@given(st.lists(FUNCTION, max_size=4), st.lists(WORD, max_size=3))
def test_symbols_and_the_rest_are_the_whole_file_with_its_indentation(functions, comments):
    blocks = [f"# {comment}" for comment in comments]
    for name, depth, decorated in functions:
        body = (
            "\n".join("    " * (level + 1) + "if 1:" for level in range(depth)) + "\n" + "    " * (depth + 1) + "pass"
        )
        blocks.append(("@wraps\n" if decorated else "") + f"def f_{name}():\n{body}")
    source = "\n\n".join(blocks) + "\n"
    symbols = find_symbols(source, "python")
    if not functions:
        assert symbols == ()
        return
    assert [symbol.name for symbol in symbols if symbol.kind == "function"] == [f"f_{name}" for name, _, _ in functions]
    whole = [line for line in source.splitlines() if line.strip()]
    assert [line for symbol in symbols for line in symbol.text.splitlines() if line.strip()] == whole
    for symbol in symbols:
        lines = source.splitlines()[symbol.first_line - 1 : symbol.last_line]
        assert symbol.text == "\n".join(lines) + "\n"


def test_code_by_symbol_makes_documents_that_name_the_file_they_come_from(document, written, tmp_path, environment):
    source = textwrap.dedent("""
        import os

        def one():
            return 1

        class Two:
            pass
    """)
    tags = {"format": "code", "code_language": "python"}
    rows = [
        document(source, "a.py", kind="code", metadata=tags),
        document("x = 1\n", "b.py", kind="code", metadata=tags),
    ]
    folder = written(rows)
    options = Parse(code="symbols")
    run(folder, tmp_path / "out", options, Context("data/parse", environment))
    made = read_table(tmp_path / "out").to_pylist()
    assert [(row["url"], dict(row["metadata"]).get("symbol", "-")) for row in made] == [
        ("a.py#L2-2", ""),
        ("a.py#L4-5", "one"),
        ("a.py#L7-8", "Two"),
        ("b.py", "-"),
    ]
    assert [row["parents"] for row in made] == [[rows[0]["id"]]] * 3 + [[]]
    assert made[1]["text"] == "def one():\n    return 1\n"
