"""Where right answers are lost: in the search, or by the model that reads what was found. A pure judgement."""

from dataclasses import dataclass
from enum import StrEnum

from components.evaluation.evidence import Level, Scores, weigh


class Cause(StrEnum):
    """What holds the answers back."""

    RETRIEVER = "the retriever misses"
    GENERATOR = "the generator ignores or contradicts its context"
    BOTH = "both, the retriever and the generator"
    NEITHER = "neither"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Loss:
    """A share of right answers that is lost somewhere."""

    value: float
    interval: tuple[float, float]

    def __str__(self) -> str:
        """In percent, with its interval."""
        return f"{self.value:.0%} [{self.interval[0]:.0%}, {self.interval[1]:.0%}]"


@dataclass(frozen=True)
class Bottleneck:
    """What holds the answers back, and by how much.

    Attributes:
        cause: What.
        search: Right answers that are lost because of what was found instead of the right context.
        reading: Right answers that are lost although the context is the right one.
        sentence: It in plain words.
    """

    cause: Cause
    search: Loss
    reading: Loss
    sentence: str


def find_bottleneck(gold: Scores, retrieved: Scores, level: Level, tolerance: float) -> Bottleneck:
    """Say where right answers are lost.

    Args:
        gold: Score of every question answered with the right context.
        retrieved: Score of the same questions answered with what was found.
        level: Level, resamples and seed of the intervals.
        tolerance: Loss that does not matter.
    """
    search = weigh("search", gold, retrieved, level, task="")
    assert search.gain is not None and search.gain_interval is not None
    lost_in_search = Loss(search.gain, search.gain_interval)
    lost_in_reading = Loss(1 - search.value, (1 - search.interval[1], 1 - search.interval[0]))
    cause = _cause(lost_in_search, lost_in_reading, tolerance)
    rests = (
        f"with the right context {search.value:.0%} of the answers are right, so reading loses {lost_in_reading}; what "
        f"was found in its place loses another {lost_in_search}"
    )
    sentence = {
        Cause.RETRIEVER: f"The bottleneck is the retriever, which misses what the questions need: {rests}.",
        Cause.GENERATOR: f"The bottleneck is the generator, which ignores or contradicts its context: {rests}.",
        Cause.BOTH: f"The retriever misses and the generator ignores or contradicts its context: {rests}.",
        Cause.NEITHER: f"Neither the retriever nor the generator is a bottleneck: {rests}.",
        Cause.UNDECIDED: f"{len(gold)} questions do not decide where the bottleneck is: {rests}.",
    }[cause]
    return Bottleneck(cause, lost_in_search, lost_in_reading, sentence)


def _cause(search: Loss, reading: Loss, tolerance: float) -> Cause:
    """A loss matters when its interval lies above the tolerance, and does not when it lies below."""
    matters = [loss.interval[0] > tolerance for loss in (search, reading)]
    harmless = [loss.interval[1] <= tolerance for loss in (search, reading)]
    if all(matters):
        if reading.interval[0] > search.interval[1]:
            return Cause.GENERATOR
        return Cause.RETRIEVER if search.interval[0] > reading.interval[1] else Cause.BOTH
    if matters[1]:
        return Cause.GENERATOR
    if matters[0]:
        return Cause.RETRIEVER
    return Cause.NEITHER if all(harmless) else Cause.UNDECIDED
