"""Encrypted model versions: what was encrypted comes back, and nothing else does."""

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.common import vault
from components.common.errors import HeadraceError
from components.common.ledger import artifact_files
from components.common.store import open_store, upload_tree
from components.common.vault import CHUNK
from components.model.versions import Origins
from components.model.versions import seal as seal_version
from pipelines.cli import app
from serving.storage.sealed import HEADER, Keys, key_id, read_keys, seal, unseal
from serving.storage.versions import encrypt, fetch

TAG = 16


def add_key(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(base64.b64encode(os.urandom(32)) + b"\n")
    return folder


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return add_key(tmp_path / "keys", "2026-10")


@pytest.fixture
def registered(tmp_path: Path) -> tuple[str, str]:
    """URI of a store, and a version in it."""
    folder = tmp_path / "store/models/assistant/unnamed"
    (folder / "adapter").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(2 * CHUNK + 7))
    (folder / "adapter/weights").write_bytes(os.urandom(CHUNK))
    (folder / "empty").touch()
    (folder / "evaluation.json").write_text("{}")
    version = seal_version(folder, "assistant", Origins("b", "d", "r", "c", "l")).version
    folder.rename(folder.with_name(version))
    return f"file://{tmp_path}/store", f"assistant/{version}"


def as_kserve_calls(keys: Path, message: Path, *pairs: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "serving.storage", "--keys", str(keys), "--message", str(message), *pairs]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_version_comes_back_byte_for_byte(registered: tuple[str, str], keys: Path, tmp_path: Path) -> None:
    store, version = registered
    uri = encrypt(open_store(store), version, read_keys(keys))
    assert uri == f"{store.replace('://', '+enc://')}/encrypted/models/{version}"
    ran = as_kserve_calls(keys, tmp_path / "message", uri, str(tmp_path / "mnt"))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert artifact_files(tmp_path / "mnt") == artifact_files(tmp_path / f"store/models/{version}")
    assert not (tmp_path / "message").exists()
    hidden = b"".join(file.read_bytes() for file in (tmp_path / "store/encrypted").rglob("*") if file.is_file())
    assert b"assistant" not in hidden


def test_it_comes_from_cloud_storage_as_well(
    registered: tuple[str, str], keys: Path, tmp_path: Path, cloud: str
) -> None:
    store, version = open_store(f"{cloud}/storage"), registered[1]
    upload_tree(store, tmp_path / f"store/models/{version}", f"models/{version}", last="provenance.json")
    uri = encrypt(store, version, read_keys(keys))
    assert uri == f"{cloud.replace('gs://', 'gs+enc://')}/storage/encrypted/models/{version}"
    ran = as_kserve_calls(keys, tmp_path / "message", uri, str(tmp_path / "mnt"))
    assert ran.returncode == 0, ran.stderr
    assert artifact_files(tmp_path / "mnt") == artifact_files(tmp_path / f"store/models/{version}")
    absent = as_kserve_calls(keys, tmp_path / "message", uri.replace("//headrace", "//nobucket"), str(tmp_path / "x"))
    assert absent.returncode == 1
    assert len((tmp_path / "message").read_text().splitlines()) == 1
    assert "nobucket" in (tmp_path / "message").read_text()


def test_encrypting_again_writes_nothing(registered: tuple[str, str], keys: Path, tmp_path: Path) -> None:
    store, version = registered
    arguments = ["models", "encrypt", version, "--keys", str(keys), "--environment", str(tmp_path / "here.yaml")]
    (tmp_path / "here.yaml").write_text(f"store: {store}\ntracking: none\nsigning_key: none\n")
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "store/encrypted").rglob("*")}
    assert CliRunner().invoke(app, arguments).output == first.output
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "store/encrypted").rglob("*")} == written


def no_key(keys: Path, model: Path) -> None:
    (keys / "2026-10").unlink()


def no_secret(keys: Path, model: Path) -> None:
    no_key(keys, model)
    keys.rmdir()


def other_key(keys: Path, model: Path) -> None:
    add_key(keys, "2026-10")


def broken_key(keys: Path, model: Path) -> None:
    (keys / "2026-10").write_text("c2hvcnQ=")


def flipped_bit(keys: Path, model: Path) -> None:
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(data)


def cut_short(keys: Path, model: Path) -> None:
    model.write_bytes(model.read_bytes()[: HEADER + 2 * (CHUNK + TAG)])


def reordered(keys: Path, model: Path) -> None:
    data, size = model.read_bytes(), CHUNK + TAG
    first, second = data[HEADER : HEADER + size], data[HEADER + size : HEADER + 2 * size]
    model.write_bytes(data[:HEADER] + second + first + data[HEADER + 2 * size :])


def another_file(keys: Path, model: Path) -> None:
    model.write_bytes((model.parent / "adapter/weights").read_bytes())


