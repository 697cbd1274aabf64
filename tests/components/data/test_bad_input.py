"""Whatever is wrong with the input: it goes to quarantine with its reason, and the run goes on."""

import base64
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.common.documents import DocumentWriter, read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.step import Context
from components.data.ingest.options import Ingest
from components.data.ingest.read import run as ingest
from components.data.jsonl import bounded_lines
from components.data.parse.options import Parse
from components.data.parse.run import run as parse
from components.data.quarantine import FILE
from components.data.sources import Source

ODD_NOTEBOOK = {
    "metadata": {"language_info": {"name": 5}},
    "cells": [{"cell_type": "code", "source": "x = 1", "outputs": []}],
}
DOCX = '<?xml version="1.0"?><w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"/>'


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "good.md").write_text("# Good")
    return folder


@pytest.fixture
def read(docs: Path, tmp_path: Path, environment: Environment) -> Callable[..., tuple[Any, list[Any], list[Any]]]:
    def read_all(**options: Any) -> tuple[Any, list[Any], list[Any]]:
        source = {"id": "mine", "license": "MIT", "owner": "me", "location": str(docs)}
        options = {"max_quarantined_share": 1, **options}
        out = tmp_path / "out"
        outcome = ingest(out, Ingest(sources=[Source(**source)], **options), Context("data/ingest", environment))
        return outcome, read_table(out).to_pylist(), quarantined(out)

    return read_all


