import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.common.errors import HeadraceError, UsageError
from components.evaluation.benchmark.asking import ask, ask_task
from components.evaluation.benchmark.items import Question, read_items
from components.evaluation.benchmark.models import complete, open_model
from components.evaluation.benchmark.options import Benchmark, Served, Task
from components.evaluation.benchmark.other_tasks import ask_other, load
from components.evaluation.benchmark.scoring import Scoring

OPTIONS = Benchmark(max_new_tokens=16, batch_size=4, threads=1, served=Served(concurrency=3))
TRANSLATED = {"one": "하나", "two": "둘", "three": "셋"}


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server that translates numbers, as revision r1 unless another is pinned and known."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[dict, dict]] = []
        self.busy = 0
        self.models = ["numbers"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.received.append((dict(self.headers), body))
        if self.server.busy:
            self.server.busy -= 1
            self._answer(503, {"error": {"message": "busy"}})
            return
        asked = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        text = TRANSLATED.get(asked, "yes") + " STOP and more"
        said = {"message": {"content": text}} if "messages" in body else {"text": text}
        self._answer(200, {"choices": [said], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})

    def _answer(self, status: int, body: dict) -> None:
        revision = self.headers.get("x-headrace-revision", "r1")
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.send_header("x-headrace-revision", revision if revision in ("r1", "r2") else "r1")
        self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def numbers() -> list[Question]:
    return [Question(word, "en", word, f"{translated} STOP and more") for word, translated in TRANSLATED.items()]


def test_a_served_model_is_asked_in_order_and_its_answers_are_scored() -> None:
    done: list[int] = []
    with serving() as server:
        server.busy = 2
        answers = ask(server.url, numbers(), OPTIONS, done.append)
    assert [answer.scores["exact_match"] for answer in answers] == [1, 1, 1]
    assert sorted(done) == [1, 2, 3]
    _, body = server.received[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("numbers", 0, 16)


def test_a_pinned_revision_must_be_the_one_that_answers() -> None:
    with serving() as server:
        model = open_model(server.url, OPTIONS.model_copy(update={"served": Served(revision="r2")}))
        assert complete(model, ["one"], 8) == ["하나 STOP and more"]
        assert {headers["X-Headrace-Revision".lower()] for headers, _ in server.received} == {"r2"}
        with pytest.raises(HeadraceError, match="let r1 answer, not gone"):
            open_model(server.url, OPTIONS.model_copy(update={"served": Served(revision="gone")}))


def test_a_server_that_is_not_there_or_does_not_say_which_model_is_an_error() -> None:
    with serving() as server:
        url = server.url
        server.models = ["a", "b"]
        with pytest.raises(UsageError, match=r"serves a, b; name one"):
            open_model(url, OPTIONS)
        assert open_model(url, OPTIONS.model_copy(update={"served": Served(name="b")}))
        with pytest.raises(HeadraceError, match="does not serve c"):
            open_model(url, OPTIONS.model_copy(update={"served": Served(name="c")}))
    with pytest.raises(HeadraceError, match="cannot be reached"):
        open_model(url, OPTIONS)
    with pytest.raises(UsageError, match="is no model"):
        open_model("/nowhere", OPTIONS)


def test_samples_are_drawn_with_different_seeds_and_stops_are_applied(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    row = {"question": "two", "test": "assert f", "entry_point": "f"}
    path.write_text(json.dumps(row) + "\n", "utf-8")
    task = Task(
        name="c", kind="code", location=str(path), samples=3, temperature=0.5, passes=[1, 3], prompt="{{question}}"
    )
    with serving() as server:
        model = open_model(server.url, OPTIONS)
        [answer] = ask_task(model, task, read_items(task).questions, Scoring.by(OPTIONS))
    assert answer.texts == ("둘 STOP and more",) * 3
    assert sorted(body["seed"] for _, body in server.received) == [17, 18, 19]
    assert {body["temperature"] for _, body in server.received} == {0.5}
    assert set(answer.scores) == {"pass_at_1", "pass_at_3"}


@pytest.fixture(scope="module")
def own_tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task YAML of a person's own: one that generates, one that chooses."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"q": word, "a": translated} for word, translated in TRANSLATED.items()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    common = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/rows.jsonl}}, cache_dir: {folder}/cache}}
test_split: test
doc_to_text: "{{{{q}}}}"
"""
    (folder / "said.yaml").write_text(
        f"task: said\n{common}output_type: generate_until\ndoc_to_target: '{{{{a}}}}'\n"
        "generation_kwargs: {do_sample: false, max_gen_toks: 8, until: [' STOP']}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n",
        "utf-8",
    )
    (folder / "chosen.yaml").write_text(
        f"task: chosen\n{common}output_type: multiple_choice\n"
        "doc_to_choice: ['하나', '둘', '셋']\ndoc_to_target: '{{a}}'\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n",
        "utf-8",
    )
    return folder


def test_a_task_of_ones_own_is_asked_of_a_served_model(own_tasks: Path) -> None:
    with serving() as server:
        model = open_model(server.url, OPTIONS)
        [said] = ask_other(model, Task(name="said", kind="lm_eval", location=str(own_tasks), limit=2))
        assert [answer.text for answer in said.answers] == ["하나", "둘"]
        assert [answer.scores for answer in said.answers] == [{"exact_match": 1}, {"exact_match": 1}]
        assert said.higher_is_better == {"exact_match": True}
        assert said.asked.dropped == {"beyond_limit": 1}
        assert all(question.quotable for question in said.asked.questions)
        [said] = ask_other(model, Task(name="said", kind="lm_eval", location=str(own_tasks), quote=False))
        assert not any(question.quotable for question in said.asked.questions)
        with pytest.raises(UsageError, match="log-likelihoods"):
            ask_other(model, Task(name="chosen", kind="lm_eval", location=str(own_tasks)))


def test_an_item_of_lm_eval_keeps_its_id_when_another_goes_before_it(own_tasks: Path, tmp_path: Path) -> None:
    shutil.copytree(own_tasks, tmp_path, dirs_exist_ok=True)
    for file in tmp_path.glob("*.yaml"):
        file.write_text(file.read_text("utf-8").replace(str(own_tasks), str(tmp_path)), "utf-8")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"q": "four", "a": "넷"}) + "\n" + rows.read_text("utf-8"), "utf-8")
    with serving() as server:
        model = open_model(server.url, OPTIONS)
        before, after = (
            [question.id for other in ask_other(model, task) for question in other.asked.questions]
            for task in (Task(name="said", kind="lm_eval", location=str(place)) for place in (own_tasks, tmp_path))
        )
    assert after[1:] == before and len(set(after)) == 4


def test_a_task_that_is_not_there_is_named_with_the_nearest(own_tasks: Path) -> None:
    with pytest.raises(UsageError, match=r"did you mean .*gsm8k"):
        load(Task(name="gsm8", kind="lm_eval"))
    with pytest.raises(UsageError, match="no folder"):
        load(Task(name="said", kind="lm_eval", location="/nowhere"))
    with pytest.raises(UsageError, match="cannot be loaded here"):
        load(Task(name="gsm8k", kind="lm_eval"))


def test_the_command_evaluates_a_served_model_alone(tmp_path: Path, own_tasks: Path, environment_at) -> None:
    from pipelines.cli import app

    with serving() as server:
        arguments = ["evaluate", "--model", server.url, "--revision", "r2", "--tasks", "refusals", "--tasks", "said"]
        arguments += ["--include", str(own_tasks), "--out", str(tmp_path / "out"), "--home", str(tmp_path / "home")]
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "evidence.json",
        "scores.json",
        "samples.jsonl",
        "replies.jsonl",
        "report.html",
    }
    found = {
        metric["name"]: metric for metric in json.loads((tmp_path / "out" / "evidence.json").read_text())["metrics"]
    }
    assert found["said.exact_match"]["value"] == 1
    assert "base_value" not in found["said.exact_match"]
    assert json.loads((tmp_path / "out" / "scores.json").read_text()).keys() == {"candidate"}


def test_each_model_has_a_revision_of_its_own_and_the_judge_has_the_recipes(tmp_path: Path, environment_at) -> None:
    from pipelines.cli import app

    arguments = ["evaluate", "--tasks", "evidence", "--home", str(tmp_path / "home"), "--out", str(tmp_path / "out")]
    with serving() as server, serving() as judge:
        judging = f"evaluation.benchmark.judging={{judge: model, model: {judge.url}}}"
        pinned = ["--model", server.url, "--revision", "r2", "--against", server.url, "--against-revision", "r1"]
        result = CliRunner().invoke(app, [*arguments, *pinned, judging], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        met = [headers.get("x-headrace-revision") for headers, _ in server.received]
        assert met == sorted(met) and set(met) == {"r1", "r2"}
        assert {headers.get("x-headrace-revision") for headers, _ in judge.received} == {None}
        elsewhere = [*arguments[:-1], str(tmp_path / "none"), "--model", server.url, "--against-revision", "r1"]
        with pytest.raises(UsageError, match="--against-revision r1: only a served model has revisions"):
            CliRunner().invoke(app, elsewhere, catch_exceptions=False)
    assert not (tmp_path / "none").exists()
