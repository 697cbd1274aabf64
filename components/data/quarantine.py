"""Quarantine: what was too bad to use is named beside the documents, and too much of it fails the step.

An artifact of documents holds `quarantine.jsonl`, a line for each record or file with its reason, where it is and what
it is known by (a hash, a document's id). It never holds a text: what is named can be looked at where it lies, and is
deleted where it lies. So the list may be shown to whoever runs the line.
"""

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from components.common.errors import HeadraceError
from components.data.reasons import Reason

FILE = "quarantine.jsonl"
SHOWN = 50


class Quarantine:
    """The list of what a step sets aside, written as it goes.

    Args:
        folder: The artifact; it gets `FILE`, also when nothing is set aside.
        stage: Step whose option bounds the share: `ingest`, `parse`.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self.reasons: Counter[Reason] = Counter()
        self.first: list[dict[str, str]] = []
        self._stage = stage
        self._file = (folder / FILE).open("w", encoding="utf-8")

    def __len__(self) -> int:
        """Count what was set aside."""
        return self.reasons.total()

    def __enter__(self) -> Self:
        """Begin writing."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the list."""
        self._file.close()

    def put(self, reason: Reason, what: str, detail: str = "", records: int = 1, **known: str) -> None:
        """Set something aside.

        Args:
            reason: Why.
            what: Where it is: a path, a line, an address.
            detail: What exactly is wrong, without quoting what is said there.
            records: How many records that are: more than one for a file of which nothing can be read.
            **known: What else names it: `source`, `id`, `sha256`.
        """
        self.reasons[reason] += records
        many = {"records": f"{records}"} if records > 1 else {}
        row = {"what": what, "reason": reason.value, "detail": detail, **many, **known}
        if len(self.first) < SHOWN:
            self.first.append(row)
        self._file.write(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n")

    def check(self, total: int, most: float) -> None:
        """Fail when more than a share of everything was set aside.

        Raises:
            HeadraceError: It was.
        """
        count = len(self)
        if count <= most * total:
            return
        reasons = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common(3))
        first = self.first[0]
        example = f"{first['what']}: {first['detail'] or first['reason']}"
        raise HeadraceError(
            f"{count:,} of {total:,} records are fit for quarantine only ({reasons}; first {example}), more than the "
            f"{most:.0%} that data.{self._stage}.max_quarantined_share allows; mend the source or raise it"
        )
