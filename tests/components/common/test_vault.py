import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common import vault as vaults
from components.common.errors import HeadraceError
from components.common.vault import CHUNK, HEADER, Vault, is_sealed, read_header, rewrap
from components.common.wrapping import Keyset

TAG = 16
NAME = "derived/문서/part-00000.parquet"


@pytest.fixture(scope="module")
def keyset(tmp_path_factory: pytest.TempPathFactory) -> Keyset:
    return Keyset(tmp_path_factory.mktemp("keys") / "keyset.json").with_primary()


def contents(sizes: tuple[int, int]) -> st.SearchStrategy[bytes]:
    return st.integers(*sizes).flatmap(lambda size: st.binary(min_size=size, max_size=size))


def sealed_parts(sealed: bytes) -> tuple[bytes, list[bytes]]:
    """The header, and the chunks."""
    file = io.BytesIO(sealed)
    assert read_header(file, "test")
    body = sealed[file.tell() :]
    return sealed[: file.tell()], [body[at : at + 16 + TAG] for at in range(0, len(body), 16 + TAG)]


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_content_comes_back_whatever_its_size(keyset: Keyset, size: int) -> None:
    vault = Vault(keyset, seals=True)
    plain = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    sealed = vault.seal_bytes(plain, NAME)

    assert Vault(keyset).open_bytes(sealed, NAME, "test") == plain
    assert len(sealed) - len(plain) < HEADER + TAG * (size // CHUNK + 1)


@given(plain=contents((0, 100)), places=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 60)), max_size=8))
def test_any_place_is_read_as_from_the_plain_file(
    tmp_path_factory: pytest.TempPathFactory, plain: bytes, places: list[tuple[int, int]]
) -> None:
    keys = Keyset(Path("keyset.json")).with_primary()
    path = tmp_path_factory.mktemp("sealed") / "file"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaults, "CHUNK", 16)
        path.write_bytes(Vault(keys, seals=True).seal_bytes(plain, "file"))
        with Vault(keys).open(path, "file") as content:
            for place, length in places:
                expected = io.BytesIO(plain)
                assert content.seek(place) == expected.seek(place)
                assert content.read(length) == expected.read(length)


