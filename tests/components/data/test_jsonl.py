"""JSON Lines become documents, or one line says which line and field is wrong."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import read_table
from components.common.errors import HeadraceError, UsageError
from components.data.jsonl import import_jsonl, one_newline
from components.data.sources import Source

SOURCE = Source.model_validate({"id": "faq", "location": "-", "license": "CC-BY-4.0", "owner": "Team"})


def test_the_fields_of_a_document_are_taken_and_the_rest_comes_from_the_declaration(tmp_path):
    rows = [
        {"text": "하나", "url": "https://example.com", "title": "제목", "language": "ko", "metadata": {"page": "3"}},
        {"text": "hi", "messages": [{"role": "user", "content": "hi"}], "retrieved_at": "2026-01-02T03:04:05+09:00"},
    ]
    file = tmp_path / "in.jsonl"
    file.write_text("\n\n".join(json.dumps(row) for row in rows))
    assert import_jsonl(file, tmp_path / "out", SOURCE) == 2
    first, second = read_table(tmp_path / "out").to_pylist()
    assert (first["text"], first["url"], first["language"], first["license"]) == (
        "하나",
        "https://example.com",
        "ko",
        "CC-BY-4.0",
    )
    assert dict(first["metadata"])["title"] == "제목"
    assert dict(first["metadata"])["page"] == "3"
    assert first["source"] == second["source"] == "faq"
    assert second["kind"] == "dialogue"
    assert second["retrieved_at"].isoformat() == "2026-01-01T18:04:05+00:00"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a"', "is not JSON"),
        ("[1]", "is list, not an object"),
        ('{"body": "a"}', "body: is no field of a document; put it in metadata"),
        ('{"text": "a", "licence": "MIT"}', "licence: did you mean license"),
        ('{"url": "a"}', "text: is missing"),
        ('{"text": " "}', "text: is empty"),
        ('{"text": 3}', "text: is a number, not a string"),
        ('{"text": null}', "text: is null, not a string"),
        (r'{"text": "\ud800"}', "text: holds half of a surrogate pair"),
        (r'{"text": "a", "metadata": {"a": "\ud800"}}', "metadata: holds half of a surrogate pair"),
        ('{"text": "a", "retrieved_at": "0001-01-01T00:00:00+09:00"}', "retrieved_at: is no ISO 8601 time"),
        ('{"text": "a", "kind": "poem"}', "kind: is none of prose"),
        ('{"text": "a", "metadata": {"a": 1}}', "metadata: must be an object"),
        ('{"text": "a", "messages": [{"role": "user"}]}', "messages: must be a list"),
        ('{"text": "a", "confidentiality": "public"}', "confidentiality: is public, below the internal"),
        ('{"text": "a", "retrieved_at": "yesterday"}', "retrieved_at: is no ISO 8601 time"),
        (b'{"text": "\xff"}', "is not UTF-8"),
        ('{"text": ' + "1" * 5000 + "}", "holds a number that is too long"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_nothing_is_left_behind(line, problem, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_bytes(b'{"text": "good"}\n\n' + (line if isinstance(line, bytes) else line.encode()))
    with pytest.raises(HeadraceError) as error:
        import_jsonl(file, tmp_path / "out", SOURCE)
    assert str(error.value).startswith(f"{file}, line 3: {problem}")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_missing_or_empty_file_and_a_folder_in_use_are_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        import_jsonl(tmp_path / "none.jsonl", tmp_path / "out", SOURCE)
    file = tmp_path / "in.jsonl"
    file.write_text("\n")
    with pytest.raises(UsageError, match="holds no documents"):
        import_jsonl(file, tmp_path / "out", SOURCE)
    file.write_text('{"text": "a"}')
    with pytest.raises(UsageError, match="is in use"):
        import_jsonl(file, tmp_path, SOURCE)
    assert not (tmp_path / "out").exists()


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip), min_size=1)
)
def test_every_text_survives(tmp_path_factory, texts):
    folder: Path = tmp_path_factory.mktemp("jsonl")
    (folder / "in.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    assert import_jsonl(folder / "in.jsonl", folder / "out", SOURCE) == len(texts)
    assert read_table(folder / "out")["text"].to_pylist() == [one_newline(text) for text in texts]
