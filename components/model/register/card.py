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
        header["model-index"] = [{"name": options.name, "results": [_result(verdict["evidence"])]}]
    return _TEMPLATES.get_template("card.md.j2").render(
        header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        options=options,
        base=base,
        dataset=dataset,
        verdict=verdict,
        training=training,
    )


def _result(evidence: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": {"type": "question-answering"},
        "dataset": {"name": "held-out questions", "type": evidence["task"]},
        "metrics": [
            {"type": metric["name"], "value": metric["value"], "name": metric["name"].replace("_", " ")}
            for metric in evidence["metrics"]
        ],
    }
