"""Where counters are read: the plane's gateway and model servers, or Prometheus."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import httpx
from prometheus_client.parser import text_string_to_metric_families

from components.common.environment import Environment
from components.common.errors import HeadraceError, UsageError
from components.release.progress.judge import FAILURES, TRIALS, Series
from components.release.progress.options import Progress, Proportion, Quantile
from components.release.progress.selectors import fill, parse_selector

_TIMEOUT_SECONDS = 5.0

Sample = tuple[Mapping[str, str], float]


class Source(Protocol):
    """Reads how far the counters of some revisions are."""

    def read(self, service: str, revisions: Sequence[str]) -> dict[str, dict[str, Series]]:
        """Return signal → revision → series → cell → counter.

        Raises:
            HeadraceError: Nothing can be read.
        """


def source_of(environment: Environment, options: Progress) -> Source:
    """Choose where an environment's counters are read.

    Raises:
        UsageError: The environment names no Prometheus.
    """
    signals = options.signals.used()
    if environment.serving.mode == "plane":
        return PlaneSource(environment.serving.api, signals)
    if not environment.prometheus:
        raise UsageError(
            f"environment {environment.name}: prometheus is empty; give the base URL of what scrapes the predictors"
        )
    return PrometheusSource(environment.prometheus, environment.serving.namespace, signals)


class PlaneSource:
    """The plane's gateway, and `/metrics` of each of its model servers."""

    def __init__(self, api: str, signals: Mapping[str, Proportion | Quantile]) -> None:
        """Read from a plane.

        Args:
            api: Base URL of its API.
            signals: What to read.
        """
        self._signals = signals
        self._http = httpx.Client(base_url=api, timeout=_TIMEOUT_SECONDS)

    def read(self, service: str, revisions: Sequence[str]) -> dict[str, dict[str, Series]]:
        """See `Source.read`."""
        try:
            rows = self._http.get("/plane/revisions").raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise HeadraceError("the serving plane is not running; start it with `headrace serve up`") from error
        found: dict[str, dict[str, Series]] = {name: {} for name in self._signals}
        for row in rows:
            if row["service"] != service or row["revision"] not in revisions:
                continue
            samples = self._exposed(row["port"]) if row["ready"] else None
            for name, signal in self._signals.items():
                if isinstance(signal, Proportion) and signal.gateway:
                    found[name][row["revision"]] = {"gateway": _answered(row["requests"])}
                elif samples is not None:
                    cells = _cells(signal, lambda text, row=row, samples=samples: _select(text, row, samples))  # type: ignore[misc]
                    found[name][row["revision"]] = {f"process {row['pid']}": cells}
        return found

    def _exposed(self, port: int) -> list[tuple[str, Mapping[str, str], float]] | None:
        try:
            page = self._http.get(f"http://127.0.0.1:{port}/metrics").raise_for_status().text
        except httpx.HTTPError:  # it is just restarting; the next look has its counters
            return None
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        ]


class PrometheusSource:
    """Raw series from Prometheus' HTTP API; restarts of a process are told apart here, not by `rate()`."""

    def __init__(self, url: str, namespace: str, signals: Mapping[str, Proportion | Quantile]) -> None:
        """Read from a Prometheus.

        Args:
            url: Its base URL.
            namespace: Where the service runs.
            signals: What to read.
        """
        self._namespace = namespace
        self._signals = signals
        self._url = url
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS)

    def read(self, service: str, revisions: Sequence[str]) -> dict[str, dict[str, Series]]:
        """See `Source.read`; all series are those of one moment."""
        now = time.time()
        found: dict[str, dict[str, Series]] = {}
        for name, signal in self._signals.items():
            found[name] = {}
            for revision in revisions:
                # Failures first: what is scraped between two queries then adds a request and not a failure without one.
                texts = [signal.failures, signal.trials] if isinstance(signal, Proportion) else [signal.buckets]
                by_text = {text: self._query(fill(text, self._namespace, service, revision), now) for text in texts}
                processes = sorted({process for samples in by_text.values() for process in samples})
                found[name][revision] = {
                    process: _cells(signal, lambda text, by=by_text, process=process: by[text].get(process, []))  # type: ignore[misc]
                    for process in processes
                }
        return found

    def _query(self, query: str, now: float) -> dict[str, list[Sample]]:
        try:
            answer = self._http.get("/api/v1/query", params={"query": query, "time": f"{now:.3f}"})
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise HeadraceError(
                f"Prometheus at {self._url} does not answer ({error}); check prometheus of the environment"
            ) from error
        if body.get("status") != "success":
            raise HeadraceError(f"Prometheus at {self._url} refuses {query}: {body.get('error', answer.status_code)}")
        by_process: dict[str, list[Sample]] = defaultdict(list)
        for series in body["data"]["result"]:
            labels = series["metric"]
            process = "/".join(labels[label] for label in ("namespace", "pod", "instance") if label in labels)
            by_process[process].append((labels, float(series["value"][1])))
        return dict(by_process)


def _answered(requests: Mapping[str, int]) -> dict[str, float]:
    """Count what the gateway answered for a revision, its own 503 for a broken connection included."""
    answered = sum(requests.get(kind, 0) for kind in ("2xx", "3xx", "4xx", "5xx"))
    return {TRIALS: float(answered), FAILURES: float(requests.get("5xx", 0))}


def _cells(signal: Proportion | Quantile, samples: Any) -> dict[str, float]:
    if isinstance(signal, Proportion):
        return {
            cell: sum(value for _, value in samples(text))
            for cell, text in ((FAILURES, signal.failures), (TRIALS, signal.trials))
        }
    return _histogram(samples(signal.buckets))


def _histogram(samples: Iterable[Sample]) -> dict[str, float]:
    cells: dict[str, float] = defaultdict(float)
    for labels, value in samples:
        if "le" in labels:
            bound = float(labels["le"])
            cells["+Inf" if bound == float("inf") else f"{bound:g}"] += value
    return dict(cells)


def _select(text: str, row: Mapping[str, Any], samples: list[tuple[str, Mapping[str, str], float]]) -> list[Sample]:
    # What a process says of itself has no namespace; Prometheus adds it.
    selector = parse_selector(fill(text, "", row["service"], row["revision"]))
    return [(labels, value) for name, labels, value in samples if selector.selects(name, labels)]
