"""The dashboard over all releases: what is shown, what is not measured, and what it looks like on a phone."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import canonical, open_ledger
from components.common.report import Report, Trend
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.dashboard.history import Release, read_releases, serving_now
from components.evaluation.dashboard.measures import MEASURES
from components.evaluation.dashboard.page import Builds, dashboard
from components.evaluation.evidence import Evidence, Metric, weigh
from tests.browser import browser

LEVEL = Benchmark(resamples=100)


def metric(name: str, right: int, **more: object) -> Metric:
    scores = {str(item): float(item < right) for item in range(100)}
    return weigh(name, scores, None, LEVEL, task="t", **more)  # type: ignore[arg-type]


def releases() -> list[Release]:
    made = [Release("assistant/" + "0" * 64, "2026-01-01T00:00:00+00:00", "", "", 0.95, ())]
    for number in range(1, 6):
        metrics = [metric("exact_match", 60 + 5 * number), metric("redteam.refusal", 50 + number)]
        if number != 3:
            metrics.append(metric("retrieval.faithfulness", 80))
        name = f"assistant/{number}" + "f" * 63
        made.append(
            Release(name, f"2026-0{number}-02T00:00:00+00:00", "release", "Released: <b>.", 0.95, tuple(metrics))
        )
    return made


def test_every_measure_has_its_line_and_what_is_not_measured_says_so() -> None:
    found = releases()
    page = dashboard(found, found[-1].version, "", Builds(0.9, (0.6, 0.98), 10), "en").html()
    for measure in MEASURES:
        assert f"<span>{measure.title['en'].replace('@', '@')}</span>" in page
    assert page.count("<b>not measured</b>") == len(MEASURES) - 2
    assert "<b>0.200 [0.133, 0.289]</b>" in page, "one minus faithfulness"
    assert "0.900 [0.600, 0.980]" in page and "10 runs made again" in page
    assert "assistant 5fffffffffff serves" in page
    assert "Released: &lt;b&gt;." in page
    assert "exact_match" in page, "what no line asks for is shown below"
    assert "http" not in page.replace("http-equiv", "")


def test_korean_pages_are_korean() -> None:
    page = dashboard(releases(), "", "", None, "ko").html()
    assert '<html lang="ko">' in page
    assert "거절 적중률" in page and "서비스 중인 모델 없음" in page and "측정하지 않음" in page
    assert "not measured" not in page


def test_where_nothing_was_registered_it_says_what_to_do() -> None:
    assert "headrace run" in dashboard([], "", "", None, "en").html()


def test_a_sparkline_leaves_gaps_where_nothing_was_measured_and_marks_what_serves() -> None:
    points = [(0.1, 0.0, 0.2), (0.2, 0.1, 0.3), None, (0.3, 0.2, 0.4), (0.4, 0.3, 0.5)]
    page = Report("t").trends([Trend("m", "0.4", "", points, 1)]).html()
    assert page.count("<polyline") == page.count("<polygon") == 2
    assert page.count("<circle") == 4 and page.count('fill="#fff"') == 1
    assert 'aria-label="0.1 → 0.2 → – → 0.3 → 0.4"' in page
    assert "<polyline" not in Report("t").trends([Trend("m", "0.4", "", points[:1])]).html()


@pytest.fixture
def place(tmp_path: Path, environment_at: Callable[[Path], Environment]) -> Environment:
    """A store with two versions, the second registered before metrics named their task."""
    place = environment_at(tmp_path / "home")
    book = open_ledger(place)
    old = {"name": "exact_match", "n": 9, "value": 0.5, "interval": [0.3, 0.7]}
    verdicts = [
        {"decision": "release", "sentence": "Fine.", "evidence": Evidence(0.95, [metric("exact_match", 90)]).record()},
        {"decision": "release", "evidence": {"task": "held_out", "questions": 9, "confidence": 0.9, "metrics": [old]}},
        {},
    ]
    for number, verdict in enumerate(verdicts):
        key = f"models/assistant/{number}" + "a" * 63
        book.store.write(f"{key}/provenance.json", b"{}")
        book.store.write(f"{key}/evaluation.json", canonical(verdict))
    book.sign_head("models/assistant/1" + "a" * 63, "e" * 64)
    return place


def test_versions_are_read_in_the_order_of_registration_whatever_their_age(place: Environment) -> None:
    found = read_releases(place)
    assert [release.version[10] for release in found] == ["0", "2", "1"], "what is not signed comes first"
    assert [len(release.metrics) for release in found] == [1, 0, 1]
    assert found[-1].metrics[0].task == "held_out"
    version, why = serving_now("assistant", place)
    assert version == "" and "headrace serve up" in why


def test_an_evaluation_that_is_none_is_named(place: Environment) -> None:
    store = open_ledger(place).store
    key = "models/assistant/0" + "a" * 63 + "/evaluation.json"
    broken = json.loads(store.read(key))
    broken["evidence"]["metrics"][0]["interval"] = [2, 1]
    store.write(key, canonical(broken))
    with pytest.raises(HeadraceError, match=r"evaluation\.json: interval: an interval is \[low, high\]"):
        read_releases(place)
    store.write(key, b"[]")
    with pytest.raises(HeadraceError, match="is no evaluation of a model version"):
        read_releases(place)


def test_the_command_writes_one_page(tmp_path: Path) -> None:
    from pipelines.dashboard_cli import dashboard_app

    out = tmp_path / "page.html"
    call = [str(out), "--home", str(tmp_path / "home"), "--language", "ko"]
    said = CliRunner().invoke(dashboard_app, call, catch_exceptions=False)
    assert said.exit_code == 0 and "릴리스" in out.read_text()


def test_it_fits_a_phone_and_says_the_same_without_colour(tmp_path: Path) -> None:
    found = releases()
    path = tmp_path / "page.html"
    path.write_text(dashboard(found, found[-1].version, "", None, "ko").html())
    with browser(tmp_path) as page:
        page.open(path.as_uri(), width=320)
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        lines = page.evaluate("[...document.querySelectorAll('.trend')].map(line => line.innerText)")
        assert len(lines) == len(MEASURES) + 2 and all(re.search(r"\d|측정하지 않음", line) for line in lines)
        page.picture(tmp_path / "phone.png")
        page.send("Emulation.setEmulatedMedia", media="print")
        assert page.evaluate("getComputedStyle(document.querySelector('main')).padding") == "0px"
        assert page.complaints == []


@pytest.mark.parametrize(
    ("name", "title", "value"),
    [
        ("cost_per_1k_tokens", "Cost per 1,000 tokens", 0.9),
        ("forms.valid_schema", "Format errors", 0.1),
        ("pii_leaked", "Personal data leaked", 0.9),
    ],
)
def test_what_the_benchmark_measures_has_its_line(name: str, title: str, value: float) -> None:
    found = {measure.title["en"]: measure.find([metric(name, 90)]) for measure in MEASURES}
    assert found[title] is not None and found[title].value == pytest.approx(value)
