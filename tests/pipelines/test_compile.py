"""Compiled pipelines: the same bytes everywhere, complete, and nothing floats or installs at run time."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.json_format import ParseError
from kfp.components import load_component_from_file, load_component_from_text
from kubernetes.utils import parse_quantity
from pydantic import ValidationError

from components.common.environment import Accelerated, Environment, Sizes, Training, load_environment
from components.common.errors import HeadraceError
from components.common.recipes import Recipe
from components.common.step import IMAGES
from components.planning.plan.split import split
from pipelines.compile import (
    COMPILED,
    PIPELINES,
    check_compiled,
    compile_pipeline,
    dangling_references,
    load_documents,
    load_pipeline,
    local_image,
    read_platform,
    read_specification,
    render_local,
    write_compiled,
)
from pipelines.pods import BUDGETS, SIZED

LOCK = {image: f"registry.example.com/headrace/{image}@sha256:{'0123456789abcdef' * 4}" for image in IMAGES}


def committed(name: str) -> str:
    return (COMPILED / f"{name}.yaml").read_text("utf-8")


def specification(text: str) -> dict[str, Any]:
    return load_documents(text)[0]


def containers(text: str) -> Iterator[dict[str, Any]]:
    for executor in specification(text)["deploymentSpec"]["executors"].values():
        if "container" in executor:
            yield executor["container"]


def test_the_committed_yaml_is_what_the_source_compiles_to() -> None:
    check_compiled()


def test_compiling_gives_the_same_bytes_in_another_process_and_folder(tmp_path: Path) -> None:
    script = "from pipelines.compile import compile_pipeline; print(compile_pipeline('release_line'), end='')"
    compiled = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Seoul"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert compiled.stdout == committed("release_line")


@pytest.mark.parametrize("name", PIPELINES)
def test_every_field_is_known_to_kfp_and_every_reference_resolves(name: str) -> None:
    text = committed(name)
    assert read_specification(text).pipeline_info.name == name.replace("_", "-")
    assert dangling_references(specification(text)) == []
    assert read_platform(text).keys() <= specification(text)["deploymentSpec"]["executors"].keys()


def test_an_unknown_field_and_a_dangling_reference_are_found() -> None:
    broken = specification(committed("prepare_data"))
    broken["deploymentSpec"]["executors"].popitem()
    task = next(iter(broken["root"]["dag"]["tasks"].values()))
    task["componentRef"]["name"] = "comp-none"
    assert len(dangling_references(broken)) == 2
    task["retries"] = 3
    with pytest.raises(ParseError, match="retries"):
        read_specification(yaml.safe_dump(broken))
    pods = {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-parse": {"nodeSelectr": {}}}}}}}
    with pytest.raises(ParseError, match="nodeSelectr"):
        read_platform(yaml.safe_dump_all([broken, pods]))


@pytest.mark.parametrize("name", PIPELINES)
def test_nothing_is_installed_when_a_step_runs(name: str) -> None:
    commands = [" ".join(container["command"]) for container in containers(committed(name))]
    assert commands
    assert not [command for command in commands if re.search(r"\bpip\b", command)]


@pytest.mark.parametrize("name", PIPELINES)
def test_no_image_floats(name: str) -> None:
    images = {container["image"] for container in containers(committed(name))}
    assert all(image.rpartition(":")[2] not in ("", "latest", image) for image in images)
    pinned = {container["image"] for container in containers(compile_pipeline(name, LOCK.__getitem__))}
    assert pinned <= set(LOCK.values())


@pytest.mark.parametrize("name", PIPELINES)
def test_kfp_loads_what_is_committed(name: str) -> None:
    loaded = load_component_from_file(str(COMPILED / f"{name}.yaml"))
    assert {"recipe", "environment"} <= set(loaded.component_spec.inputs)


def test_the_local_image_changes_with_the_code_only() -> None:
    images = {local_image(image) for image in IMAGES}
    assert len(images) == len(IMAGES)
    assert images == {local_image(image) for image in IMAGES}


def test_publish_is_gated_and_never_cached() -> None:
    components = specification(committed("release_line"))["components"]
    branches = [
        task
        for component in components.values()
        for task in component.get("dag", {}).get("tasks", {}).values()
        if "triggerPolicy" in task
    ]
    conditions = {}
    for branch in branches:
        for name, task in components[branch["componentRef"]["name"]]["dag"]["tasks"].items():
            conditions[name] = branch["triggerPolicy"]["condition"]
            assert name == "register" or task.get("cachingOptions", {}) == {}
    assert conditions["publish"].endswith("== 'release'")
    assert conditions["notify-hold"] == f"!({conditions['publish']})"


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pod_is_bounded_unprivileged_and_placed_by_the_run(name: str) -> None:
    text = committed(name)
    platform = read_platform(text)
    budgets = yaml.safe_load(BUDGETS.read_text("utf-8"))
    for executor, content in specification(text)["deploymentSpec"]["executors"].items():
        if "container" not in content:
            continue
        pod, step = platform[executor], re.sub(r"^exec-|-\d+$", "", executor)
        resources = content["container"]["resources"]
        if step not in SIZED:
            assert resources["resourceMemoryRequest"].removesuffix("Mi").isdigit()
            assert int(resources["resourceMemoryRequest"].removesuffix("Mi")) >= budgets[step]["mib"]
        assert resources["resourceMemoryLimit"]
        assert resources["resourceCpuLimit"]
        assert pod.security_context.run_as_non_root
        assert pod.active_deadline_seconds >= 60 * budgets[step]["seconds"]
        if step not in ("plan", "notify"):
            assert pod.node_selector.HasField("node_selector_json")
            assert not pod.node_selector.labels
            assert pod.tolerations[0].HasField("toleration_json")
    assert "headrace.dev/pool" not in text
    told = platform["exec-notify"].secret_as_env
    assert [secret.secret_name for secret in told] == ["headrace-notify"]
    assert {pair.env_var for pair in told[0].key_to_env} == {"HEADRACE_WEBHOOK_URL", "HEADRACE_SMTP_URL"}


@pytest.mark.parametrize(
    ("pipeline", "steps"), [("release_line", Sizes.model_fields.keys() - {"probe"}), ("probe_data", {"fetch", "probe"})]
)
def test_the_run_says_how_large_its_heavy_steps_are(pipeline: str, steps: set[str]) -> None:
    read = specification(committed(pipeline))
    tasks = {
        name: task
        for component in read["components"].values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
    }

    def source(step: str, placeholder: str) -> str:
        """The output of `plan` that Kubeflow's driver puts in the place of a pod's field."""
        [channel] = re.findall(r"^\{\{\$\.inputs\.parameters\['(.+)'\]\}\}$", placeholder)
        given = tasks[step]["inputs"]["parameters"][channel]["taskOutputParameter"]
        assert given["producerTask"] == "plan"
        declared = read["components"]["comp-plan"]["outputDefinitions"]["parameters"]
        assert declared[given["outputParameterKey"]] == {"parameterType": "STRING"}, "the driver reads text only"
        return given["outputParameterKey"]

    for step in steps:
        field = Sizes.model_fields[step]
        resources = read["deploymentSpec"]["executors"][f"exec-{step}"]["container"]["resources"]
        accelerator = resources.pop("accelerator", None)
        assert {name: source(step, text) for name, text in resources.items()} == {
            "resourceCpuRequest": f"{step}_cpu",
            "resourceCpuLimit": f"{step}_cpu",
            "resourceMemoryRequest": f"{step}_memory",
            "resourceMemoryLimit": f"{step}_memory",
        }
        assert (accelerator is not None) == (field.annotation is Accelerated)
        if accelerator:
            assert {name: source(step, text) for name, text in accelerator.items()} == {
                "resourceType": f"{step}_accelerator",
                "resourceCount": f"{step}_accelerators",
            }


@pytest.mark.parametrize("name", ["local", "dev", "staging", "prod"])
def test_an_environment_s_sizes_reach_the_pods_and_hold_what_the_steps_may_take(name: str) -> None:
    environment = load_environment(name)
    large = Sizes(tune=Accelerated(cpu="12", memory="64Gi", accelerators=2))
    parts = split(Recipe().parameter(), environment.model_copy(update={"sizes": large}).parameter())._asdict()
    assert [parts[f"tune_{field}"] for field in Accelerated.model_fields] == ["12", "64Gi", "nvidia.com/gpu", "2"]
    assert parts["benchmark_accelerators"] == "0"
    budgets = yaml.safe_load(BUDGETS.read_text("utf-8"))
    for step, size in environment.sizes:
        assert parse_quantity(size.memory) >= budgets[step]["mib"] * 2**20
        assert parse_quantity(size.cpu) >= 1


def test_a_training_is_told_over_what_it_is_spread_and_its_step_only_watches() -> None:
    environment = load_environment("prod")
    alone = split(Recipe().parameter(), environment.parameter())._asdict()
    assert alone["trainplace"] == alone["workplace"], "the cache of one that is not spread is as it was"
    sizes = Sizes(tune=Accelerated(cpu="12", memory="64Gi", accelerators=2))
    spread = environment.model_copy(update={"sizes": sizes, "training": Training(nodes=4)})
    parts = split(Recipe().parameter(), spread.parameter())._asdict()
    assert [parts[f"tune_{field}"] for field in Accelerated.model_fields] == ["1", "4Gi", "nvidia.com/gpu", "0"]
    told = Environment.model_validate(parts["trainplace"])
    assert (told.training.nodes, told.sizes.tune.accelerators) == (4, 2)
    assert told.pools.experiment == environment.pools.experiment
    assert "serving" not in parts["trainplace"], "another gateway leaves its cache as it is"


def test_the_readme_says_the_sizes_that_there_are() -> None:
    text = (BUDGETS.parent / "README.md").read_text("utf-8")
    for step, size in Sizes():
        assert f"| `{step}.cpu`, `{step}.memory` | `{size.cpu}`, `{size.memory}` |" in text
    [example] = re.findall(r"^```yaml\n(sizes:.*?)^```$", text, re.M | re.S)
    large = Environment.model_validate({**load_environment("prod").model_dump(), **yaml.safe_load(example)}).sizes
    assert large.tune.accelerators == 1
    assert large.merge.cpu == Sizes().merge.cpu


@pytest.mark.parametrize(
    "wrong", [{"memory": "6 GB"}, {"cpu": "-1"}, {"accelerators": -1}, {"accelerator": ""}, {"gpus": 1}]
)
def test_a_size_that_no_pod_could_have_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Accelerated(**wrong)


def test_who_signs_has_the_key_and_who_trains_has_shared_memory() -> None:
    platform = read_platform(committed("release_line"))
    mounted: defaultdict[tuple[str, str, bool], set[str]] = defaultdict(set)
    for name, pod in platform.items():
        for secret in pod.secret_as_volume:
            mounted[secret.secret_name, secret.mount_path, secret.optional].add(name)
    place = load_environment("prod")
    assert mounted == {
        ("headrace-ledger", str(Path(place.signing_key).parent), False): {"exec-card", "exec-register", "exec-publish"},
        ("headrace-subjects", f"{place.keys}/subjects", True): {"exec-ingest", "exec-parse", "exec-mask"},
        ("headrace-keyset", f"{place.keys}/encryption", True): {*platform},
    }
    assert [mount.mount_path for mount in platform["exec-tune"].empty_dir_mounts] == ["/dev/shm"]
    probing = read_platform(committed("probe_data"))["exec-probe"]
    assert [mount.mount_path for mount in probing.empty_dir_mounts] == ["/dev/shm"]
    pool = platform["exec-tune"].node_selector.node_selector_json.task_output_parameter
    assert pool.output_parameter_key == "experiment_nodes"


@pytest.mark.parametrize("name", PIPELINES)
def test_how_a_run_ends_is_told_and_what_fails_in_passing_is_tried_again(name: str) -> None:
    read = specification(committed(name))
    tasks = read["root"]["dag"]["tasks"]
    assert tasks["notify"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert tasks["notify"].get("cachingOptions", {}) == {}
    for component in [read["root"], *read["components"].values()]:
        for task in component.get("dag", {}).get("tasks", {}).values():
            works = "executorLabel" in read["components"][task["componentRef"]["name"]]
            imported = task["componentRef"]["name"].startswith("comp-importer")
            assert ("retryPolicy" in task) == (works and not imported)
            resumes = task["taskInfo"]["name"] in ("tune", "align", "probe")
            assert not works or imported or task["retryPolicy"]["maxRetryCount"] == (6 if resumes else 2)


def test_a_step_sees_no_more_of_the_environment_than_it_needs() -> None:
    environment = load_environment("prod").parameter()
    recipe = Recipe().parameter()
    before = split(recipe, environment)._asdict()
    environment["serving"]["gateway"] = "https://elsewhere.example.com"
    environment["pools"]["experiment"]["node_selector"] = {"pool": "other"}
    after = split(recipe, environment)._asdict()
    assert {name for name in before if before[name] != after[name]} == {"experiment_nodes"}
    assert Environment.model_validate(before["workplace"]).store == "gs://headrace-prod/headrace"
    read = specification(committed("release_line"))["components"]
    whole = {
        name
        for component in read.values()
        for name, task in component.get("dag", {}).get("tasks", {}).items()
        if "executorLabel" in read[task["componentRef"]["name"]]
        and "componentInputParameter" in task["inputs"].get("parameters", {}).get("environment", {})
        and "workplace" not in str(task["inputs"]["parameters"]["environment"])
    }
    assert whole == {"plan", "incumbent", "publish", "notify-hold"}


def test_what_kfp_runs_on_a_laptop_neither_waits_nor_tries_again() -> None:
    text = render_local(load_pipeline("release_line"))
    assert "retryPolicy" not in text
    assert len(load_documents(text)) == 1
    assert load_component_from_text(text).component_spec.inputs.keys() == {"recipe", "environment", "schedule"}


def test_stale_yaml_is_refused_and_repaired(tmp_path: Path) -> None:
    assert len(write_compiled(tmp_path)) == len(PIPELINES)
    check_compiled(tmp_path)
    (tmp_path / "release_line.yaml").write_text("root: {}\n")
    (tmp_path / "old.yaml").write_text("")
    with pytest.raises(HeadraceError, match=r"release_line\.yaml is stale; old\.yaml belongs to no pipeline"):
        check_compiled(tmp_path)
    assert write_compiled(tmp_path) == [tmp_path / "release_line.yaml"]
