"""Masks can be undone by who holds the key, where the recipe asked for it, and every look leaves a trace."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import ValidationError
from typer.testing import CliRunner

from components.common import audit
from components.common.documents import part_files, read_table
from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import open_ledger
from components.common.store import open_store
from components.data.mask.options import Mask
from components.data.mask.originals import FILE, SCHEMA, sealed_of, sealing, unseal
from components.data.mask.reveal import reveal
from pipelines.cli import app
from pipelines.single import run_single

KEY = X25519PrivateKey.generate()
PUBLIC = base64.b64encode(KEY.public_key().public_bytes_raw()).decode()
SECRETS = ["010-1234-5678", "+82 10 1234 5678", "a@corp.com"]


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Environment:
    sealed_at_rest = {"encryption": getattr(request, "param", "")}
    return load_environment("local", tmp_path / "home").model_copy(update=sealed_at_rest)


@pytest.fixture
def rows(document: Callable[..., dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        document("전화 010-1234-5678 또는 +82 10 1234 5678", "one", metadata={"author": "a@corp.com"}),
        document("nothing", "two"),
        document("mail a@corp.com", "three"),
    ]


def masking(place: Environment, documents: Path, folder: Path, public: str = PUBLIC) -> Path:
    outputs = {"masked": folder / "masked", "originals": folder / "originals"}
    run_single("data/mask", {"documents": documents}, outputs, {"reversible_to": public} if public else {}, place)
    return folder


@pytest.mark.parametrize("place", ["", "keyset"], indirect=True)
def test_who_holds_the_key_sees_every_spelling(place: Environment, rows: Any, written: Any, tmp_path: Path) -> None:
    made = masking(place, written(rows), tmp_path / "run")
    [first] = reveal(place, rows[0]["id"], KEY, "case 7")
    assert first.originals == {"[EMAIL_1]": ["a@corp.com"], "[PHONE_1]": ["010-1234-5678", "+82 10 1234 5678"]}
    assert (first.document, first.artifact) == (rows[0]["id"], f"file://{made / 'originals'}")
    [third] = reveal(place, rows[2]["id"][:8], KEY, "case 7")
    assert third.originals == {"[EMAIL_1]": ["a@corp.com"]}
    with pytest.raises(HeadraceError, match="nothing is kept"):
        reveal(place, rows[1]["id"], KEY, "case 7")
    with pytest.raises(UsageError, match="at least its first 8"):
        reveal(place, rows[0]["id"][:7], KEY, "case 7")


def test_without_the_key_nothing_is_told(place: Environment, rows: Any, written: Any, tmp_path: Path) -> None:
    made = masking(place, written(rows), tmp_path / "run")
    sealed = (made / "originals" / FILE).read_bytes()
    assert not [secret for secret in SECRETS if secret.encode() in sealed]
    with pytest.raises(HeadraceError, match="another key"):
        reveal(place, rows[0]["id"], X25519PrivateKey.generate(), "case 7")
    table = pq.read_table(made / "originals" / FILE)
    assert [row["id"] for row in table.to_pylist()] == [rows[0]["id"], rows[2]["id"]]
    named = read_table(made / "masked")["subjects"].to_pylist()
    assert table["subjects"].to_pylist() == [names for names in named if names]
    swapped = [{**row, "sealed": table["sealed"][1 - n].as_py()} for n, row in enumerate(table.to_pylist())]
    pq.write_table(pa.Table.from_pylist(swapped, SCHEMA), made / "originals" / FILE)
    with pytest.raises(HeadraceError, match="or were changed"):
        reveal(place, rows[0]["id"], KEY, "case 7")


def test_masked_documents_are_the_same_either_way(place: Environment, rows: Any, written: Any, tmp_path: Path) -> None:
    documents = written(rows)
    kept, plain = (masking(place, documents, tmp_path / name, key) for name, key in (("kept", PUBLIC), ("plain", "")))
    parts = [[part.read_bytes() for part in part_files(folder / "masked")] for folder in (kept, plain)]
    assert parts[0] == parts[1]
    assert not list((plain / "originals").rglob("*.parquet"))
    assert open_ledger(place).verify() == []


def test_a_look_is_noted_before_anything_is_seen(place: Environment, rows: Any, written: Any, tmp_path: Path) -> None:
    masking(place, written(rows), tmp_path / "run")
    store = open_store(place.store)
    for key in (KEY, X25519PrivateKey.generate()):
        try:
            reveal(place, rows[0]["id"], key, "case 7")
        except HeadraceError:
            assert key is not KEY
    looks = [record for record in audit.records(store) if record["what"] == "headrace unmask"]
    assert [(look["why"], look["who"]) for look in looks] == [("case 7", audit.whoami())] * 2
    log = b"".join(store.read(name) for name in store.list(audit.PREFIX)).decode()
    assert not [secret for secret in [*SECRETS, rows[0]["id"]] if secret in log]
    assert audit.verify(store) == []


def test_as_commands(place: Environment, rows: Any, written: Any, tmp_path: Path) -> None:
    def headrace(*arguments: str) -> str:
        ended = CliRunner().invoke(app, [*arguments, "--home", str(tmp_path / "home")], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return ended.output

    public = headrace("unmask", "key").strip()
    masking(place, written(rows), tmp_path / "run", public)
    said = headrace("unmask", "show", rows[0]["id"], "--why", "case 7")
    assert "[PHONE_1]" in said and "010-1234-5678 · +82 10 1234 5678" in said
    pem = tmp_path / "unmask.pem"
    pem.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert headrace("unmask", "key", "--key", str(pem)).strip() == PUBLIC
    with pytest.raises(HeadraceError, match="another key"):
        headrace("unmask", "show", rows[0]["id"], "--why", "case 7", "--key", str(pem))
    masking(place, written(rows), tmp_path / "other")
    for name, options in (("run", []), ("other", ["--key", str(pem)])):
        [only] = json.loads(headrace("unmask", "show", rows[2]["id"], "--why", "x", "--json", *options))
        assert only["originals"] == {"[EMAIL_1]": ["a@corp.com"]}
        assert only["artifact"] == f"file://{tmp_path}/{name}/originals"


def test_a_document_is_found_wherever_it_stands(tmp_path: Path) -> None:
    names = [f"{number:04x}" for number in range(1_200)]
    with sealing(tmp_path, PUBLIC) as write:
        for start in range(0, len(names), 100):
            write((name, [], {"[EMAIL_1]": [name]}) for name in names[start : start + 100])
    for start in ("0000", "04a", "02ff", "ffff"):
        found = {name: unseal(sealed, name, KEY) for name, sealed in sealed_of(tmp_path, start).items()}
        assert found == {name: {"[EMAIL_1]": [name]} for name in names if name.startswith(start)}


def test_what_is_no_public_key_is_refused() -> None:
    for wrong in ("x", "AAAA", base64.b64encode(bytes(33)).decode()):
        with pytest.raises(ValidationError, match="headrace unmask key"):
            Mask(reversible_to=wrong)
