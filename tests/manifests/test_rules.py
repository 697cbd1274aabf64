"""Alerts and dashboards: they fire when they should, and ask for metrics that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.predictor.__main__ import arguments
from serving.predictor.engine import Completion
from serving.predictor.metrics import Metrics

Rendered = Callable[[str], list[dict[str, Any]]]

NEIGHBOURS = {"DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "up"}
"""Metrics of NVIDIA's exporter and of Prometheus itself."""

_NAME = re.compile(r"\b(?:gen_ai|http|headrace|DCGM|up)[\w:]*")


@pytest.fixture
def groups(rendered: Rendered) -> list[dict[str, Any]]:
    (rules,) = (item for item in rendered("prod") if item["kind"] == "PrometheusRule")
    return rules["spec"]["groups"]


@pytest.fixture
def exported() -> tuple[set[str], set[str]]:
    """Names and labels of what a predictor exports after a request."""
    registry = CollectorRegistry()
    metrics = Metrics("assistant", "r1", registry)
    metrics.began("chat")
    metrics.first_token("chat", 0.1)
    metrics.generated("chat", Completion("stop", 3, 2), 0.2)
    metrics.ended("chat", 200, 0.3)
    samples = [
        sample
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    ]
    return {sample.name for sample in samples}, {label for sample in samples for label in sample.labels}


def rules_of(groups: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for group in groups:
        yield from group["rules"]


def panels(rendered: Rendered) -> Iterator[dict[str, Any]]:
    (dashboard,) = (item for item in rendered("prod") if item["metadata"]["name"] == "headrace-dashboards")
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    yield from json.loads(dashboard["data"]["predictors.json"])["panels"]


def test_the_rules_do_what_they_promise(groups: list[dict[str, Any]], tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed; try `make tools`")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": groups}))
    shutil.copy(Path(__file__).with_name("rules.test.yaml"), tmp_path)
    for command in (["check", "rules", "--lint-fatal", "rules.yaml"], ["test", "rules", "rules.test.yaml"]):
        ran = subprocess.run(["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tested(groups: list[dict[str, Any]]) -> None:
    tests = Path(__file__).with_name("rules.test.yaml").read_text("utf-8")
    assert {rule["alert"] for rule in rules_of(groups) if "alert" in rule} <= set(re.findall(r"Headrace\w+", tests))


def test_rules_and_dashboards_ask_for_metrics_that_exist(
    rendered: Rendered, groups: list[dict[str, Any]], exported: tuple[set[str], set[str]]
) -> None:
    names, labels = exported
    recorded = {rule["record"] for rule in rules_of(groups) if "record" in rule}
    asked = [rule["expr"] for rule in rules_of(groups)]
    asked += [target["expr"] for panel in panels(rendered) for target in panel["targets"]]
    known = names | labels | recorded | NEIGHBOURS
    for expression in asked:
        bare = re.sub(r'"[^"]*"', '""', expression)
        assert not set(_NAME.findall(bare)) - known, expression
    assert recorded
    assert len(asked) > 30


def test_bounds_are_the_predictors(groups: list[dict[str, Any]], exported: tuple[set[str], set[str]]) -> None:
    defaults = arguments(["--model_dir", "m", "--model_name", "m"])
    (queue,) = (rule for rule in rules_of(groups) if rule.get("alert") == "HeadraceQueueFilling")
    assert queue["expr"].endswith(f"> {(defaults.slots + defaults.queue) // 2}")
    registry = CollectorRegistry()
    Metrics("m", "r", registry).ended("chat", 200, 1.0)
    bounds = set(re.findall(r'le="([\d.]+)"', generate_latest(registry).decode()))
    assert set(re.findall(r'le="([\d.]+)"', json.dumps(groups).replace("\\", ""))) <= bounds
