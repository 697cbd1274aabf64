import base64
import json
import threading
from collections.abc import Callable, Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google_crc32c import value as crc32c

from components.common import wrapping
from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.sealed_store import store_of
from components.common.vault import Vault
from components.common.wrapping import CloudKms, State, keyset_file, load_keyset, make_keyset, open_vault
from components.operations.sealing.keys import retire, rotate, survey

KEY = "projects/p/locations/europe-west3/keyRings/r/cryptoKeys/headrace"


class Kms(ThreadingHTTPServer):
    """The two calls of Cloud KMS that are used, as its REST reference has them, with a real cipher behind."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Calls)
        self.versions = {1: AESGCM.generate_key(256)}
        self.calls: list[str] = []
        self.spoil: Callable[[dict[str, Any]], None] = lambda answer: None
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        name, _, verb = path.removeprefix("/v1/").partition(":")
        self.calls.append(verb)
        if name != KEY:
            return 403, {"error": {"message": "Permission denied on resource"}}
        context = base64.b64decode(body["additionalAuthenticatedData"])
        assert int(body["additionalAuthenticatedDataCrc32c"]) == crc32c(context)
        if verb == "encrypt":
            version = max(self.versions)
            plain = base64.b64decode(body["plaintext"])
            assert int(body["plaintextCrc32c"]) == crc32c(plain)
            sealed = bytes([version]) + b"n" * 12 + AESGCM(self.versions[version]).encrypt(b"n" * 12, plain, context)
            return 200, {
                "name": f"{KEY}/cryptoKeyVersions/{version}",
                "ciphertext": base64.b64encode(sealed).decode(),
                "ciphertextCrc32c": str(crc32c(sealed)),
                "verifiedPlaintextCrc32c": True,
                "verifiedAdditionalAuthenticatedDataCrc32c": True,
            }
        sealed = base64.b64decode(body["ciphertext"])
        assert int(body["ciphertextCrc32c"]) == crc32c(sealed)
        try:
            plain = AESGCM(self.versions[sealed[0]]).decrypt(sealed[1:13], sealed[13:], context)
        except (InvalidTag, KeyError):
            return 400, {"error": {"message": "Decryption failed: verify that 'name' refers to the correct CryptoKey."}}
        return 200, {"plaintext": base64.b64encode(plain).decode(), "plaintextCrc32c": str(crc32c(plain))}


class _Calls(BaseHTTPRequestHandler):
    server: Kms

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status, answer = self.server.answer(self.path, body)
        self.server.spoil(answer)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def kms() -> Iterator[Kms]:
    with Kms() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def place(tmp_path: Path, environment_at: Callable[[Path], Environment]) -> Environment:
    return environment_at(tmp_path).model_copy(update={"encryption": "keyset"})


def key_of(kms: Kms, name: str = KEY) -> CloudKms:
    return CloudKms(name, requests.Session(), kms.endpoint)


def test_a_laptop_makes_its_keyset_when_it_first_seals(place: Environment) -> None:
    sealed = open_vault(place).seal_bytes(b"secret", "file")

    assert open_vault(place).open_bytes(sealed, "file", "file") == b"secret"
    assert keyset_file(place).stat().st_mode & 0o777 == 0o600
    [key] = load_keyset(place).keys
    assert (key.state, len(key.secret)) == (State.PRIMARY, 32)


def test_a_cluster_does_not_make_it(place: Environment) -> None:
    pod = place.model_copy(update={"home": ""})

    with pytest.raises(HeadraceError, match=r"keyset.json: No such file .* `headrace keys make`"):
        open_vault(pod).seal_bytes(b"secret", "file")
    assert make_keyset(pod).keys == load_keyset(pod).keys
    with pytest.raises(UsageError, match="is there already; `headrace keys rotate`"):
        make_keyset(pod)


def test_another_keyset_opens_nothing_and_says_which_one_would(place: Environment, tmp_path: Path) -> None:
    sealed = open_vault(place).seal_bytes(b"secret", "file")
    wanted = load_keyset(place).primary.id
    keyset_file(place).unlink()

    with pytest.raises(HeadraceError, match=r"^file is sealed: .*keyset.json: No such file .*; put the keyset there"):
        open_vault(place).open_bytes(sealed, "file", "file")
    assert not keyset_file(place).exists()
    make_keyset(place)
    with pytest.raises(HeadraceError, match=f"^file is sealed: the key {wanted} is not in .*; put back the keyset"):
        open_vault(place).open_bytes(sealed, "file", "file")


def test_no_keyset_takes_the_place_of_one_that_files_need(place: Environment) -> None:
    store = store_of(place)
    store.write("crawls/a", b"secret")
    kept = keyset_file(place).rename(keyset_file(place).with_name("copy.json"))

    for act in (lambda: store_of(place).write("crawls/b", b"secret"), lambda: make_keyset(place)):
        with pytest.raises(HeadraceError, match=r"keyset.json is missing, and files here need it, .*crawls/a; put the"):
            act()
    assert not keyset_file(place).exists()
    kept.rename(keyset_file(place))
    assert store_of(place).read("crawls/a") == b"secret"


def test_on_a_cluster_a_rotation_waits_until_pods_have_the_key(place: Environment) -> None:
    store_of(place).write("crawls/a", b"secret")
    pod, before = place.model_copy(update={"home": ""}), load_keyset(place).primary.id

    with pytest.raises(HeadraceError, match="replace the secret headrace-keyset with that file, wait until no run"):
        rotate(pod)
    assert survey(pod).needed == {before: 1}
    assert rotate(pod) == (load_keyset(pod).primary.id, 1)
    assert before != load_keyset(pod).primary.id and not load_keyset(pod).rotating


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"schema": 1, "rotating": false, "keys": []}'])
def test_a_file_that_is_no_keyset_is_named(place: Environment, text: bytes) -> None:
    keyset_file(place).parent.mkdir(parents=True)
    keyset_file(place).write_bytes(text)

    with pytest.raises(HeadraceError, match=r"keyset.json is no keyset; put back"):
        load_keyset(place)


def test_two_who_change_a_keyset_at_once_do_not_lose_a_key(place: Environment) -> None:
    before = make_keyset(place)
    before.with_primary().write(before)

    with pytest.raises(HeadraceError, match="changed by somebody else"):
        before.with_primary().write(before)


def test_cloud_kms_wraps_and_names_the_version(kms: Kms) -> None:
    sealed = Vault(key_of(kms), seals=True).seal_bytes(b"secret", "file")
    kms.versions[2] = AESGCM.generate_key(256)

    assert f"{KEY}/cryptoKeyVersions/1".encode() in sealed
    assert key_of(kms).wrap(b"k" * 32)[0] == f"{KEY}/cryptoKeyVersions/2"
    assert Vault(key_of(kms)).open_bytes(sealed, "file", "file") == b"secret"


def test_cloud_kms_is_asked_once_per_writer_and_once_per_reader(kms: Kms) -> None:
    writer = Vault(key_of(kms), seals=True)
    sealed = [writer.seal_bytes(b"secret", f"file-{number}") for number in range(5)]

    reader = Vault(key_of(kms))
    assert {reader.open_bytes(one, f"file-{number}", "t") for number, one in enumerate(sealed)} == {b"secret"}
    assert kms.calls == ["encrypt", "decrypt"]


@pytest.mark.parametrize(
    "spoilt",
    [
        {"ciphertext": base64.b64encode(b"other").decode()},
        {"ciphertextCrc32c": "1"},
        {"verifiedPlaintextCrc32c": False},
        {"verifiedAdditionalAuthenticatedDataCrc32c": False},
    ],
)
def test_what_is_damaged_on_its_way_is_not_used(kms: Kms, spoilt: dict[str, Any]) -> None:
    kms.spoil = lambda answer: answer.update(spoilt)

    with pytest.raises(HeadraceError, match="damaged on its way"):
        key_of(kms).wrap(b"k" * 32)


def test_a_damaged_answer_to_decrypt_is_not_used(kms: Kms) -> None:
    key, wrapped = key_of(kms).wrap(b"k" * 32)
    kms.spoil = lambda answer: answer.update(plaintext=base64.b64encode(b"other").decode())

    with pytest.raises(HeadraceError, match="damaged on its way"):
        key_of(kms).unwrap(key, wrapped)


def test_a_file_cannot_choose_another_key(kms: Kms) -> None:
    key, wrapped = key_of(kms).wrap(b"k" * 32)

    with pytest.raises(HeadraceError, match=f"its key is {KEY}, the environment's {KEY}-2"):
        key_of(kms, f"{KEY}-2").unwrap(key, wrapped)
    assert kms.calls == ["encrypt"]


def test_what_kms_refuses_is_told_with_the_permission(kms: Kms) -> None:
    with pytest.raises(HeadraceError, match=r"Permission denied .* cloudkms.cryptoKeyVersions.useToEncrypt"):
        key_of(kms, f"{KEY}-2").wrap(b"k" * 32)
    with pytest.raises(HeadraceError, match="Decryption failed"):
        key_of(kms).unwrap(f"{KEY}/cryptoKeyVersions/1", b"\1" + b"n" * 60)
    kms.server_close()
    with pytest.raises(HeadraceError, match="Cloud KMS cannot be asked"):
        CloudKms(KEY, requests.Session(), "http://127.0.0.1:1").wrap(b"k" * 32)


def test_an_environment_that_moved_to_kms_still_opens_what_its_keyset_sealed(
    place: Environment, kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_vault(place).seal_bytes(b"secret", "file")
    moved = Environment.model_validate(place.model_dump() | {"encryption": f"gcp-kms://{KEY}"})
    monkeypatch.setattr(wrapping, "cloud_kms", lambda name: key_of(kms, name))

    after = open_vault(moved).seal_bytes(b"secret", "file")

    assert KEY.encode() in after and KEY.encode() not in before
    assert {open_vault(moved).open_bytes(one, "file", "file") for one in (before, after)} == {b"secret"}
    with pytest.raises(HeadraceError, match="its key is in Cloud KMS, and test names none"):
        open_vault(place).open_bytes(after, "file", "file")


def test_everything_moves_from_a_keyset_to_kms_and_on_to_its_next_version(
    place: Environment, kms: Kms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrapping, "cloud_kms", cache(lambda name: key_of(kms, name)))
    for number in range(4):
        store_of(place).write(f"crawls/{number}", b"secret")
    old = load_keyset(place).primary.id
    moved = Environment.model_validate(place.model_dump() | {"encryption": f"gcp-kms://{KEY}"})
    with pytest.raises(HeadraceError, match=f"4 files need {old}"):
        retire(moved, old)

    assert rotate(moved) == (f"{KEY}/cryptoKeyVersions/1", 4)
    retire(moved, old)
    kms.versions[2] = AESGCM.generate_key(256)
    with pytest.raises(HeadraceError, match=r"4 files need projects/.*/1; run `headrace keys rotate`"):
        retire(moved, f"{KEY}/cryptoKeyVersions/1")
    assert rotate(moved) == (f"{KEY}/cryptoKeyVersions/2", 4) and rotate(moved)[1] == 0
    with pytest.raises(UsageError, match=r"nothing needs projects/.*/1; disable it with"):
        retire(moved, f"{KEY}/cryptoKeyVersions/1")

    del kms.versions[1]
    assert survey(moved).needed == {f"{KEY}/cryptoKeyVersions/2": 4}
    assert {store_of(moved).read(f"crawls/{number}") for number in range(4)} == {b"secret"}
    with pytest.raises(HeadraceError, match=r"every key of .*keyset.json is retired; `headrace keys rotate`"):
        store_of(place).write("crawls/5", b"")


@pytest.mark.parametrize("named", ["aes", "gcp-kms://projects/p", f"gcp-kms://{KEY}/cryptoKeyVersions/1"])
def test_an_environment_names_a_keyset_or_a_key(place: Environment, named: str) -> None:
    with pytest.raises(ValueError, match="encryption"):
        Environment.model_validate(place.model_dump() | {"encryption": named})
