"""Markup becomes Markdown, and its structure survives."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import part_files, read_table, text_revision
from components.common.errors import HeadraceError
from components.common.step import Context
from components.data.ingest.options import Ingest
from components.data.ingest.read import run as ingest
from components.data.parse.formats import parse
from components.data.parse.options import Parse
from components.data.parse.run import run
from components.data.sources import Source
from pipelines.single import run_single


def parsed(text: str, form: str, **options: int) -> str:
    return parse(text, form, Parse(**options)).text


def test_markdown_keeps_headings_lists_tables_and_code_as_they_are():
    text = (
        "# Title\n\n- one\n  - two\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
        "```python\nx = 1   \n\n\n\n# not a heading\n```\n\n"
        "    indented   \n\n> quoted\n"
    )
    assert parsed(text, "markdown") == text


def test_markdown_headings_badges_html_and_space_are_normalised():
    text = (
        "Title\n=====\n\n[![build](https://b.svg)](https://b) ![x](y.png)\n\n<!-- hidden -->\n"
        "<p align='center'>Hello <b>you</b></p>\n"
        "\nSub *title*\n---\nText  \n\n\n\nEnd\r"
    )
    assert parsed(text, "markdown") == "# Title\n\nHello **you**\n\n## Sub *title*\nText\n\nEnd\n"


def test_front_matter_becomes_metadata_and_a_rule_stays_a_rule():
    result = parse("---\ntitle: 안내\ntags: [a, b]\nnested: {a: 1}\n---\n# Other\n", "markdown", Parse())
    assert result.text == "# Other\n"
    assert result.metadata == {"title": "안내", "tags": "a, b"}
    assert parsed("---\nnot: [valid\n---\nText\n", "markdown").endswith("Text\n")
    assert "just words" in parsed("---\njust words\n---\nText\n", "markdown")


@pytest.mark.parametrize(
    ("header", "metadata"),
    [
        ("date: 2024-13-45", {"date": "2024-13-45"}),
        ('a: !!int "x"', {"a": "x"}),
        (r'a: "b\ud800"', {"a": "b"}),
        ("a:", {}),
        ("a: " + "[" * 3000, {}),
    ],
)
def test_odd_front_matter_stops_nothing(header, metadata):
    result = parse(f"---\n{header}\n---\nText\n", "markdown", Parse())
    assert {name: value for name, value in result.metadata.items() if name != "title"} == metadata
    assert result.text.endswith("Text\n")


def test_rst_becomes_markdown():
    text = (
        "Title\n=====\n\nUse ``pip`` or :class:`Foo`, see `docs <https://d.io>`_.\n\nPart\n----\n\n"
        ".. code-block:: python\n\n   def f():\n       return 1\n\n=== ===\na   b\n=== ===\n1   2\n=== ===\n\n"
        ".. versionadded:: 1.2\n   Much faster.\n\n"
        ".. include:: /etc/passwd\n\n.. raw:: html\n\n   <script>x</script>\n"
    )
    result = parsed(text, "rst")
    assert result.startswith("# Title\n\nUse `pip` or `Foo`, see [docs](https://d.io).\n\n## Part\n")
    assert "```python\ndef f():\n    return 1\n```" in result
    assert "| a | b |\n| --- | --- |\n| 1 | 2 |" in result
    assert "Much faster." in result
    assert "root:" not in result
    assert "script" not in result


def test_html_becomes_markdown_without_what_is_no_content():
    html = (
        "<html><head><title>T</title><style>p{}</style></head><body><h1>제목 &amp; more</h1>"
        "<p>A <a href='/x'>link</a></p>"
        "<pre><code class='language-python'>if x:\n    y()\n</code></pre>"
        "<table><tr><th>a</th></tr><tr><td>1</td></tr></table>"
        "<script>alert(1)</script></body></html>"
    )
    result = parsed(html, "html")
    assert result.startswith("# 제목 & more\n\nA [link](/x)\n\n```python\nif x:\n    y()\n```\n")
    assert "| a" in result
    assert "alert" not in result
    assert "p{}" not in result


def test_csv_becomes_a_table_and_long_ones_are_cut_and_counted():
    assert parsed('name;price\n"a|b";1\n"two\nlines";2\n', "csv") == (
        "| name | price |\n| --- | --- |\n| a\\|b | 1 |\n| two lines | 2 |\n"
    )
    result = parse("a,b\n" + "1,2\n" * 10, "csv", Parse(table_rows=3))
    assert result.text.count("| 1 | 2 |") == 3
    assert result.rows_cut == 7


@given(st.text(st.characters(codec="utf-8")))
def test_code_is_not_touched(text):
    assert parsed(text, "code").removesuffix("\n") == text.removesuffix("\n")


def test_decomposed_hangul_is_composed():
    assert parsed("한국어", "text") == "한국어\n"


@given(
    st.text(st.characters(codec="utf-8")) | st.text("#`*-=|<>![]() \nab", max_size=60),
    st.sampled_from(["markdown", "text"]),
)
def test_parsing_anything_succeeds_and_parsing_text_again_changes_nothing(text, form):
    once = parsed(text, form)
    if form == "text":
        assert parsed(once, form) == once


@given(st.lists(st.lists(st.text('ab가|\\ ,"\n', max_size=5), min_size=2, max_size=2), min_size=1, max_size=5))
def test_every_row_of_a_table_has_as_many_cells(rows):
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["head", "er"], *rows])
    lines = parsed(buffer.getvalue(), "csv").splitlines()
    assert {line.replace("\\|", "").count("|") for line in lines} == {3}


@pytest.fixture
def corpus(tmp_path: Path, environment) -> Path:
    source = Source.model_validate(
        {"id": "pypi", "location": "packages:hgtk,maskingtape,requests,docutils", "license": "per-item", "owner": "x"}
    )
    folder = tmp_path / "ingested"
    ingest(folder, Ingest(sources=[source], code_files_per_package=2), Context("data/ingest", environment))
    return folder


def test_real_documents_keep_their_identity_and_get_a_new_revision(corpus, tmp_path, environment):
    before = {row["id"]: row for row in read_table(corpus).to_pylist()}
    outcome = run(corpus, tmp_path / "out", Parse(), Context("data/parse", environment))
    after = read_table(tmp_path / "out").to_pylist()
    assert outcome.counts_in == outcome.counts_out == len(before) == len(after)
    for row in after:
        assert row["revision"] == text_revision(row["text"])
        assert row["source"] == before[row["id"]]["source"]
        assert row["metadata"] == sorted(row["metadata"])
    titles = {dict(row["metadata"]).get("title") for row in after}
    assert {"Requests", "Docutils: Documentation Utilities"} & titles


def test_markup_without_text_and_broken_tables_are_dropped_by_name(document, written, tmp_path, environment):
    rows = [
        document("<!-- only a comment -->", "a.md", metadata={"format": "markdown"}),
        document('a,b\n"not closed,1\n', "b.csv", metadata={"format": "csv"}),
        document("a,b\n" + "x" * 200_000 + ",1\n", "d.csv", metadata={"format": "csv"}),
        document("fine", "c.txt", metadata={"format": "text"}),
    ]
    options = Parse(max_quarantined_share=0.5)
    outcome = run(written(rows), tmp_path / "out", options, Context("data/parse", environment))
    assert outcome.dropped == {"empty": 1, "malformed": 1}
    assert read_table(tmp_path / "out")["url"].to_pylist() == ["d.csv", "c.txt"]
    assert "b.csv" in outcome.report.html()


def test_the_component_writes_the_same_bytes_every_time(corpus, tmp_path, environment):
    parts = []
    for name in ("first", "second"):
        run_single("data/parse", {"documents": corpus}, {"parsed": tmp_path / name}, {"table_rows": 9.0}, environment)
        parts.append([part.read_bytes() for part in part_files(tmp_path / name)])
    assert parts[0] == parts[1]
    with pytest.raises(HeadraceError, match="table_rows"):
        run_single("data/parse", {"documents": corpus}, {"parsed": tmp_path / "x"}, {"table_rows": 0}, environment)
