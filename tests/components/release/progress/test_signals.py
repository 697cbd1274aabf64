"""Counters as they are read: PromQL selectors, a real Prometheus that scrapes a real exporter, and its restarts."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.environment import Environment, Serving
from components.common.errors import HeadraceError, UsageError
from components.release.progress.judge import Series
from components.release.progress.options import Progress, Proportion
from components.release.progress.selectors import fill, parse_selector
from components.release.progress.signals import PrometheusSource, source_of
from serving.plane.processes import free_port

STAND_IN = Path(__file__).with_name("stand_in.py")
LABELS = st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True), st.text(max_size=12), max_size=4)


@given(st.from_regex(r"[a-z_:][\w:]{0,12}", fullmatch=True).filter(str.isascii), LABELS)
def test_a_selector_selects_the_series_it_was_written_from(name: str, labels: dict[str, str]) -> None:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"')

    text = name + "{" + ",".join(f'{label}="{quoted(value)}"' for label, value in labels.items()) + "}"
    selector = parse_selector(text)
    assert selector.selects(name, labels) and selector.selects(name, labels | {"more": "x"})
    assert not selector.selects(f"{name}_total", labels)
    for label, value in labels.items():
        assert not selector.selects(name, labels | {label: f"{value}!"})


@given(st.text(max_size=30))
def test_any_text_is_a_selector_or_is_refused_in_a_sentence(text: str) -> None:
    try:
        parse_selector(text)
    except ValueError as error:
        assert "series selector" in str(error) or "regular expression" in str(error)


def test_matchers_are_those_of_prometheus() -> None:
    text = fill('vllm:request_success_total{pod=~"$revision-.*",finished_reason!="abort"}', "apps", "chat", "r1")
    selector = parse_selector(text)
    assert selector.selects("vllm:request_success_total", {"pod": "r1-predictor-x"}), "a label that is absent is empty"
    assert not selector.selects("vllm:request_success_total", {"pod": "r12-predictor-x"})
    assert not selector.selects("vllm:request_success_total", {"pod": "r1-x", "finished_reason": "abort"})
    for wrong in ("rate(x[5m])", 'x{a="b"', "x{a=b}", 'x{a=~"("}', 'x{a="b" c="d"}', ""):
        with pytest.raises(ValueError):
            parse_selector(wrong)


class Exporter:
    """The stand-in model server on a port of its own; it can be restarted."""

    def __init__(self, folder: Path, revision: str, errors: float) -> None:
        self.folder, self.revision, self.port = folder / revision, revision, free_port()
        self.folder.mkdir()
        (self.folder / "behaviour.json").write_text(json.dumps({"errors": errors, "seconds": 0.001}))
        self.start()

    def start(self) -> None:
        argv = [sys.executable, str(STAND_IN), "--port", str(self.port), "--model_dir", str(self.folder)]
        self.process = subprocess.Popen([*argv, "--name", "chat", "--revision", self.revision])
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{self.port}/v2/health/ready").is_success)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, times: int) -> None:
        with httpx.Client() as client:
            for _ in range(times):
                client.post(f"http://127.0.0.1:{self.port}/openai/v1/chat/completions")


def wait_for(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def exporters(tmp_path: Path) -> Iterator[list[Exporter]]:
    started = [Exporter(tmp_path, "old", 0.0), Exporter(tmp_path, "new", 1.0)]
    yield started
    for exporter in started:
        exporter.stop()


@pytest.fixture
def prometheus(exporters: list[Exporter], tmp_path: Path) -> Iterator[str]:
    program = shutil.which("prometheus")
    if not program:
        pytest.skip("no Prometheus; try `make tools`")
    port = free_port()
    targets = ", ".join(f"'127.0.0.1:{exporter.port}'" for exporter in exporters)
    (tmp_path / "prometheus.yaml").write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs: [{job_name: predictors, static_configs: ["
        f"{{targets: [{targets}], labels: {{namespace: apps}}}}]}}]\n"
    )
    argv = [program, f"--config.file={tmp_path}/prometheus.yaml", f"--storage.tsdb.path={tmp_path}/data"]
    with (tmp_path / "prometheus.log").open("wb") as log:
        server = subprocess.Popen(
            [*argv, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/-/ready").is_success)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def test_prometheus_is_read_per_process_and_a_restart_shows(exporters: list[Exporter], prometheus: str) -> None:
    environment = Environment(
        name="test",
        store="file:///nowhere",
        tracking="",
        signing_key="",
        serving=Serving(mode="standard", namespace="apps"),
        prometheus=prometheus,
    )
    source = source_of(environment, Progress())
    assert isinstance(source, PrometheusSource)

    def read() -> dict[str, dict[str, Series]]:
        return source.read("chat", ["old", "new"])

    def counted(signal: str, revision: str, cell: str) -> float:
        return sum(cells.get(cell, 0.0) for cells in read()[signal].get(revision, {}).values())

    old, new = exporters
    old.ask(30)
    new.ask(20)
    wait_for(lambda: counted("errors", "old", "trials") == 30 and counted("errors", "new", "trials") == 20)
    seen = read()
    assert seen["errors"]["new"] == {f"apps/127.0.0.1:{new.port}": {"trials": 20.0, "failures": 20.0}}
    assert seen["errors"]["old"] == {f"apps/127.0.0.1:{old.port}": {"trials": 30.0, "failures": 0.0}}
    (latency,) = seen["latency"]["old"].values()
    assert latency["+Inf"] == 30
    assert len(latency) > 50, "bounds close enough for a quantile to be told from another"
    assert sorted(latency.values()) == [latency[bound] for bound in sorted(latency, key=float)]
    assert seen["latency"]["new"] == {}, "an error is not a fast answer"
    assert seen["format_errors"] == {"old": {}, "new": {}}
    elsewhere = PrometheusSource(prometheus, "prod", Progress().signals.used()).read("chat", ["old"])
    assert elsewhere["errors"]["old"] == {}, "the same revision in another environment is another one's"
    new.stop()
    new.start()
    new.ask(3)
    wait_for(lambda: counted("errors", "new", "trials") == 3)


def test_a_further_signal_is_two_counters_whoever_exports_them(exporters: list[Exporter], prometheus: str) -> None:
    # Whatever judges answers — a guard, a rater — counts per revision; these counters play its part here.
    judged = Proportion(
        trials='gen_ai_server_request_duration_seconds_count{headrace_revision="$revision"}',
        failures='gen_ai_server_request_duration_seconds_count{headrace_revision="$revision",http_response_status_code="500"}',
    )
    source = PrometheusSource(prometheus, "apps", {"judged_quality": judged})
    exporters[1].ask(5)
    wait_for(lambda: bool(source.read("chat", ["new"])["judged_quality"]["new"]))
    (cells,) = source.read("chat", ["new"])["judged_quality"]["new"].values()
    assert cells["failures"] == cells["trials"] > 0


def test_what_cannot_be_read_is_said_in_a_sentence(prometheus: str) -> None:
    broken = Proportion.model_construct(trials="x{", failures="x{", gateway=False)
    with pytest.raises(HeadraceError, match=r"refuses x\{"):
        PrometheusSource(prometheus, "apps", {"errors": broken}).read("chat", ["new"])
    with pytest.raises(HeadraceError, match="check prometheus of the environment"):
        PrometheusSource(f"http://127.0.0.1:{free_port()}", "apps", Progress().signals.used()).read("chat", ["new"])
    nowhere = Environment(
        name="dev", store="file:///nowhere", tracking="", signing_key="", serving=Serving(mode="standard")
    )
    with pytest.raises(UsageError, match="environment dev: prometheus is empty"):
        source_of(nowhere, Progress())
