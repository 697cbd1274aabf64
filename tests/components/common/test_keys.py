"""People get names that say nothing about them, under a key that nothing makes up."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from components.common import subjects
from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError
from components.common.keys import erasure_key, subject_key

KEY = bytes(range(32))


@given(st.text(), st.text(), st.binary(min_size=32, max_size=32))
def test_a_person_has_one_name_per_key_and_it_is_nobody_elses(one: str, other: str, key: bytes) -> None:
    name = subjects.subject(key, "email", one)
    assert name == subjects.subject(key, "email", one)
    assert len(name) == 40 and set(name) <= set("0123456789abcdef")
    assert (name == subjects.subject(key, "email", other)) == (one == other)
    assert (name == subjects.subject(KEY, "email", one)) == (key == KEY)
    others = {subjects.subject(key, "phone", one), subjects.document(key, one), subjects.text(key, one)}
    assert len({name, subjects.place(key, one), *others}) == 5


def test_names_stay_what_they_are() -> None:
    assert subjects.subject(KEY, "email", "kim.cheolsu@bank.kr") == "db3eb1dcec9add73d0f13900f2e1284534219160"
    assert subjects.key_id(KEY) == "edf2cf8a4011b3c0"


def test_words_are_compared_composed_and_folded() -> None:
    assert subjects.plain(" Ann \n LEE") == "ann lee"
    assert subjects.plain("\u1100\u1175\u11b7\u110e\u1165\u11af\u1109\u116e") == "김철수"


def test_a_laptop_makes_its_keys_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    place = load_environment("local", tmp_path)
    assert subject_key(place) == subject_key(place) and len(subject_key(place)) == 32
    assert erasure_key(place).private_bytes_raw() == erasure_key(place).private_bytes_raw()
    files = [path for path in (tmp_path / "keys").rglob("*") if path.is_file()]
    assert len(files) == 2 and all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_pod_makes_no_key(tmp_path: Path) -> None:
    place = Environment(
        name="staging",
        store=f"file://{tmp_path}/store",
        tracking="",
        signing_key=str(tmp_path / "ledger/ledger.pem"),
        keys=str(tmp_path / "keys"),
    )
    for read, file in ((subject_key, "subjects.key"), (erasure_key, "erasure.pem")):
        with pytest.raises(HeadraceError, match=rf"{file}: No such file.*the secret headrace-{file.split('.')[0]}"):
            read(place)
    assert not (tmp_path / "keys").exists()
    (tmp_path / "keys/subjects").mkdir(parents=True)
    (tmp_path / "keys/subjects/subjects.key").write_bytes(base64.b64encode(KEY))
    assert subject_key(place) == KEY


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    place = load_environment("local", tmp_path)
    subject_key(place), erasure_key(place)
    other = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for data in (b"", b"\xff", b"c2hvcnQ=", other):
        (tmp_path / "keys/subjects/subjects.key").write_bytes(data)
        (tmp_path / "keys/erasure/erasure.pem").write_bytes(data)
        with pytest.raises(HeadraceError, match="not 32 bytes in base64"):
            subject_key(place)
        with pytest.raises(HeadraceError, match="no X25519 key"):
            erasure_key(place)
