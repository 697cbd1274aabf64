"""Compile the pipelines to Kubeflow Pipelines IR, with the same bytes on every machine.

One compiler serves every place a pipeline runs: `pipelines/compiled` names images by project version and is for reading
and review; the local runner puts a hash of the code in the image's place, so that its caches are never stale; a cut
release puts the digests of its image lock there.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from google.protobuf.json_format import MessageToDict, ParseDict
from kfp.dsl.graph_component import GraphComponent
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from components.common.code import code_digest, dependency_digest
from components.common.errors import HeadraceError, UsageError
from components.common.step import IMAGES, image_reference

COMPILED = Path(__file__).parent / "compiled"
PIPELINES = (
    *("erase_subject", "prepare_data", "prepare_data_sharded", "probe_data"),
    *("progress_rollout", "publish_base", "release_line", "release_model"),
)


def load_pipeline(name: str) -> GraphComponent:
    """Import a pipeline by name.

    Raises:
        UsageError: There is no such pipeline.
    """
    if name not in PIPELINES:
        raise UsageError(f"there is no pipeline {name!r}; known: {', '.join(PIPELINES)}")
    with _stacks_without_source():
        return getattr(importlib.import_module(f"pipelines.{name}"), name)


@contextmanager
def _stacks_without_source() -> Iterator[None]:
    """Spare KFP the source lines of every frame.

    It takes the whole call stack at each setting of a task, to name itself in an error; reading the source for that was
    five sixths of the time of a compilation.
    """
    whole = inspect.stack
    inspect.stack = functools.partial(whole, 0)
    try:
        yield
    finally:
        inspect.stack = whole


def local_image(image: str) -> str:
    """Name an image by the code and the dependencies installed here; KFP's local cache keys on the name."""
    return f"headrace/{image}-python:{code_digest()[:16]}-{dependency_digest()[:16]}"


def compile_pipeline(name: str, images: Callable[[str], str] = image_reference) -> str:
    """Compile one pipeline by name; see `render`."""
    return render(load_pipeline(name), images)


def render(pipeline: GraphComponent, images: Callable[[str], str]) -> str:
    """Compile a pipeline.

    Args:
        pipeline: The pipeline.
        images: Maps an image's short name (`data`, `model`, `release`) to its reference.

    Returns:
        KFP IR as YAML: sorted, readable, deterministic. What the steps' pods need on Kubernetes follows as a second
        document.
    """
    documents = [MessageToDict(pipeline.pipeline_spec), MessageToDict(pipeline.platform_spec)]
    references = {image_reference(image): images(image) for image in IMAGES}
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container = executor.get("container")
        if container:
            container["image"] = references[container["image"]]
    return dump_documents(*filter(None, documents))


def render_local(pipeline: GraphComponent) -> str:
    """Compile a pipeline for KFP's local runner, which has no pods and should not try again what a person can see."""
    specification, *_ = load_documents(render(pipeline, local_image))
    for component in [specification["root"], *specification["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("retryPolicy", None)
    for executor in specification["deploymentSpec"]["executors"].values():
        executor.get("container", {}).pop("resources", None)
    return dump_documents(specification)


def read_specification(text: str) -> PipelineSpec:
    """Parse compiled YAML strictly: an unknown field is an error."""
    specification, *_ = load_documents(text)
    return ParseDict(specification, PipelineSpec())


def read_platform(text: str) -> dict[str, KubernetesExecutorConfig]:
    """Parse what compiled YAML says of the steps' pods, by executor, as strictly."""
    _, *documents = load_documents(text)
    platform = ParseDict(documents[0] if documents else {}, PlatformSpec())
    executors = platform.platforms["kubernetes"].deployment_spec.executors
    return {name: ParseDict(MessageToDict(fields), KubernetesExecutorConfig()) for name, fields in executors.items()}


def load_documents(text: str | bytes) -> list[dict[str, Any]]:
    """Read compiled YAML: the pipeline and, if there is one, what its pods need."""
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))  # the same, ten times as fast


def dump_documents(*documents: Mapping[str, Any]) -> str:
    """Write documents of compiled YAML in the one form that is compared byte for byte."""
    return yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120)


def dangling_references(specification: Mapping[str, Any]) -> list[str]:
    """Find references to components, executors, tasks or inputs that the specification does not define."""
    components = specification.get("components", {})
    executors = specification.get("deploymentSpec", {}).get("executors", {})
    problems = []
    for owner, component in [("root", specification["root"]), *components.items()]:
        label = component.get("executorLabel")
        if label and label not in executors:
            problems.append(f"{owner}: executor {label} is not defined")
        dag = component.get("dag", {})
        tasks = dag.get("tasks", {})
        declared = {name for kind in component.get("inputDefinitions", {}).values() for name in kind}
        for task_name, task in tasks.items():
            if task["componentRef"]["name"] not in components:
                problems.append(f"{owner}.{task_name}: component {task['componentRef']['name']} is not defined")
            for producer in [*task.get("dependentTasks", []), *_values(task, "producerTask")]:
                if producer not in tasks:
                    problems.append(f"{owner}.{task_name}: task {producer} is not defined")
            for given in [*_values(task, "componentInputParameter"), *_values(task, "componentInputArtifact")]:
                if given not in declared:
                    problems.append(f"{owner}.{task_name}: input {given} is not defined")
        for producer in _values(dag.get("outputs", {}), "producerSubtask"):
            if producer not in tasks:
                problems.append(f"{owner}: output of {producer}, which is not defined")
    return problems


def write_compiled(folder: Path = COMPILED) -> list[Path]:
    """Write every pipeline's YAML; returns the files that changed."""
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for name in PIPELINES:
        path, text = folder / f"{name}.yaml", compile_pipeline(name)
        if not path.is_file() or path.read_text("utf-8") != text:
            temporary = path.with_suffix(".partial")
            temporary.write_text(text, "utf-8")
            temporary.rename(path)
            changed.append(path)
    return changed


def check_compiled(folder: Path = COMPILED) -> None:
    """Compare the committed YAML with what the source compiles to.

    Raises:
        HeadraceError: A file is stale, missing or left over.
    """
    stale = [name for name in PIPELINES if not _is_current(folder / f"{name}.yaml", name)]
    left_over = sorted(file.name for file in folder.glob("*.yaml") if file.stem not in PIPELINES)
    if stale or left_over:
        problems = [f"{name}.yaml is stale" for name in stale] + [
            f"{name} belongs to no pipeline" for name in left_over
        ]
        raise HeadraceError(f"{folder}: {'; '.join(problems)}; run `headrace compile` and commit the result")


def _is_current(path: Path, name: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == compile_pipeline(name)


def _values(value: Any, key: str) -> list[str]:
    if isinstance(value, Mapping):
        own = [value[key]] if isinstance(value.get(key), str) else []
        return own + [found for item in value.values() for found in _values(item, key)]
    if isinstance(value, list):
        return [found for item in value for found in _values(item, key)]
    return []
