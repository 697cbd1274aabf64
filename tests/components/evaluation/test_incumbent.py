"""What serves is found, recognised by its content, and paired with the candidate item by item."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from components.common.documents import read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import SIDECAR, canonical, check_input
from components.common.step import Context
from components.evaluation.benchmark.options import Benchmark, Task
from components.evaluation.evidence import Evidence, weigh
from components.evaluation.incumbent import look
from components.evaluation.incumbent.asked import asked, asked_alike
from components.evaluation.incumbent.compare import pair
from components.evaluation.incumbent.compare import run as compare
from components.evaluation.incumbent.options import Comparing
from components.evaluation.redteam.canaries import changed_prompts
from components.evaluation.retrieval.options import Retrieval
from components.evaluation.serving import Serving
from components.model.register.options import Register
from components.model.register.record import run as register
from components.model.register.record import run_base as register_base
from components.release import knative, standard
from components.release.manifest import REVISION, Manifest, render, render_predictor
from components.release.notes import STABLE
from components.release.services import InferenceServices
from components.release.serving import stable_model

ASKING = Benchmark(max_new_tokens=16, batch_size=4, threads=1, resamples=200)


@pytest.fixture
def surroundings(tmp_path: Path, environment_at: Callable) -> Context:
    return Context("evaluation/incumbent", environment_at(tmp_path))


@pytest.fixture
def items(facts: Path) -> list[str]:
    return read_table(facts, ["id"]).column("id").to_pylist()


@pytest.fixture
def benchmark(tmp_path: Path, base: Path, candidate: Path, items: list[str]) -> Path:
    """Evidence as a step leaves it: the candidate knows everything, the base nothing."""
    scores = {"candidate": dict.fromkeys(items, 1.0), "base": dict.fromkeys(items, 0.0)}
    metric = weigh("exact_match", scores["candidate"], scores["base"], ASKING, task="held_out")
    folder = tmp_path / "benchmark"
    folder.mkdir()
    Evidence(0.95, [metric], {arm: {"exact_match": scores[arm]} for arm in scores}).write(folder)
    made = {name: check_input(path) for name, path in (("candidate", candidate), ("base", base))}
    (folder / SIDECAR).write_bytes(canonical({"inputs": made}))
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "manifest.json").write_text('{"name": "packages"}')
    return path


@pytest.fixture
def release(tmp_path: Path, dataset: Path, surroundings: Context) -> Callable[..., str]:
    """Register a model with a verdict and scores; returns its version."""

    def make(model: Path, scores: dict[str, float], compared_with: str = "none") -> str:
        verdict = tmp_path / f"verdict-{len(list(tmp_path.iterdir()))}"
        verdict.mkdir()
        judged = {"decision": "release", "sentence": "", "evidence": {"confidence": 0.95, "metrics": []}}
        judged["serving"] = {"version": compared_with, "asked": asked(Comparing(benchmark=ASKING))}
        (verdict / "verdict.json").write_bytes(canonical(judged))
        of_search = {"retrieval.recall": {"a": 1.0, "b": 1.0}}
        stored = {"candidate": {"exact_match": scores, **of_search}} if scores else {}
        (verdict / "scores.json").write_bytes(canonical(stored))
        made = register(model, dataset, verdict, verdict / "model", Register(name="tiny"), surroundings)
        return made.head.removeprefix("models/")

    return make


def seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, benchmark: Path, surroundings: Context, serving: str
) -> tuple[str, str]:
    monkeypatch.setattr(look, "stable_model", lambda service, environment: serving)
    found = tmp_path / "found"
    found.mkdir(exist_ok=True)
    outcome = look.run(benchmark, found, Comparing(service="assistant"), surroundings)
    return outcome.decision, outcome.report.subtitle


def test_where_nothing_serves_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, benchmark: Path, facts: Path, surroundings: Context
) -> None:
    assert seen(monkeypatch, tmp_path, benchmark, surroundings, "") == ("none", "assistant serves nothing yet.")
    written = tmp_path / "serving"
    written.mkdir()
    compare(facts, benchmark, searched(tmp_path), attacked(tmp_path), written, Comparing(), surroundings)
    assert Serving.read(written) == Serving(asked=asked(Comparing()))


def test_a_candidate_that_serves_already_is_compared_as_it_was_when_it_was_released(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    benchmark: Path,
    base: Path,
    candidate: Path,
    surroundings: Context,
    release: Callable[..., str],
) -> None:
    plain = tmp_path / "plain"
    first = register_base(base, plain, Register(name="tiny"), surroundings).head.removeprefix("models/")
    other = release(base, {"a": 1.0}) if (base / "adapter").is_dir() else first
    assert seen(monkeypatch, tmp_path, benchmark, surroundings, first)[0] == first == other
    second = release(candidate, {"a": 1.0}, compared_with=first)
    decision, sentence = seen(monkeypatch, tmp_path, benchmark, surroundings, second)
    assert decision == first
    assert "serves this candidate" in sentence
    gone = release(candidate, {"b": 1.0}, compared_with="tiny/gone")
    assert seen(monkeypatch, tmp_path, benchmark, surroundings, gone)[0] == gone


def attacked(tmp_path: Path, answers: dict[str, str] | None = None) -> Path:
    """Evidence of a red team that asked canaries, or was switched off."""
    folder = tmp_path / "redteam"
    folder.mkdir(exist_ok=True)
    asked = {f"{prompt}:{answer}": 1.0 for prompt, answer in (answers or {}).items()}
    Evidence(0.95, [], {"candidate": {"redteam.canary_answers": asked}} if asked else {}).write(folder)
    rows = [{"metric": "canary", "id": prompt, "question": f"What is {prompt}?"} for prompt in answers or {}]
    (folder / "samples.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return folder


def searched(tmp_path: Path) -> Path:
    """Evidence of retrieval: two questions, of which search served one."""
    folder = tmp_path / "retrieval"
    folder.mkdir(exist_ok=True)
    scores = {"retrieval.recall": {"a": 1.0, "b": 0.0}}
    metric = weigh("retrieval.recall", scores["retrieval.recall"], None, ASKING, task="search")
    Evidence(0.95, [metric], {"candidate": scores}).write(folder)
    return folder


def test_changed_answers_to_canaries_are_named(tmp_path: Path) -> None:
    present = attacked(tmp_path, {"aa": "1", "bb": "2"})
    before = {"redteam.canary_answers": {"aa:1": 1.0, "bb:9": 1.0}}
    found = pair(Evidence.read(present), before, Comparing())
    assert [(metric.name, metric.value, metric.gain) for metric in found.metrics] == [
        ("redteam.canaries_as_serving", 0.5, -0.5)
    ]
    assert changed_prompts(found, present) == ["What is bb?"]


def compared(
    tmp_path: Path,
    facts: Path,
    benchmark: Path,
    surroundings: Context,
    version: str,
    coverage: float = 1,
    asking: Benchmark = ASKING,
) -> Serving:
    folder = tmp_path / "serving"
    folder.mkdir(exist_ok=True)
    options = Comparing(version=version, coverage=coverage, benchmark=asking)
    compare(facts, benchmark, searched(tmp_path), attacked(tmp_path), folder, options, surroundings)
    return Serving.read(folder)


def test_a_base_that_serves_has_its_scores_from_this_run(
    tmp_path: Path, base: Path, facts: Path, benchmark: Path, surroundings: Context
) -> None:
    head = register_base(base, tmp_path / "plain", Register(name="tiny"), surroundings).head
    found = compared(tmp_path, facts, benchmark, surroundings, head.removeprefix("models/"))
    assert found.evidence.metrics[0].gain == 1
    assert "measured in this run" in found.sentence


def test_stored_scores_are_paired_without_asking(
    tmp_path: Path,
    facts: Path,
    benchmark: Path,
    candidate: Path,
    items: list[str],
    surroundings: Context,
    release: Callable[..., str],
) -> None:
    version = release(candidate, {**dict.fromkeys(items, 1.0), items[0]: 0.0, "of another release": 0.0})
    found = compared(tmp_path, facts, benchmark, surroundings, version)
    metric = found.evidence.metrics[0]
    assert (metric.n, metric.base_value, metric.gained, metric.lost) == (4, 0.75, 1, 0)
    assert found.sentence.endswith("by the scores of its own release")
    assert [(metric.name, metric.gain) for metric in found.evidence.metrics[1:]] == [("retrieval.recall", -0.5)]
    partly = release(candidate, dict.fromkeys(items[:3], 1.0))
    found = compared(tmp_path, facts, benchmark, surroundings, partly, coverage=0.75)
    assert found.evidence.metrics[0].n == 3


def test_what_was_never_measured_is_asked(
    tmp_path: Path,
    facts: Path,
    benchmark: Path,
    candidate: Path,
    items: list[str],
    surroundings: Context,
    release: Callable[..., str],
) -> None:
    found = compared(tmp_path, facts, benchmark, surroundings, release(candidate, {items[0]: 0.0}))
    metric = found.evidence.metrics[0]
    assert (metric.n, metric.base_value) == (4, 0.75), "three were asked and are right, one keeps its stored score"
    assert "asked 3 questions that it was not measured on in this way" in found.sentence


def test_what_was_asked_in_another_way_is_asked_again(
    tmp_path: Path,
    facts: Path,
    benchmark: Path,
    candidate: Path,
    items: list[str],
    surroundings: Context,
    release: Callable[..., str],
) -> None:
    harm = {"candidate": {f"held_out/{item}": 0.0 for item in items}}
    before = Evidence.read(benchmark)
    offensive = weigh("offensive", harm["candidate"], None, ASKING, task="all answers")
    scores = {
        "candidate": {**before.scores["candidate"], "offensive": harm["candidate"]},
        "base": before.scores["base"],
    }
    Evidence(0.95, [*before.metrics, offensive], scores).write(benchmark)
    version = release(candidate, dict.fromkeys(items, 0.0))
    longer = ASKING.model_copy(update={"max_new_tokens": 17})
    found = compared(tmp_path, facts, benchmark, surroundings, version, asking=longer)
    measured = {metric.name: metric for metric in found.evidence.metrics}
    assert measured["exact_match"].base_value == 1, "the stored zeros are of another answer length"
    assert (measured["offensive"].n, measured["offensive"].base_value) == (4, 0)
    assert "retrieval.recall" in measured, "search is asked as before"


def test_only_scores_of_the_same_asking_are_kept() -> None:
    summary = Task(name="summary", kind="summary", location="x")
    before = Comparing(benchmark=Benchmark(tasks=[summary]))
    scores = {
        "exact_match": {"a": 1.0},
        "summary.rougeL": {"b": 1.0},
        "offensive": {"held_out/a": 0.0, "summary/b": 0.0},
        "retrieval.recall": {"a": 1.0},
    }
    tasks = {"exact_match": "held_out", "summary.rougeL": "summary"}

    def kept(benchmark: Benchmark, **further: Any) -> dict[str, list[str]]:
        now = Comparing(benchmark=benchmark, **further)
        return {name: list(left) for name, left in asked_alike(scores, tasks, asked(before), asked(now)).items()}

    everything = {name: list(left) for name, left in scores.items()}
    moved = summary.model_copy(update={"location": "y", "limit": 9})
    assert kept(Benchmark(tasks=[moved], batch_size=1, limit=3)) == everything
    longer = summary.model_copy(update={"max_new_tokens": 9})
    assert kept(Benchmark(tasks=[longer])) == {
        "exact_match": ["a"],
        "offensive": ["held_out/a"],
        "retrieval.recall": ["a"],
    }
    assert kept(Benchmark(tasks=[summary], precision="fp32")).keys() == {"retrieval.recall"}
    other = Retrieval(context_chunks=5)
    assert "retrieval.recall" not in kept(Benchmark(tasks=[summary]), retrieval=other)
    assert asked_alike(scores, tasks, {}, asked(before)) == {}


@pytest.mark.parametrize(("location", "same"), [("", True), ("own", False)])
def test_what_lm_eval_brings_is_asked_alike_whatever_state_other_files_are_in(location: str, same: bool) -> None:
    task = Task(name="gsm8k", kind="lm_eval", location=location)
    first, second = (asked(Comparing(benchmark=Benchmark(tasks=[task], observed=state))) for state in ("a", "b"))
    assert (first == second) == same


def test_a_version_that_the_store_lost_is_an_error(
    tmp_path: Path, facts: Path, benchmark: Path, surroundings: Context
) -> None:
    with pytest.raises(HeadraceError, match="tiny/gone: the version that serves is not in the store"):
        compared(tmp_path, facts, benchmark, surroundings, "tiny/gone")


def test_the_plane_says_which_version_is_stable_while_there_is_a_candidate(
    environment: Environment, api: client.CustomObjectsApi, tmp_path: Path
) -> None:
    """The models do not exist, so that no process is started."""

    def revision(name: str, **notes: str) -> Manifest:
        where = (tmp_path / "nothing" / name).as_uri()
        return render_predictor(name, where, 1, {"cpu": "1"}, [], {f"headrace.dev/{key}": notes[key] for key in notes})

    services = InferenceServices(environment.serving)
    assert stable_model("looked-at", environment) == ""
    stable, candidate = revision("one", model="tiny/1"), revision("two", model="tiny/2")
    first = render("looked-at", "default", stable)
    services.change("looked-at", lambda seen: first)
    services.change("looked-at", lambda seen: standard.introduced(seen, render("looked-at", "default", candidate)))
    try:
        assert stable_model("looked-at", environment) == "tiny/1"
        services.change("not-ours", lambda seen: render("not-ours", "default", revision("three")))
        with pytest.raises(HeadraceError, match=r"no annotation headrace\.dev/model"):
            stable_model("not-ours", environment)
    finally:
        for name in ("looked-at", "not-ours"):
            api.delete_namespaced_custom_object("serving.kserve.io", "v1beta1", "default", "inferenceservices", name)


def test_the_stable_predictor_is_read_in_each_mode() -> None:
    old, new = ({"annotations": {REVISION: name, "headrace.dev/model": f"tiny/{name}"}} for name in ("old", "new"))
    beside = {"metadata": {}, "spec": {"predictor": old, "canary": [{"trafficPercent": 10, "predictor": new}]}}
    assert standard.stable_predictor(beside) == old
    noted = {"metadata": {"annotations": {STABLE: json.dumps(old)}}}
    assert knative.stable_predictor({**noted, "spec": {"predictor": {**new, "canaryTrafficPercent": 10}}}) == old
    assert knative.stable_predictor({"metadata": {}, "spec": {"predictor": new}}) == new
