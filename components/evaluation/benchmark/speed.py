"""Latency, tokens and cost of answers, from the times that were measured while asking.

The latency of a served model is what a client waits. That of a model directory is the time of the batch that the
question was in, so that it depends on `batch_size`. The cost of an answer is its share of the time in which the model
was busy (a batch's time divided by its questions; the whole time divided among requests in flight), times the price
per hour of what answers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from components.common.errors import UsageError
from components.evaluation.benchmark.options import Benchmark, Prices
from components.evaluation.benchmark.replies import Reply
from components.evaluation.evidence import BASE, CANDIDATE, Metric, weigh
from components.evaluation.intervals import bootstrap

TASK = "speed"
QUANTILES = {"latency_p50": 0.5, "latency_p95": 0.95}


def weigh_speed(replies: Mapping[str, Sequence[Reply]], options: Benchmark, served: bool) -> list[Metric]:
    """Turn the times of answers into metrics.

    Args:
        replies: How every answer went, by arm.
        options: Prices, and level of the intervals.
        served: Whether a model was asked over the network.

    Raises:
        UsageError: A price is given, but not what a served model runs on.
    """
    new, old = _by_item(replies[CANDIDATE]), _by_item(replies[BASE]) if BASE in replies else None
    if not new:
        return []
    pairs = set(new) & set(old) if old is not None else set(new)

    def of(name: str) -> tuple[dict[str, float], dict[str, float] | None]:
        return (
            {item: float(getattr(new[item], name)) for item in sorted(pairs)},
            None if old is None else {item: float(getattr(old[item], name)) for item in sorted(pairs)},
        )

    found = [
        weigh(name, *of("seconds"), options, task=TASK, higher_is_better=False, unit="s", quantile=quantile)
        for name, quantile in QUANTILES.items()
    ]
    for name in ("prompt_tokens", "completion_tokens"):
        found.append(weigh(name, *of(name), options, task=TASK, higher_is_better=False, unit="tokens"))
    if rate := price_per_second(options.prices, served):
        busy = tuple(
            None if side is None else {item: value * rate for item, value in side.items()} for side in of("busy")
        )
        unit = options.prices.currency
        assert busy[0] is not None
        found.append(weigh("cost_per_request", busy[0], busy[1], options, task=TASK, higher_is_better=False, unit=unit))
        found.append(_per_1k(busy, of("completion_tokens"), options, unit))
    return found


def price_per_second(prices: Prices, served: bool) -> float:
    """What a second of answering costs; 0 without a price.

    Raises:
        UsageError: A price is given, but not how many of it a served model runs on.
    """
    if not prices.cpu_hour and not prices.gpu_hour:
        return 0.0
    if served and not (prices.cpus or prices.gpus):
        raise UsageError(
            "evaluation.benchmark.prices: how many cores or GPUs the served model runs on is not known here; "
            "set cpus or gpus"
        )
    cpus = prices.cpus or (0 if served else torch.get_num_threads())
    gpus = prices.gpus or (0 if served else torch.cuda.device_count())
    return (cpus * prices.cpu_hour + gpus * prices.gpu_hour) / 3600


def _by_item(replies: Sequence[Reply]) -> dict[str, Reply]:
    """Every answer under its task, item and, where several were drawn, number."""
    seen: defaultdict[tuple[str, int], int] = defaultdict(int)
    found = {}
    for reply in replies:
        key = reply.task, reply.item
        found[f"{reply.task}/{reply.item:05d}/{seen[key]}"] = reply
        seen[key] += 1
    return found


def _per_1k(
    costs: "tuple[dict[str, float] | None, ...]",
    tokens: tuple[dict[str, float], dict[str, float] | None],
    options: Benchmark,
    unit: str,
) -> Metric:
    """Cost of a thousand tokens that were written: all costs over all tokens, by bootstrap over the answers."""
    drawn = (options.confidence, options.resamples, options.seed)

    def ratio(rows: np.ndarray) -> float:
        spent, written = rows.sum(axis=0)[:2]
        return float(1000 * spent / max(written, 1.0))

    def apart(rows: np.ndarray) -> float:
        return ratio(rows[:, :2]) - ratio(rows[:, 2:])

    sides = []
    for cost, written in zip(costs, tokens, strict=True):
        if cost is not None and written is not None:
            sides.append(np.array([[cost[item], written[item]] for item in sorted(cost)]))
    value = ratio(sides[0])
    metric = {
        "name": "cost_per_1k_tokens",
        "task": TASK,
        "n": len(sides[0]),
        "value": value,
        "interval": bootstrap(sides[0], *drawn, ratio),  # type: ignore[arg-type]
        "higher_is_better": False,
        "unit": unit,
    }
    if len(sides) > 1:
        before = ratio(sides[1])
        metric |= {
            "base_value": before,
            "base_interval": bootstrap(sides[1], *drawn, ratio),  # type: ignore[arg-type]
            "gain": value - before,
            "gain_interval": bootstrap(np.column_stack(sides), *drawn, apart),  # type: ignore[arg-type]
        }
    return Metric.model_validate(metric)
