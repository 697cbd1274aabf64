"""What people have been told, so that a run that fails every hour pages once."""

import json
import re
from dataclasses import asdict, dataclass
from typing import Literal

from components.common.errors import HeadraceError
from components.common.ledger import canonical
from components.common.store import Store

State = Literal["succeeded", "held", "failed"]
_PASSING = re.compile(r"\b[0-9a-f]{8,}\b|\d+")
"""What differs between two failures for the same reason: ids, times, counts."""
_ATTEMPTS = 20


@dataclass(frozen=True)
class Seen:
    """How the last run of a pipeline, or of a schedule, ended."""

    state: State
    reason: str
    run: str


def judge(before: Seen | None, now: Seen) -> Literal["page", "notice", "recovered", ""]:
    """Decide what people hear of a run, knowing what they heard of the one before.

    A failure pages when it is the first, or when its reason is another. The next success says once that the trouble is
    over. A model that is held is worth a notice, not a page.
    """
    if before is None:
        return {"succeeded": "", "held": "notice", "failed": "page"}[now.state]  # type: ignore[return-value]
    same = before.state == now.state and _lasting(before.reason) == _lasting(now.reason)
    if now.state == "failed":
        return "" if same else "page"
    if now.state == "held":
        return "" if same else "notice"
    return "recovered" if before.state == "failed" else ""


class Memory:
    """What people were told of one pipeline or schedule, kept in the store.

    Args:
        store: The environment's store.
        environment: Name of the environment.
        subject: Name of the schedule, or of a pipeline that a person started.
    """

    def __init__(self, store: Store, environment: str, subject: str) -> None:
        self._store = store
        self._key = f"notifications/{environment}/{subject}.json"

    def advance(self, now: Seen) -> tuple[Seen | None, str]:
        """Put a run in the last one's place; exactly one of several that end together does so at a time.

        Returns:
            The run before it, and what people should hear.
        """
        for _ in range(_ATTEMPTS):
            data, before = self._read()
            if before and now.state == "succeeded" and (before.state, before.run) == ("held", now.run):
                return before, ""  # this run's own hold was told already
            if self._store.replace(self._key, data, canonical(asdict(now))):
                return before, judge(before, now)
        raise HeadraceError(f"{self._store.uri}/{self._key} changes without end; see which runs write it")

    def take_back(self, now: Seen, before: Seen | None) -> None:
        """Forget a run that nobody could be told of, so that the next one is told instead."""
        absent = Seen("succeeded", "", "")
        self._store.replace(self._key, canonical(asdict(now)), canonical(asdict(before or absent)))

    def _read(self) -> tuple[bytes | None, Seen | None]:
        if not self._store.exists(self._key):
            return None, None
        data = self._store.read(self._key)
        try:
            return data, Seen(**json.loads(data))
        except (ValueError, TypeError):
            return data, None  # whatever it was, the next run puts it right


def _lasting(reason: str) -> str:
    return _PASSING.sub("#", reason)
