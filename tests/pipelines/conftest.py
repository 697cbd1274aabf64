"""Small pipelines, compiled by KFP, as the releases of these tests hold them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import yaml
from google.protobuf.json_format import MessageToDict
from kfp import dsl

from components.common.step import IMAGES

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """Every image of the project, pinned."""
    return {image: f"registry.example.com/headrace/{image}@sha256:{DIGEST}" for image in IMAGES}


@pytest.fixture(scope="session")
def documents(images: dict[str, str]) -> Callable[[str], list[Any]]:
    """Compile a pipeline in which a gate decides (`line`), or one without (`base`); free to change."""

    @dsl.component(base_image=images["model"], packages_to_install=[], install_kfp_package=False)
    def gate(options: dict) -> str:
        return "release" if options else "hold"

    @dsl.component(base_image=images["release"], packages_to_install=[], install_kfp_package=False)
    def publish(environment: dict) -> None:
        print(environment)

    @dsl.pipeline(name="line")
    def line(recipe: dict, environment: dict, dataset: str = "") -> NamedTuple("Decided", [("decision", str)]):
        """Decide and publish."""
        decided = gate(options=recipe)
        with dsl.If(decided.output == "release", name="release"):
            publish(environment=environment).set_caching_options(False)
        return NamedTuple("Decided", [("decision", str)])(decision=decided.output)

    @dsl.pipeline(name="base")
    def base(environment: dict) -> None:
        """Publish what there is."""
        publish(environment=environment)

    compiled = {"line": MessageToDict(line.pipeline_spec), "base": MessageToDict(base.pipeline_spec)}

    def build(name: str) -> list[Any]:
        specification = yaml.safe_load(yaml.safe_dump(compiled[name]))
        pods = {}
        for label, executor in specification["deploymentSpec"]["executors"].items():
            executor["container"]["resources"] = {"resourceCpuLimit": "2", "resourceMemoryLimit": "1Gi"}
            pods[label] = {"securityContext": {"runAsNonRoot": True}}
        return [specification, {"platforms": {"kubernetes": {"deploymentSpec": {"executors": pods}}}}]

    return build


@pytest.fixture(scope="session")
def compiled(documents: Callable[[str], list[Any]]) -> dict[str, str]:
    """Both pipelines as YAML."""
    return {name: yaml.safe_dump_all(documents(name), sort_keys=True) for name in ("line", "base")}
