"""Find the model version that a candidate is to be compared with: the one that serves now.

Where the serving version is the candidate itself, because the same run was made before and promoted, it is the version
that the candidate was compared with then. So a run that is repeated decides the same again, and publishes nothing new.
"""

import json
from pathlib import Path
from typing import Any

from components.common.ledger import canonical
from components.common.report import Report
from components.common.sealed_store import SealedStore, store_of
from components.common.step import Context, Outcome
from components.evaluation.incumbent.identity import is_model, measured_of
from components.evaluation.incumbent.options import Comparing
from components.evaluation.serving import NOTHING
from components.model.versions import EVALUATION, PROVENANCE
from components.release.serving import stable_model

INCUMBENT = "incumbent.json"


def run(benchmark: Path, incumbent: Path, options: Comparing, context: Context) -> Outcome:
    """Look at what serves.

    Args:
        benchmark: Evidence of the benchmark, whose ledger entry names the candidate.
        incumbent: `incumbent.json`: the service and the version.
        options: Which service.
        context: Where it is served.
    """
    store = store_of(context.environment)
    serving = stable_model(options.service, context.environment) or NOTHING
    version, sentence = serving, f"{options.service} serves {short(serving)}"
    if serving == NOTHING:
        sentence = f"{options.service} serves nothing yet"
    elif before := _compared_with(store, serving, measured_of(benchmark, "candidate")):
        version = before
        sentence = f"{options.service} serves this candidate, compared with {short(before)} at its release"
    found = {"service": options.service, "serving": serving, "version": version}
    (incumbent / INCUMBENT).write_bytes(canonical(found))
    report = Report("Incumbent", f"{sentence}.")
    return Outcome(counts_in=1, counts_out=int(version != NOTHING), report=report, decision=version)


def short(version: str) -> str:
    """Write `name/version` as people read it: with twelve digits."""
    name, _, digest = version.partition("/")
    return f"{name} {digest[:12]}" if digest else "nothing"


def _compared_with(store: SealedStore, serving: str, candidate: str) -> str:
    """The version that the serving one was compared with, if that is made of the candidate; '' otherwise."""
    if not is_model(_read(store, serving, PROVENANCE), candidate):
        return ""
    before = _read(store, serving, EVALUATION).get("serving", {}).get("version", "")
    return before if before == NOTHING or store.exists(f"models/{before}/{PROVENANCE}") else ""


def _read(store: SealedStore, version: str, name: str) -> dict[str, Any]:
    return json.loads(store.read(f"models/{version}/{name}"))
