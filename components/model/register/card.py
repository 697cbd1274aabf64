"""The model card: Hugging Face's YAML header, and what happened, in words."""

from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from components.model.register.options import Register

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
    autoescape=False,
    keep_trailing_newline=True,
)


def write_card(
    options: Register, base: dict[str, Any], dataset: str, verdict: dict[str, Any], training: dict[str, Any]
) -> str:
    """Write the card of a model version.

    Args:
        options: Name, languages and intended use.
        base: The base model: name, origin, digest and licence.
        dataset: Digest of the dataset version; empty for a base model.
        verdict: The gate's record; empty for a base model.
        training: What the adapter was trained with; empty for a base model.
    """
    header: dict[str, Any] = {
        "license": base["license"].lower(),
        "language": list(options.languages),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "base_model": base["name"],
    }
    if training:
        header |= {"base_model_relation": "finetune", "tags": ["lora", "sft"]}
    if verdict:
        tasks: dict[str, list[dict[str, Any]]] = {}
        for metric in verdict["evidence"]["metrics"]:
            tasks.setdefault(metric["task"], []).append(metric)
        results = [_result(task, metrics) for task, metrics in tasks.items()]
        header["model-index"] = [{"name": options.name, "results": results}]
    return _TEMPLATES.get_template("card.md.j2").render(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        options=options,
        base=base,
        dataset=dataset,
        verdict=verdict,
        training=training,
    )


def _result(task: str, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "task": {"type": "text-generation"},
        "dataset": {"name": task.replace("_", " "), "type": task},
        "metrics": [
            {"type": metric["name"], "value": metric["value"], "name": metric["name"].replace("_", " ")}
            for metric in metrics
        ],
    }
