"""What scoring answers may need beside the answers: options, the judge, the embedding model. Opened when first used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from components.evaluation.benchmark.options import Benchmark

if TYPE_CHECKING:
    from components.evaluation.benchmark.judges import Judge
    from components.evaluation.retrieval.embedding import Embedder


class Opened:
    """The models behind scores.

    Args:
        options: Which they are.
    """

    def __init__(self, options: Benchmark) -> None:
        self._options = options

    @cached_property
    def embedder(self) -> "Embedder":
        """The embedding model."""
        from components.evaluation.retrieval.embedding import Embedder

        return Embedder(self._options.embedder, "fp32")

    @cached_property
    def judge(self) -> "Judge":
        """Who decides whether documents support a claim."""
        from components.evaluation.benchmark.judges import ModelJudge, Overlap, Similarity

        judging = self._options.judging
        if judging.judge == "overlap":
            return Overlap(judging.share)
        if judging.judge == "embedding":
            return Similarity(self.embedder, judging.similarity)
        from components.evaluation.benchmark.models import open_model

        return ModelJudge(
            open_model(judging.model, self._options), f"model {judging.model.rstrip('/').rpartition('/')[2]}"
        )


@dataclass(frozen=True)
class Scoring:
    """How answers are scored.

    Attributes:
        options: The benchmark's options.
        opened: The models behind scores, shared by all tasks.
        passes: The k of pass@k.
    """

    options: Benchmark
    opened: Opened
    passes: Sequence[int] = (1,)

    @classmethod
    def by(cls, options: Benchmark) -> "Scoring":
        """Score as the options say."""
        return cls(options, Opened(options))

    def of(self, passes: Sequence[int]) -> "Scoring":
        """The same for a task with k of its own."""
        return replace(self, passes=passes)


PLAIN = Scoring.by(Benchmark())
"""How lm-eval's own command scores: with the defaults of the options."""
