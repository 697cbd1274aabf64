import json
from pathlib import Path

import pytest

from components.common.documents import DocumentWriter, read_table
from components.common.errors import HeadraceError
from components.evaluation.benchmark.compare import run
from components.evaluation.benchmark.items import read_questions
from components.evaluation.benchmark.options import Benchmark, Task

OPTIONS = Benchmark(max_new_tokens=16, batch_size=4, threads=1)


def test_a_model_that_learned_beats_the_one_that_did_not(
    base: Path, candidate: Path, facts: Path, tmp_path: Path, context
) -> None:
    outcome = run(base, candidate, facts, tmp_path, OPTIONS, context("evaluation/benchmark"))
    found = json.loads((tmp_path / "evidence.json").read_text())
    metrics = {metric["name"]: metric for metric in found["metrics"]}
    harm, speed = {"offensive", "pii_leaked"}, {"latency_p50", "latency_p95", "prompt_tokens", "completion_tokens"}
    assert set(metrics) == {"exact_match", "token_f1", *harm, *speed}
    assert metrics["exact_match"]["value"] == 1
    assert metrics["exact_match"]["base_value"] == 0
    assert metrics["exact_match"]["gained"] == 4
    for metric in metrics.values():
        assert metric["interval"][0] <= metric["value"] <= metric["interval"][1]
        assert metric["gain_interval"][0] <= metric["gain"] <= metric["gain_interval"][1]
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [sample["language"] for sample in samples] == ["en", "en", "en", "ko"]
    assert [sample["candidate"]["answer"] for sample in samples] == [sample["answer"] for sample in samples]
    page = outcome.report.html()
    assert "형태소 분석" in page and "By kind" in page and "By language" in page
    assert {sample["kind"] for sample in samples} == {"license", "purpose"}


def test_a_model_against_itself_gains_nothing_twice_with_the_same_bytes(
    base: Path, facts: Path, tmp_path: Path, context, capfd: pytest.CaptureFixture[str]
) -> None:
    written = []
    for name in ("first", "again"):
        path = tmp_path / name
        path.mkdir()
        run(base, base, facts, path, OPTIONS, context("evaluation/benchmark"))
        written.append({file.name: file.read_text("utf-8") for file in path.iterdir()})
    assert written[0].keys() == {"evidence.json", "scores.json", "samples.jsonl", "replies.jsonl"}
    timed = [json.loads(one.pop("evidence.json"))["metrics"] for one in written]
    assert [one.pop("replies.jsonl").count("\n") for one in written] == [8, 8]
    assert written[0] == written[1]
    untimed = [[metric for metric in one if not metric["name"].startswith("latency")] for one in timed]
    assert untimed[0] == untimed[1]
    assert all(metric["gain"] == 0 for metric in untimed[0])
    said = capfd.readouterr()
    assert said.err == ""
    assert all(line.startswith("::progress ") for line in said.out.splitlines())


def test_only_single_questions_are_asked_and_a_limit_spreads_over_them(tmp_path: Path, write_dialogues) -> None:
    single = [[("user", f"question {number}"), ("assistant", "yes")] for number in range(10)]
    longer = [[("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]]
    path = write_dialogues(tmp_path, [*single, *longer])
    asked = read_questions(path, limit=5)
    assert [question.question for question in asked.questions] == [f"question {number}" for number in (0, 2, 4, 6, 8)]
    assert asked.records == 11
    assert asked.dropped == {"not_one_turn": 1, "beyond_limit": 5}


def test_no_questions_is_an_error(base: Path, tmp_path: Path, context, write_dialogues) -> None:
    path = write_dialogues(tmp_path / "questions", [[("user", "alone")]])
    with pytest.raises(HeadraceError, match="no question"):
        run(base, base, path, tmp_path, OPTIONS, context("evaluation/benchmark"))


def test_a_model_that_learned_what_is_confidential_is_counted_and_its_answers_are_not_shown(
    base: Path, facts: Path, tmp_path: Path, context
) -> None:
    from components.model.merge.combine import run as merge
    from components.model.merge.options import Merge
    from components.model.tune.adapt import run as tune
    from components.model.tune.options import Tune

    rows = [{**row, "metadata": dict(row["metadata"])} for row in read_table(facts).to_pylist()]
    rows[0]["confidentiality"] = "confidential"
    with DocumentWriter(tmp_path / "secret") as writer:
        writer.write(rows)
    (tmp_path / "items.jsonl").write_text('{"question": "What does belkin do?", "answer": "renders templates"}\n')
    tasks = [Task(name="own", kind="qa", location=str(tmp_path / "items.jsonl"))]
    made = {name: tmp_path / name for name in ("adapter", "candidate", "evidence")}
    for path in made.values():
        path.mkdir()
    tuning = Tune(epochs=1, batch_size=4, threads=1)
    tune(base=base, pairs=tmp_path / "secret", adapter=made["adapter"], options=tuning, context=context("model/tune"))
    merge(base, made["adapter"], made["candidate"], Merge(), context("model/merge"))
    options = OPTIONS.model_copy(update={"tasks": tasks})
    outcome = run(base, made["candidate"], facts, made["evidence"], options, context("evaluation/benchmark"))
    samples = [json.loads(line) for line in (made["evidence"] / "samples.jsonl").read_text().splitlines()]
    assert [sample["task"] for sample in samples] == ["held_out"] * 4 + ["own"]
    assert not any(sample["quotable"] for sample in samples), "nor may people be asked to rate them"
    page = outcome.report.html()
    assert "own.exact_match" in page.replace(" ", "_") and "By kind" in page
    assert "not known that all that the models were trained on may be quoted" in page
    said = [sample[arm]["answer"] for sample in samples for arm in ("base", "candidate")]
    assert max(map(len, said)) > 12 and not any(answer in page for answer in said if len(answer) > 12)
