"""The manifests as kustomize renders them, and as a real API server keeps them."""

import json
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

OVERLAYS = Path(__file__).parents[2] / "manifests" / "overlays"

NOT_SERVED = {"Gateway", "PodMonitor", "PrometheusRule"}
"""Kinds whose resource definitions the API server of the tests does not have."""


@pytest.fixture(scope="session")
def rendered() -> Callable[[str], list[dict[str, Any]]]:
    """Render an overlay, such as `prod` or `prod/cloud`."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed; try `make tools`")

    @cache
    def render(overlay: str) -> list[dict[str, Any]]:
        ran = subprocess.run(["kubectl", "kustomize", OVERLAYS / overlay], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return list(yaml.load_all(ran.stdout, yaml.CSafeLoader))

    return render


@pytest.fixture(scope="session")
def applied(kubeconfig: Path, rendered: Callable[[str], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The overlay prod on the API server, as far as it serves its kinds."""
    documents = [item for item in rendered("prod") if item["kind"] not in NOT_SERVED]
    assert len(documents) + len(NOT_SERVED) == len(rendered("prod"))
    command = ["kubectl", "--kubeconfig", kubeconfig, "apply", "--server-side", "--force-conflicts", "-f", "-"]
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    ran = subprocess.run(command, input=listed, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return documents
