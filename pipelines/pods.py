"""What the pods of a pipeline's steps need on a cluster. On a laptop none of it applies.

Sizes come from `budgets.yaml`: a step may take what its budget says without asking twice, and twice that before it is
stopped. What depends on the model, the size of the heavy steps, comes from the run's environment, as nodes do: through
the outputs of `plan`. Secrets are named here and live there.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from kfp import dsl, kubernetes
from kfp.dsl.pipeline_context import Pipeline
from kfp.dsl.pipeline_task import PipelineTask

from components.common.environment import Accelerated, Sizes
from components.common.errors import UsageError
from components.common.wrapping import ENCRYPTION
from components.operations.notify.component import notify

BUDGETS = Path(__file__).parent / "budgets.yaml"
LEDGER = "headrace-ledger"
"""Secret with `ledger.pem`, the key that signs the ledger's heads."""
LEDGER_FOLDER = "/var/run/headrace/ledger"
NOTIFY = "headrace-notify"
"""Secret with the addresses of the channels, each under the name of its environment variable."""
ADDRESSES = ("HEADRACE_WEBHOOK_URL", "HEADRACE_SMTP_URL")

SUBJECTS = "headrace-subjects"
"""Secret with `subjects.key`, under which people and what was erased are named."""
ERASURE = "headrace-erasure"
"""Secret with `erasure.pem`, which opens sealed requests."""
KEYSET = "headrace-keyset"
"""Secret with `keyset.json`, which seals what is derived from documents; there is none where Cloud KMS does."""
KEYS_FOLDER = "/var/run/headrace/keys"

_SIGNING = ("card", "register", "register-base", "publish", "erase", "certify")
"""Steps that sign a head of the ledger."""
_NAMING = ("ingest", "parse", "mask", "erase", "certify")
"""Steps that name people, or tell by their names whom not to let in."""
_INTERRUPTIBLE = ("tune", "align", "benchmark", "retrieval", "redteam", "compare-incumbent", "probe")
"""Steps that run in the pool for experiments, which may be spot nodes."""
_RESUMING = ("tune", "align", "probe")
"""Steps whose next attempt goes on where the last one was interrupted."""
_PREEMPTIONS = 6
"""How often such a step may lose its node: a spot node lasts a day at most, and seldom less than four hours."""
_FAULTS = 2
"""How often any other step is tried again: a fault of network or node passes, one of the step itself does not."""
SIZED = {
    **{name: name for name in Sizes.model_fields},
    "compare-incumbent": "benchmark",
    **dict.fromkeys(("sign-shard", "bucket-shard", "cluster-shard", "keep-shard"), "deduplicate"),
}
"""Steps whose size comes from the run, and under which name."""
_HOURS = {
    "tune": 24,
    "align": 24,
    "benchmark": 8,
    "retrieval": 8,
    "redteam": 8,
    "compare-incumbent": 8,
    "progress": 25,
    "probe": 96,
}
"""Hours after which a step that takes longer than two is taken for stuck."""
_UNIT = 512


def furnish(parts: Mapping[str, Any]) -> None:
    """Give the steps of the pipeline that is being defined what their pods need; call it last.

    Args:
        parts: The outputs of `plan`, or those of them that the steps defined need, by the same names.
    """
    for task in Pipeline.get_default_pipeline().tasks.values():
        name = task.component_spec.name
        if task.component_spec.implementation.container is None:  # a pipeline of its own furnishes itself
            continue
        if name in SIZED:
            _enlarge(task, SIZED[name], parts)
        else:
            _size(task, name)
        _secure(task, name)
        if name == "plan":
            continue
        pool = "experiment" if name in _INTERRUPTIBLE else "batch"
        kubernetes.add_node_selector_json(task, parts[f"{pool}_nodes"])
        kubernetes.add_toleration_json(task, parts[f"{pool}_tolerations"])


def watched(pipeline: str, environment: Any, schedule: Any) -> dsl.ExitHandler:
    """Have people told how the steps defined inside end.

    Args:
        pipeline: Name of the pipeline.
        environment: The pipeline's `environment`.
        schedule: The pipeline's `schedule`.
    """
    told = notify(
        pipeline=pipeline, schedule=schedule, run=dsl.PIPELINE_JOB_ID_PLACEHOLDER, environment=environment
    ).set_caching_options(False)
    _size(told, "notify")
    _secure(told, "notify")
    return dsl.ExitHandler(told, name=pipeline.replace("_", " "))


def _size(task: PipelineTask, name: str) -> None:
    if name not in _budgets():
        raise UsageError(f"{BUDGETS.name} has no budget for the step {name}; without one its pod has no limits")
    mib = -(-_budgets()[name]["mib"] // _UNIT) * _UNIT
    task.set_cpu_request("500m").set_cpu_limit("2")
    task.set_memory_request(f"{mib}Mi").set_memory_limit(f"{2 * mib}Mi")


def _enlarge(task: PipelineTask, name: str, parts: Mapping[str, Any]) -> None:
    cpu, memory = parts[f"{name}_cpu"], parts[f"{name}_memory"]
    task.register_pipeline_channels([cpu, memory])  # else KFP does not carry them into a loop
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)
    if Sizes.model_fields[name].annotation is Accelerated:
        task.set_accelerator_type(parts[f"{name}_accelerator"])
        task.set_accelerator_limit(parts[f"{name}_accelerators"])


def _secure(task: PipelineTask, name: str) -> None:
    retries = _PREEMPTIONS if name in _RESUMING else _FAULTS
    task.set_retry(num_retries=retries, backoff_duration="30s", backoff_factor=4.0, backoff_max_duration="600s")
    kubernetes.set_security_context(task, run_as_non_root=True)
    kubernetes.set_timeout(task, _HOURS.get(name, 2) * 3600)
    kubernetes.use_secret_as_volume(task, KEYSET, f"{KEYS_FOLDER}/{Path(ENCRYPTION).parent}", optional=True)
    if name in _SIGNING:
        kubernetes.use_secret_as_volume(task, LEDGER, LEDGER_FOLDER)
    if name in _NAMING:  # optional: the step itself says what is missing, when it is needed
        kubernetes.use_secret_as_volume(task, SUBJECTS, f"{KEYS_FOLDER}/subjects", optional=True)
    if name == "erase":
        kubernetes.use_secret_as_volume(task, ERASURE, f"{KEYS_FOLDER}/erasure")
    if name.startswith("notify") or name == "progress":
        kubernetes.use_secret_as_env(task, NOTIFY, {address: address for address in ADDRESSES}, optional=True)
    if name in ("tune", "align", "probe"):
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit="2Gi")


@cache
def _budgets() -> dict[str, dict[str, int]]:
    return yaml.safe_load(BUDGETS.read_text("utf-8"))
