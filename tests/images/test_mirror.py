"""What a release pulls is listed, pinned and moved, with a real registry."""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.common.errors import HeadraceError, UsageError
from pipelines import images
from pipelines.images import (
    TARGETS,
    Image,
    Reference,
    digest_of,
    needed,
    pin_manifests,
    plan_mirror,
    pushed,
    read_images,
)
from pipelines.images_cli import images_app
from serving.plane.processes import free_port

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Registry:
    """Where a registry answers, and how to put an image there; `push` returns its digest."""

    host: str
    push: Callable[[str, str], str]


@pytest.fixture(scope="module")
def serve_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Start registries on free ports; what is given is further configuration."""
    missing = [tool for tool in ("docker-registry", "skopeo") if not shutil.which(tool)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}; try `make tools`")
    processes = []

    def serve(**configuration: object) -> str:
        folder, host = tmp_path_factory.mktemp("registry"), f"127.0.0.1:{free_port()}"
        settings = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": host},
            **configuration,
        }
        (folder / "config.yml").write_text(yaml.safe_dump(settings))
        with (folder / "log").open("wb") as log:
            command = ["docker-registry", "serve", folder / "config.yml"]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        while not _answers(f"http://{host}/v2/"):
            assert processes[-1].poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        return host

    try:
        yield serve
    finally:
        for process in processes:
            process.terminate()
            process.wait()


@pytest.fixture
def registry(serve_registry: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """An empty registry that skopeo may speak plain HTTP to."""
    host = serve_registry()
    trust_plain_http(tmp_path, monkeypatch, host)

    def push(name: str, content: str) -> str:
        folder = tmp_path / hashlib.sha256(f"{name}{content}".encode()).hexdigest()
        digest = write_image(folder, content)
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--all", "--preserve-digests", f"oci:{folder}:it", f"docker://{host}/{name}"],
            check=True,
        )
        return digest

    return Registry(host, push)


def trust_plain_http(folder: Path, monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Say so where skopeo looks for it."""
    configuration = "".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in hosts)
    path = folder / ".config" / "containers" / "registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(configuration)
    monkeypatch.setenv("HOME", str(folder))


def write_image(folder: Path, content: str) -> str:
    """Write an OCI layout of an image for two platforms, each of one small file; returns the digest of its index."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(value: object, media_type: str) -> dict[str, object]:
        data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "mediaType": media_type, "size": len(data)}

    layer = b"".join([content.encode().ljust(512, b"\0"), b"\0" * 1024])
    platforms = []
    for architecture in ("amd64", "arm64"):
        configuration = {
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": blob(configuration, "application/vnd.oci.image.config.v1+json"),
            "layers": [blob(layer, "application/vnd.oci.image.layer.v1.tar")],
        }
        platforms.append({**blob(manifest, MANIFEST), "platform": {"architecture": architecture, "os": "linux"}})
    index = blob({"schemaVersion": 2, "mediaType": INDEX, "manifests": platforms}, INDEX)
    named = {**index, "annotations": {"org.opencontainers.image.ref.name": "it"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return str(index["digest"])


def _answers(url: str) -> bool:
    try:
        with urlopen(url):
            return True
    except HTTPError:
        return True
    except URLError:
        return False


DIGEST = "sha256:" + "0123456789abcdef" * 4
KUSTOMIZATION = """\
# The images that run here, by digest.
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
images:
  - name: headrace/predictor
    newName: registry.example.com/headrace/predictor
    newTag: unreleased
  - name: somebody/else
    newTag: "1"
"""
part = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}", fullmatch=True)
references = st.builds(
    Reference,
    name=st.builds(
        lambda host, parts: "/".join([host, *parts]),
        st.from_regex(r"[a-z][a-z0-9.-]{0,12}(:[0-9]{2,5})?", fullmatch=True),
        st.lists(part, min_size=1, max_size=3),
    ),
    tag=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True),
    digest=st.sampled_from(["", DIGEST]),
)


@given(references)
def test_a_reference_reads_as_it_is_written(reference: Reference) -> None:
    assert Reference.parse(str(reference)) == reference
    moved = reference.at("registry.example.com/headrace")
    assert (moved.tag, moved.digest) == (reference.tag, reference.digest)


@pytest.mark.parametrize("text", ["", "name", "registry/name", "registry/name@sha256:12", "registry/Name:1", "a b/c:1"])
def test_what_is_no_image_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no image"):
        Reference.parse(text)


def test_the_list_follows_the_versions_that_the_project_pins() -> None:
    listed = [str(image.reference) for image in needed(images.by_version())]
    assert len(listed) == len(set(listed))
    kubeflow = [image for image in listed if "/kfp-" in image]
    assert kubeflow and all(image.endswith(f":{version('kfp')}") for image in kubeflow)
    kserve = [image for image in listed if "/kserve/" in image]
    assert kserve and all(image.partition(":")[2].removesuffix("-gpu") == f"v{version('kserve')}" for image in kserve)
    assert all(image.reference.digest for image in needed({}) if "base" in image.purpose)
    assert not any(image.reference.tag == "latest" for image in needed({}))


def test_two_images_of_one_name_are_refused() -> None:
    twins = [Image(Reference.parse(f"{host}/gateway:1"), "") for host in ("a.example", "b.example")]
    with pytest.raises(UsageError, match=r"b.example/gateway:1 would both become c.example/x/gateway"):
        plan_mirror(twins, "c.example/x")


@pytest.fixture
def upstream(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What a release needs, on a registry of its own: digests by repository."""
    digests = {f"ours/{target}": registry.push(f"ours/{target}:0.1.0", target) for target in TARGETS}
    digests["library/python"] = registry.push("library/python:3.11", "python")
    digests["kserve/agent"] = registry.push("kserve/agent:v1", "agent")
    (tmp_path / "Containerfile").write_text(f"ARG BASE={registry.host}/library/python@{digests['library/python']}\n")
    listed = [{"image": f"{registry.host}/kserve/agent:v1", "purpose": "an agent"}]
    (tmp_path / "third-party.yaml").write_text(yaml.safe_dump(listed))
    monkeypatch.setattr(images, "CONTAINERFILE", tmp_path / "Containerfile")
    monkeypatch.setattr(images, "THIRD_PARTY", tmp_path / "third-party.yaml")
    return digests


