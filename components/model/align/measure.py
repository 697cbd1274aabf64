"""How a model stands to held-out preferences: which answers it finds likelier, and what it answers itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from components.model.align.preferences import Messages, Preference, questions
from components.model.align.rewards import REWARDS, total, violated

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
    with _evaluating(network):
        chosen = likelihoods(network, tokenizer, [(one.prompt, one.chosen) for one in pairs])
        rejected = likelihoods(network, tokenizer, [(one.prompt, one.rejected) for one in pairs])
        said = answer(network, tokenizer, [one.prompt for one in posed], max_new_tokens)
    scores: dict[str, dict[str, float]] = {
        "preferred": {one.id: float(a > b) for one, a, b in zip(pairs, chosen, rejected, strict=True)},
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
        judged = judge(
            [[*one.prompt, {"role": "assistant", "content": text}] for one, text in zip(posed, said, strict=True)]
        )
        rewards = [
            0.0 if violated(text, one.asked) else value for one, text, value in zip(posed, said, judged, strict=True)
        ]
    scores["reward"] = {one.id: value for one, value in zip(posed, rewards, strict=True)}
    return Standing(
        {name: found for name, found in scores.items() if found},
        {one.id: text for one, text in zip(posed, said, strict=True)},
    )


def likelihoods(
    network: Any, tokenizer: PreTrainedTokenizerBase, dialogues: Sequence[tuple[Messages, str]]
) -> list[float]:
    """Mean log-probability of the tokens of each answer.

    Args:
        network: The model.
        tokenizer: Its tokenizer.
        dialogues: What was said before, and the answer.
    """
    values: list[float] = []
    for start in range(0, len(dialogues), BATCH):
        rows, begins = [], []
        for prompt, said in dialogues[start : start + BATCH]:
            begins.append(len(_tokens(tokenizer, prompt, True)))
            rows.append(_tokens(tokenizer, [*prompt, {"role": "assistant", "content": said}], False))
        width, first = max(map(len, rows)), min(begins) - 1
        device = network.device
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
        with torch.no_grad():
            scored = network(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width - first)
        chances = torch.log_softmax(scored.logits[:, :-1].float(), -1).gather(2, ids[:, first + 1 :, None]).squeeze(2)
        for row, begin, line in zip(chances, begins, rows, strict=True):
            values.append(float(row[begin - 1 - first : len(line) - 1 - first].mean()))
    return values


def answer(
    network: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Messages], max_new_tokens: int
) -> list[str]:
    """Answer greedily, with the chat template.

    Args:
        network: The model.
        tokenizer: Its tokenizer.
        prompts: What was said before each answer.
        max_new_tokens: Longest answer.
    """
    said: list[str] = []
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    for start in range(0, len(prompts), BATCH):
        rows = [_tokens(tokenizer, prompt, True) for prompt in prompts[start : start + BATCH]]
        width = max(map(len, rows))
        ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=network.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=network.device)
        with torch.no_grad():
            made = network.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=pad
            )
        said += [text.strip() for text in tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)]
    return said


def _tokens(tokenizer: PreTrainedTokenizerBase, messages: Messages, asking: bool) -> list[int]:
    tokens: Any = tokenizer.apply_chat_template(list(messages), add_generation_prompt=asking, return_dict=False)
    return list(tokens)


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
