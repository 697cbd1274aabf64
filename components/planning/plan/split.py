"""Split a recipe into the options of each step."""

import json
from collections import namedtuple
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.common.environment import Accelerated, Environment
from components.common.recipes import Recipe, check_recipe, parts
from components.common.report import Report
from components.common.step import Context, Outcome

WATCHING = Accelerated(cpu="1", memory="4Gi")
"""What a step's pod gets that has nodes train and follows them."""


def run(recipe: Path, options: Recipe, context: Context) -> Outcome:
    """Record the validated recipe.

    Args:
        recipe: Directory for `recipe.json`.
        options: The recipe.
        context: Where the run takes place.
    """
    (recipe / "recipe.json").write_text(json.dumps(options.parameter(), indent=2, ensure_ascii=False), "utf-8")
    report = Report("Plan", f"Recipe {options.name}, {options.digest()[:12]}")
    report.text(options.description or "A recipe without a description.")
    filled = yaml.safe_dump(options.parameter(), allow_unicode=True, sort_keys=False)
    report.code(filled, "The recipe, defaults filled in")
    return Outcome(counts_in=0, counts_out=0, report=report)


def split(recipe: Mapping[str, Any], environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return each step's options by name, where it works, on which nodes and how large its pod is.

    The dataset's card also learns who answers for its sources, the registered model which recipe made it, and the
    comparison and the analysis which service is published. Steps that only make artifacts get the part of the
    environment that artifacts depend on; pools and sizes stand beside it, because where a pod runs changes no result.
    Kubeflow reads sizes from text. What is spread over pods gets options for each.
    """
    checked = check_recipe(recipe, "recipe")
    place = Environment.model_validate(environment)
    steps: dict[str, Any] = parts(checked)
    steps["card"]["sources"] = [
        {name: source[name] for name in ("id", "class", "owner", "license", "terms", "cadence")}
        for source in steps["ingest"]["sources"]
    ]
    steps["register"]["recipe"] = checked.digest("data", "model", "evaluation")
    steps["incumbent"]["service"] = checked.evaluation.incumbent.service or checked.release.publish.name
    steps["progress"]["service"] = checked.release.progress.service or checked.release.publish.name
    steps["workplace"], steps["trainplace"] = place.workplace(), place.trainplace()
    for name in ("batch", "experiment"):
        pool = getattr(place.pools, name).model_dump(mode="json")
        steps[f"{name}_nodes"], steps[f"{name}_tolerations"] = pool["node_selector"], pool["tolerations"]
    sizes = place.sizes
    if place.training.nodes > 1:  # the step only watches: nodes of that size do the work
        sizes = sizes.model_copy(update={"tune": WATCHING})
    for name, size in sizes:
        steps |= {f"{name}_{field}": str(value) for field, value in size}
    shards = place.sizes.deduplicate.shards
    steps["deduplicate_shards"] = [{**steps["deduplicate"], "shard": at, "shards": shards} for at in range(shards)]
    return namedtuple("Parts", steps)(**steps)
