"""Register a model version: the model, its card, its evaluation and its origins, in the store for good."""

import shutil
from pathlib import Path
from typing import Any

from components.common.code import code_digest
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import SIDECAR, artifact_files, canonical, entry_of, file_digest, sha256
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.common.store import upload_tree
from components.data.card.version import MANIFEST
from components.evaluation.gate.decide import VERDICT
from components.model.register.card import Made, write_card
from components.model.register.options import Register
from components.model.versions import (
    ADAPTER,
    ALIGNMENT,
    BASE,
    CARD,
    EVALUATION,
    PROVENANCE,
    QUANTIZATION,
    SCORES,
    TRAINING,
    Origins,
    read_json,
    seal,
)


def run(candidate: Path, dataset: Path, verdict: Path, model: Path, options: Register, context: Context) -> Outcome:
    """Register a tuned model.

    Args:
        candidate: The merged model.
        dataset: The dataset version it was tuned on.
        verdict: Why it may be released.
        model: The model version.
        options: Its name and what its card says.
        context: The run.
    """
    kept = candidate / ADAPTER
    training = read_json(kept / TRAINING)
    made = Made(
        base=read_json(candidate / BASE),
        dataset=file_digest(dataset / MANIFEST),
        training=training,
        alignment=_read_if_there(kept / ALIGNMENT),
        verdict=read_json(verdict / VERDICT),
        quantization=_read_if_there(candidate / QUANTIZATION),
    )
    model.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(verdict / SCORES, model / SCORES)
    return _register(candidate, model, options, context, options.recipe or _shaped_by(options, made), made)


def run_base(base: Path, model: Path, options: Register, context: Context) -> Outcome:
    """Register a base model as it came; the recipe's other parts did not shape it, so they do not make it another one.

    Args:
        base: The base model.
        model: The model version.
        options: Its name and what its card says.
        context: The run.
    """
    made = Made(base=read_json(base / BASE))
    return _register(base, model, options, context, _shaped_by(options, made), made)


def _shaped_by(options: Register, made: Made) -> str:
    """Digest of the options that are known to have shaped a model, where no recipe says."""
    registered = options.model_dump(mode="json", exclude={"recipe"})
    shaped = {"tune": made.training.get("options", {}), "register": registered}
    if made.alignment:
        shaped["align"] = made.alignment["options"]
    return sha256(canonical(shaped))


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _register(source: Path, model: Path, options: Register, context: Context, recipe: str, made: Made) -> Outcome:
    shutil.copytree(source, model, ignore=shutil.ignore_patterns(SIDECAR), dirs_exist_ok=True)
    (model / EVALUATION).write_bytes(canonical(made.verdict))
    card = write_card(options, made)
    (model / CARD).write_text(card, "utf-8")
    origins = Origins(
        base=made.base["digest"],
        dataset=made.dataset,
        recipe=recipe,
        code=code_digest(),
        ledger=entry_of(source),
    )
    version = seal(model, options.name, origins)
    context.progress(1, 2, f"storing {version.key}")
    uri = upload_tree(store_of(context.environment), model, version.key, last=PROVENANCE)
    context.progress(2, 2, version.key)
    size = sum((model / name).stat().st_size for name in artifact_files(model)) / 2**20
    report = Report("Model version", f"{options.name} {version.version[:12]}, from {made.base['name']}")
    report.metrics({"version": version.version[:12], "MiB": round(size)})
    report.table([{"field": name, "value": value} for name, value in vars(origins).items()], "Made from")
    report.text(card.split("---\n", 2)[2])
    for record in (made.training, made.alignment):
        if run := record.get("run"):
            report.text(_tell_tracker(context, run, version.key, uri, origins))
    return Outcome(1, 1, report, metrics={"mib": round(size, 1)}, head=version.key, copies={"model": uri})


def _tell_tracker(context: Context, run: str, model: str, uri: str, origins: Origins) -> str:
    """Note the version beside the training run that made it; says so where the run is gone.

    Raises:
        HeadraceError: The tracking server does not answer.
    """
    from mlflow import MlflowException

    from components.model.tracking import note_version

    try:
        note_version(context.environment, run, model, uri, {"whole_recipe": origins.recipe, "dataset": origins.dataset})
    except UsageError:
        return f"MLflow has no run {run} any more, so the version is not noted there."
    except MlflowException as error:
        raise HeadraceError(
            f"{model} is stored, but the tracking server {context.environment.tracking} does not note it: "
            f"{str(error).splitlines()[0]}; check `tracking` of the environment and that the server runs, and run again"
        ) from error
    return f"Noted in MLflow beside the run {run}."
