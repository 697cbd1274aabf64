"""Ratings in the store, named by their content, where the gate finds them."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from components.common.errors import HeadraceError
from components.common.ledger import canonical, sha256
from components.common.sealed_store import SealedStore
from components.evaluation.evidence import EVIDENCE, Evidence
from components.model.versions import SCORES

RATED = "rated.json"
"""Beside the evidence: digest of the candidate that was rated."""


def keep(evidence: Evidence, candidate: str, store: SealedStore) -> str:
    """Put evidence from ratings into the store.

    Args:
        evidence: What the ratings came to.
        candidate: Digest of the candidate.
        store: Where to.

    Returns:
        Its key, for `evaluation.gate.ratings`.
    """
    scores = canonical({arm: dict(given) for arm, given in evidence.scores.items()})
    files = {EVIDENCE: canonical(evidence.record()), SCORES: scores, RATED: canonical({"candidate": candidate})}
    key = f"ratings/{sha256(canonical({name: sha256(data) for name, data in files.items()}))}"
    for name, data in files.items():
        store.write(f"{key}/{name}", data, if_absent=True)
    return key


def read_stored(key: str, candidate: str, store: SealedStore) -> Evidence:
    """Read evidence from ratings back.

    Args:
        key: What `keep` returned.
        candidate: Digest of the candidate to be judged.
        store: Where it is.

    Raises:
        HeadraceError: It is not there, or is of another candidate.
    """
    if not store.exists(f"{key}/{RATED}"):
        raise HeadraceError(
            f"evaluation.gate.ratings: {store.uri}/{key} is not there; take the key that "
            "`headrace ratings report --store` names"
        )
    rated = json.loads(store.read(f"{key}/{RATED}"))["candidate"]
    if not candidate or rated != candidate:
        raise HeadraceError(
            f"evaluation.gate.ratings: {key} is of another candidate ({rated[:12] or 'unknown'}, this one is "
            f"{candidate[:12] or 'unknown'}); have the answers of this one rated"
        )
    with TemporaryDirectory(prefix="headrace-ratings-") as scratch:
        for name in (EVIDENCE, SCORES):
            Path(scratch, name).write_bytes(store.read(f"{key}/{name}"))
        return Evidence.read(Path(scratch))
