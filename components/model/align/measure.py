"""How a model stands to held-out preferences: which answers it finds likelier, and what it answers itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from components.model.align.preferences import Messages, Preference, questions
from components.model.align.rewards import REWARDS, total, violated
from components.model.answering import Answerer

BATCH = 16


@dataclass(frozen=True)
class Standing:
    """What was measured on the held-out preferences.

    Attributes:
        scores: Score by id of the preference, by metric.
        answers: What the model answered, by id of the preference.
    """

    scores: dict[str, dict[str, float]]
    answers: dict[str, str]


def stand(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[Preference],
    asked: int,
    max_new_tokens: int,
    weights: Mapping[str, float],
    judge: Callable[[Sequence[Messages]], list[float]] | None = None,
) -> Standing:
    """Measure a model.

    Args:
        network: The model.
        tokenizer: Its tokenizer.
        held_out: Preferences it was not trained on.
        asked: Most questions to answer.
        max_new_tokens: Longest answer.
        weights: Weight of each reward.
        judge: A reward model, from 0 to 1 for each dialogue; its judgement takes the place of the weighed rewards.

    Returns:
        `preferred`: 1 where the chosen answer is likelier, by mean log-probability of its tokens, than the rejected
        one. Of greedy answers: `exact`, `kept_format` (where one was asked for) and `reward`.
    """
    pairs = [one for one in held_out if one.paired]
    posed = questions(held_out)[:asked]
    answerer = Answerer(network, tokenizer, max_new_tokens)
    with _evaluating(network):
        chosen = answerer.likelihoods([one.answered(one.chosen) for one in pairs], BATCH)
        rejected = answerer.likelihoods([one.answered(one.rejected) for one in pairs], BATCH)
        said = [reply.text.strip() for reply in answerer.answer([one.prompt for one in posed], BATCH)]
    scores: dict[str, dict[str, float]] = {
        "preferred": {one.id: float(a.mean() > b.mean()) for one, a, b in zip(pairs, chosen, rejected, strict=True)},
        "exact": {one.id: REWARDS["exact"](text, one.asked) for one, text in zip(posed, said, strict=True)},
        "kept_format": {
            one.id: float(not violated(text, one.asked))
            for one, text in zip(posed, said, strict=True)
            if one.asked.format
        },
    }
    if judge is None:
        rewards = [total(text, one.asked, weights) for one, text in zip(posed, said, strict=True)]
    else:
        judged = judge([one.answered(text) for one, text in zip(posed, said, strict=True)])
        rewards = [
            0.0 if violated(text, one.asked) else value for one, text, value in zip(posed, said, judged, strict=True)
        ]
    scores["reward"] = {one.id: value for one, value in zip(posed, rewards, strict=True)}
    return Standing(
        {name: found for name, found in scores.items() if found},
        {one.id: text for one, text in zip(posed, said, strict=True)},
    )


@contextmanager
def _evaluating(network: Any) -> Any:
    """Without dropout, and with the cache that generation needs."""
    training, cached = network.training, network.config.use_cache
    network.eval()
    network.config.use_cache = True
    try:
        yield
    finally:
        network.train(training)
        network.config.use_cache = cached
