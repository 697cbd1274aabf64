from pathlib import Path

import pytest

from components.common.errors import HeadraceError
from components.model.versions import ModelVersion, Origins, read_version, seal, verify_version

ORIGINS = Origins(base="b" * 64, dataset="d" * 64, recipe="e" * 64, code="c" * 64, ledger="f" * 64)


def make(path: Path, origins: Origins = ORIGINS) -> ModelVersion:
    (path / "adapter").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "adapter" / "adapter_model.safetensors").write_bytes(b"difference")
    (path / "MODEL_CARD.md").write_text("# card")
    (path / "evaluation.json").write_text('{"decision": "release"}')
    return seal(path, "assistant", origins)


def test_a_sealed_version_reads_back_and_verifies(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert read_version(tmp_path) == verify_version(tmp_path) == made
    assert made.key == f"models/assistant/{made.version}"
    assert made.evaluation == {"decision": "release"}


def test_the_version_is_named_by_content_and_origins(tmp_path: Path) -> None:
    first = make(tmp_path / "first")
    assert make(tmp_path / "again").version == first.version
    assert make(tmp_path / "other", Origins("", "", "", "", "")).version != first.version


@pytest.mark.parametrize("name", ["model.safetensors", "adapter/adapter_model.safetensors", "MODEL_CARD.md"])
def test_a_changed_file_is_named(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(HeadraceError, match=name):
        verify_version(tmp_path)


def test_added_files_and_edited_origins_are_found(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "extra.bin").write_bytes(b"")
    with pytest.raises(HeadraceError, match=r"extra\.bin"):
        verify_version(tmp_path)
    (tmp_path / "extra.bin").unlink()
    provenance = tmp_path / "provenance.json"
    provenance.write_text(provenance.read_text().replace("d" * 64, "0" * 64))
    with pytest.raises(HeadraceError, match=r"provenance\.json changed"):
        verify_version(tmp_path)


def test_a_directory_that_is_no_version_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match=r"holds no provenance\.json"):
        read_version(tmp_path)
    (tmp_path / "provenance.json").write_text("{")
    with pytest.raises(HeadraceError, match="not valid JSON"):
        read_version(tmp_path)