def command(*arguments: object) -> str:
    done = CliRunner().invoke(images_app, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_release_moves_with_its_digests(registry: Registry, upstream: dict[str, str], tmp_path: Path) -> None:
    lock, moved = tmp_path / "images.lock.yaml", tmp_path / "moved.lock.yaml"
    kustomization = tmp_path / "kustomization.yaml"
    kustomization.write_text(KUSTOMIZATION)
    assert f"wrote {lock}" in command("lock", f"{registry.host}/ours", "--lock", lock)
    assert read_images(lock) == {
        target: Reference(f"{registry.host}/ours/{target}", digest=upstream[f"ours/{target}"]) for target in TARGETS
    }

    mirror = ("mirror", "--images", lock, "--to", f"{registry.host}/private", "--lock", moved)
    commands = command(*mirror, "--dry-run").splitlines()
    assert len(commands) == len(upstream) and all(line.startswith("skopeo copy --all") for line in commands)
    assert not moved.exists() and not digest_of(Reference(f"{registry.host}/private/agent", "v1"))

    said = command(*mirror, "--manifests", kustomization)
    assert said.count("copied  ") == len(upstream)
    for name, digest in upstream.items():
        arrived = Reference(f"{registry.host}/private/{name.rpartition('/')[2]}", digest=digest)
        assert digest_of(arrived) == digest
        raw = subprocess.check_output(["skopeo", "inspect", "--raw", f"docker://{arrived}"])
        for platform in json.loads(raw)["manifests"]:
            assert digest_of(Reference(arrived.name, digest=platform["digest"])) == platform["digest"]
    assert {target: str(image) for target, image in read_images(moved).items()} == {
        target: f"{registry.host}/private/{target}@{upstream[f'ours/{target}']}" for target in TARGETS
    }
    pinned = yaml.safe_load(kustomization.read_text())["images"]
    assert pinned == [
        {
            "name": "headrace/predictor",
            "newName": f"{registry.host}/private/predictor",
            "digest": upstream["ours/predictor"],
        },
        {"name": "somebody/else", "newTag": "1"},
    ]
    assert kustomization.read_text().startswith("# The images that run here")

    before = moved.read_bytes(), kustomization.read_bytes()
    again = command(*mirror, "--manifests", kustomization)
    assert again.count("there   ") == len(upstream) and "copied" not in again
    assert before == (moved.read_bytes(), kustomization.read_bytes())

    registry.push("private/agent:v1", "not the agent")
    assert command(*mirror).count("copied  ") == 1
    assert digest_of(Reference(f"{registry.host}/private/agent", "v1")) == upstream["kserve/agent"]


def test_what_is_missing_is_named(registry: Registry, upstream: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(HeadraceError, match=r"ours/data:9 does not exist; build and push it with make images"):
        pushed(f"{registry.host}/ours", "9")
    gone = Image(Reference(f"{registry.host}/ours/data", digest=DIGEST), "")
    with pytest.raises(HeadraceError, match=f"ours/data@{DIGEST} does not exist"):
        list(images.mirror(plan_mirror([gone], f"{registry.host}/private")))
    (tmp_path / "third-party.yaml").write_text("- {image: kserve, purpose: serving}")
    with pytest.raises(UsageError, match=r"third-party.yaml: 0.image: 'kserve' is no image"):
        needed({})


def test_a_registry_that_refuses_says_what_to_do(
    serve_registry: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "htpasswd").write_text("nobody:$2y$05$" + "." * 53)
    closed = serve_registry(auth={"htpasswd": {"realm": "test", "path": str(tmp_path / "htpasswd")}})
    trust_plain_http(tmp_path, monkeypatch, closed)
    with pytest.raises(HeadraceError, match="log in with `skopeo login REGISTRY`"):
        digest_of(Reference(f"{closed}/ours/data", "1"))
    trust_plain_http(tmp_path, monkeypatch)
    with pytest.raises(HeadraceError, match=r"tell containers-registries.conf\(5\)"):
        digest_of(Reference(f"{closed}/ours/data", "1"))
    with pytest.raises(HeadraceError, match="connection refused"):
        digest_of(Reference(f"127.0.0.1:{free_port()}/ours/data", "1"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeadraceError, match="skopeo is not installed"):
        digest_of(Reference(f"{closed}/ours/data", "1"))


@pytest.mark.parametrize(
    ("content", "message"), [("- 1", "no images to pin"), ("images: [{name: other}]", "names none of headrace/data")]
)
def test_a_kustomization_that_names_no_image_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kustomization.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        pin_manifests(path, {"headrace/data": Reference("r.example/data", digest=DIGEST)})
    assert path.read_text() == content