def quarantined(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


def package(**parts: bytes | str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in parts.items():
            out.writestr(name.replace("__", "/") + ".xml", content)
    return buffer.getvalue()


def test_malformed_parquet_is_set_aside_and_a_row_that_is_no_document_alone(docs, read):
    pq.write_table(pa.table({"text": ["one", " ", "three"], "language": ["en", "en", None]}), docs / "rows.parquet")
    whole = (docs / "rows.parquet").read_bytes()
    (docs / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (docs / "none.parquet").write_bytes(b"")
    damaged = bytearray(whole)
    damaged[4:40] = os.urandom(36)
    (docs / "damaged.parquet").write_bytes(bytes(damaged))
    pq.write_table(pa.table({"body": ["one"]}), docs / "other.parquet")
    outcome, rows, aside = read()
    assert [row["url"] for row in rows] == ["good.md", "rows.parquet#row-1", "rows.parquet#row-3"]
    assert {row["what"] for row in aside} == {path.name for path in docs.glob("*.parquet")}
    assert [row["detail"] for row in aside if row["what"] == "rows.parquet"] == ["row 2: text: is empty"]
    assert [row.get("records") for row in aside if row["what"] == "damaged.parquet"] == ["3"]
    assert outcome.dropped == {"malformed": 7}
    assert outcome.metrics["quarantined"] == 7


def test_a_damaged_or_empty_part_of_imported_documents_stops_no_other(docs, read, document):
    (docs / "good.md").unlink()
    with DocumentWriter(docs, rows_per_part=1) as writer:
        writer.write([document("one", "a", source="mine"), document("two", "b", source="mine")])
    (docs / "part-00000.parquet").write_bytes(b"PAR1")
    with DocumentWriter(docs / "empty"):
        pass
    (docs / "empty" / "part-00000.parquet").rename(docs / "part-00002.parquet")
    _, rows, aside = read()
    assert [row["url"] for row in rows] == ["b"]
    assert [(row["what"], row["reason"]) for row in aside] == [("part-00000.parquet", "malformed")]


def test_a_few_kilobytes_of_parquet_that_unpack_to_gigabytes_cost_only_themselves(docs, read):
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * 32, pa.int32()), pa.array(["x" * 2**24]))
    pq.write_table(pa.table({"text": shared}), docs / "b-shared.parquet", compression="zstd", write_statistics=False)
    pq.write_table(pa.table({"text": pa.nulls(3_000_000, pa.string())}), docs / "c-rows.parquet")
    pq.write_table(pa.table({"text": ["after"]}), docs / "d.parquet")
    outcome, rows, aside = read()
    assert [row["url"] for row in rows] == ["d.parquet#row-1", "good.md"]
    assert {row["what"]: (row["reason"], row.get("records", "1")) for row in aside} == {
        "b-shared.parquet": ("too_large", "32"),
        "c-rows.parquet": ("too_large", "3000000"),
    }
    assert outcome.dropped == {"too_large": 3_000_032}


def test_one_row_that_python_cannot_hold_costs_no_other(docs, read):
    offsets = b"".join(place.to_bytes(4, "little") for place in (0, 1, 3, 4))
    broken = pa.StringArray.from_buffers(3, pa.py_buffer(offsets), pa.py_buffer(b"a\xff\xfeb"))
    times = pa.array([0, 2**62, 1], pa.timestamp("us"))
    pq.write_table(pa.table({"text": broken}), docs / "broken.parquet")
    pq.write_table(pa.table({"text": ["one", "two", "three"], "retrieved_at": times}), docs / "times.parquet")
    pq.write_table(pa.table({"text": ["one"], "extra": ["x"]}), docs / "extra.parquet")
    _, rows, aside = read()
    assert [row["text"] for row in rows] == ["a", "b", "# Good", "one", "three"]
    assert {row["what"]: row["detail"] for row in aside} == {
        "broken.parquet": "row 2: holds text that is not UTF-8",
        "extra.parquet": "extra: is no field of a document; put it in metadata",
        "times.parquet": "row 2: holds a time or number out of range",
    }


def test_imported_documents_are_held_to_the_schema_and_to_their_declaration(docs, read, document):
    import components.common.documents as documents

    (docs / "good.md").unlink()
    with DocumentWriter(docs) as writer:
        rows = [document(name, name, source="mine") for name in ("fine", "open", "odd", "blank")]
        rows[1]["confidentiality"], rows[2]["kind"], rows[3]["text"] = "public", "poem", " "
        writer.write(rows)
    stamped = pa.table({"id": ["x"]}).replace_schema_metadata(documents.SCHEMA.metadata)
    pq.write_table(stamped, docs / "part-00001.parquet")
    whole = pq.read_table(docs / "part-00000.parquet")
    at = whole.schema.get_field_index("url")
    numbered = whole.set_column(at, "url", pa.array(range(len(whole)), pa.int64()))
    pq.write_table(numbered.replace_schema_metadata(documents.SCHEMA.metadata), docs / "part-00002.parquet")
    (docs / "notes.md").write_text("# Not part of it")
    outcome, rows, aside = read()
    assert [row["url"] for row in rows] == ["fine"]
    assert [row["detail"] for row in aside] == [
        "row 2: confidentiality: is public, below the internal its source declares",
        "row 3: kind: is none of prose, code, table, math, dialogue, ticket, log",
        "row 4: is no document (id or text is missing)",
        "its columns are not those of documents",
        "its columns are not those of documents",
    ]
    assert outcome.dropped == {"malformed": 8, "unsupported": 1}


def test_what_a_spark_job_wrote_is_read_as_records(docs, read):
    pq.write_table(pa.table({"text": ["one"]}), docs / "part-00000-c1.snappy.parquet")
    _, rows, aside = read()
    assert ([row["text"] for row in rows], aside) == (["# Good", "one"], [])


def test_wrong_encodings_lone_surrogates_and_mixed_newlines(docs, read):
    (docs / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (docs / "korean.txt").write_bytes("안녕하세요, 문서입니다.".encode("cp949"))
    (docs / "euc.csv").write_bytes("이름,값\n물레방아,3\n".encode("euc-kr"))
    (docs / "quotes.txt").write_bytes("It’s the miller’s wheel".encode("cp1252"))
    (docs / "wide.txt").write_bytes("안녕하세요".encode("utf-32"))
    (docs / "mixed.txt").write_bytes(b"one\r\ntwo\rthree\n")
    (docs / "rows.jsonl").write_text('{"text": "half \\ud83d"}\n{"text": "one\\r\\ntwo\\rthree"}\n')
    _, rows, aside = read()
    texts = {row["url"]: row["text"] for row in rows}
    assert texts["korean.txt"] == "안녕하세요, 문서입니다."
    assert texts["euc.csv"] == "이름,값\n물레방아,3\n"
    assert texts["mixed.txt"] == "one\ntwo\nthree\n"
    assert texts["rows.jsonl#line-2"] == "one\ntwo\nthree"
    assert {(row["what"], row["reason"]) for row in aside} == {
        ("latin.txt", "undecodable"),
        ("quotes.txt", "undecodable"),
        ("wide.txt", "undecodable"),
        ("rows.jsonl", "malformed"),
    }


def test_an_endless_line_is_passed_over_without_being_held(docs, read):
    with (docs / "rows.jsonl").open("w") as file:
        file.write('{"text": "one"}\n{"text": "' + "x" * 50_000 + '"}\n{"text": "two"}\n')
    _, rows, aside = read(max_record_bytes=1_000)
    assert [row["text"] for row in rows] == ["# Good", "one", "two"]
    assert [(row["reason"], row["detail"]) for row in aside] == [
        ("too_large", "line 2: is longer than 1,000 bytes; split it")
    ]

    class Endless(io.BytesIO):
        """A gigabyte without a newline, made as it is read."""

        longest = 0
        left = 2**30

        def readline(self, size: int | None = -1, /) -> bytes:
            assert size is not None and size > 0
            self.longest, given = max(self.longest, size), min(size, self.left)
            self.left -= given
            return b"x" * given

    stream = Endless()
    assert list(bounded_lines(stream, 2**24)) == [None]
    assert stream.longest <= 2**24 + 1


def test_cyclic_symlinks_end(docs, read):
    (docs / "round").symlink_to(docs)
    (docs / "self.md").symlink_to(docs / "self.md")
    _, rows, aside = read()
    assert [row["url"] for row in rows] == ["good.md"]
    assert [(row["what"], row["reason"]) for row in aside] == [("self.md", "unreadable")]


def test_what_is_no_file_of_the_folder_is_not_read(docs, read, tmp_path):
    for name in ("a.jsonl", "b.parquet", "c.log", "d.mbox", "e.md"):
        os.mkfifo(docs / name)
    (tmp_path / "elsewhere.md").write_text("# Not ours")
    (docs / "out.md").symlink_to(tmp_path / "elsewhere.md")
    (docs / "zero.log").symlink_to("/dev/zero")
    outcome, rows, aside = read()
    assert [row["url"] for row in rows] == ["good.md"]
    assert {row["what"]: row["detail"] for row in aside} == dict.fromkeys(
        ["a.jsonl", "b.parquet", "c.log", "d.mbox", "e.md"], "not a regular file"
    )
    assert outcome.dropped == {"outside": 2, "unreadable": 5}


def test_files_without_a_line_end(docs, read):
    for name, size in (("a.jsonl", 2**26), ("b.txt", 2**30), ("c.parquet", 2**30), ("d.pdf", 2**30)):
        with (docs / name).open("wb") as file:
            file.truncate(size)
    _, rows, aside = read()
    assert [row["url"] for row in rows] == ["good.md"]
    assert [(row["what"], row["reason"]) for row in aside] == [
        ("a.jsonl", "too_large"),
        ("b.txt", "too_large"),
        ("c.parquet", "malformed"),
        ("d.pdf", "too_large"),
    ]


def test_empty_shards_are_no_error(docs, read):
    (docs / "a.jsonl").write_text("")
    (docs / "b.jsonl").write_text("\n\n")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), docs / "c.parquet")
    outcome, rows, aside = read(max_quarantined_share=0)
    assert len(rows) == 1
    assert outcome.dropped == {"empty": 3}
    assert aside == []


