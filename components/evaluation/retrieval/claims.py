"""Whether an answer stays with its context, claim by claim; who judges is the benchmark's business."""

from collections.abc import Sequence

from components.evaluation.benchmark.judges import Judge
from components.evaluation.benchmark.metrics.words import clauses


def faithfulness(answer: str, question: str, contexts: Sequence[str], judge: Judge) -> float:
    """Share of an answer's claims that its context supports (Es et al. 2023); 1 for an answer that claims nothing.

    Args:
        answer: Each clause of it that can be true or false is a claim.
        question: What was asked; what it says already is no claim.
        contexts: What the model was given.
        judge: Decides on each claim.
    """
    made = clauses(answer)
    return sum(judge.supports(claim, question, contexts) for claim in made) / len(made) if made else 1.0
