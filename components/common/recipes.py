"""The recipe: what a run should do, as one YAML file checked field by field before anything runs.

`load_recipe` reads a file, applies `key=value` overrides and inlines the source declarations, so that the result can
travel as a pipeline's `recipe` parameter and be read whole in the Kubeflow UI.
"""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from components.common.documents import CONFIDENTIALITY
from components.common.errors import UsageError
from components.common.ledger import canonical, sha256
from components.common.options import Options, read_yaml
from components.common.parameters import refuse_rewritten
from components.data.card.options import Card
from components.data.curate.options import Curate
from components.data.decontaminate.options import Decontaminate
from components.data.deduplicate.options import Deduplicate
from components.data.filter.options import Filter
from components.data.ingest.options import Ingest
from components.data.mask.options import Mask
from components.data.mix.options import Mix
from components.data.parse.options import Parse
from components.data.prefer.options import Prefer
from components.data.probe.options import Probe
from components.data.screen.options import Screen
from components.data.sources import Confidentiality, Source, declare, load_sources
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.gate.options import Gate
from components.evaluation.incumbent.options import Incumbent
from components.evaluation.redteam.options import Redteam
from components.evaluation.retrieval.options import Retrieval
from components.model.align.options import Align
from components.model.fetch.options import Fetch
from components.model.merge.options import Merge
from components.model.register.options import Register
from components.model.tune.options import Tune
from components.release.progress.options import Progress
from components.release.publish.options import Publish

RECIPES = Path(__file__).parents[2] / "pipelines" / "recipes"


class Data(Options):
    """From sources to a dataset version."""

    max_confidentiality: Confidentiality = Field(
        "internal", description="Ceiling of the run: what is more confidential goes no further than its source."
    )
    ingest: Ingest = Field(default=Ingest(), description="What to read.")
    parse: Parse = Field(default=Parse(), description="Text with its structure kept.")
    screen: Screen = Field(default=Screen(), description="What may be used at all.")
    mask: Mask = Field(default=Mask(), description="Personal data.")
    filter: Filter = Field(default=Filter(), description="The least quality.")
    deduplicate: Deduplicate = Field(default=Deduplicate(), description="Exact and near duplicates.")
    decontaminate: Decontaminate = Field(
        default=Decontaminate(), description="Evaluation sets that must not be trained on."
    )
    mix: Mix = Field(default=Mix(), description="The weight of each group.")
    card: Card = Field(default=Card(), description="The dataset version.")


class Model(Options):
    """From a dataset version to a model version."""

    fetch: Fetch = Field(default=Fetch(), description="The base model.")
    curate: Curate = Field(default=Curate(), description="Training pairs and held-out questions.")
    prefer: Prefer = Field(default=Prefer(), description="Preferences: feedback, and answers made wrong on purpose.")
    tune: Tune = Field(default=Tune(), description="Training.")
    align: Align = Field(default=Align(), description="Preferences, after tuning.")
    merge: Merge = Field(default=Merge(), description="Adapter and base become one model.")
    register_: Register = Field(default=Register(), alias="register", description="The model version.")

    model_config = Options.model_config | {"populate_by_name": True, "serialize_by_alias": True}


class Evaluation(Options):
    """What is measured, and what a release needs."""

    benchmark: Benchmark = Field(default=Benchmark(), description="Base against candidate.")
    incumbent: Incumbent = Field(default=Incumbent(), description="What serves now against candidate.")
    retrieval: Retrieval = Field(default=Retrieval(), description="Search, and what it is for beside tuning.")
    redteam: Redteam = Field(default=Redteam(), description="Attacks, refusals, and what is remembered of training.")
    gate: Gate = Field(default=Gate(), description="Release or hold.")


class Release(Options):
    """How a model version reaches its users."""

    publish: Publish = Field(default=Publish(), description="The InferenceService and its canary.")
    progress: Progress = Field(default=Progress(), description="How the canary's share grows, and what stops it.")


class Traffic(Options):
    """What `headrace run` sends to a new canary on a laptop, before it promotes it."""

    requests: int = Field(240, ge=0, description="Chat requests sent while the canary has its share.")
    requests_after: int = Field(60, ge=0, description="Chat requests sent after each change of the weights.")
    concurrency: int = Field(2, ge=1, le=64, description="Requests in flight.")
    max_tokens: int = Field(16, ge=1, description="Longest answer asked for.")
    seed: int = Field(0, ge=0, description="Seed of the order of the questions.")


class Recipe(Options):
    """Everything a run does; where it does it is the environment's business."""

    name: str = Field("default", pattern=r"^[a-z0-9][a-z0-9-]{0,40}$", description="Name of the recipe.")
    description: str = Field("", description="What it is for.")
    data: Data = Field(default=Data(), description="Documents to dataset.")
    model: Model = Field(default=Model(), description="Dataset to model.")
    evaluation: Evaluation = Field(default=Evaluation(), description="Model to evidence and decision.")
    release: Release = Field(default=Release(), description="Model to service.")
    traffic: Traffic = Field(default=Traffic(), description="Requests of the laptop's rollout.")
    probe: Probe = Field(default=Probe(), description="Two dataset versions, compared by what a model learns.")

    @model_validator(mode="before")
    @classmethod
    def _one_ceiling(cls, values: Any) -> Any:
        """Hand the ceiling to the steps that enforce it; they may be stricter, never laxer."""
        data = values.get("data", {}) if isinstance(values, Mapping) else None
        if not isinstance(data, Mapping):
            return values
        ceiling = data.get("max_confidentiality", Data.model_fields["max_confidentiality"].default)
        if ceiling not in CONFIDENTIALITY:
            return values
        handed = dict(values)
        for area, step in (("data", "ingest"), ("data", "screen"), ("model", "curate"), ("model", "prefer")):
            options = handed.get(area, {})
            own = options.get(step, {}) if isinstance(options, Mapping) else None
            if not isinstance(own, Mapping):
                continue
            level = own.get("max_confidentiality", ceiling)
            if level in CONFIDENTIALITY and CONFIDENTIALITY.index(level) > CONFIDENTIALITY.index(ceiling):
                raise ValueError(
                    f"{area}.{step}.max_confidentiality is {level}, above the ceiling {ceiling}; raise "
                    "data.max_confidentiality"
                )
            handed[area] = {**options, step: {**own, "max_confidentiality": level}}
        return handed

    def parameter(self) -> dict[str, Any]:
        """The recipe as a pipeline parameter."""
        return self.model_dump(mode="json", by_alias=True)

    def digest(self, *parts: str) -> str:
        """SHA-256 of the validated recipe, or of some of its parts."""
        whole = self.parameter()
        return sha256(canonical({part: whole[part] for part in parts} if parts else whole))


