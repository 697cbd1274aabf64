"""Register a model version: the model, its card, its evaluation and its origins, in the store for good."""

import shutil
from pathlib import Path
from typing import Any

from components.common.code import code_digest
from components.common.ledger import SIDECAR, artifact_files, canonical, entry_of, file_digest, sha256
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.common.store import upload_tree
from components.data.card.version import MANIFEST
from components.evaluation.gate.decide import VERDICT
from components.model.register.card import write_card
from components.model.register.options import Register
from components.model.versions import (
    ADAPTER,
    BASE,
    CARD,
    EVALUATION,
    PROVENANCE,
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
    judged = read_json(verdict / VERDICT)
    training = read_json(candidate / ADAPTER / TRAINING)
    recipe = options.recipe or _shaped_by(options, training)
    model.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(verdict / SCORES, model / SCORES)
    return _register(candidate, model, options, context, recipe, file_digest(dataset / MANIFEST), judged, training)


def run_base(base: Path, model: Path, options: Register, context: Context) -> Outcome:
    """Register a base model as it came; the recipe's other parts did not shape it, so they do not make it another one.

    Args:
        base: The base model.
        model: The model version.
        options: Its name and what its card says.
        context: The run.
    """
    return _register(base, model, options, context, _shaped_by(options, {}), "", {}, {})


def _shaped_by(options: Register, training: dict[str, Any]) -> str:
    """Digest of the options that are known to have shaped a model, where no recipe says."""
    registered = options.model_dump(mode="json", exclude={"recipe"})
    return sha256(canonical({"tune": training.get("options", {}), "register": registered}))


def _register(
    source: Path,
    model: Path,
    options: Register,
    context: Context,
    recipe: str,
    dataset: str,
    verdict: dict[str, Any],
    training: dict[str, Any],
) -> Outcome:
    base = read_json(source / BASE)
    shutil.copytree(source, model, ignore=shutil.ignore_patterns(SIDECAR), dirs_exist_ok=True)
    (model / EVALUATION).write_bytes(canonical(verdict))
    card = write_card(options, base, dataset, verdict, training)
    (model / CARD).write_text(card, "utf-8")
    origins = Origins(
        base=base["digest"],
        dataset=dataset,
        recipe=recipe,
        code=code_digest(),
        ledger=entry_of(source),
    )
    version = seal(model, options.name, origins)
    context.progress(1, 2, f"storing {version.key}")
    uri = upload_tree(store_of(context.environment), model, version.key, last=PROVENANCE)
    context.progress(2, 2, version.key)
    size = sum((model / name).stat().st_size for name in artifact_files(model)) / 2**20
    report = Report("Model version", f"{options.name} {version.version[:12]}, from {base['name']}")
    report.metrics({"version": version.version[:12], "MiB": round(size)})
    report.table([{"field": name, "value": value} for name, value in vars(origins).items()], "Made from")
    report.text(card.split("---\n", 2)[2])
    return Outcome(1, 1, report, metrics={"mib": round(size, 1)}, head=version.key, copies={"model": uri})
