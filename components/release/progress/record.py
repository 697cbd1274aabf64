"""What an analysis leaves in the store: looks, each written once, and how it ended.

`rollouts/<service>/<candidate>/<attempt>/look-<number>.json`, `verdict.json`, `told.json` and `report.html`. Whoever
finds looks without a verdict goes on with them; whoever loses the race to write a look goes on with the winner's.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, ValidationError

from components.common.errors import HeadraceError
from components.common.options import describe_validation
from components.common.store import Store
from components.release.progress.judge import Look


class Ending(StrEnum):
    """How an analysis ended."""

    PROMOTED = "promoted"
    ABORTED = "aborted"
    HELD = "held"
    OVERTAKEN = "overtaken"
    """Somebody else moved the traffic or replaced the candidate."""
    NOTHING = "nothing"
    """There was nothing to analyse."""


class Conclusion(BaseModel):
    """The end of an attempt.

    Attributes:
        ending: How it ended.
        reason: Why, in a sentence.
        share: The candidate's share since then.
        looks: Looks that were taken.
        at: When the deciding look was.
        seconds: From the deciding look until its consequence was observed.
    """

    model_config = ConfigDict(frozen=True)

    ending: Ending
    reason: str
    share: int
    looks: int
    at: float
    seconds: float


class Record:
    """One candidate's attempts."""

    def __init__(self, store: Store, service: str, candidate: str) -> None:
        """Find the latest attempt.

        Args:
            store: Where records are kept.
            service: The InferenceService.
            candidate: The revision.
        """
        self._store = store
        self._folder = f"rollouts/{service}/{candidate}"
        keys = [key.removeprefix(f"{self._folder}/") for key in store.list(f"{self._folder}/")]
        self.attempt = max((int(key.partition("/")[0]) for key in keys), default=1)

    @property
    def key(self) -> str:
        """Key prefix of the attempt."""
        return f"{self._folder}/{self.attempt:02d}"

    def conclusion(self) -> Conclusion | None:
        """Return how the attempt ended, None if it has not."""
        key = f"{self.key}/verdict.json"
        return Conclusion.model_validate_json(self._store.read(key)) if self._store.exists(key) else None

    def begin_another(self) -> None:
        """Start the next attempt."""
        self.attempt += 1

    def looks(self, after: int = 0) -> list[Look]:
        """Read the attempt's looks from a number on, in order.

        Raises:
            HeadraceError: One is missing or damaged.
        """
        found: list[Look] = []
        while self._store.exists(key := self._look(after + len(found) + 1)):
            try:
                found.append(Look.model_validate_json(self._store.read(key)))
            except ValidationError as error:
                raise HeadraceError(
                    f"{self._store.uri}/{key}: {describe_validation(error)}; remove {self._store.uri}/{self.key} and "
                    "start the analysis again"
                ) from error
        return found

    def write(self, look: Look) -> bool:
        """Keep a look; False if somebody else has taken that one."""
        return self._store.write(self._look(look.number), look.model_dump_json().encode(), if_absent=True)

    def conclude(self, conclusion: Conclusion) -> bool:
        """Keep the end; False if it was known."""
        return self._store.write(f"{self.key}/verdict.json", conclusion.model_dump_json().encode(), if_absent=True)

    @property
    def told(self) -> bool:
        """Whether people have been told of the end."""
        return self._store.exists(f"{self.key}/told.json")

    def tell(self) -> None:
        """Keep that people have been told."""
        self._store.write(f"{self.key}/told.json", b"{}")

    def publish(self, page: str) -> str:
        """Keep the report; returns its address."""
        self._store.write(f"{self.key}/report.html", page.encode())
        return f"{self._store.uri}/{self.key}/report.html"

    def _look(self, number: int) -> str:
        return f"{self.key}/look-{number:06d}.json"