def test_too_much_bad_input_fails_the_step_in_one_sentence(docs, read):
    (docs / "bad.jsonl").write_text("{\n" * 3)
    with pytest.raises(HeadraceError, match=r"^3 of 4 records are fit for quarantine only \(3 malformed; first bad"):
        read(max_quarantined_share=0.5)
    assert read(max_quarantined_share=0.75)[0].counts_out == 1


@pytest.fixture
def parse_all(written, document, tmp_path, environment) -> Callable[..., tuple[Any, list[Any], dict[str, Any]]]:
    def run(items: dict[str, tuple[str, str | bytes]], **options: Any) -> tuple[Any, list[Any], dict[str, Any]]:
        rows = [
            document(
                base64.b64encode(data).decode() if isinstance(data, bytes) else data, url, metadata={"format": form}
            )
            for url, (form, data) in items.items()
        ]
        out = tmp_path / "parsed"
        outcome = parse(
            written(rows), out, Parse(max_quarantined_share=1, **options), Context("data/parse", environment)
        )
        return outcome, read_table(out)["url"].to_pylist(), {row["what"]: row for row in quarantined(out)}

    return run


def endless_pdf() -> bytes:
    """A page whose content is a short loop for a person and a long one for a parser."""
    content = b"q " * 400_000 + b"BT /F1 12 Tf (x) Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[" + b"3 0 R " * 200 + b"]/Count 200>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        b"<</Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer<</Size 6/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(out),
    )


