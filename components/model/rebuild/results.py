"""What rebuilds came to, signed and kept in the store: how many trainings gave the same bytes when tried again.

Light to import: a dashboard reads it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from components.common.ledger import Ledger, sha256
from components.common.store import Store
from components.evaluation.intervals import wilson

FOLDER = "rebuilds"
"""Where in the store results are: `rebuilds/<run>/<hash>.json`."""


class Result(StrEnum):
    """What a rebuild came to."""

    REPRODUCED = "reproduced"
    DIFFERS = "differs"
    CANNOT = "cannot"


@dataclass(frozen=True)
class Rebuilds:
    """How reproducible trainings are. Of a run that was tried several times the newest result counts.

    Attributes:
        counts: Runs by result.
        share: Share that gave the same bytes; one that cannot be made again counts as one that did not.
        interval: Wilson's interval of that share at 95 %.
        newest: The newest result of each run, newest first.
    """

    counts: Mapping[Result, int]
    share: float
    interval: tuple[float, float]
    newest: Sequence[Mapping[str, Any]]

    @property
    def runs(self) -> int:
        """How many runs were tried again."""
        return sum(self.counts.values())


def read_rebuilds(store: Store, confidence: float = 0.95) -> Rebuilds:
    """Read what rebuilds came to.

    Args:
        store: The store.
        confidence: Level of the interval.
    """
    newest: dict[str, dict[str, Any]] = {}
    for key in store.list(f"{FOLDER}/"):
        result = json.loads(store.read(key))
        if result["signed_at"] >= newest.get(result["run"], {"signed_at": ""})["signed_at"]:
            newest[result["run"]] = result
    counts = Counter(Result(result["result"]) for result in newest.values())
    reproduced, runs = counts[Result.REPRODUCED], len(newest)
    return Rebuilds(
        {result: counts[result] for result in Result},
        reproduced / runs if runs else 0.0,
        wilson(reproduced, runs, confidence),
        sorted(newest.values(), key=lambda result: result["signed_at"], reverse=True),
    )


def write_result(ledger: Ledger, statement: Mapping[str, Any], now: str) -> str:
    """Sign a result and keep it.

    Args:
        ledger: Whose key signs, and whose store keeps it.
        statement: The result, with its `run`.
        now: When, as ISO 8601.

    Returns:
        Its key in the store.
    """
    signed = ledger.sign({**statement, "signed_at": now})
    key = f"{FOLDER}/{statement['run']}/{sha256(signed)[:16]}.json"
    ledger.store.write(key, signed, if_absent=True)
    return key
