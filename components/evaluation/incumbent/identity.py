"""Whether a model version is made of a certain model, by its content alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.common.ledger import SIDECAR, canonical, sha256
from components.model.versions import REGISTERED


def measured_of(evidence: Path, arm: str) -> str:
    """Digest of the model that evidence was measured of, as its ledger entry says; '' where it carries none.

    Args:
        evidence: The artifact of an evaluation.
        arm: `candidate` or `base`: how the evaluation calls its input.
    """
    sidecar = evidence / SIDECAR
    if not sidecar.is_file():
        return ""
    return str(json.loads(sidecar.read_bytes())["inputs"].get(arm, {}).get("digest", ""))


def is_model(provenance: Mapping[str, Any], digest: str) -> bool:
    """Tell whether a version holds the files of a model with this digest, beside those that registration adds."""
    files = {name: value for name, value in provenance["files"].items() if name not in REGISTERED}
    return bool(digest) and sha256(canonical(files)) == digest
