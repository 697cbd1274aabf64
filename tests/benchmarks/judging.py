"""Counts what a finder of personal data got right on labelled sentences."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.labelled import Sentence

Span = tuple[int, int, str]


@dataclass
class Score:
    """What was found, exactly as labelled, and what was found or missed besides, by kind."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def precision(self, *kinds: str) -> float:
        return _ratio(self._sum(self.right, kinds), self._sum(self.wrong, kinds))

    def recall(self, *kinds: str) -> float:
        return _ratio(self._sum(self.right, kinds), self._sum(self.missed, kinds))

    def f1(self, *kinds: str) -> float:
        right = 2 * self._sum(self.right, kinds)
        return _ratio(right, self._sum(self.wrong, kinds) + self._sum(self.missed, kinds))

    def _sum(self, counts: Counter[str], kinds: Sequence[str]) -> int:
        return sum(counts[kind] for kind in kinds or (self.right | self.wrong | self.missed))


def _ratio(right: int, other: int) -> float:
    return right / (right + other) if right + other else float("nan")


def judge(
    labelled: Sequence[Sentence], found: Iterable[Iterable[Span]], kinds: Sequence[str], partly: bool = False
) -> Score:
    """Compare findings with labels, kind by kind.

    Args:
        labelled: The sentences.
        found: What was found in each.
        kinds: Kinds that count; labels and findings of others are passed over.
        partly: Take a finding for right when it covers half of the label's and its own characters, not only when both
            ends agree.
    """
    score = Score()
    for sentence, spans in zip(labelled, found, strict=True):
        open_labels = [span for span in sentence.spans if span[2] in kinds]
        for span in spans:
            if span[2] not in kinds:
                continue
            label = next((one for one in open_labels if _agree(one, span, partly)), None)
            if label:
                open_labels.remove(label)
                score.right[span[2]] += 1
            else:
                score.wrong[span[2]] += 1
                score.errors.append(f"wrong {span[2]} {sentence.text[span[0] : span[1]]!r} in {sentence.text!r}")
        for start, end, kind in open_labels:
            score.missed[kind] += 1
            score.errors.append(f"missed {kind} {sentence.text[start:end]!r} in {sentence.text!r}")
    return score


def _agree(label: Span, span: Span, partly: bool) -> bool:
    if label[2] != span[2]:
        return False
    if not partly:
        return label[0] == span[0] and label[1] == span[1]
    both = min(label[1], span[1]) - max(label[0], span[0])
    return 2 * both >= max(label[1] - label[0], span[1] - span[0])
