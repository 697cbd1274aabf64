"""What happened to documents before they came here: every step's exclusions by reason, as the ledger recorded them."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from components.common.ledger import Ledger
from components.common.store import Store


@dataclass
class Passed:
    """What a step did with the documents.

    Attributes:
        stage: `area/name` of the step.
        documents_in: Documents that it read.
        documents_out: Documents that it wrote.
        dropped: Documents that it left out, by reason.
    """

    stage: str
    documents_in: int = 0
    documents_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def steps_before(store: Store, entry: str) -> list[Passed]:
    """List the steps that documents went through, first to last.

    Args:
        store: Where the ledger is.
        entry: The ledger entry that made the documents; '' for documents from outside.

    The shards of a step count as one step. Steps that the ledger does not know are not listed.
    """
    ledger = Ledger(store, Path())
    known = {Path(key).stem for key in store.list("ledger/entries/")}
    steps: dict[str, Passed] = {}
    seen: set[str] = set()
    layer = [entry]
    while layer:
        following: dict[str, None] = {}
        for name in layer:
            if not name or name in seen or name not in known:
                continue
            seen.add(name)
            made = json.loads(ledger.entry(name))
            passed = steps.pop(made["stage"], Passed(made["stage"]))
            steps[made["stage"]] = passed  # the furthest back comes last
            if any("records" in output for output in made["outputs"].values()):
                passed.documents_in += made["counts"]["in"]
                passed.documents_out += made["counts"]["out"]
                passed.dropped.update(made["counts"]["dropped"])
            following |= dict.fromkeys(parent["entry"] for parent in made["inputs"].values())
        layer = list(following)
    return list(reversed(steps.values()))
