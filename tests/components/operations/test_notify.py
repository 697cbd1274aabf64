"""operations/notify: real HTTP and SMTP servers hear what people would, and hear it once."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.message import Message as Letter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as Mailbox
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kfp import dsl

from components.common import failures
from components.common.environment import Environment, Notify
from components.common.errors import HeadraceError, UsageError
from components.common.failures import Failure
from components.common.ledger import SIDECAR, make_entry
from components.common.step import Context
from components.common.store import open_store
from components.model.versions import read_json
from components.operations.notify import channels
from components.operations.notify.channels import alert
from components.operations.notify.component import notify, notify_hold
from components.operations.notify.memory import Memory, Seen, judge
from components.operations.notify.options import Ending
from components.operations.notify.tell import tell_ending
from serving.plane.processes import free_port

SECRET = "s3cret-path"


class Webhook(ThreadingHTTPServer):
    """A webhook that answers as it is told and keeps what it got."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Hook)
        self.url = f"http://127.0.0.1:{self.server_port}/{SECRET}"


class _Hook(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status == 200:
            self.server.got.append(body)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    monkeypatch.setattr(channels, "_PAUSES", (0.0, 0.0))
    with Webhook() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("HEADRACE_WEBHOOK_URL", server.url)
        yield server
        server.shutdown()


class Post(Mailbox):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[Letter] = []

    def handle_message(self, message: Letter) -> None:
        self.got.append(message)


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Post, int]]:
    """A mail server that wants TLS and an account, and whose certificate this process trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "mail.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    mailbox = Post()
    controller = Controller(
        mailbox,
        hostname="127.0.0.1",
        port=free_port(),
        ready_timeout=60,
        tls_context=tls,
        require_starttls=True,
        auth_required=True,
        authenticator=lambda server, session, envelope, mechanism, data: AuthResult(
            success=(data.login, data.password) == (b"paging", b"p@ss"), handled=False
        ),
    )
    controller.start()
    try:
        yield mailbox, controller.port
    finally:
        controller.stop()


@pytest.fixture
def place(environment_at: Callable[[Path], Environment], tmp_path: Path) -> Environment:
    told = Notify(
        channels=["webhook"],
        recipients=["ops@example.com"],
        sender="headrace@example.com",
        run_url="https://kubeflow.example.com/#/runs/details/{run}",
    )
    return environment_at(tmp_path / "home").model_copy(update={"notify": told})


@pytest.fixture
def end(place: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """End a run of the nightly schedule in a pod, after a step left its sentence if it failed with one."""
    numbers = iter(range(100))

    def end_run(state: str, sentence: str = "", environment: Environment = place) -> str:
        number = next(numbers)
        monkeypatch.setenv("KFP_POD_NAME", f"release-line-x{number}-retry-system-container-impl-123")
        if sentence:
            failures.leave(open_store(place.store), place.name, "task", Failure("model/tune", sentence))
        notice = tmp_path / f"notice-{number}"
        notice.mkdir()
        ending = Ending(pipeline="release_line", schedule="nightly", run=f"run-{number}", state=state)
        tell_ending(notice, ending, Context("operations/notify", environment))
        return read_json(notice / "notice.json")["told"]

    return end_run


def test_a_run_that_fails_every_hour_pages_once(webhook: Webhook, end: Callable[..., str]) -> None:
    assert end("SUCCEEDED") == ""
    assert end("FAILED", "no space left after 812 steps <&>") == "page"
    assert end("FAILED", "no space left after 9 steps <&>") == ""
    assert end("FAILED", "the base model is gone") == "page"
    assert end("COMPLETE") == "recovered"
    assert end("SUCCEEDED") == ""
    texts = [message["text"] for message in webhook.got]
    assert texts == [
        "[test] nightly failed: model/tune: no space left after 812 steps &lt;&amp;&gt;",
        "[test] nightly failed: model/tune: the base model is gone",
        "[test] nightly works again: It had failed: model/tune: the base model is gone",
    ]
    header, section, context = webhook.got[0]["blocks"]
    assert header["text"] == {"type": "plain_text", "text": "[test] nightly failed"}
    assert ":rotating_light:" in section["text"]["text"]
    assert "<https://kubeflow.example.com/#/runs/details/run-1|Open the run>" in context["elements"][0]["text"]


def test_a_step_that_was_killed_says_nothing_and_the_message_says_so(webhook: Webhook, end: Callable[..., str]) -> None:
    assert end("RUNNING") == ""  # as the backend may call a run whose exit handler is at work
    assert end("RUNNING", "it did fail") == "page"
    assert end("FAILED") == "page"
    assert "ended without a word: out of memory" in webhook.got[-1]["text"]


def test_what_nobody_could_be_told_is_told_next_time(webhook: Webhook, end: Callable[..., str]) -> None:
    webhook.answers = [503, 503, 503]
    with pytest.raises(HeadraceError, match="the webhook answers 503; check HEADRACE_WEBHOOK_URL") as raised:
        end("FAILED", "trouble")
    assert SECRET not in str(raised.value)
    webhook.answers = [429]
    assert end("FAILED", "trouble") == "page"
    webhook.answers = [404]
    with pytest.raises(HeadraceError, match="answers 404"):
        end("FAILED", "other trouble")
    assert end("FAILED", "other trouble") == "page"
    assert len(webhook.got) == 2


def test_the_next_attempt_at_telling_still_knows_why(
    webhook: Webhook, place: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KFP_POD_NAME", "release-line-x-system-container-impl-1")
    failures.leave(open_store(place.store), place.name, "task", Failure("model/tune", "no space left"))
    run = {"pipeline": "p", "schedule": "nightly", "run": "r1", "environment": place.model_dump(mode="json")}
    status = dsl.PipelineTaskFinalStatus("RUNNING", "r1", "exit-handler-1", None, None)
    webhook.answers = [503, 503, 503]
    with pytest.raises(HeadraceError, match="the webhook answers 503"):
        notify.python_func(status=status, **artifacts(tmp_path / "first"), **run)
    notify.python_func(status=status, **artifacts(tmp_path / "second"), **run)
    assert [message["text"] for message in webhook.got] == ["[test] nightly failed: model/tune: no space left"]


def test_the_secret_address_is_logged_nowhere(
    webhook: Webhook, end: Callable[..., str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level("DEBUG"):
        end("FAILED", "trouble")
    assert webhook.got
    assert SECRET not in caplog.text
    assert not [path for path in tmp_path.rglob("*.json") if SECRET in path.read_text("utf-8")]


def test_mail_goes_over_tls_with_an_account(
    post: tuple[Post, int], place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox, port = post
    mailing = place.model_copy(update={"notify": place.notify.model_copy(update={"channels": ["email"]})})
    monkeypatch.setenv("HEADRACE_SMTP_URL", f"smtp://paging:p%40ss@127.0.0.1:{port}")
    assert alert(mailing, "page", "카나리 중단", "오류율이 3 %를 넘었습니다.", "https://x.example.com") == ["email"]
    [letter] = mailbox.got
    assert letter["To"] == "ops@example.com"
    assert letter["Importance"] == "high"
    body = letter.get_payload(decode=True).decode()
    assert "오류율이 3 %를 넘었습니다." in body
    assert "https://x.example.com" in body
    monkeypatch.setenv("HEADRACE_SMTP_URL", f"smtp://paging:wrong@127.0.0.1:{port}")
    with pytest.raises(HeadraceError, match=r"127\.0\.0\.1 refuses \(535\)") as raised:
        alert(mailing, "page", "title", "text")
    assert "wrong" not in str(raised.value)
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    with pytest.raises(HeadraceError, match="must speak TLS"):
        alert(mailing, "page", "title", "text")


def test_one_channel_that_works_is_enough(
    webhook: Webhook, place: Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = place.model_copy(update={"notify": place.notify.model_copy(update={"channels": ["email", "webhook"]})})
    monkeypatch.setenv("HEADRACE_SMTP_URL", "smtp://127.0.0.1:1")
    assert alert(both, "notice", "title", "text") == ["webhook"]
    assert "the mail server 127.0.0.1 refuses" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["", "ftp://x", "https://", "https://x:99999", "no address"])
def test_a_missing_or_malformed_address_names_the_secret(
    place: Environment, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("HEADRACE_WEBHOOK_URL", address)
    with pytest.raises(UsageError, match=r"HEADRACE_WEBHOOK_URL .*headrace-notify"):
        alert(place, "page", "title", "text")


def test_of_runs_that_end_together_one_tells(place: Environment) -> None:
    memories = [Memory(open_store(place.store), place.name, "nightly") for _ in range(8)]
    failures = [Seen("failed", "the same", f"run-{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        told = [
            verdict
            for _, verdict in pool.map(lambda pair: pair[0].advance(pair[1]), zip(memories, failures, strict=True))
        ]
    assert sorted(told) == [""] * 7 + ["page"]


def test_a_hold_is_a_notice_and_its_run_no_recovery() -> None:
    held = Seen("held", "exact_match gained 0.1 of 0.2", "1")
    assert judge(None, held) == judge(Seen("failed", "x", "0"), held) == "notice"
    assert judge(held, Seen("held", "exact_match gained 0.15 of 0.2", "2")) == ""
    assert judge(held, Seen("succeeded", "", "3")) == ""
    assert judge(held, Seen("failed", "x", "3")) == "page"


def artifacts(folder: Path) -> dict[str, Any]:
    kinds = {"notice": dsl.Artifact, "metrics": dsl.Metrics, "report": dsl.HTML}
    return {name: kind(uri=str(folder / name)) for name, kind in kinds.items()}


def test_the_steps_as_kubeflow_calls_them(webhook: Webhook, place: Environment, tmp_path: Path) -> None:
    verdict = tmp_path / "verdict"
    verdict.mkdir()
    (verdict / "verdict.json").write_text(json.dumps({"decision": "hold", "sentence": "too few questions"}))
    run = {"pipeline": "release_line", "schedule": "", "run": "r1", "environment": place.model_dump(mode="json")}
    (verdict / SIDECAR).write_bytes(
        make_entry("evaluation/gate", {}, {"verdict": verdict}, {}, "c", {"in": 1, "out": 1, "dropped": {}})
    )
    notify_hold.python_func(verdict=dsl.Artifact(uri=str(verdict)), **artifacts(tmp_path / "hold"), **run)
    status = dsl.PipelineTaskFinalStatus("SUCCEEDED", "r1", "exit-handler-1", None, None)
    notify.python_func(status=status, **artifacts(tmp_path / "end"), **run)
    assert [message["text"] for message in webhook.got] == [
        "[test] release_line: the gate holds the model: too few questions"
    ]
    assert "Nothing to tell" in (tmp_path / "end" / "report").read_text("utf-8")


def test_word_of_a_failure_reaches_the_exit_handler_of_its_own_run(
    place: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(place.store)
    for pod in ("", "release-line-abc-system-container-impl-1", "release-line-xyz-retry-system-container-impl-1"):
        monkeypatch.setenv("KFP_POD_NAME", pod)
        failures.leave(store, "test", "task", Failure("model/tune", pod))
    for pod in ("release-line-xyz-system-container-impl-9", "release-line-abc-system-container-impl-9", ""):
        monkeypatch.setenv("KFP_POD_NAME", pod)
        failure = failures.read(store, "test")
        assert failure
        assert failure.message.split("-")[:3] == pod.split("-")[:3]
        failures.forget(store, "test")
        assert failures.read(store, "test") is None
