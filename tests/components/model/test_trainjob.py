"""A job handed to Kubeflow Trainer on a real API server; the Trainer itself and a kubelet are played."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from components.common.environment import Accelerated, Environment, Pool, Pools, Sizes, Toleration, Training
from components.common.errors import HeadraceError, Interrupted
from components.common.options import Options
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.model.launch import parcel
from components.model.launch.job import FAILURE, OUTCOME, Job, write_failure, write_outcome
from components.model.launch.nodes import on_nodes
from components.model.launch.trainjob import DIGEST, check, render
from tests.components.model.trainer import WHERE, Kubelet, Work, played, register

pytestmark = pytest.mark.filterwarnings("ignore:Unverified HTTPS request")

NAMESPACE = "training"
SPOT = Toleration(key="cloud.google.com/gke-spot", value="true", effect="NoSchedule")


class Counting(Options):
    """No options."""


def count(words: Path, counted: Path, options: Counting, context: Context) -> Outcome:
    """Count words; stands for a training."""
    number = len((words / "words.txt").read_text("utf-8").split())
    (counted / "count.txt").write_text(str(number))
    return Outcome(number, 1, Report("Counted", f"{number} words"), metrics={"words": number})


@pytest.fixture(scope="module")
def place(environment_at: Callable[[Path], Environment], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = environment_at(tmp_path_factory.mktemp("home"))
    pools = Pools(experiment=Pool(node_selector={"headrace.dev/pool": "experiment"}, tolerations=[SPOT]))
    training = Training(nodes=2, image="registry/headrace/model@sha256:1", namespace=NAMESPACE, service_account="train")
    sizes = Sizes(tune=Accelerated(cpu="8", memory="64Gi", accelerators=4))
    return environment.model_copy(update={"pools": pools, "training": training, "sizes": sizes})


@pytest.fixture
def job(place: Environment, tmp_path: Path) -> Job:
    for name in ("words", "counted"):
        (tmp_path / name).mkdir()
    (tmp_path / "words" / "words.txt").write_text("하나 둘 셋", "utf-8")
    paths = {"words": tmp_path / "words", "counted": tmp_path / "counted"}
    described = place.model_dump(mode="json")
    return Job(f"{count.__module__}:count", "model/tune", paths, ("counted",), {}, described)


@pytest.fixture(scope="module")
def kubelet(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    played = Kubelet(tmp_path_factory.mktemp("kubelet"))
    yield played
    played.server.shutdown()


@pytest.fixture
def play(
    cluster: client.ApiClient, kubelet: Kubelet, place: Environment, tmp_path: Path
) -> Iterator[Callable[[Work], Any]]:
    core = client.CoreV1Api(cluster)
    if NAMESPACE not in [item.metadata.name for item in core.list_namespace().items]:
        core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    register(cluster, kubelet)
    yield lambda work: played(cluster, NAMESPACE, kubelet, work)
    assert list(store_of(place).list("tmp/training/")) == [], "nothing is left of any job"
    assert client.CustomObjectsApi(cluster).list_namespaced_custom_object(*WHERE, NAMESPACE, "trainjobs")["items"] == []


def does(place: Environment, tmp_path: Path, may_end: Callable[[], bool] = lambda: True) -> Work:
    """Nodes that do what the TrainJob's command would have them do, in this process, until they may end."""

    def work(manifest: dict[str, Any], say: Callable[[int, str], None]) -> str:
        _, _, module, store, key, *_ = manifest["spec"]["trainer"]["command"]
        assert (module, store) == ("components.model.launch", place.store)
        folder = tmp_path / f"node-{manifest['metadata']['uid']}"
        job = parcel.receive(store_of(place), key, folder)
        say(0, '::progress {"done": 1, "total": 2, "note": "loss 0.5", "stage": "model/tune"}')
        say(1, '::progress {"done": 1, "total": 2, "note": "loss 0.5", "stage": "model/tune"}')
        say(0, "the first node")
        say(1, "the second node")
        write_outcome(job.run(), folder / OUTCOME)
        parcel.give(job, folder, store_of(place), key)
        while not may_end():
            time.sleep(0.1)
        return ""

    return work