@given(plain=contents((1, 100)), bit=st.integers(0))
def test_a_changed_bit_is_found(keyset: Keyset, plain: bytes, bit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaults, "CHUNK", 16)
        sealed = bytearray(Vault(keyset, seals=True).seal_bytes(plain, NAME))
        at = 8 + (bit // 8) % (len(sealed) - 8)  # without the magic it is no sealed file
        sealed[at] ^= 1 << bit % 8

        with pytest.raises(HeadraceError):
            Vault(keyset).open_bytes(bytes(sealed), NAME, "test")


@given(plain=contents((17, 100)), data=st.data())
def test_chunks_cannot_be_moved_repeated_or_dropped(keyset: Keyset, plain: bytes, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaults, "CHUNK", 16)
        header, chunks = sealed_parts(Vault(keyset, seals=True).seal_bytes(plain, NAME))
        rearranged = data.draw(
            st.lists(st.sampled_from(chunks), max_size=len(chunks) + 2).filter(lambda c: c != chunks)
        )

        with pytest.raises(HeadraceError, match="was changed or cut short since it was sealed; restore it"):
            Vault(keyset).open_bytes(header + b"".join(rearranged), NAME, "test")


@given(plain=contents((0, 100)), kept=st.integers(0))
def test_a_file_that_was_cut_is_found_when_it_is_opened(keyset: Keyset, plain: bytes, kept: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vaults, "CHUNK", 16)
        sealed = Vault(keyset, seals=True).seal_bytes(plain, NAME)

        with pytest.raises(HeadraceError):
            Vault(keyset).open_bytes(sealed[: 8 + kept % (len(sealed) - 8)], NAME, "test")


@settings(max_examples=20)
@given(one=contents((0, 60)), other=contents((0, 60)))
def test_no_chunk_and_no_file_stands_in_for_another(keyset: Keyset, one: bytes, other: bytes) -> None:
    vault = Vault(keyset, seals=True)
    first, second = vault.seal_bytes(one, "datasets/a"), vault.seal_bytes(other, "datasets/b")

    with pytest.raises(HeadraceError, match="was sealed as datasets/b and put in another's place"):
        vault.open_bytes(second, "datasets/a", "test")
    mixed = first[: len(first) - len(one) - TAG] + second[len(second) - len(other) - TAG :]
    with pytest.raises(HeadraceError, match="was changed or cut short"):
        vault.open_bytes(mixed, "datasets/a", "test")


def test_a_name_in_the_header_cannot_be_rewritten(keyset: Keyset) -> None:
    sealed = Vault(keyset, seals=True).seal_bytes(b"secret", "datasets/b")

    with pytest.raises(HeadraceError, match="was changed or cut short"):
        Vault(keyset).open_bytes(sealed.replace(b"datasets/b", b"datasets/a"), "datasets/a", "test")


def test_a_file_opens_under_the_end_of_its_name(keyset: Keyset) -> None:
    sealed = Vault(keyset, seals=True).seal_bytes(b"secret", "datasets/name/hash/part-00000.parquet")

    assert Vault(keyset).open_bytes(sealed, "hash/part-00000.parquet", "test") == b"secret"
    with pytest.raises(HeadraceError, match="put in another's place"):
        Vault(keyset).open_bytes(sealed, "ash/part-00000.parquet", "test")


def test_what_is_not_sealed_passes(keyset: Keyset, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"plain")

    with Vault().open(path) as file:
        assert file.read() == b"plain"
    assert Vault(keyset).open_bytes(b"plain", "file", "file") == b"plain"
    assert not is_sealed(path)


def test_without_keys_nothing_sealed_opens(keyset: Keyset) -> None:
    sealed = Vault(keyset, seals=True).seal_bytes(b"secret", "file")

    with pytest.raises(HeadraceError, match="file is sealed; read it in the environment that has its key"):
        Vault().open_bytes(sealed, "file", "file")


def test_parquet_is_read_column_by_column_from_a_sealed_file(keyset: Keyset, tmp_path: Path) -> None:
    table = pa.table({"id": [f"{number:064}" for number in range(50_000)], "text": ["문서 하나"] * 50_000})
    plain, sealed = tmp_path / "plain", tmp_path / "part-00000.parquet"
    pq.write_table(table, plain, row_group_size=1000, compression="none")
    vault = Vault(keyset, seals=True)
    vault.seal_file(plain, sealed, "part-00000.parquet")

    with vault.open(sealed) as file:
        assert pq.ParquetFile(file).read_row_group(7, columns=["id"]) == table.select(["id"])[7000:8000]
    assert vault.digest(sealed) == Vault().digest(plain)
    assert b"0000" * 8 not in sealed.read_bytes()
    assert list(tmp_path.iterdir()) in ([plain, sealed], [sealed, plain])


def test_a_tree_is_copied_in_plain(keyset: Keyset, tmp_path: Path) -> None:
    vault = Vault(keyset, seals=True)
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "sealed").write_bytes(vault.seal_bytes(b"secret", "tree/below/sealed"))
    (tmp_path / "tree" / "plain").write_bytes(b"plain")

    vault.open_tree(tmp_path / "tree", tmp_path / "copy")

    assert (tmp_path / "copy" / "below" / "sealed").read_bytes() == b"secret"
    assert (tmp_path / "copy" / "plain").read_bytes() == b"plain"


def test_rewrapping_changes_the_header_and_no_chunk(keyset: Keyset, tmp_path: Path) -> None:
    sealed = Vault(keyset, seals=True).seal_bytes(b"secret" * CHUNK, NAME)
    path, newer = tmp_path / "file", keyset.with_primary()
    path.write_bytes(sealed)

    rewrap(path, path, lambda key, wrapped: newer.wrap(newer.unwrap(key, wrapped)))

    rewrapped = path.read_bytes()
    header = read_header(io.BytesIO(rewrapped), "test")
    assert header and header.key == newer.primary.id != keyset.primary.id
    assert rewrapped.endswith(sealed[-6 * CHUNK :]) and rewrapped != sealed
    assert Vault(newer.without(keyset.primary.id)).open_bytes(rewrapped, NAME, "t") == b"secret" * CHUNK
    with pytest.raises(HeadraceError, match="was retired"):
        Vault(newer.without(keyset.primary.id)).open_bytes(sealed, NAME, "t")


def test_a_name_that_fills_the_header_is_refused(keyset: Keyset) -> None:
    with pytest.raises(HeadraceError, match="too long a name"):
        Vault(keyset, seals=True).seal_bytes(b"", "n" * HEADER)


def test_an_interrupted_writer_leaves_the_old_file(
    keyset: Keyset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    vault = Vault(keyset, seals=True)
    write: Callable[..., None] = vault.seal

    def stopped(*arguments: object) -> None:
        write(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(vault, "seal", stopped)
    with pytest.raises(KeyboardInterrupt):
        vault.seal_file(path, path, "file")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
