"""Documents: the schema every part of Headrace shares, in whole parts or none."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.documents import (
    SCHEMA,
    DocumentWriter,
    count_documents,
    document_id,
    new_document,
    read_batches,
    read_table,
    text_revision,
    with_text,
)
from components.common.errors import HeadraceError

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def rows(*texts: str) -> list[dict]:
    return [new_document(source="s", url=f"u{n}", text=text, retrieved_at=WHEN) for n, text in enumerate(texts)]


def test_a_round_trip_keeps_every_column(tmp_path: Path) -> None:
    row = new_document(
        source="팀-위키",
        url="https://example.com/문서",
        text="한국어와 English",
        retrieved_at=WHEN,
        kind="dialogue",
        messages=[{"role": "user", "content": "질문"}],
        metadata={"b": "2", "a": "1"},
        subjects=["x"],
        parents=["p"],
    )
    with DocumentWriter(tmp_path) as writer:
        writer.write([row])
    [back] = read_table(tmp_path).to_pylist()
    assert back == {**row, "metadata": [("a", "1"), ("b", "2")]}


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=30), st.integers(1, 7))
def test_parts_never_lose_or_reorder_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], size: int
) -> None:
    path = tmp_path_factory.mktemp("documents")
    with DocumentWriter(path, rows_per_part=size) as writer:
        for start in range(0, len(texts), 3):
            writer.write(rows(*texts[start : start + 3]))
    assert read_table(path).column("text").to_pylist() == texts
    assert count_documents(path) == len(texts)
    parts = sorted(path.glob("*.parquet"))
    assert all(pq.read_metadata(part).num_rows == size for part in parts[:-1])


def test_an_interrupted_write_leaves_no_unfinished_part(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), DocumentWriter(tmp_path) as writer:
        writer.write(rows("a"))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_empty_corpus_still_has_a_schema(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path):
        pass
    assert read_table(tmp_path).schema.names == SCHEMA.names
    assert read_table(tmp_path, ["id"]).num_rows == 0


def test_the_id_depends_on_each_part_and_on_where_one_ends() -> None:
    ids = {
        document_id(*parts)
        for parts in [("a", "b", "c"), ("ab", "", "c"), ("a", "bc", ""), ("a", "b", "d"), ("", "ab", "c")]
    }
    assert len(ids) == 5


def test_new_text_gets_a_new_revision_and_keeps_the_id(tmp_path: Path) -> None:
    with DocumentWriter(tmp_path) as writer:
        writer.write(rows("old", "same"))
    table = read_table(tmp_path)
    changed = with_text(table, ["new", "same"])
    assert changed.column("id") == table.column("id")
    assert changed.column("revision").to_pylist() == [text_revision("new"), text_revision("same")]


def test_unknown_values_are_refused_by_name() -> None:
    with pytest.raises(HeadraceError, match="kind is 'poem'; it must be one of prose"):
        new_document(source="s", url="u", text="t", retrieved_at=WHEN, kind="poem")
    with pytest.raises(HeadraceError, match="colour is no document field"):
        new_document(source="s", url="u", text="t", retrieved_at=WHEN, colour="red")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match="holds no documents"):
        list(read_batches(tmp_path))
    (tmp_path / "part-00000.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(HeadraceError, match=r"part-00000\.parquet is not readable Parquet"):
        list(read_batches(tmp_path))
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "part-00000.parquet")
    with pytest.raises(HeadraceError, match="document schema none"):
        list(read_batches(tmp_path))
