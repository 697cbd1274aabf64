"""Whether an answer stays with its context: claim by claim, by a judge that can be exchanged."""

from collections.abc import Sequence
from typing import Protocol

from components.evaluation.benchmark.metrics.words import clauses
from components.evaluation.retrieval.words import words

_FUNCTION_WORDS = frozenset(
    """
    a an and are as at be by can for from has have how in is it its of on or that the their there they this to was were
    what when where which who will with you your
    """.split()  # noqa: SIM905
)
"""English words that claim nothing."""


class Judge(Protocol):
    """Decides whether a context supports a claim."""

    name: str

    def supports(self, context: str, claim: str, question: str) -> bool:
        """Tell whether what a claim says, beyond what the question says already, stands in the context."""


class Overlap:
    """A judge that needs no model: the claim's words must stand in the context.

    Words of the question and function words count for neither side; Korean is compared by pairs of syllables. It sees
    what was made up, not what was turned round: `not` is a word like others.

    Args:
        share: Share of the words that must stand in the context.
    """

    name = "words in common"

    def __init__(self, share: float) -> None:
        self._share = share

    def supports(self, context: str, claim: str, question: str) -> bool:
        """See `Judge.supports`; a claim that says nothing of its own is supported."""
        said = set(words(claim)) - set(words(question)) - _FUNCTION_WORDS
        return not said or len(said & set(words(context))) >= self._share * len(said)


def claims(answer: str) -> list[str]:
    """Split an answer into what it claims: the clauses that can each be true or false."""
    return [clause for clause in clauses(answer) if words(clause)]


def faithfulness(answer: str, question: str, contexts: Sequence[str], judge: Judge) -> float:
    """Share of an answer's claims that its context supports (Es et al. 2023); 1 for an answer that claims nothing."""
    made = claims(answer)
    context = "\n".join(contexts)
    return sum(judge.supports(context, claim, question) for claim in made) / len(made) if made else 1.0
