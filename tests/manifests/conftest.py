"""The manifests as kustomize renders them."""

import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

OVERLAYS = Path(__file__).parents[2] / "manifests" / "overlays"


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