def test_what_hangs_eats_or_kills_its_parser_costs_only_itself(parse_all):
    items: dict[str, tuple[str, str | bytes]] = {
        "hangs.pdf": ("pdf", endless_pdf()),
        "after.md": ("markdown", "# Fine"),
        "none.pdf": ("pdf", b"nothing of the kind"),
        "deep.ipynb": ("notebook", "[" * 100_000),
        "empty.pdf": ("pdf", b""),
        "accents.txt": ("text", "a" + "\u0300\u0316" * 100_000),
        "language.ipynb": ("notebook", json.dumps(ODD_NOTEBOOK)),
        "last.html": ("html", "<h1>Fine</h1>"),
    }
    outcome, urls, aside = parse_all(items, cpu_seconds=1)
    assert urls == ["after.md", "language.ipynb", "last.html"]
    assert {what: row["reason"] for what, row in aside.items()} == {
        "hangs.pdf": "slow",
        "none.pdf": "malformed",
        "deep.ipynb": "malformed",
        "empty.pdf": "malformed",
        "accents.txt": "slow",
    }
    assert "processor time" in aside["hangs.pdf"]["detail"]
    assert "hangs.pdf" in outcome.report.html()


def test_a_parser_that_takes_too_much_memory_is_stopped(parse_all):
    sheet = (
        '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
        '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
        "</sheetData></worksheet>"
    )
    buffer = io.BytesIO()
    import openpyxl

    openpyxl.Workbook().save(buffer)
    out = io.BytesIO()
    with zipfile.ZipFile(buffer) as book, zipfile.ZipFile(out, "w") as changed:
        for part in book.namelist():
            changed.writestr(part, sheet if part.endswith("sheet1.xml") else book.read(part))
    _, urls, aside = parse_all({"huge.xlsx": ("xlsx", out.getvalue()), "after.md": ("markdown", "# Fine")})
    assert urls == ["after.md"]
    assert aside["huge.xlsx"]["reason"] in ("memory", "crashed")


def test_zip_and_xml_bombs_are_recognised_before_a_parser_sees_them(parse_all):
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + DOCX.partition("?>")[2]
    items: dict[str, tuple[str, str | bytes]] = {
        "zip.docx": ("docx", package(word__document=DOCX, word__media=b"\0" * 3 * 2**20)),
        "laughs.docx": ("docx", package(word__document=laughs)),
        "wide.docx": ("docx", package(word__document=laughs.encode("utf-16"))),
        "none.pptx": ("pptx", b"PK\x03\x04 and nothing else"),
        "after.md": ("markdown", "# Fine"),
    }
    _, urls, aside = parse_all(items, unpacked_mib=2)
    assert urls == ["after.md"]
    assert {what: row["reason"] for what, row in aside.items()} == {
        "zip.docx": "bomb",
        "laughs.docx": "bomb",
        "wide.docx": "bomb",
        "none.pptx": "malformed",
    }


def test_what_would_become_too_long_a_text_or_would_lose_its_depths_is_set_aside(parse_all):
    items: dict[str, tuple[str, str | bytes]] = {
        "deep.html": ("html", "<div>" * 9_000 + "words"),
        "lists.html": ("html", "<ul><li>" * 700 + "words"),
        "long.txt": ("text", "x" * 1_001),
        "long.html": ("html", f"<p>{'x' * 1_001}</p>"),
        "half.ipynb": ("notebook", '{"cells": [{"cell_type": "markdown", "source": "\\ud800"}]}'),
        "wide.csv": ("csv", "a,b\n1," + "x" * 900),
        "askew.csv": ("csv", 'a,b\n"1,x\n'),
    }
    _, urls, aside = parse_all(items, max_characters=1_000)
    assert urls == ["wide.csv"]
    assert {what: (row["reason"], row["detail"]) for what, row in aside.items()} == {
        "deep.html": ("malformed", "HTML: it is nested too deeply"),
        "lists.html": ("malformed", "HTML: it is nested too deeply"),
        "long.txt": ("bomb", "1,002 characters of text"),
        "long.html": ("bomb", "1,002 characters of text"),
        "half.ipynb": ("malformed", "it holds half of a surrogate pair, which no text does"),
        "askew.csv": ("malformed", "a quotation mark in it is not closed, or closed within a cell"),
    }


def test_too_much_that_cannot_be_parsed_fails_the_step(written, document, tmp_path, environment):
    rows = [document("x", str(number), metadata={"format": "pdf"}) for number in range(3)]
    with pytest.raises(HeadraceError, match=r"3 of 3 records .*data\.parse\.max_quarantined_share"):
        parse(written(rows), tmp_path / "out", Parse(), Context("data/parse", environment))
