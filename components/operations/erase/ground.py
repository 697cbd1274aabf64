"""Everything an environment keeps, file by file, and which larger thing each file belongs to."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO
from urllib.parse import unquote

from components.common.environment import Environment
from components.common.ledger import open_ledger
from components.common.sealed_store import store_of
from components.common.store import FileStore, Store, open_store
from components.common.tombstones import PREFIX as TOMBSTONES
from components.common.vault import Vault

STAGE = "operations/erase"
"""What makes the successors of dataset versions, as the ledger calls it."""

ERASURES = "erasures/"
"""Where requests and certificates are in the store."""

WEIGHTS = frozenset({".bin", ".gguf", ".npy", ".npz", ".onnx", ".pt", ".pth", ".safetensors"})
"""Endings of files that hold numbers and no text."""

_OWN = ("ledger/", "audit/", TOMBSTONES, ERASURES, "holds/")
"""What the store keeps about itself; nothing in it names a person."""
_PATH = re.compile(r"sqlite:/{3}(?P<path>[^?]+)")


class Kind(StrEnum):
    """What keeps a person's data, in the order in which it is cleared."""

    CACHE = "cache entry"
    DATASET = "dataset version"
    ARTIFACT = "artifact of a run"
    RUN = "log and report of a run"
    TRACKING = "tracking"
    FILE = "file"
    MODEL = "model version"


@dataclass(frozen=True)
class Place:
    """Something that is cleared as a whole.

    Attributes:
        kind: What it is.
        uri: Where it is: a folder or a file.
    """

    kind: Kind
    uri: str


@dataclass(frozen=True)
class File:
    """A file, where it is, and what it belongs to."""

    store: Store
    key: str
    place: Place
    vault: Vault

    @contextmanager
    def local(self) -> Iterator[Path]:
        """The file as it is stored, on this machine."""
        if isinstance(self.store, FileStore):
            yield self.store.root / self.key
            return
        with TemporaryDirectory(prefix="headrace-erase-") as folder:
            path = Path(folder, Path(self.key).name)
            self.store.download(self.key, path)
            yield path

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """What it holds."""
        with self.local() as path, self.vault.open(path) as content:
            yield content


class Ground:
    """What an environment keeps: its store, a laptop's home, and artifacts elsewhere that the ledger knows.

    Args:
        environment: The environment.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.store = store_of(environment)
        self.ledger = open_ledger(environment)
        self.home = FileStore(Path(environment.home).resolve()) if environment.home else None
        self._roots = [root.uri for root in (self.store, self.home) if root]

    @property
    def tracking(self) -> Path | None:
        """MLflow's SQLite file, if that is where runs are tracked."""
        found = _PATH.fullmatch(self.environment.tracking)
        return Path(unquote(found["path"])) if found else None

    def unreached(self) -> list[str]:
        """What may hold a person's data and cannot be looked into from here, as sentences."""
        if self.tracking is None and self.environment.tracking:
            return [f"the tracking server {self.environment.tracking}: delete runs there, and run `mlflow gc`"]
        return []

    def files(self) -> Iterator[File]:
        """Every file that may hold a person's data, each once; the tracking database is not among them."""
        vault = self.store.vault
        for key in self.store.list():
            if not key.startswith(_OWN):
                yield File(self.store.inner, key, self.place_of(f"{self.store.uri}/{key}"), vault)
        if self.home:
            own = {self.tracking, self.home.root / "run.lock"}
            for key in self.home.list():
                uri = f"{self.home.uri}/{key}"
                path = self.home.root / key
                inside = f"{uri}/".startswith(f"{self.store.uri}/") or key.startswith("keys/")
                if not inside and path not in own and not path.name.startswith("mlflow.db-"):
                    yield File(self.home, key, self.place_of(uri), vault)
        for uri in self._elsewhere():
            root, _, prefix = uri.rpartition("/")
            store = open_store(root)
            for key in [*store.list(f"{prefix}/"), *([prefix] if store.exists(prefix) else [])]:
                yield File(store, key, Place(Kind.ARTIFACT, uri), vault)

    def place_of(self, uri: str) -> Place:
        """What a file or a recorded copy of an artifact belongs to."""
        if self.home and uri.startswith(f"{self.home.uri}/") and not uri.startswith(f"{self.store.uri}/"):
            parts = uri.removeprefix(f"{self.home.uri}/").split("/")
            folder, depth = {"artifacts": (Kind.ARTIFACT, 3), "runs": (Kind.RUN, 2)}.get(parts[0], (Kind.FILE, 0))
            if depth and len(parts) >= depth:
                return Place(folder, "/".join([self.home.uri, *parts[:depth]]))
            return Place(Kind.CACHE if parts[0] == "cache" else Kind.FILE, uri)
        if uri.startswith(f"{self.store.uri}/"):
            parts = uri.removeprefix(f"{self.store.uri}/").split("/")
            for above in (["datasets"], ["models"], ["encrypted", "models"]):
                depth = len(above) + 2
                if parts[: len(above)] == above and len(parts) >= depth:
                    kind = Kind.DATASET if above == ["datasets"] else Kind.MODEL
                    return Place(kind, "/".join([self.store.uri, *parts[:depth]]))
            return Place(Kind.TRACKING if parts[0] == "tracking" else Kind.FILE, uri)
        return Place(Kind.ARTIFACT, uri)

    def beside(self, place: Place) -> list[Place]:
        """What tells of an artifact outside the home and belongs to it: the report and the metrics of its step."""
        if place.kind != Kind.ARTIFACT or place.uri.startswith(tuple(f"{root}/" for root in self._roots)):
            return []
        if place.uri.startswith("file://"):  # as `headrace step` writes them
            return [Place(place.kind, f"{place.uri}{ending}") for ending in (".html", ".metrics.json")]
        folder = place.uri.rpartition("/")[0]  # as a pod does
        return [Place(place.kind, f"{folder}/{name}") for name in ("report", "metrics")]

    def name_of(self, uri: str) -> str:
        """A place by what does not change when store or home move: `store:datasets/…`, `home:runs/…`."""
        for name, root in self._named():
            if uri.startswith(f"{root.uri}/"):
                return f"{name}:{uri.removeprefix(f'{root.uri}/')}"
        return uri

    def uri_of(self, name: str) -> str:
        """Where a place of that name is here."""
        for known, root in self._named():
            if name.startswith(f"{known}:"):
                return f"{root.uri}/{name.removeprefix(f'{known}:')}"
        return name

    def _named(self) -> list[tuple[str, Store]]:
        return [("store", self.store), *([("home", self.home)] if self.home else [])]  # the store may lie in the home

    @cached_property
    def copies(self) -> dict[str, tuple[str, str]]:
        """The ledger's notes of where copies are: by URI, the entry and which of its outputs."""
        return {
            place["uri"]: (entry, place["output"])
            for entry, _ in self.ledger.entries()
            for place in self.ledger.locations(entry)
        }

    def _elsewhere(self) -> list[str]:
        """Copies outside store and home, and what lies beside them."""
        outside = [uri for uri in self.copies if not uri.startswith(tuple(f"{root}/" for root in self._roots))]
        places = [Place(Kind.ARTIFACT, uri) for uri in outside]
        return sorted({one.uri for place in places for one in (place, *self.beside(place))})
