"""Release evidence: what evaluations hand to the gate.

The `evidence` artifact of an evaluation holds

- `evidence.json`: `confidence`, `metrics` (each a `Metric`), and `off`: evaluations that were switched off, and why;
- `scores.json`, without any text: `{"candidate": {metric: {item id: score}}, "base": {…}}`, so that a later release can
  be compared with this one item by item;
- `samples.jsonl`: every item with its `id`, `question` (as text), `quotable`, and under `candidate` and `base` the
  `answer` and its scores.

Names of metrics are unique over all evidence of a release: the held-out questions have bare names (`exact_match`),
other tasks of the benchmark `<task>.<metric>`, and other steps `<step>.<metric>`.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Protocol

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from components.common.errors import HeadraceError
from components.common.ledger import canonical
from components.common.options import describe_validation
from components.evaluation.intervals import bootstrap, mcnemar, newcombe, order_statistics, wilson
from components.model.versions import SCORES, read_json

EVIDENCE = "evidence.json"
SAMPLES = "samples.jsonl"

CANDIDATE, BASE = "candidate", "base"

Scores = Mapping[str, float]
"""Score by item id."""

ArmScores = Mapping[str, Mapping[str, Scores]]
"""Scores by arm (`candidate`, `base`) and metric."""


class Level(Protocol):
    """How sure intervals are, and how they are drawn; the options of every evaluation say so."""

    @property
    def confidence(self) -> float:
        """Level of the intervals."""

    @property
    def resamples(self) -> int:
        """Bootstrap resamples."""

    @property
    def seed(self) -> int:
        """Seed of the bootstrap."""


def _ordered(ends: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(ends[0]) and ends[0] <= ends[1]):
        raise ValueError("an interval is [low, high]")
    return ends


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]


class Metric(BaseModel):
    """One thing that was measured of a candidate and, item by item, of the base model.

    Attributes:
        name: Unique over all evidence of a release.
        task: What was asked.
        n: Items that it rests on.
        value: Of the candidate.
        interval: Confidence interval of the value.
        base_value: Of the base model on the same items; None where it was not measured.
        base_interval: Its interval.
        gain: Candidate minus base, paired over the items.
        gain_interval: Its interval.
        higher_is_better: Which way is good.
        unit: What the value is counted in; empty for a share or score.
        quantile: Which quantile of the items the value is; None for their mean.
        gained: Items that only the candidate got right, for a share.
        lost: Items that only the base got right.
        p_value: McNemar's exact test that gains and losses are equally likely.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    task: str
    n: int = Field(ge=1)
    value: float = Field(allow_inf_nan=False)
    interval: Interval
    base_value: float | None = None
    base_interval: Interval | None = None
    gain: float | None = None
    gain_interval: Interval | None = None
    higher_is_better: bool = True
    unit: str = ""
    quantile: float | None = None
    gained: int | None = None
    lost: int | None = None
    p_value: float | None = None

    def row(self, base: str = BASE) -> dict[str, str]:
        """Return the metric as a row of a report's table.

        Args:
            base: What to call the model that the candidate is compared with.
        """
        return {
            "metric": self.name.replace("_", " ") + f" ({self.unit})" * bool(self.unit),
            base: with_interval(self.base_value, self.base_interval),
            "candidate": with_interval(self.value, self.interval),
            "gain": with_interval(self.gain, self.gain_interval),
        }