def load_recipe(recipe: str | Path = "default", overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        recipe: A file, or the name of one in `pipelines/recipes`.
        overrides: `key=value` pairs such as `model.tune.epochs=3`; values are YAML.

    Raises:
        UsageError: The file or an override is wrong; the message names file, field and fix.
    """
    path = _recipe_file(recipe)
    values = _read_mapping(path)
    for override in overrides:
        apply_override(values, override)
    _inline_sources(values, path)
    _place_tasks(values, path)
    where = f"{path}, with {' '.join(overrides)}" if overrides else str(path)
    refuse_rewritten(values, where)
    return check_recipe(values, where)


def check_recipe(values: Mapping[str, Any], where: str) -> Recipe:
    """Validate a recipe given as plain values.

    Raises:
        UsageError: A field is unknown or wrong; an unknown one gets the nearest known names.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = [_explain(item["loc"], item["type"], item["msg"]) for item in error.errors()]
        raise UsageError(f"{where}: {'; '.join(problems)}") from error


def parts(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Split a recipe into the options of each step, so that a change redoes only the steps it concerns.

    What an area says of several steps, each of them has in its own options already. A probe also curates, trains and
    asks, as a release does, and what serves is asked as the benchmark asks. Feedback is decontaminated as pairs are.
    """
    whole = recipe.parameter()
    areas = ("data", "model", "evaluation", "release")
    steps = ((name, options) for area in areas for name, options in whole[area].items())
    split = {name: options for name, options in steps if isinstance(options, dict)}
    handed = {
        "prefer": {**split["prefer"], "decontaminate": split["decontaminate"]},
        "probe": {**whole["probe"], **{name: split[name] for name in ("curate", "tune", "benchmark")}},
        "incumbent": {**split["incumbent"], **{name: split[name] for name in ("benchmark", "retrieval", "redteam")}},
    }
    return {**split, **handed}


def _recipe_file(recipe: str | Path) -> Path:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        raise UsageError(f"recipe {path}: there is no such file")
    named = RECIPES / f"{recipe}.yaml"
    if named.is_file():
        return named
    known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.yaml") if file.stem != "sources"))
    raise UsageError(f"there is no recipe {str(recipe)!r}; give a .yaml file or one of: {known}")


def _read_mapping(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: a recipe is a mapping of fields ({', '.join(Recipe.model_fields)})")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one field of nested values from `key=value`; dots descend, the value is YAML.

    Raises:
        UsageError: It is not of that form, or descends into what is no section.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"{override!r}: an override is key=value, for example model.tune.epochs=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{override!r}: the value is not valid YAML; quote it") from error
    *sections, last = key.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"{override!r}: {section} is a value, not a section")
    values[last] = "" if value is None else value


def _inline_sources(values: dict[str, Any], path: Path) -> None:
    """Replace `data.ingest.sources: FILE` by the declarations in that file."""
    data = values.get("data")
    ingest = data.get("ingest") if isinstance(data, dict) else None
    if not isinstance(ingest, dict):
        return
    sources = ingest.get("sources")
    if isinstance(sources, str):
        ingest["sources"] = _dump(load_sources(path.parent / sources))
    elif isinstance(sources, list):
        ingest["sources"] = _dump(declare(sources, f"{path}: data.ingest.sources"))


def _place_tasks(values: dict[str, Any], path: Path) -> None:
    """Read relative locations of `evaluation.benchmark.tasks` from the recipe's folder, as those of sources."""
    evaluation = values.get("evaluation")
    benchmark = evaluation.get("benchmark") if isinstance(evaluation, dict) else None
    tasks = benchmark.get("tasks") if isinstance(benchmark, dict) else None
    for task in tasks if isinstance(tasks, list) else []:
        location = task.get("location") if isinstance(task, dict) else None
        if isinstance(location, str) and location and "://" not in location and not location.startswith(("/", "~")):
            task["location"] = str((path.parent / location).resolve())


def _dump(sources: list[Source]) -> list[dict[str, Any]]:
    return [source.model_dump(mode="json", by_alias=True) for source in sources]


def _explain(location: Sequence[str | int], kind: str, message: str) -> str:
    field = ".".join(str(part) for part in location)
    if kind != "extra_forbidden":
        return f"{field}: {message.removeprefix('Value error, ')}"
    known = _fields_at(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), known, n=2) or known
    return f"{field}: there is no such field; did you mean {' or '.join(near)}?"


def _fields_at(location: Sequence[str | int]) -> list[str]:
    model: Any = Recipe
    for part in location:
        if isinstance(part, str) and isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation if part in model.model_fields else None
    fields = getattr(model, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]
