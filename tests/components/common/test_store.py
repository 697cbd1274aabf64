"""Stores: a folder and a real Cloud Storage server must behave alike."""

import json
import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from google.api_core.exceptions import Forbidden
from google.auth.transport.requests import AuthorizedSession

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.common.sealed_store import SealedStore, store_of
from components.common.store import SINGLE_REQUEST_UPLOAD, Store, open_store, upload_tree
from components.common.vault import Vault, is_sealed
from components.common.wrapping import Keyset


@pytest.fixture(params=["file", "gs", "sealed file", "sealed gs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    local = request.param.endswith("file")
    uri = f"file://{tmp_path}/store" if local else f"{request.getfixturevalue('cloud')}/{tmp_path.name}"
    store = open_store(uri)
    if not request.param.startswith("sealed"):
        return store
    return SealedStore(store, Vault(Keyset(tmp_path / "keyset.json").with_primary(), seals=True))


def test_what_is_written_is_read(store: Store) -> None:
    assert store.write("a/b.json", "한국어".encode())
    assert store.read("a/b.json").decode() == "한국어"
    assert store.exists("a/b.json")
    assert not store.exists("a/c.json")
    store.write("a/b.json", b"again")
    assert store.read("a/b.json") == b"again"


def test_a_missing_object_is_named(store: Store) -> None:
    with pytest.raises(HeadraceError, match=r"a/none\.json does not exist"):
        store.read("a/none.json")


def test_an_object_is_read_from_its_start(store: Store) -> None:
    store.write("ledger/a", b"abcdef")
    store.write("ledger/empty", b"")
    assert [store.start("ledger/a", size) for size in (3, 6, 60)] == [b"abc", b"abcdef", b"abcdef"]
    assert store.start("ledger/empty", 3) == b""
    with pytest.raises(HeadraceError, match=r"ledger/none does not exist"):
        store.start("ledger/none", 3)


def test_listing_is_sorted_and_below_the_prefix(store: Store) -> None:
    for key in ("b/2", "b/1", "a", "bc"):
        store.write(key, b"")
    assert list(store.list("b/")) == ["b/1", "b/2"]
    assert list(store.list()) == ["a", "b/1", "b/2", "bc"]


def test_objects_are_described(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    store.write("a/1", b"xyz")
    store.write("b", b"")
    [described] = store.describe("a/")
    stored = store.start("a/1", 4096)
    assert (described.key, described.size) == ("a/1", len(stored))
    assert stored == b"xyz" or is_sealed(stored)
    assert before < described.written < before + timedelta(minutes=10)


def test_deleting_twice_is_deleting_once(store: Store) -> None:
    store.write("a", b"x")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


def test_exactly_one_of_many_writers_wins(store: Store) -> None:
    store.write("warm", b"")
    barrier = threading.Barrier(8)
    won: list[int] = []

    def race(number: int) -> None:
        barrier.wait()
        if store.write("entry", str(number).encode(), if_absent=True):
            won.append(number)

    racers = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(won) == 1
    assert store.read("entry") == str(won[0]).encode()


def test_what_somebody_changed_meanwhile_is_not_replaced(store: Store) -> None:
    assert not store.replace("swap/a", b"0", b"1")
    assert store.replace("swap/a", None, b"1")
    assert not store.replace("swap/a", None, b"2")
    assert store.replace("swap/a", b"1", b"2")
    assert not store.replace("swap/a", b"1", b"3")
    assert store.read("swap/a") == b"2"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.replace("swap/a", b"2", b"%d" % number), range(10, 18)))
    assert sum(won) == 1
    assert store.read("swap/a") == b"%d" % (10 + won.index(True))
    assert list(store.list("swap/")) == ["swap/a"]


def test_what_was_replaced_or_deleted_meanwhile_is_not_uploaded_over(store: Store, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    assert store.generation("over/a") is None
    store.write("over/a", b"1")
    first = store.generation("over/a")
    assert first and store.upload_over(tmp_path / "new", "over/a", first)
    second = store.generation("over/a")
    assert second and not store.upload_over(tmp_path / "new", "over/a", first)
    store.delete("over/a")
    assert not store.upload_over(tmp_path / "new", "over/a", second)
    assert not store.exists("over/a")


def test_large_files_travel_whole(store: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * (SINGLE_REQUEST_UPLOAD // 256 + 5)
    (tmp_path / "large").write_bytes(data)
    store.upload(tmp_path / "large", "models/large")
    store.download("models/large", tmp_path / "back" / "large")
    assert (tmp_path / "back" / "large").read_bytes() == data


def test_a_tree_appears_with_its_last_file(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    (folder / "sub").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    (folder / "sub" / "part").write_text("x")
    uri = upload_tree(store, folder, "datasets/d/1", last="manifest.json")
    assert uri == f"{store.uri}/datasets/d/1"
    assert list(store.list("datasets/")) == ["datasets/d/1/manifest.json", "datasets/d/1/sub/part"]


def test_a_damaged_tree_is_mended(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    for name in ("manifest.json", "lost", "part"):
        (folder / name).write_text(name)
    upload_tree(store, folder, "d/1", last="manifest.json")
    assert all(store.holds(folder / name, f"d/1/{name}") for name in ("manifest.json", "lost", "part"))
    store.write("d/1/part", b"PART")
    store.delete("d/1/lost")
    assert not store.holds(folder / "part", "d/1/part")
    assert not store.holds(folder / "lost", "d/1/lost")
    upload_tree(store, folder, "d/1", last="manifest.json")
    assert store.read("d/1/part") == b"part"
    assert store.read("d/1/lost") == b"lost"


@pytest.mark.parametrize("key", ["", "/etc/passwd", "a/../../b"])
def test_keys_stay_below_the_root(store: Store, key: str) -> None:
    with pytest.raises(UsageError, match="no store key"):
        store.write(key, b"")


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}")
    store.write("entry", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.write("entry", b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.read("entry") == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "entry"]


@pytest.mark.parametrize("uri", ["s3://bucket", "file://relative", "gs://", "/plain"])
def test_other_schemes_are_refused(uri: str) -> None:
    with pytest.raises(UsageError, match=r"use file:///absolute/folder or gs://bucket/prefix"):
        open_store(uri)


def test_every_upload_names_the_key_of_the_environment(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
    sent: list[tuple[str, list[str]]] = []
    request = AuthorizedSession.request

    def noted(session: AuthorizedSession, method: str, url: str, **more: Any) -> Any:
        query = parse_qs(urlsplit(url).query)
        if "uploadType" in query and "upload_id" not in query:
            sent.append((query["uploadType"][0], query.get("kmsKeyName", [])))
        return request(session, method, url, **more)

    monkeypatch.setattr(AuthorizedSession, "request", noted)
    place = Environment(name="t", store=f"{cloud}/{tmp_path.name}", tracking="", signing_key="", cmek=key)
    (tmp_path / "large").write_bytes(b"x" * (SINGLE_REQUEST_UPLOAD + 1))
    for cmek in (key, ""):
        store = store_of(place.model_copy(update={"cmek": cmek}))
        store.write("a", b"1")
        store.write("b", b"1", if_absent=True)
        store.replace("a", b"1", b"2")
        store.upload(tmp_path / "large", "large")
        named = [cmek] if cmek else []
        assert sent == [("multipart", named), ("multipart", named), ("multipart", named), ("resumable", named)]
        sent.clear()


def test_a_large_file_goes_over_one_generation_only(
    cloud: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[list[str]] = []
    request = AuthorizedSession.request

    def noted(session: AuthorizedSession, method: str, url: str, **more: Any) -> Any:
        query = parse_qs(urlsplit(url).query)
        if query.get("uploadType") == ["resumable"] and "upload_id" not in query:
            sent.append(query.get("ifGenerationMatch", []))  # the emulator does not look at it
        return request(session, method, url, **more)

    monkeypatch.setattr(AuthorizedSession, "request", noted)
    store = open_store(f"{cloud}/{tmp_path.name}")
    store.write("a", b"1")
    generation = store.generation("a")
    (tmp_path / "large").write_bytes(b"x" * (SINGLE_REQUEST_UPLOAD + 1))

    assert generation and store.upload_over(tmp_path / "large", "a", generation)
    assert sent == [[str(generation)]]


class AddOnly(BaseHTTPRequestHandler):
    """Cloud Storage for an account that may add objects and not replace them; `there` is there."""

    def do_GET(self) -> None:
        found = "/o/there" in self.path
        self.reply(200 if found else 404, {"name": "there"} if found else {"error": {"message": "no such object"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.reply(403, {"error": {"message": "does not have storage.objects.delete access"}})

    def reply(self, status: int, answer: dict[str, object]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep the output clean."""


def test_an_account_that_may_only_add_loses_the_race_without_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), AddOnly) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        store = open_store("gs://bucket")
        assert not store.write("there", b"entry", if_absent=True)
        for key, if_absent in (("there", False), ("elsewhere", True)):
            with pytest.raises(Forbidden, match=r"storage\.objects\.delete"):
                store.write(key, b"entry", if_absent=if_absent)
        server.shutdown()
