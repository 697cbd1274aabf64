"""The releases of a store: every registered model version with what was measured of it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.ledger import open_ledger
from components.common.options import describe_validation
from components.common.sealed_store import SealedStore, store_of
from components.evaluation.evidence import Metric
from components.model.versions import EVALUATION, PROVENANCE
from components.release.serving import stable_model


@dataclass(frozen=True)
class Release:
    """A registered model version.

    Attributes:
        version: `name/version`.
        registered: When its head was signed, as ISO 8601; '' for a version without a signature.
        decision: What the gate said; '' for a base model.
        sentence: Why.
        confidence: Level of the intervals.
        metrics: What was measured; empty for a base model.
    """

    version: str
    registered: str
    decision: str
    sentence: str
    confidence: float
    metrics: tuple[Metric, ...]


def read_releases(environment: Environment) -> list[Release]:
    """Read every model version of a store, in the order in which they were registered.

    Raises:
        HeadraceError: A version's evaluation is not of that form; names the file and the field.
    """
    store = store_of(environment)
    signed = {head["head"]: head["signed_at"] for head in open_ledger(environment).heads()}
    found = [_read(store, key, signed.get(key, "")) for key in _versions(store)]
    return sorted(found, key=lambda release: (release.registered, release.version))


def serving_now(service: str, environment: Environment) -> tuple[str, str]:
    """`name/version` that a service serves, '' for none; and why that is not known, '' if it is."""
    try:
        return stable_model(service, environment), ""
    except HeadraceError as error:
        return "", str(error)


def _versions(store: SealedStore) -> Iterator[str]:
    for key in sorted(store.list("models/")):
        folder, _, name = key.rpartition("/")
        if name == PROVENANCE and folder.count("/") == 2:
            yield folder


def _read(store: SealedStore, key: str, registered: str) -> Release:
    where = f"{store.uri}/{key}/{EVALUATION}"
    try:
        evaluation: dict[str, Any] = json.loads(store.read(f"{key}/{EVALUATION}"))
        evidence = evaluation.get("evidence", {"confidence": 0.95, "metrics": []})
        metrics = tuple(Metric.model_validate(_named(metric, evidence)) for metric in evidence["metrics"])
    except ValidationError as error:
        raise HeadraceError(f"{where}: {describe_validation(error)}; restore it from a backup") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HeadraceError(f"{where} is no evaluation of a model version; restore it from a backup") from error
    version = key.partition("/")[2]
    said = (evaluation.get("decision", ""), evaluation.get("sentence", ""))
    return Release(version, registered, *said, float(evidence["confidence"]), metrics)


def _named(metric: dict[str, Any], evidence: dict[str, Any]) -> dict[str, Any]:
    """A metric of a version that was registered before each metric named its task."""
    return {"task": evidence.get("task", ""), **metric}
