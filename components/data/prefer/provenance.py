"""Where a preference comes from when its answers come from several documents."""

from collections.abc import Sequence
from typing import Any

from components.common.documents import CONFIDENTIALITY, PII
from components.data.curate.survey import INHERITED


def inherit(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Inherit from documents: as confidential and as personal as the worst, about all that any of them is about.

    Args:
        rows: Documents under one licence; the first gives everything else.

    Returns:
        Values of the columns `INHERITED`.
    """
    return {
        **{name: rows[0][name] for name in INHERITED},
        "confidentiality": max((row["confidentiality"] for row in rows), key=CONFIDENTIALITY.index),
        "pii": max((row["pii"] for row in rows), key=PII.index),
        "subjects": sorted({subject for row in rows for subject in row["subjects"]}),
    }
