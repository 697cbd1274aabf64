"""The signed certificate of an erasure: what was erased, what was not, and how to check it; for people and machines."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.common import tombstones
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.keys import subject_key
from components.common.ledger import Ledger, read_public_key, signature_problem
from components.common.report import Report
from components.common.store import Store
from components.operations.erase.ground import ERASURES, Ground

SCHEMA = 1
_NEVER = [
    "Weights of models: a model keeps what it learnt. The versions that were trained on the records are listed; "
    "withdraw them, or train them anew from the successor dataset.",
    "The sources themselves: their owners must erase there. What comes from them again is refused.",
    "Proofs, cards and reports that were handed out before.",
    "Copies that the store does not know of. The backups it knows of are rewritten when the erasure is done; one that "
    "could not be reached keeps the records until `headrace backups PLACE --clear`, and restoring it erases them again "
    "before anything is readable.",
    "Digests: the ledger keeps a hash of each erased document's id. Who has the whole document can recognise it by "
    "that; nobody can get the document back from it.",
]


def certified(store: Store, case: str) -> int:
    """How many records of a case its newest certificate covers; 0 when there is none."""
    found = [key for key in store.list(f"{ERASURES}{case}/certificate-") if key.endswith(".json")]
    return int(found[-1].rpartition("-")[2].removesuffix(".json")) if found else 0


def certify(environment: Environment, case: str, services: Sequence[Mapping[str, str]]) -> tuple[str, dict[str, Any]]:
    """Write the certificate of a case whose places are clear.

    Args:
        environment: Where the case was carried out.
        case: Its name.
        services: The InferenceServices that were marked.

    Returns:
        The certificate's key in the store, without its ending (`.json`, `.html`), and the certificate.

    Raises:
        HeadraceError: There is no such case.
    """
    ground = Ground(environment)
    records = list(tombstones.records(ground.store, subject_key(environment), case))
    if not records:
        raise HeadraceError(f"there is no case {case} in {ground.store.uri}; `headrace erase run` begins one")
    key = f"{ERASURES}{case}/certificate-{len(records):06}"
    if not ground.store.exists(f"{key}.json"):
        statement = _state(ground, case, records, services)
        ground.store.write(f"{key}.json", ground.ledger.sign(statement), if_absent=True)
    written = json.loads(ground.store.read(f"{key}.json"))
    ground.store.write(f"{key}.html", page(written).html().encode())
    return key, written


def check(certificate: bytes, public: bytes, where: str) -> dict[str, Any]:
    """Check a certificate with the ledger's public key.

    Raises:
        HeadraceError: It is none, or was changed.
    """
    try:
        stated = json.loads(certificate)
        schema = stated["schema"]
    except (ValueError, LookupError, TypeError) as error:
        raise HeadraceError("that is no certificate of an erasure") from error
    if schema != SCHEMA:
        raise HeadraceError(f"the certificate has schema {schema}, this version checks {SCHEMA}")
    if problem := signature_problem(stated, read_public_key(public, where)):
        raise HeadraceError(f"the certificate does not hold: {problem}")
    return stated


def _state(
    ground: Ground, case: str, records: Sequence[Mapping[str, Any]], services: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    places = [place for record in records for place in record["places"]]
    cleared: Counter[tuple[str, str]] = Counter((place["kind"], place["stage"]) for place in places)
    most = {group: max(p["records"] for p in places if (p["kind"], p["stage"]) == group) for group in cleared}
    sources: Counter[str] = Counter()
    for record in records:
        sources.update(record["sources"])
    return {
        "schema": SCHEMA,
        "case": case,
        "reference": records[0]["reference"],
        "environment": ground.environment.name,
        "store": ground.store.uri,
        "begun_at": records[0]["noted_at"],
        "closed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "records": sum(record["records"] for record in records),
        "cleared": [
            {"what": kind, "made_by": stage, "places": count, "records": most[kind, stage]}
            for (kind, stage), count in sorted(cleared.items())
        ],
        "datasets": list(_datasets(ground.ledger, case)),
        "models": sorted({model for record in records for model in record["models"]}),
        "revisions": sorted({revision for record in records for revision in record["revisions"]}),
        "services": [dict(service) for service in services],
        "sources": dict(sorted(sources.items())),
        "tombstones": {name: sum(len(record[name]) for record in records) for name in ("documents", "texts", "people")},
        "found_afterwards": 0,
        "not_erased": [*ground.unreached(), *_NEVER],
    }


def _datasets(ledger: Ledger, case: str) -> Any:
    heads = {head["entry"]: head["head"] for head in ledger.heads()}
    for statement in sorted(ledger.erasures(), key=lambda one: one["head"]):
        if statement["case"] == case:
            yield {
                "version": statement["head"],
                "successor": heads.get(statement["successor"], ""),
                "erased": len(statement["erased"]),
                "of": json.loads(ledger.entry(statement["entry"]))["outputs"][statement["output"]]["records"]["count"],
            }


def page(certificate: Mapping[str, Any]) -> Report:
    """The certificate as a page."""
    stated = certificate
    report = Report(
        "Certificate of erasure",
        f"Request {stated['reference']}: {stated['records']:,} records erased from {stated['environment']}, "
        f"{stated['closed_at'][:10]}.",
    )
    report.metrics(
        {
            "records erased": stated["records"],
            "dataset versions replaced": len(stated["datasets"]),
            "places cleared": sum(row["places"] for row in stated["cleared"]),
            "found afterwards": stated["found_afterwards"],
            "model versions concerned": len(stated["models"]),
        }
    )
    report.text(
        "A record is a document in which an identifier of the person stood, that the request named, or that derives "
        "from such a one. After the erasure everything was searched again, and nothing was found. From the first "
        f"moment of it, {stated['begun_at']}, ingestion refuses what was erased."
    )
    report.heading("What was erased")
    report.table(stated["cleared"], "Places, and the most records in one of them")
    if stated["datasets"]:
        report.table(stated["datasets"], "Dataset versions and what took their place")
    report.heading("What was not erased")
    report.text("\n\n".join(stated["not_erased"]))
    if stated["models"]:
        report.table([{"model version": model} for model in stated["models"]], "Model versions trained on the records")
    if stated["revisions"]:
        report.table([{"publication": one} for one in stated["revisions"]], "Publications that served one of them")
    if stated["services"]:
        report.table(stated["services"], "Services that serve, or may go back to, such a model")
    if stated["sources"]:
        rows = [{"source": name, "records": count} for name, count in stated["sources"].items()]
        report.table(rows, "Sources from which the records came; their owners hold the originals")
    report.heading("How to check it")
    report.code(
        "headrace erase check certificate.json --key ledger.pub   # the signature\n"
        "headrace ledger verify                                   # every version, its successor and every removal\n"
        "headrace erase scan request.sealed                       # searches everything again",
    )
    report.text(
        f"Case {stated['case']}. Signed with the Ed25519 key {stated['public_key']}; signature {stated['signature']}."
    )
    return report


def save(store: Store, key: str, folder: Path) -> list[Path]:
    """Write a certificate and its page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = []
    for ending in (".json", ".html"):
        path = folder / f"certificate{ending}"
        store.download(f"{key}{ending}", path)
        saved.append(path)
    return saved
