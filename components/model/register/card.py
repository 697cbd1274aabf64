"""The model card: Hugging Face's YAML header, and what happened, in words. What did not happen is not in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.evaluation.evidence import with_interval
from components.model.register.options import Register

Record = Mapping[str, Any]

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    autoescape=False,
    keep_trailing_newline=True,
)

_METHODS = {
    "full": "every weight trained",
    "lora": "a low-rank adapter (LoRA), merged into the weights",
    "dora": "a low-rank adapter with magnitudes apart (DoRA), merged into the weights",
    "rslora": "a rank-stabilised low-rank adapter (rsLoRA), merged into the weights",
    "qlora": "a low-rank adapter on a quantized base (QLoRA), merged into the base as it was held in training",
}

_SECTIONS = {"redteam": "Red team", "retrieval": "Retrieval", "context": "Long contexts"}
"""Evaluations with a section of their own, by the beginning of their metrics' names."""

_OTHERS = "Answers"
_SHOWN = (int, float, str)


@dataclass(frozen=True)
class Made:
    """All that is on record of how a model was made; what is empty did not happen.

    Attributes:
        base: The base model: name, origin, digest and licence.
        dataset: Digest of the dataset version.
        training: What the adapter was trained with, and how it went.
        alignment: How it was aligned, and what that changed.
        verdict: The gate's record with all evidence.
        quantization: Files for serving, and what quantizing them costs.
    """

    base: Record
    dataset: str = ""
    training: Record = field(default_factory=dict)
    alignment: Record = field(default_factory=dict)
    verdict: Record = field(default_factory=dict)
    quantization: Record = field(default_factory=dict)


def write_card(options: Register, made: Made) -> str:
    """Write the card of a model version.

    Args:
        options: Name, languages and intended use.
        made: How it was made.
    """
    metrics = made.verdict.get("evidence", {}).get("metrics", [])
    trained = made.training.get("options", {})
    method = trained.get("method", "lora")
    header: dict[str, Any] = {
        "license": made.base["license"].lower(),
        "language": list(options.languages),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": made.base["name"],
    }
    if made.training:
        tags = [method, "sft", *([made.alignment["method"]] if made.alignment else [])]
        header |= {"base_model_relation": "finetune", "tags": tags}
    if metrics:
        header["model-index"] = [{"name": options.name, "results": _results(metrics)}]
    return _TEMPLATES.get_template("card.md.j2").render(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        options=options,
        made=made,
        method=_METHODS.get(method, method),
        facts=list(_facts(made.training)),
        settings=_settings(trained),
        sections=_sections(metrics),
        aligned=[_row(metric) for metric in made.alignment.get("metrics", [])],
        align_settings=_settings(made.alignment.get("options", {})),
        confidence=f"{made.verdict.get('evidence', {}).get('confidence', 0):.0%}",
        off=made.verdict.get("evidence", {}).get("off", {}),
        worse=[_words(metric) for metric in metrics if _is_worse(metric)],
    )


def _results(metrics: Iterable[Record]) -> list[dict[str, Any]]:
    """Hugging Face's `model-index`: a result for each task."""
    tasks: dict[str, list[Record]] = {}
    for metric in metrics:
        tasks.setdefault(metric["task"], []).append(metric)
    return [
        {
            "task": {"type": "text-generation"},
            "dataset": {"name": task.replace("_", " "), "type": task},
            "metrics": [
                {"type": metric["name"], "value": metric["value"], "name": _words(metric)} for metric in measured
            ],
        }
        for task, measured in tasks.items()
    ]


def _sections(metrics: Iterable[Record]) -> dict[str, list[dict[str, Any]]]:
    """Rows by section, the sections in the order in which their first metric comes."""
    found: dict[str, list[dict[str, Any]]] = {}
    for metric in metrics:
        section = _SECTIONS.get(metric["name"].partition(".")[0], _OTHERS)
        found.setdefault(section, []).append(_row(metric))
    return found


def _row(metric: Record) -> dict[str, Any]:
    return {
        "name": metric["name"] + (f" ({metric['unit']})" if metric.get("unit") else ""),
        "better": "↑" if metric.get("higher_is_better", True) else "↓",
        "n": metric["n"],
        "base": with_interval(metric.get("base_value"), metric.get("base_interval")),
        "value": with_interval(metric["value"], metric["interval"]),
        "gain": with_interval(metric.get("gain"), metric.get("gain_interval")),
    }


def _is_worse(metric: Record) -> bool:
    """Whether the whole interval of the gain is on the wrong side."""
    interval = metric.get("gain_interval")
    if not interval:
        return False
    return interval[1] < 0 if metric.get("higher_is_better", True) else interval[0] > 0


def _words(metric: Record) -> str:
    return metric["name"].replace("_", " ")


def _facts(training: Record) -> Iterable[str]:
    """What is known of how a training went, beside its options and curves."""
    for name, value in training.items():
        if name in ("base", "options", "versions", "pairs", "steps", "run"):
            continue
        words = name.replace("_", " ")
        if isinstance(value, Mapping) and value and all(isinstance(item, _SHOWN) for item in value.values()):
            yield f"{words}: " + ", ".join(f"{key.replace('_', ' ')} {_shown(item)}" for key, item in value.items())
        elif isinstance(value, _SHOWN):
            yield f"{words}: {_shown(value)}"


def _settings(options: Record) -> list[str]:
    return [f"{name}: {_shown(value)}" for name, value in options.items() if isinstance(value, _SHOWN)]


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
