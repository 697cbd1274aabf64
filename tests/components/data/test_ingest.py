"""What is found in a source becomes documents, and what does not is counted by name."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import part_files, read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.step import Context
from components.data.ingest.items import decode
from components.data.ingest.options import Ingest
from components.data.ingest.read import fingerprint, run
from components.data.jsonl import import_jsonl
from components.data.sources import Source
from pipelines.single import run_single

PACKAGES = "packages:hgtk,maskingtape,requests,jinja2"


def source(location: Path | str, **fields: Any) -> Source:
    declared = {"id": "mine", "class": "in_house", "license": "LicenseRef-in-house", "owner": "me"}
    return Source.model_validate(declared | {"location": str(location)} | fields)


@pytest.fixture
def read(tmp_path: Path, environment: Environment) -> Callable[..., tuple[Any, list[dict[str, Any]]]]:
    numbers = iter(range(100))

    def read_sources(*sources: Source, **options: Any) -> tuple[Any, list[dict[str, Any]]]:
        folder = tmp_path / f"out-{next(numbers)}"
        outcome = run(folder, Ingest(sources=list(sources), **options), Context("data/ingest", environment))
        rows = read_table(folder).to_pylist()
        return outcome, [{**row, "metadata": dict(row["metadata"])} for row in rows]

    return read_sources


def test_installed_packages_become_documents_of_sources_of_their_own(read):
    outcome, rows = read(
        source(PACKAGES, id="pypi", license="per-item", confidentiality="public", **{"class": "public"})
    )
    assert {row["source"] for row in rows} == {f"pypi/{name}" for name in ("hgtk", "maskingtape", "requests", "jinja2")}
    assert outcome.counts_in == outcome.counts_out + sum(outcome.dropped.values())
    by_item = {(row["source"], row["metadata"]["item"]): row for row in rows}
    assert "한글" in by_item["pypi/hgtk", "readme"]["text"]
    assert "개인정보" in by_item["pypi/maskingtape", "readme"]["text"]
    assert by_item["pypi/requests", "code"]["kind"] == "code"
    assert any("Apache License" in row["text"] for row in rows if row["metadata"]["item"] == "license")
    assert {row["license"] for row in rows if row["source"] == "pypi/jinja2"} == {"BSD-3-Clause"}
    table = by_item["pypi/requests", "metadata"]
    assert table["kind"] == "table"
    assert "| license | Apache-2.0 |" in table["text"]
    assert "certifi" in table["metadata"]["requires"].split(", ")
    assert "me@kennethreitz.org" in table["text"]
    assert not any("@" in value for value in table["metadata"].values())
    assert {row["confidentiality"] for row in rows} == {"public"}
    assert all(row["url"].startswith("pkg:pypi/") for row in rows)


def test_how_much_code_is_taken_is_bounded_and_the_choice_is_stable(read):
    few = {row["url"] for row in read(source("packages:jinja2"), code_files_per_package=3)[1] if row["kind"] == "code"}
    more = {row["url"] for row in read(source("packages:jinja2"), code_files_per_package=6)[1] if row["kind"] == "code"}
    assert len(few) == 3
    assert len(more) == 6
    assert few < more


def test_a_folder_of_many_kinds(read, tmp_path):
    files = {
        "guide/intro.md": "# Hello\n",
        "guide/page.html": "<h1>Hi</h1>",
        "notes.rst": "Title\n=====\n",
        "tool.py": "x = 1\n",
        "prices.csv": "a,b\n1,2\n",
        "faq.jsonl": '{"text": "one"}\n\n{"text": "two", "url": "https://example.com/2", "kind": "ticket"}\n',
        "LICENSE": "Do what you like.",
        ".git/config": "hidden",
    }
    for name, text in files.items():
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    outcome, rows = read(source(tmp_path / "docs"))
    assert {(row["url"], row["kind"], row["metadata"]["format"]) for row in rows} == {
        ("LICENSE", "prose", "text"),
        ("faq.jsonl#line-1", "prose", "text"),
        ("guide/intro.md", "prose", "markdown"),
        ("guide/page.html", "prose", "html"),
        ("https://example.com/2", "ticket", "text"),
        ("notes.rst", "prose", "rst"),
        ("prices.csv", "table", "csv"),
        ("tool.py", "code", "code"),
    }
    assert outcome.dropped == {}
    assert {row["license"] for row in rows} == {"LicenseRef-in-house"}
    assert {row["metadata"]["source_class"] for row in rows} == {"in_house"}


def test_what_cannot_be_read_is_counted_and_named_among_the_rest(read, tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "good.md").write_text("# Good")
    (docs / "latin.txt").write_bytes("Größe und Maß".encode("latin-1"))
    (docs / "gone.md").symlink_to(tmp_path / "nowhere")
    (docs / "picture.png").write_bytes(b"\x89PNG")
    (docs / "zeros.txt").write_bytes(b"a\0b")
    (docs / "empty.md").write_text(" \n")
    (docs / "bad.jsonl").write_text('{"text": "fine"}\n{"txt": "oops"}\n')
    (docs / "big.txt").write_text("x" * 2000)
    os.mkfifo(docs / "pipe.txt")
    outcome, rows = read(source(docs), max_file_bytes=1000, max_quarantined_share=1)
    assert [row["url"] for row in rows] == ["bad.jsonl#line-1", "good.md"]
    assert outcome.dropped == {
        "empty": 1,
        "malformed": 1,
        "too_large": 1,
        "undecodable": 2,
        "unreadable": 2,
        "unsupported": 1,
    }
    page = outcome.report.html()
    assert all(name in page for name in ("latin.txt", "gone.md", "picture.png", "bad.jsonl", "line 2: txt"))
    with pytest.raises(HeadraceError, match=r"6 of 8 records are fit for quarantine only \(.*bad.jsonl: line 2.*10%"):
        read(source(docs), max_file_bytes=1000)


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are always UTF-8")
def test_a_file_whose_name_is_not_utf8_is_named_by_its_bytes(read, tmp_path):
    (tmp_path / "good.md").write_text("# Good")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + "규정.md".encode("cp949"))).write_text("# Rules")
    outcome, rows = read(source(tmp_path), max_quarantined_share=1)
    assert [row["url"] for row in rows] == ["good.md"]
    assert outcome.dropped == {"unreadable": 1}
    assert "rename it" in outcome.report.html()
    assert fingerprint([source(tmp_path)])


def test_nothing_to_read_is_an_error_that_says_where(read, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(HeadraceError, match=r"nothing to read in .*empty \(it is empty\)"):
        read(source(empty))
    with pytest.raises(UsageError, match=r"source mine: location .*nowhere does not exist"):
        read(source(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no installed package matches packages:no-such-thing"):
        read(source("packages:no-such-thing"))
    with pytest.raises(UsageError, match="no source is declared"):
        read()
    with pytest.raises(UsageError, match="license: 'free as beer' is no SPDX expression"):
        read(source(empty, license="free as beer"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_korean_text_is_read_in_the_encodings_it_comes_in(encoding):
    assert decode("안녕하세요, Headrace 문서입니다.\r\n".encode(encoding)) == "안녕하세요, Headrace 문서입니다.\n"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff")))
def test_any_text_in_utf8_is_read_as_it_is(text):
    assert decode(text.encode()) == text


def test_imported_documents_are_read_as_they_are_but_only_under_their_own_source(read, tmp_path):
    lines = tmp_path / "faq.jsonl"
    lines.write_text('{"text": "one", "language": "en", "title": "T"}\n{"text": "two"}\n')
    assert import_jsonl(lines, tmp_path / "imported", source("-")) == 2
    _, rows = read(source(tmp_path / "imported"))
    before = read_table(tmp_path / "imported").to_pylist()
    assert [row["id"] for row in rows] == [row["id"] for row in before]
    assert rows[0]["language"] == "en"
    with pytest.raises(UsageError, match="holds documents of source mine"):
        read(source(tmp_path / "imported", id="other"))


def test_the_same_documents_are_not_read_twice(read, tmp_path):
    (tmp_path / "docs").mkdir()
    row = '{"text": "one", "url": "https://example.com/1"}\n'
    (tmp_path / "docs" / "a.jsonl").write_text(row)
    (tmp_path / "docs" / "b.jsonl").write_text(row)
    outcome, rows = read(source(tmp_path / "docs"))
    assert len(rows) == 1
    assert outcome.dropped == {"repeated": 1}


def test_a_fingerprint_changes_with_the_source_and_not_by_itself(tmp_path):
    (tmp_path / "a.md").write_text("one")
    sources = [source(tmp_path), source("packages:requests", id="pypi")]
    before = fingerprint(sources)
    assert fingerprint(sources) == before
    (tmp_path / "b.md").write_text("two")
    assert fingerprint(sources) != before


def test_the_component_writes_the_same_bytes_every_time(tmp_path, environment):
    options = Ingest(sources=[source("packages:hgtk", license="per-item")]).model_dump(mode="json")
    options["code_files_per_package"] = 4.0  # as Kubeflow Pipelines delivers integers
    parts = []
    for name in ("first", "second"):
        metrics = run_single("data/ingest", {}, {"documents": tmp_path / name}, options, environment)
        parts.append([part.read_bytes() for part in part_files(tmp_path / name)])
    assert parts[0] == parts[1]
    assert metrics["records_out"] == read_table(tmp_path / "first").num_rows > 3
    assert "pypi" not in (tmp_path / "first.html").read_text().partition("</html>")[2]
