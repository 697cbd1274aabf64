"""The erasure as two steps: what needs the data's tools, and what needs the cluster's."""

import json
from pathlib import Path

from components.common.errors import HeadraceError
from components.common.ledger import canonical, sha256
from components.common.report import Report
from components.common.sealed_store import store_of
from components.common.step import Context, Outcome
from components.common.store import Store
from components.operations.erase.ground import ERASURES
from components.operations.erase.options import Erase

CASE = "case.json"


def leave_request(store: Store, sealed: bytes) -> str:
    """Leave a sealed request in the store for a run; returns its name, which is all that the run is told."""
    name = sha256(sealed)[:16]
    store.write(_key(name), sealed, if_absent=True)
    return name


def run(erasure: Path, options: Erase, context: Context) -> Outcome:
    """Erase.

    Args:
        erasure: Folder for the name of the case.
        options: Which request.
        context: The run.

    Raises:
        HeadraceError: The request is not there, a hold forbids it, or something is left.
    """
    from components.operations.backup.clear import clear_backups
    from components.operations.erase.work import erase, open_request

    store = store_of(context.environment)
    if not store.exists(_key(options.request)):
        raise HeadraceError(f"there is no sealed request {options.request}; `headrace erase submit` leaves one")
    opened = open_request(context.environment, store.read(_key(options.request)))
    erase(opened, lambda note: context.progress(0, 0, note))
    clear_backups(context.environment, context.progress)
    (erasure / CASE).write_bytes(canonical({"case": opened.name}))
    records = sum(record["records"] for record in opened.records())
    places = sum(len(record["places"]) for record in opened.records())
    report = Report("Erasure", f"Case {opened.name}: {records:,} records, {places:,} places cleared, nothing is left.")
    report.metrics({"records": records, "places": places})
    return Outcome(records, 0, report, {"erased": records}, {"places": float(places)})


def run_certify(erasure: Path, certificate: Path, options: Erase, context: Context) -> Outcome:
    """Mark services, write the certificate, remove the request.

    Args:
        erasure: The case.
        certificate: Folder for the certificate.
        options: Which request.
        context: The run.
    """
    from components.operations.erase.certificate import certify, page, save
    from components.operations.erase.mark import mark

    case = json.loads((erasure / CASE).read_bytes())["case"]
    services = mark(context.environment, case)
    key, stated = certify(context.environment, case, services)
    store = store_of(context.environment)
    save(store, key, certificate)
    store.delete(_key(options.request))
    metrics = {"services": float(len(services)), "models": float(len(stated["models"]))}
    return Outcome(stated["records"], stated["records"], page(stated), metrics=metrics)


def _key(name: str) -> str:
    return f"{ERASURES}requests/{name}.sealed"