def plain(keys: Path, model: Path) -> None:
    model.write_bytes(b"not encrypted")


def incomplete(keys: Path, model: Path) -> None:
    (model.parent / "provenance.json").unlink()


def file_missing(keys: Path, model: Path) -> None:
    model.unlink()


@pytest.mark.parametrize(
    ("mischief", "reason"),
    [
        (no_key, "keys holds no key to decrypt the model with; make the secret headrace-model-key"),
        (no_secret, "keys holds no key to decrypt the model with; make the secret headrace-model-key"),
        (other_key, "add that key to the secret headrace-model-key"),
        (broken_key, "2026-10 is not 32 bytes in base64; make a key with `openssl rand -base64 32`"),
        (flipped_bit, "model.safetensors was changed or cut short since it was encrypted"),
        (cut_short, "model.safetensors was changed or cut short since it was encrypted"),
        (reordered, "model.safetensors was changed or cut short since it was encrypted"),
        (another_file, "model.safetensors was changed or cut short since it was encrypted"),
        (plain, "model.safetensors is no encrypted file"),
        (incomplete, "is not there or not complete; store it with `headrace models encrypt`"),
        (file_missing, "model.safetensors changed since registration"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_sentence_in_the_pods_status(
    registered: tuple[str, str], keys: Path, tmp_path: Path, mischief: Callable[[Path, Path], None], reason: str
) -> None:
    store, version = registered
    uri = encrypt(open_store(store), version, read_keys(keys))
    mischief(keys, tmp_path / "store/encrypted/models" / version / "model.safetensors")
    ran = as_kserve_calls(keys, tmp_path / "message", uri, str(tmp_path / "mnt"))
    assert ran.returncode == 1, ran.stdout
    assert reason in (tmp_path / "message").read_text()
    assert ran.stderr == (tmp_path / "message").read_text() + "\n"
    assert not (tmp_path / "mnt/model.safetensors").exists()


def test_a_version_under_another_ones_name_is_refused(registered: tuple[str, str], keys: Path, tmp_path: Path) -> None:
    store, version = registered
    uri = encrypt(open_store(store), version, read_keys(keys))
    folder = tmp_path / "store/encrypted/models" / version
    folder.rename(folder.with_name("0" * 64))
    with pytest.raises(HeadraceError, match=f"holds the version {version.partition('/')[2]}"):
        fetch(uri.rpartition("/")[0] + "/" + "0" * 64, tmp_path / "mnt", read_keys(keys))


def test_an_older_key_still_decrypts_and_the_newest_encrypts(
    registered: tuple[str, str], keys: Path, tmp_path: Path
) -> None:
    store, version = registered
    uri = encrypt(open_store(store), version, read_keys(keys))
    add_key(keys, "2026-11")
    assert fetch(uri, tmp_path / "before", read_keys(keys)) == 5
    encrypt(open_store(store), version, read_keys(keys))
    (keys / "2026-10").unlink()
    assert fetch(uri, tmp_path / "after", read_keys(keys)) == 5


@pytest.mark.parametrize("arguments", [["gs://bucket/models/a/b", "mnt"], ["gs+enc://bucket/a/b"]])
def test_wrong_calls_are_refused(keys: Path, tmp_path: Path, arguments: list[str]) -> None:
    assert as_kserve_calls(keys, tmp_path / "message", *arguments).returncode == 2
    assert arguments[0] in (tmp_path / "message").read_text()


def test_an_unregistered_version_is_not_encrypted(registered: tuple[str, str], keys: Path) -> None:
    with pytest.raises(HeadraceError, match="models/assistant/none is no registered model version"):
        encrypt(open_store(registered[0]), "assistant/none", read_keys(keys))


KEY = bytes(range(32))
KEYS: Keys = {key_id(KEY): KEY}
SMALL = 32


@settings(max_examples=60)
@given(content=st.binary(max_size=4 * SMALL), name=st.text(min_size=1, max_size=20), change=st.data())
def test_any_file_comes_back_and_any_other_bytes_do_not(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str, change: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("sealed")
    (folder / "plain").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vault, "CHUNK", SMALL)
        seal(folder / "plain", folder / "sealed", name, KEY)
        unseal(folder / "sealed", folder / "back", name, KEYS)
        assert (folder / "back").read_bytes() == content
        (folder / "back").unlink()
        data = (folder / "sealed").read_bytes()
        begin = change.draw(st.integers(0, len(data)))
        end = change.draw(st.integers(begin, len(data)))
        other = data[:begin] + change.draw(st.binary(max_size=SMALL)) + data[end:]
        (folder / "sealed").write_bytes(other)
        if other == data:
            return
        with pytest.raises(HeadraceError):
            unseal(folder / "sealed", folder / "back", name, KEYS)
        assert not (folder / "back").exists()
