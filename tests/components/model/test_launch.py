"""The same training in several processes and on several nodes, on processors with gloo."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from components.common.errors import HeadraceError, Preempted, UsageError
from components.common.sealed_store import store_of
from components.common.step import Context
from components.model.launch import __main__ as node
from components.model.launch import parcel
from components.model.launch.job import FAILURE, OUTCOME, Job, read_failure, read_outcome, write_failure
from components.model.launch.processes import SHARDED, in_processes
from components.model.tune.options import Tune
from serving.plane.processes import free_port

OPTIONS = {"epochs": 3, "learning_rate": 1e-2, "threads": 1, "experiment": "launch"}


@pytest.fixture
def job(base: Path, facts: Path, tmp_path: Path, context: Callable[[str], Context]) -> Callable[..., Job]:
    """The tuning of the tiny model as a job; four facts, two on each of two processes."""

    def describe(name: str, **options: Any) -> Job:
        (tmp_path / name).mkdir()
        return Job(
            work="components.model.tune.adapt:run",
            stage="model/tune",
            paths={"base": base, "pairs": facts, "adapter": tmp_path / name},
            outputs=("adapter",),
            options=Tune(**{**OPTIONS, "batch_size": 2, **options}).model_dump(mode="json"),
            environment=context("model/tune").environment.model_dump(mode="json"),
        )

    return describe


@pytest.fixture(scope="module")
def alone(
    base: Path, facts: Path, tmp_path_factory: pytest.TempPathFactory, context: Callable[[str], Context]
) -> Mapping[str, Any]:
    """The same in one process, with batches as large as those of two processes together."""
    from components.model.tune.adapt import run

    path = tmp_path_factory.mktemp("alone")
    run(base, facts, path, Tune(**OPTIONS, batch_size=4), context("model/tune"))
    return training(path)


def training(path: Path) -> dict[str, Any]:
    return json.loads((path / "training.json").read_text())


def test_two_processes_train_as_one_with_batches_twice_as_large(
    job: Callable[..., Job], alone: Mapping[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    together = job("together")
    outcome = in_processes(together, 2)
    losses = training(together.paths["adapter"])["losses"]
    assert losses == pytest.approx(alone["losses"], rel=1e-3)
    assert losses[-1] < losses[0], "it learns"
    assert (outcome.counts_in, outcome.counts_out) == (4, 4)
    assert outcome.metrics["steps"] == 3
    assert "loss" in outcome.report.html()
    said = capfd.readouterr().out
    assert said.count('"done": 3') == 1, "one of them says how far it is"


@pytest.mark.slow
def test_two_nodes_without_a_common_disk_train_as_one(
    job: Callable[..., Job], alone: Mapping[str, Any], context: Callable[[str], Context], tmp_path: Path
) -> None:
    place, apart = context("model/tune").environment, job("apart")
    store, key = store_of(place), "tmp/training/test"
    parcel.send(apart, store, key)
    rendezvous = {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "1", "PET_MASTER_ADDR": "127.0.0.1"}
    rendezvous["PET_MASTER_PORT"] = str(free_port())
    command = [sys.executable, "-m", "components.model.launch", place.store, key]
    nodes = [
        subprocess.Popen(
            command,
            env={**os.environ, **rendezvous, "PET_NODE_RANK": str(rank), "TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [node.communicate(timeout=500)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    made = tmp_path / "made"
    parcel.fetch(store, f"{key}/adapter", made)
    assert training(made)["losses"] == pytest.approx(alone["losses"], rel=1e-3)
    assert read_outcome(store.read(f"{key}/{OUTCOME}")).metrics["steps"] == 3
    parcel.clear(store, key)
    assert list(store.list("tmp/training/")) == []


@pytest.mark.slow
def test_what_the_work_refuses_is_said_in_its_own_words(job: Callable[..., Job]) -> None:
    with pytest.raises(HeadraceError, match=r"^none of the 4 pairs can be trained on \(too_long: 4\)"):
        in_processes(job("short", max_length=16), 2)


def test_a_process_that_dies_is_quoted(job: Callable[..., Job]) -> None:
    broken = job("broken")
    nowhere = Job(**{**vars(broken), "work": "components.model.nowhere:run"})
    with pytest.raises(HeadraceError, match=r"a training process died.*No module named 'components\.model\.nowhere'"):
        in_processes(nowhere, 1)


PREEMPTED = """
import os, signal, time
from pathlib import Path
from components.common.errors import Preempted
from components.common.step import Context, Outcome
from components.model.tune.faults import Preemption
from components.model.tune.options import Tune

