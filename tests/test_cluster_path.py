"""README's way from an empty cluster to the first canary: its commands, as they stand there, in a copy of the project.

The Kubernetes API server is real. The Kubeflow API, what its pods would do, and KServe's controller are played.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from kfp_api import Api, State, serving
from kubernetes import client

from components.common.environment import Environment
from components.common.step import Context
from components.common.store import open_store
from components.planning.plan.split import split
from components.release.publish.inference_service import run as publish
from components.release.publish.options import Publish
from pipelines.images import TARGETS, Reference, pin_manifests, write_lock
from tests.components.release.controller import Controller, StandardModel

ROOT = Path(__file__).parents[1]
DIGEST = f"sha256:{'0123456789abcdef' * 4}"
SERVED = ("ConfigMap", "LimitRange", "Namespace", "NetworkPolicy", "PriorityClass", "ResourceQuota", "Role")
SERVED += ("RoleBinding", "ServiceAccount", "ServingRuntime", "ClusterStorageContainer")
"""Kinds of the overlay that the API server of the tests has."""
IDENTITY = {f"GIT_{who}_{what}": "ada@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def commands(readme: str = "README.md", heading: str = "## From an empty cluster to the first canary") -> list[str]:
    """The commands of the cluster path, without the comments behind them."""
    block = (ROOT / readme).read_text("utf-8").partition(heading)[2].split("```")[1]
    lines = block.partition("\n")[2].replace("\\\n", "").splitlines()
    return [re.sub(r" {2,}(# .*)?", " ", line).strip() for line in lines]


def test_both_languages_give_the_same_ten_commands() -> None:
    listed = commands()
    assert len(listed) == 10
    assert commands("README.ko.md", "## 빈 클러스터에서 첫 카나리까지") == listed


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone of the project as somebody would have it, with a repository of its own."""
    folder = tmp_path / "headrace"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "tests", "shared")
    shutil.copytree(ROOT, folder, ignore=ignored)
    for command in ("init -q -b main", "add .", "commit -q -m start"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True, env=os.environ | IDENTITY)
    return folder


@pytest.fixture
def shell(project: Path, kubeconfig: Path, tmp_path: Path) -> Any:
    """Run a command where `headrace` is the copy's."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "headrace").write_text(f'#!/bin/sh\nexec {sys.executable} -m pipelines.cli "$@"\n')
    (binaries / "headrace").chmod(0o755)
    variables = {
        **os.environ,
        **IDENTITY,
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "KUBECONFIG": str(kubeconfig),
        "HEADRACE_KFP_TOKEN": "s3cret",
        "COLUMNS": "300",
    }

    def run(command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["bash", "-c", command], cwd=project, env=variables, capture_output=True, text=True)

    return run


class Kubeflow(threading.Thread):
    """Kubeflow as the tests play it: of a run that is submitted, the last step is done for real."""

    def __init__(self, state: State, folder: Path) -> None:
        super().__init__(daemon=True)
        self.state, self.trouble = state, ""
        self._folder, self._stopped = folder, threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(0.02):
            for identifier, run in list(self.state.runs.items()):
                if run["state"] == "PENDING":
                    try:
                        self._carry_out(identifier, run["runtime_config"]["parameters"])
                    except Exception as error:
                        self.trouble = repr(error)
                        self.state.move(identifier, "FAILED", publish="FAILED")

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        assert self.trouble == ""

    def _carry_out(self, identifier: str, parameters: Mapping[str, Any]) -> None:
        options = split(parameters["recipe"], parameters["environment"]).publish
        environment = Environment.model_validate(parameters["environment"])
        version = f"{len(self.state.runs):064x}"
        model, publication = self._folder / version, self._folder / f"{version}-published"
        for made in (model, publication):
            made.mkdir(parents=True)
        provenance = {"model": "assistant", "version": version, "dataset": "d" * 64, "recipe": "e" * 64}
        (model / "provenance.json").write_text(json.dumps(provenance))
        store = open_store(environment.store)
        store.upload(model / "provenance.json", f"models/assistant/{version}/provenance.json")
        publish(model, publication, Publish(**options), Context("release/publish", environment))
        self.state.move(identifier, "SUCCEEDED", plan="SUCCEEDED", publish="SUCCEEDED")


@contextmanager
def played(state: State, api: client.ApiClient, namespace: str, folder: Path) -> Iterator[None]:
    model, kubeflow = StandardModel(), Kubeflow(state, folder)
    with Controller(api, namespace, {"assistant": model}):
        kubeflow.start()
        try:
            yield
        finally:
            kubeflow.stop()
    assert model.faults == []


def apply(shell: Any, overlay: str) -> None:
    """Apply what the API server of the tests serves of an overlay, the way README does."""
    rendered = shell(f"kubectl kustomize {overlay}")
    assert rendered.returncode == 0, rendered.stderr
    documents = list(yaml.safe_load_all(rendered.stdout))
    assert not [d for d in documents if "unreleased" in json.dumps(d) and "headrace/predictor" in json.dumps(d)]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": [d for d in documents if d["kind"] in SERVED]})
    ran = shell(f"kubectl apply --server-side --force-conflicts -f - <<'LIST'\n{listed}\nLIST")
    assert ran.returncode == 0, ran.stderr


def test_ten_commands_lead_from_an_empty_cluster_to_the_first_canary(
    shell: Any,
    project: Path,
    cluster: client.ApiClient,
    cloud: str,
    tmp_path: Path,
) -> None:
    listed = commands()
    environment, overlay = project / "pipelines/environments/dev.yaml", project / "manifests/overlays/dev/images"
    storage.Client(credentials=AnonymousCredentials(), project="test").create_bucket("headrace-dev")
    state = State(token="s3cret", multi_user=True)

    def run(command: str) -> str:
        ran = shell(command)
        assert ran.returncode == 0, f"{command}: {ran.stdout}{ran.stderr}"
        return ran.stdout

    with serving(Api(state).routes()) as url:
        environment.write_text(
            environment.read_text().replace("host: https://kubeflow.dev.example.com", f"host: {url}")
        )
        built = run(listed.pop(0).replace("make ", "make --dry-run "))
        assert "headrace images lock registry.example.com/headrace" in built
        assert "--manifests manifests/overlays/dev/images/kustomization.yaml" in built
        pins = {target: Reference("registry.example.com/headrace/" + target, digest=DIGEST) for target in TARGETS}
        write_lock(project / "images.lock.yaml", pins)
        pin_manifests(overlay / "kustomization.yaml", {f"headrace/{target}": pins[target] for target in TARGETS})

        release = Path(run(listed.pop(0)).strip()).name
        run(listed.pop(0))
        for _ in range(2):
            command, _, folder = listed.pop(0).rpartition(" ")
            assert command == "kubectl apply --server-side -k"
            if not folder.endswith("cloud"):  # of Config Connector's kinds the server has none
                apply(shell, folder)
        run(listed.pop(0))
        doctor = shell(listed.pop(0))
        assert doctor.returncode in (0, 1), doctor.stderr
        for secret in ("headrace-ledger", "headrace-subjects"):
            assert f"secret headrace-dev/{secret} exists" in doctor.stdout
        with played(state, cluster, "headrace-dev-serving", tmp_path / "work"):
            run(listed.pop(0).replace("VERSION", release))
            run(listed.pop(0))
            run(listed.pop(0))
            assert not listed
            seen = json.loads(run("headrace rollout status -e dev --json"))
    assert (seen["state"], seen["observed"], len(seen["ready"])) == ("canary", 10, 2)
