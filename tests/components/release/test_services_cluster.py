"""What a person reads when a cluster says no, said by a real API server; and what happens when it is away for a "
"while."""

import base64
import contextlib
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes import client

from components.common.environment import Serving
from components.common.errors import HeadraceError
from components.release import services as module
from components.release.api import Unanswered, check_accepted
from components.release.manifest import Manifest, as_canary, render, render_predictor
from components.release.services import InferenceServices

KSERVE = ("serving.kserve.io", "v1beta1")


@pytest.fixture
def namespace(cluster: client.ApiClient) -> Iterator[str]:
    """A namespace of a test's own."""
    core = client.CoreV1Api(cluster)
    name = core.create_namespace({"metadata": {"generateName": "services-"}}).metadata.name
    core.patch_namespace(name, {"metadata": {"labels": {"test": name}}})
    yield name
    core.delete_namespace(name)


@pytest.fixture
def services(namespace: str) -> InferenceServices:
    return InferenceServices(Serving(mode="standard", namespace=namespace))


@pytest.fixture
def use(kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Point KUBECONFIG at a changed copy."""

    def use(user: dict[str, Any] | None = None, **cluster: Any) -> None:
        written = yaml.safe_load(kubeconfig.read_text("utf-8"))
        written["users"][0]["user"] = user if user is not None else written["users"][0]["user"]
        written["clusters"][0]["cluster"] |= cluster
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(written))
        monkeypatch.setenv("KUBECONFIG", str(path))

    return use


def predictor(name: str, **fields: Any) -> Manifest:
    return {**render_predictor(name, f"gs://models/{name}", 1, {"cpu": "1"}, [], {}), **fields}


def wanted(namespace: str, **fields: Any) -> Callable[[Manifest | None], Manifest]:
    return lambda seen: seen or render("chat", namespace, predictor("r1", **fields))


def with_canary(seen: Manifest | None) -> Manifest:
    assert seen is not None
    canary = {"trafficPercent": 5, "predictor": as_canary(predictor("r2"))}
    return {**seen, "spec": {**seen["spec"], "canary": [canary]}}


def said(error: pytest.ExceptionInfo[HeadraceError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    for word in words:
        assert word in text, text


def test_who_may_not_is_told_which_role_is_missing(
    cluster: client.ApiClient, namespace: str, use: Callable[..., None]
) -> None:
    core = client.CoreV1Api(cluster)
    core.create_namespaced_service_account(namespace, {"metadata": {"name": "limited"}})
    token = core.create_namespaced_service_account_token("limited", namespace, {"spec": {"audiences": []}}).status.token
    use({"token": token})
    with pytest.raises(HeadraceError) as error:
        InferenceServices(Serving(mode="standard", namespace=namespace)).get("chat")
    said(error, f'User "system:serviceaccount:{namespace}:limited" cannot get resource', "bind a role that allows it")


def test_a_wrong_token_is_told_from_a_wrong_clock(use: Callable[..., None]) -> None:
    use({"token": "expired"})
    with pytest.raises(HeadraceError) as error:
        InferenceServices(Serving(mode="standard")).names()
    said(error, "does not accept who you are (Unauthorized)", "has expired", "log in again", "`date`")


def test_an_unknown_authority_is_named(use: Callable[..., None]) -> None:
    use(**{"insecure-skip-tls-verify": False})
    with pytest.raises(HeadraceError) as error:
        InferenceServices(Serving(mode="standard")).names()
    said(error, "the certificate of the Kubernetes API at https://127.0.0.1", "certificate-authority-data")


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        (None, "", ["no Kubernetes API: KUBECONFIG names", "correct or unset it"]),
        ("{", "", ["kubeconfig", "is not"]),
        ("[]", "", ["kubeconfig", "is not"]),
        ("apiVersion: v1\nkind: Config\n", "", ["kubeconfig:", "kubectl config use-context"]),
        ("valid", "production", ["context 'production' of the environment", "serving.context"]),
    ],
)
def test_a_wrong_kubeconfig_is_named(
    kubeconfig: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    context: str,
    words: list[str],
) -> None:
    path = tmp_path / "kubeconfig"
    if text is not None:
        path.write_text(kubeconfig.read_text() if text == "valid" else text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(HeadraceError) as error:
        InferenceServices(Serving(mode="standard", context=context))
    said(error, *words)


def test_the_environment_chooses_the_context(
    kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    written = yaml.safe_load(kubeconfig.read_text())
    written["clusters"].append({"name": "away", "cluster": {"server": "https://127.0.0.1:1"}})
    written["contexts"].append({"name": "away", "context": {"cluster": "away", "user": "admin"}})
    written["current-context"] = "away"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(written))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert InferenceServices(Serving(mode="standard", context="test", namespace=namespace)).names() == []


def test_a_field_that_would_be_dropped_is_an_error_before_anything_is_written(
    services: InferenceServices, namespace: str
) -> None:
    with pytest.raises(HeadraceError) as error:
        services.change("chat", wanted(namespace, modle={"name": "x"}))
    said(
        error, "spec.predictor.modle", "KServe here does not know the field" if "drop" in str(error.value) else "modle"
    )
    assert services.get("chat") is None


def test_what_a_webhook_fills_in_is_no_loss() -> None:
    sent = {"spec": {"predictor": {"name": "a", "args": [], "list": [{"x": 1}]}}, "status": {"x": 1}}
    check_accepted(sent, {"spec": {"predictor": {"name": "a", "list": [{"x": 1, "y": 2}], "more": 1}}})
    with pytest.raises(HeadraceError, match=r"drop spec\.predictor\.list\[0\]\.x"):
        check_accepted(sent, {"spec": {"predictor": {"name": "a", "list": [{}]}}})


def test_without_kserve_its_absence_is_named(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_GROUP", "absent.kserve.io")
    services = InferenceServices(Serving(mode="standard", namespace=namespace))
    for attempt in (services.names, lambda: services.get("chat")):
        with pytest.raises(HeadraceError) as error:
            attempt()
        said(error, "KServe's resource definitions are missing or too old", "install KServe 0.21 or newer")


@pytest.fixture
def old_kserve(cluster: client.ApiClient) -> Iterator[str]:
    """A group whose InferenceService has no spec.canary, as KServe's had before 0.21."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"predictor": anything}}}}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": "inferenceservices", "singular": "inferenceservice", "kind": "InferenceService"}
    group, definitions = "old.kserve.io", client.ApiextensionsV1Api(cluster)
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    name = f"inferenceservices.{group}"
    definitions.create_custom_resource_definition({"metadata": {"name": name}, "spec": spec})
    yield group
    definitions.delete_custom_resource_definition(name)


def test_a_kserve_that_is_too_old_for_canaries_is_named(
    old_kserve: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROUP", old_kserve)
    services = InferenceServices(Serving(mode="standard", namespace=namespace))
    first = {**wanted(namespace)(None), "apiVersion": f"{old_kserve}/v1beta1"}
    end = time.monotonic() + 60
    while True:  # the API server serves a new definition after a moment
        try:
            services.change("chat", lambda seen: first)
            break
        except HeadraceError:
            assert time.monotonic() < end
            time.sleep(0.1)
    with pytest.raises(HeadraceError) as error:
        services.change("chat", with_canary)
    said(error, "KServe here is too old for canaries", "0.21 or newer", "would drop spec.canary")
    assert "canary" not in (services.get("chat") or {})["spec"]


def test_a_full_quota_says_what_is_full(cluster: client.ApiClient, services: InferenceServices, namespace: str) -> None:
    core, counted = client.CoreV1Api(cluster), {"count/inferenceservices.serving.kserve.io": "0"}
    core.create_namespaced_resource_quota(namespace, {"metadata": {"name": "few"}, "spec": {"hard": counted}})
    status = {"hard": counted, "used": counted}
    core.patch_namespaced_resource_quota_status("few", namespace, {"status": status})
    error: pytest.ExceptionInfo[HeadraceError]
    with pytest.raises(HeadraceError) as error:
        end = time.monotonic() + 60
        while time.monotonic() < end:  # admission sees a new quota after a moment
            services.change("chat", lambda seen: render("chat", namespace, predictor(f"r{time.monotonic_ns() % 1000}")))
            client.CustomObjectsApi(cluster).delete_namespaced_custom_object(
                *KSERVE, namespace, "inferenceservices", "chat"
            )
    said(error, "exceeded quota: few", "lower the resources in the recipe, or ask for a larger quota")


class Webhook:
    """An admission webhook that refuses, on loopback with a certificate of its own."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "tls.crt"
        names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", str(folder / "tls.key"), "-out", str(self.certificate)]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names, *files]
        subprocess.run(command, check=True, capture_output=True)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                review = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status = {"message": "models come from the registry of this house"}
                response = {"uid": review["request"]["uid"], "allowed": False, "status": status}
                body = json.dumps({**review, "response": response}).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_a_webhook_s_words_are_kept_and_a_dead_webhook_is_named(
    cluster: client.ApiClient, services: InferenceServices, namespace: str, tmp_path: Path
) -> None:
    webhook = Webhook(tmp_path)
    admission = client.AdmissionregistrationV1Api(cluster)
    rule = {"apiGroups": ["serving.kserve.io"], "apiVersions": ["*"], "resources": ["inferenceservices"]}
    called = {
        "name": "validate.house.example",
        "rules": [{**rule, "operations": ["CREATE", "UPDATE"]}],
        "clientConfig": {
            "url": f"https://127.0.0.1:{webhook.server.server_port}/",
            "caBundle": base64.b64encode(webhook.certificate.read_bytes()).decode(),
        },
        "namespaceSelector": {"matchLabels": {"test": namespace}},
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": 5,
    }
    admission.create_validating_webhook_configuration({"metadata": {"name": namespace}, "webhooks": [called]})
    objects = client.CustomObjectsApi(cluster)
    try:
        with pytest.raises(HeadraceError) as error:
            end = time.monotonic() + 60
            while time.monotonic() < end:  # the API server sees a new webhook after a moment
                services.change("chat", lambda seen: render("chat", namespace, predictor(f"r{time.time_ns() % 1000}")))
                objects.delete_namespaced_custom_object(*KSERVE, namespace, "inferenceservices", "chat")
        said(
            error,
            "validate.house.example",
            "models come from the registry of this house",
            "what the webhook objects to",
        )
        webhook.server.shutdown()
        webhook.server.server_close()
        with pytest.raises(Unanswered) as dead:
            services.change("chat", wanted(namespace))
        said(dead, "failed calling webhook", "kserve-controller-manager")
    finally:
        admission.delete_validating_webhook_configuration(namespace)


class Door:
    """Forwards to the API server while it is open; closed, it refuses connections, as a restarting API server does."""

    def __init__(self, target: str) -> None:
        address = urlsplit(target)
        self._target = (str(address.hostname), int(address.port or 443))
        self._listener: socket.socket | None = None
        self.port = 0
        self._open: list[socket.socket] = []

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        assert self._listener is not None
        for connection in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                incoming, _ = listener.accept()
                outgoing = socket.create_connection(self._target)
                self._open += [incoming, outgoing]
                for source, sink in ((incoming, outgoing), (outgoing, incoming)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)


def test_an_api_server_that_restarts_in_the_middle_is_waited_for(
    cluster: client.ApiClient, namespace: str, use: Callable[..., None]
) -> None:
    door = Door(cluster.configuration.host)
    door.open()
    use(server=f"https://127.0.0.1:{door.port}")
    services = InferenceServices(Serving(mode="standard", namespace=namespace))
    first = services.change("chat", wanted(namespace))
    door.close()
    again = threading.Timer(1, door.open)
    again.start()
    assert services.get("chat") == first
    again.join()

    def interrupted(seen: Manifest | None) -> Manifest:
        if not restarted:
            door.close()
            restarted.append(threading.Timer(1, door.open))
            restarted[0].start()
        return with_canary(seen)

    restarted: list[threading.Timer] = []
    stored = services.change("chat", interrupted)
    assert stored["metadata"]["generation"] == 2, "written once"
    door.close()


def test_a_service_that_is_going_is_waited_for_and_not_changed(
    cluster: client.ApiClient, services: InferenceServices, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = client.CustomObjectsApi(cluster)
    finalized = render("chat", namespace, predictor("r1"))
    finalized["metadata"]["finalizers"] = ["inferenceservice.finalizers"]
    old = services.change("chat", lambda seen: finalized)
    where = (*KSERVE, namespace, "inferenceservices", "chat")
    objects.delete_namespaced_custom_object(*where)
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with pytest.raises(HeadraceError) as error:
        services.change("chat", with_canary)
    said(error, "InferenceService chat has been going since", "inferenceservice.finalizers", "publish again when")
    monkeypatch.setattr(module, "PATIENCE", 30.0)
    release = {"metadata": {"finalizers": None}}
    threading.Timer(1, lambda: objects.patch_namespaced_custom_object(*where, release)).start()
    new = services.change("chat", wanted(namespace))
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