def run(base: Path, pairs: Path, adapter: Path, options: Tune, context: Context) -> Outcome:
    with Preemption() as preemption:
        os.kill(int(os.environ["ASKED_TO_END"]), signal.SIGTERM)
        while not preemption.requested:
            time.sleep(0.01)
    for number in range(10_000):
        print("a line that somebody has to read", number)
    raise Preempted("asked to end after step 7")
"""


@pytest.fixture
def preempted(job: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job during which this process is asked to end."""
    (tmp_path / "preempted.py").write_text(PREEMPTED)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path.cwd()}")
    monkeypatch.setenv("ASKED_TO_END", str(os.getpid()))
    return Job(**{**vars(job("asked")), "work": "preempted:run"})


def test_a_job_that_is_asked_to_end_finishes_its_step_and_ends_with_the_exit_code_of_one_process(
    preempted: Job,
) -> None:
    with pytest.raises(Preempted, match="asked to end after step 7") as raised:
        in_processes(preempted, 1)
    assert raised.value.exit_code == 75


def test_a_node_that_is_asked_to_end_leaves_no_failure_in_the_store(
    preempted: Job, context: Callable[[str], Context], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(context("model/tune").environment)
    key = "tmp/training/preempted"
    parcel.send(preempted, store, key)
    write_failure(HeadraceError("an earlier attempt failed"), tmp_path / FAILURE)
    store.upload(tmp_path / FAILURE, f"{key}/{FAILURE}")
    rendezvous = {"NNODES": "1", "NPROC_PER_NODE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for name, value in rendezvous.items():
        monkeypatch.setenv(f"PET_{name}", value)
    assert node.main(store.uri, key, "", "") == 75
    assert not store.exists(f"{key}/{FAILURE}")
    parcel.clear(store, key)


@pytest.mark.parametrize("kind", [Preempted, UsageError, HeadraceError])
def test_a_failure_is_of_the_same_kind_in_the_next_process(kind: type[HeadraceError], tmp_path: Path) -> None:
    write_failure(kind("why"), tmp_path / FAILURE)
    read = read_failure((tmp_path / FAILURE).read_bytes())
    assert (type(read), str(read)) == (kind, "why")


def test_sharding_is_what_accelerate_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    for name, value in SHARDED.items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert plugin.state_dict_type.name == "FULL_STATE_DICT" and not plugin.cpu_ram_efficient_loading


def test_a_job_is_named_by_what_its_outcome_depends_on(job: Callable[..., Job]) -> None:
    one, spread = job("one"), {"nodes": 2}
    assert parcel.digest(one, spread) == parcel.digest(job("two"), spread)
    others = [parcel.digest(job("three", seed=1), spread), parcel.digest(one, {"nodes": 3})]
    assert len({parcel.digest(one, spread), *others}) == 3
    assert Job.read(json.dumps({**vars(one), "paths": {n: str(p) for n, p in one.paths.items()}}).encode()) == one


@pytest.mark.parametrize("method", [pytest.param("lora", marks=pytest.mark.slow), "full"])
def test_a_model_in_parts_is_saved_as_the_whole_one(
    base: Path, tmp_path: Path, context: Callable[[str], Context], method: str
) -> None:
    import torch
    from safetensors.torch import load_file

    from components.model.tune.method import gathered, prepare, save
    from components.model.tune.options import Method

    for name in ("parts", "whole"):
        (tmp_path / name).mkdir()
    environment = context("model/tune").environment.model_dump(mode="json")
    paths = {"base": base, "saved": tmp_path / "parts"}
    in_processes(
        Job("tests.components.model.sharded:run", "model/tune", paths, ("saved",), {"method": method}, environment), 2
    )
    torch.manual_seed(5)
    network = prepare(base, Method(method=method, precision="fp32"))
    assert gathered(network) is None
    save(network, "Tiny", tmp_path / "whole")
    [parts] = (tmp_path / "parts").glob("*.safetensors")
    kept, made = load_file(tmp_path / "whole" / parts.name), load_file(parts)
    assert kept.keys() == made.keys()
    assert all(torch.equal(kept[weights], made[weights]) for weights in kept)