@dataclass(frozen=True)
class Evidence:
    """What one evaluation, or all of a release, found.

    Attributes:
        confidence: Level of the intervals.
        metrics: What was measured.
        scores: Scores by arm, metric and item; metrics that are no mean or quantile of items have none.
        off: Evaluations that were switched off, by name, and why.
    """

    confidence: float
    metrics: Sequence[Metric]
    scores: ArmScores = field(default_factory=dict)
    off: Mapping[str, str] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return what `evidence.json` says."""
        rows = [metric.model_dump(mode="json", exclude_none=True) for metric in self.metrics]
        return {"confidence": self.confidence, "metrics": rows, "off": dict(self.off)}

    def write(self, folder: Path) -> None:
        """Write `evidence.json` and `scores.json`."""
        (folder / EVIDENCE).write_bytes(canonical(self.record()))
        (folder / SCORES).write_bytes(canonical({arm: dict(scores) for arm, scores in self.scores.items()}))

    @classmethod
    def read(cls, folder: Path) -> "Evidence":
        """Read back what `write` wrote.

        Raises:
            HeadraceError: A file is missing, or is not of that form; names the field.
        """
        try:
            written = _WRITTEN.validate_python(read_json(folder / EVIDENCE))
        except ValidationError as error:
            raise HeadraceError(f"{folder / EVIDENCE}: {describe_validation(error)}") from error
        return cls(written.confidence, written.metrics, read_scores(folder / SCORES), written.off)


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    confidence: float = Field(gt=0.5, lt=1)
    metrics: list[Metric]
    off: dict[str, str] = {}


_WRITTEN = TypeAdapter(_Written)
_SCORES = TypeAdapter(dict[str, dict[str, dict[str, Annotated[float, Field(allow_inf_nan=False)]]]])


def read_scores(path: Path) -> ArmScores:
    """Read a `scores.json`.

    Raises:
        HeadraceError: It is missing, or not of that form; names the field.
    """
    try:
        return _SCORES.validate_python(read_json(path))
    except ValidationError as error:
        raise HeadraceError(f"{path}: {describe_validation(error)}") from error


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """Write a value with its interval, or that there is none."""
    if value is None:
        return "not measured"
    return _written(value) + (f" [{_written(interval[0])}, {_written(interval[1])}]" if interval else "")


def weigh(
    name: str,
    candidate: Scores,
    base: Scores | None,
    level: Level,
    *,
    task: str,
    higher_is_better: bool = True,
    unit: str = "",
    quantile: float | None = None,
) -> Metric:
    """Turn the scores of the same items by candidate and base into a metric.

    Scores without a unit that are all 0 or 1 are a share: Wilson's interval, Newcombe's for the paired difference, and
    McNemar's exact test. Others, and counts that happen to be 0 or 1, have percentile bootstrap intervals over the
    items, which also pairs them; a quantile has that of order statistics, and its paired difference a bootstrap
    interval.

    Args:
        name: Name of the metric.
        candidate: The candidate's score by item id.
        base: The base model's score of the same items; None if it was not measured.
        level: Level, resamples and seed of the intervals.
        task: What was asked.
        higher_is_better: Which way is good.
        unit: What the value is counted in; empty for a share or score.
        quantile: Take this quantile of the items, such as 0.95, rather than their mean.

    Raises:
        HeadraceError: There is no item, the two were not given the same ones, or a score is no finite number.
    """
    items = sorted(candidate)
    _check_items(name, candidate, base)
    new = [float(candidate[item]) for item in items]
    old = [] if base is None else [float(base[item]) for item in items]
    if quantile is None and not unit and {*new, *old} <= {0.0, 1.0}:
        found = _share(new, old, level.confidence)
    else:
        found = _average(new, old, level, quantile)
    rounded = {field: _rounded(value) for field, value in found.items()}
    described = {"task": task, "higher_is_better": higher_is_better, "unit": unit, "quantile": quantile}
    return Metric(name=name, n=len(items), **described, **rounded)


def reweigh(metric: Metric, candidate: Scores, base: Scores | None, level: Level) -> Metric:
    """Weigh a metric again: on other items, against another model, or at another level."""
    return weigh(
        metric.name,
        candidate,
        base,
        level,
        task=metric.task,
        higher_is_better=metric.higher_is_better,
        unit=metric.unit,
        quantile=metric.quantile,
    )


def merge(evidences: Iterable[Evidence]) -> Evidence:
    """Put the evidence of several evaluations together.

    Raises:
        HeadraceError: Two measure a metric of the same name, or their intervals are of different levels.
    """
    parts = list(evidences)
    seen: set[str] = set()
    for metric in (metric for part in parts for metric in part.metrics):
        if metric.name in seen:
            raise HeadraceError(f"metric {metric.name} is measured by two evaluations; give one of them another name")
        seen.add(metric.name)
    levels = sorted({part.confidence for part in parts if part.metrics})
    if len(levels) > 1:
        named = ", ".join(f"{level:g}" for level in levels)
        raise HeadraceError(
            f"the evaluations have intervals of levels {named}; set the same `confidence` for each in the recipe"
        )
    arms = sorted({arm for part in parts for arm in part.scores})
    return Evidence(
        levels[0] if levels else parts[0].confidence,
        [metric for part in parts for metric in part.metrics],
        {
            arm: {metric: scores for part in parts for metric, scores in part.scores.get(arm, {}).items()}
            for arm in arms
        },
        {name: why for part in parts for name, why in part.off.items()},
    )


def _check_items(name: str, candidate: Scores, base: Scores | None) -> None:
    if not candidate:
        raise HeadraceError(f"metric {name} has no item that was scored; leave it out")
    if base is not None and base.keys() != candidate.keys():
        odd = min(base.keys() ^ candidate.keys())
        raise HeadraceError(f"metric {name}: item {odd} was scored for one of the models only; score the same for both")
    for item, score in [*candidate.items(), *(base or {}).items()]:
        if not math.isfinite(score):
            raise HeadraceError(f"metric {name}: the score of item {item} is {score}; a score is a finite number")


def _share(new: Sequence[float], old: Sequence[float], confidence: float) -> dict[str, Any]:
    found: dict[str, Any] = {"value": fmean(new), "interval": wilson(int(sum(new)), len(new), confidence)}
    if not old:
        return found
    cells = {(a, b): sum(pair == (a, b) for pair in zip(old, new, strict=True)) for a in (0, 1) for b in (0, 1)}
    gained, lost = cells[0, 1], cells[1, 0]
    return found | {
        "base_value": fmean(old),
        "base_interval": wilson(int(sum(old)), len(old), confidence),
        "gain": fmean(new) - fmean(old),
        "gain_interval": newcombe(gained, lost, cells[1, 1], cells[0, 0], confidence),
        "gained": gained,
        "lost": lost,
        "p_value": mcnemar(gained, lost),
    }


def _average(new: Sequence[float], old: Sequence[float], level: Level, quantile: float | None) -> dict[str, Any]:
    drawn = (level.confidence, level.resamples, level.seed)

    def middle(scores: np.ndarray) -> Any:
        """The statistic of each column."""
        return np.mean(scores, axis=0) if quantile is None else np.quantile(scores, quantile, axis=0)

    def apart(rows: np.ndarray) -> float:
        after, before = middle(rows)
        return float(after - before)

    def interval(scores: Sequence[float]) -> tuple[float, float]:
        if quantile is None:
            return bootstrap(scores, *drawn)
        return order_statistics(scores, quantile, level.confidence)

    found: dict[str, Any] = {"value": float(middle(np.array(new))), "interval": interval(new)}
    if not old:
        return found
    before, pairs = float(middle(np.array(old))), np.column_stack([new, old])
    return found | {
        "base_value": before,
        "base_interval": interval(old),
        "gain": found["value"] - before,
        "gain_interval": bootstrap(pairs, *drawn, apart),
    }


def _written(value: float) -> str:
    """Three digits after the point, or three that count where those would be zeros."""
    return f"{value:,.3f}" if not value or abs(value) >= 0.001 else np.format_float_positional(value, 3, False, False)


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_rounded(end) for end in value)
    return float(f"{value:.6g}") if isinstance(value, float) else value
