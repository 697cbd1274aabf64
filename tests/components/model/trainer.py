"""Kubeflow Trainer's controller and a kubelet as the tests play them, for a real API server.

The controller follows Trainer 2.3: a TrainJob becomes one pod for each node, with JobSet's labels; its conditions are
`Complete` and `Failed`, with the JobSet's reasons. The kubelet answers the API server's requests for logs.
"""

import contextlib
import datetime
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client

WHERE = ("trainer.kubeflow.org", "v1alpha1")
HOST = "played-node"

Work = Callable[[dict[str, Any], Callable[[int, str], None]], str]
"""Does a TrainJob's work: given the manifest and what prints a line on a node; returns why it failed, '' if not."""


class Kubelet:
    """What pods printed, by name, served as a node's kubelet does."""

    def __init__(self, folder: Path) -> None:
        self.lines: dict[str, list[str]] = {}
        self.ended: set[str] = set()
        kubelet = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pod = self.path.split("/")[3]
                self.send_response(200)
                self.end_headers()
                sent = 0
                while True:
                    over, lines = pod in kubelet.ended, kubelet.lines.get(pod, [])
                    for line in lines[sent:]:
                        self.wfile.write(f"{line}\n".encode())
                        self.wfile.flush()
                    sent = len(lines)
                    if over:
                        return
                    time.sleep(0.05)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(_certificate(folder))
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Controller(threading.Thread):
    """Makes pods of TrainJobs, has the work done, and says how it ended."""

    def __init__(self, api: client.ApiClient, namespace: str, kubelet: Kubelet, work: Work) -> None:
        super().__init__(daemon=True)
        self._custom, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._where = (*WHERE, namespace, "trainjobs")
        self._namespace = namespace
        self._kubelet = kubelet
        self._work = work
        self._over = threading.Event()
        self.seen: dict[str, dict[str, Any]] = {}

    def run(self) -> None:
        while not self._over.is_set():
            for job in self._custom.list_namespaced_custom_object(*self._where)["items"]:
                if "foregroundDeletion" in job["metadata"].get("finalizers", []):  # no garbage collector runs here
                    job["metadata"]["finalizers"] = []
                    with contextlib.suppress(client.ApiException):
                        self._custom.replace_namespaced_custom_object(*self._where, job["metadata"]["name"], job)
                elif job["metadata"]["uid"] not in self.seen:
                    self.seen[job["metadata"]["uid"]] = job
                    threading.Thread(target=self._reconcile, args=(job,), daemon=True).start()
            time.sleep(0.05)

    def stop(self) -> None:
        self._over.set()
        self.join()

    def _reconcile(self, job: dict[str, Any]) -> None:
        name, nodes = job["metadata"]["name"], job["spec"]["trainer"]["numNodes"]
        pods = [f"{name}-node-0-{number}-{job['metadata']['uid'][:5]}" for number in range(nodes)]
        for number, pod in enumerate(pods):
            self._create(name, number, pod, job)
        self._condition(job, "Suspended", "False", "Resumed", "TrainJob is resumed", active=nodes, ready=nodes)
        failed = self._work(job, lambda node, line: self._kubelet.lines.setdefault(pods[node], []).append(line))
        for number, pod in enumerate(pods):
            self._kubelet.ended.add(pod)
            self._phase(pod, "Failed" if failed and not number else "Succeeded")
        if failed:
            self._condition(job, "Failed", "True", "FailedJobs", failed)
        else:
            self._condition(job, "Complete", "True", "AllJobsCompleted", "jobset completed successfully")

    def _create(self, name: str, number: int, pod: str, job: dict[str, Any]) -> None:
        labels = {"jobset.sigs.k8s.io/jobset-name": name, "batch.kubernetes.io/job-completion-index": str(number)}
        trainer = job["spec"]["trainer"]
        container = client.V1Container(name="node", image=trainer["image"], command=trainer["command"])
        body = client.V1Pod(
            metadata=client.V1ObjectMeta(name=pod, labels=labels),
            spec=client.V1PodSpec(containers=[container], node_name=HOST),
        )
        self._core.create_namespaced_pod(self._namespace, body)
        self._phase(pod, "Running")

    def _phase(self, pod: str, phase: str) -> None:
        with contextlib.suppress(client.ApiException):
            self._core.patch_namespaced_pod_status(pod, self._namespace, {"status": {"phase": phase}})

    def _condition(self, job: dict[str, Any], kind: str, status: str, reason: str, message: str, **counts: int) -> None:
        zero = dict.fromkeys(("active", "failed", "ready", "succeeded", "suspended"), 0)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
        body = {"status": {"conditions": [condition], "jobsStatus": [{"name": "node", **zero, **counts}]}}
        with contextlib.suppress(client.ApiException):  # it was deleted meanwhile
            name = job["metadata"]["name"]
            self._custom.patch_namespaced_custom_object_status(*self._where, name, body)


@contextmanager
def played(api: client.ApiClient, namespace: str, kubelet: Kubelet, work: Work) -> Iterator[Controller]:
    """A controller, and an empty namespace afterwards."""
    controller = Controller(api, namespace, kubelet, work)
    controller.start()
    try:
        yield controller
    finally:
        controller.stop()
        custom, core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        custom.delete_collection_namespaced_custom_object(*WHERE, namespace, "trainjobs")
        core.delete_collection_namespaced_pod(namespace, grace_period_seconds=0)


def register(api: client.ApiClient, kubelet: Kubelet) -> None:
    """Make the node known whose kubelet is played."""
    core = client.CoreV1Api(api)
    with contextlib.suppress(client.ApiException):
        core.delete_node(HOST)
    core.create_node(client.V1Node(metadata=client.V1ObjectMeta(name=HOST)))
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.server.server_port}},
    }
    core.patch_node_status(HOST, {"status": status})


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "kubelet.pem"
    path.write_bytes(key.private_bytes(*plain) + made.public_bytes(serialization.Encoding.PEM))
    return path