def test_a_job_is_done_by_nodes_and_nothing_is_left_of_it(
    play: Any, place: Environment, job: Job, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def told_of_readiness() -> bool:
        said.extend(capfd.readouterr().out.splitlines())
        return any("2 of 2 nodes ready" in line for line in said)

    with play(does(place, tmp_path, told_of_readiness)) as trainer:
        outcome = on_nodes(job, place, pause=0.1)
    assert (job.paths["counted"] / "count.txt").read_text() == "3"
    assert (outcome.counts_in, outcome.metrics, outcome.report.subtitle) == (3, {"words": 3}, "3 words")
    said += capfd.readouterr().out.splitlines()
    assert {"the first node", "[node 1] the second node"} <= set(said)
    assert sum(line.startswith("::progress") for line in said) == 1, "one node says how far it is"
    assert any("2 of 2 nodes ready" in line for line in said)

    [seen] = trainer.seen.values()
    assert seen["spec"]["runtimeRef"]["name"] == "torch-distributed"
    asked = seen["spec"]["trainer"]
    assert (asked["numNodes"], asked["numProcPerNode"], asked["image"]) == (2, 4, place.training.image)
    assert asked["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "4"}
    [patch] = seen["spec"]["runtimePatches"]
    [node] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"key": SPOT.key, "operator": "Equal", "value": "true", "effect": "NoSchedule"}], (
        "spot nodes may be used"
    )
    assert (pod["serviceAccountName"], pod["nodeSelector"]) == ("train", {"headrace.dev/pool": "experiment"})
    assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]] == ["/dev/shm"]


def test_a_failure_is_said_with_the_last_lines_of_the_node_that_failed(play: Any, place: Environment, job: Job) -> None:
    def work(manifest: dict[str, Any], say: Callable[[int, str], None]) -> str:
        say(0, "step 7 of 9")
        say(0, "torch.OutOfMemoryError: CUDA out of memory")
        return "jobset failed due to one or more job failures"

    wanted = (
        r"TrainJob headrace-tune-[0-9a-f]{12} failed: jobset failed due to one or more job failures \(FailedJobs\); "
        r"headrace-tune-.*-node-0-0-.* said last: step 7 of 9 \| torch.OutOfMemoryError: CUDA out of memory"
    )
    with play(work), pytest.raises(HeadraceError, match=wanted):
        on_nodes(job, place, pause=0.1)


def test_what_the_work_refuses_is_said_in_its_own_words(
    play: Any, place: Environment, job: Job, tmp_path: Path
) -> None:
    def work(manifest: dict[str, Any], say: Callable[[int, str], None]) -> str:
        folder = tmp_path / "node"
        received = parcel.receive(store_of(place), manifest["spec"]["trainer"]["command"][4], folder)
        write_failure(HeadraceError("the loss is nan at step 3; lower learning_rate"), folder / FAILURE)
        parcel.give(received, folder, store_of(place), manifest["spec"]["trainer"]["command"][4])
        return "jobset failed due to one or more job failures"

    with play(work), pytest.raises(HeadraceError, match=r"^the loss is nan at step 3; lower learning_rate$"):
        on_nodes(job, place, pause=0.1)


def manifest_of(job: Job, place: Environment) -> dict[str, Any]:
    """The TrainJob that an attempt at the job makes."""
    digest = parcel.digest(job, {"nodes": 2, "shard": False, "each": 4})
    return render(f"headrace-tune-{digest[:12]}", digest, f"tmp/training/{digest}", place)


def test_another_attempt_goes_on_with_the_trainjob_that_runs(
    play: Any, place: Environment, job: Job, cluster: client.ApiClient, tmp_path: Path
) -> None:
    wanted, going_on = manifest_of(job, place), threading.Event()
    nodes = does(place, tmp_path)

    def work(manifest: dict[str, Any], say: Callable[[int, str], None]) -> str:
        going_on.wait(60)
        return nodes(manifest, say)

    with play(work) as trainer:
        parcel.send(job, store_of(place), f"tmp/training/{wanted['metadata']['annotations'][DIGEST]}")
        client.CustomObjectsApi(cluster).create_namespaced_custom_object(*WHERE, NAMESPACE, "trainjobs", wanted)
        threading.Timer(1, going_on.set).start()
        assert on_nodes(job, place, pause=0.1).metrics == {"words": 3}
        assert len(trainer.seen) == 1, "no second one was made"


