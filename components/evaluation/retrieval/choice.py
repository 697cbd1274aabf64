"""Tune, look up, both or neither: judged from the same questions, answered by the four systems.

Pure functions from scores to a verdict with its reason. A system is certainly worse than another when the interval of
their paired difference lies on one side of 0, and as good when that interval ends within the tolerance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from components.evaluation.evidence import Level, weigh


class System(StrEnum):
    """What can be put into service, the least effort first."""

    BASE = "base"
    TUNED = "tuned"
    BASE_RETRIEVAL = "base + retrieval"
    TUNED_RETRIEVAL = "tuned + retrieval"


class Advice(StrEnum):
    """What to do with a kind of fact."""

    LEAVE = "leave it to the base model"
    TUNE = "tune it in"
    RETRIEVE = "leave it to retrieval"
    BOTH = "tune it in and look it up"
    NEITHER = "none of the four answers it"


_ADVICE = {
    System.BASE: Advice.LEAVE,
    System.TUNED: Advice.TUNE,
    System.BASE_RETRIEVAL: Advice.RETRIEVE,
    System.TUNED_RETRIEVAL: Advice.BOTH,
}

_KOREAN = {
    Advice.LEAVE: "기본 모델만으로 충분합니다",
    Advice.TUNE: "미세 조정으로 가르치는 것이 좋습니다",
    Advice.RETRIEVE: "검색에 맡기는 것이 좋습니다",
    Advice.BOTH: "미세 조정과 검색을 함께 쓰는 것이 좋습니다",
    Advice.NEITHER: "네 가지 방식 모두 잘 답하지 못합니다",
}

_KOREAN_NAMES = {
    System.BASE: "기본 모델",
    System.TUNED: "미세 조정 모델",
    System.BASE_RETRIEVAL: "기본 모델과 검색",
    System.TUNED_RETRIEVAL: "미세 조정 모델과 검색",
}

USELESS = 0.2
"""Share of right answers up to which no system is worth recommending."""

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Rival:
    """A system beside the best one.

    Attributes:
        system: Which.
        value: Its mean score.
        interval: Interval of that.
        behind: How far the best one is ahead, over the same questions.
        behind_interval: Interval of that.
    """

    system: System
    value: float
    interval: tuple[float, float]
    behind: float
    behind_interval: tuple[float, float]


@dataclass(frozen=True)
class Choice:
    """What to do, and how sure that is.

    Attributes:
        group: What it is about: a kind of fact, or everything.
        questions: How many it rests on.
        advice: What to do.
        system: The system that follows from it.
        certain: Whether every other system is certainly worse, or as good and more effort.
        rivals: All four beside the best one.
    """

    group: str
    questions: int
    advice: Advice
    system: System
    certain: bool
    rivals: Sequence[Rival]

    @property
    def sentence(self) -> str:
        """The choice in plain words."""
        shown = ", ".join(f"{rival.system} {rival.value:.0%}" for rival in self.rivals)
        if self.advice == Advice.NEITHER:
            return f"{self.group}: {self.advice} well ({shown} right of {self.questions})."
        sure = "" if self.certain else f"; with {self.questions} questions that is a leaning, not a finding"
        return f"{self.group}: {self.advice} ({shown} right of {self.questions}{sure})."

    @property
    def korean(self) -> str:
        """The choice in plain Korean, without the name of the group."""
        shown = ", ".join(f"{_KOREAN_NAMES[rival.system]} {rival.value:.0%}" for rival in self.rivals)
        unsure = "" if self.certain or self.advice == Advice.NEITHER else " 질문 수가 적어 확정된 결론은 아닙니다."
        return f"{_KOREAN[self.advice]}: 질문 {self.questions}개의 정답률은 {shown}입니다.{unsure}"


def choose(group: str, scores: Mapping[System, Scores], level: Level, tolerance: float) -> Choice:
    """Recommend a system.

    The one with the best mean, unless one of less effort is as good within the tolerance.

    Args:
        group: What the questions are about.
        scores: Score of every question by each system.
        level: Level, resamples and seed of the intervals.
        tolerance: Difference that is not worth more effort.
    """
    order = list(System)
    means = {system: sum(scores[system].values()) / len(scores[system]) for system in order}
    best = max(order, key=lambda system: (means[system], -order.index(system)))
    rivals = [_beside(system, scores, best, level) for system in order]
    if means[best] <= USELESS:
        sure = rivals[order.index(best)].interval[1] <= USELESS + tolerance
        return Choice(group, len(scores[best]), Advice.NEITHER, System.BASE, sure, rivals)
    chosen = next(rival.system for rival in rivals if rival.system == best or rival.behind_interval[1] <= tolerance)
    others = [rival for rival in rivals if rival.system not in (chosen, best)]
    certain = all(
        rival.behind_interval[0] > 0
        or (rival.behind_interval[1] <= tolerance and order.index(rival.system) > order.index(chosen))
        for rival in others
    )
    return Choice(group, len(scores[best]), _ADVICE[chosen], chosen, certain, rivals)


def _beside(system: System, scores: Mapping[System, Scores], best: System, level: Level) -> Rival:
    found = weigh("difference", scores[best], scores[system], level, task="")
    assert found.base_value is not None and found.base_interval is not None
    assert found.gain is not None and found.gain_interval is not None
    behind = (0.0, 0.0) if system == best else found.gain_interval
    return Rival(system, found.base_value, found.base_interval, found.gain, behind)