def test_another_attempt_makes_a_failed_trainjob_anew(
    play: Any, place: Environment, job: Job, cluster: client.ApiClient, tmp_path: Path
) -> None:
    nodes, attempts = does(place, tmp_path), []

    def work(manifest: dict[str, Any], say: Callable[[int, str], None]) -> str:
        attempts.append(manifest["metadata"]["uid"])
        return "the node was taken away" if len(attempts) == 1 else nodes(manifest, say)

    custom = client.CustomObjectsApi(cluster)
    with play(work):
        wanted = manifest_of(job, place)
        custom.create_namespaced_custom_object(*WHERE, NAMESPACE, "trainjobs", wanted)
        name = (*WHERE, NAMESPACE, "trainjobs", wanted["metadata"]["name"])
        while not any(
            condition["type"] == "Failed"
            for condition in custom.get_namespaced_custom_object(*name).get("status", {}).get("conditions", [])
        ):
            threading.Event().wait(0.1)
        assert on_nodes(job, place, pause=0.1).metrics == {"words": 3}
    assert len(set(attempts)) == 2


def test_a_step_that_is_told_to_stop_takes_its_trainjob_with_it(play: Any, place: Environment, job: Job) -> None:
    def work(manifest: dict[str, Any], say: Callable[[int, str], None]) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return ""

    handler = signal.getsignal(signal.SIGTERM)
    with play(work), pytest.raises(Interrupted, match="told to stop"):
        on_nodes(job, place, pause=5)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_image_and_account_are_those_of_the_step_that_asks(
    play: Any,
    place: Environment,
    job: Job,
    cluster: client.ApiClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    containers = [client.V1Container(name="wait", image="argo"), client.V1Container(name="main", image="ours@sha256:2")]
    pod = client.V1Pod(
        metadata=client.V1ObjectMeta(name="step"),
        spec=client.V1PodSpec(containers=containers, service_account_name="headrace-release"),
    )
    client.CoreV1Api(cluster).create_namespaced_pod(NAMESPACE, pod)
    monkeypatch.setenv("HOSTNAME", "step")
    plain = place.model_copy(update={"training": Training(nodes=2, namespace=NAMESPACE)})
    with play(does(place, tmp_path)) as trainer:
        on_nodes(job, plain, pause=0.1)
        [seen] = trainer.seen.values()
    assert seen["spec"]["trainer"]["image"] == "ours@sha256:2"
    assert "headrace-release" in str(seen["spec"]["runtimePatches"])


def test_a_trainjob_is_checked_before_it_is_sent(place: Environment) -> None:
    good = render("headrace-tune-0", "d" * 64, "tmp/training/d", place)
    check(good)
    spec = good["spec"]
    for wrong, said in (
        ({**spec, "podTemplateOverrides": []}, r"has no field spec\.podTemplateOverrides"),
        ({**spec, "trainer": {**spec["trainer"], "numNodes": "2"}}, r"numNodes: Input should be a valid integer"),
        ({**spec, "trainer": {**spec["trainer"], "gpus": 1}}, r"has no field spec\.trainer\.gpus"),
    ):
        with pytest.raises(HeadraceError, match=said):
            check({**good, "spec": wrong})


def test_a_sealed_store_s_key_is_mounted_and_never_written_down(place: Environment) -> None:
    sealed = place.model_copy(update={"encryption": "keyset", "keys": "/var/run/headrace/keys"})
    manifest = render("headrace-tune-0", "d" * 64, "tmp/training/d", sealed)
    [patch] = manifest["spec"]["runtimePatches"]
    [node] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    assert {"name": "keyset", "secret": {"secretName": "headrace-keyset"}} in pod["volumes"]
    [container] = pod["containers"]
    assert {"name": "keyset", "mountPath": "/var/run/headrace/keys/encryption", "readOnly": True} in container[
        "volumeMounts"
    ]
