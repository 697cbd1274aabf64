"""Examples of a batch that begin alike are computed once up to where they part.

Chat templates open every dialogue with the same system message. Laid out as a tree, one row holds that beginning once
and after it what follows in each example: a token attends to the beginning and to its own example, at the positions it
has alone. Loss and gradients are those of padded rows (as in Hydragen, Juravsky et al. 2024, which shares the prefix in
generation), and nothing is padded.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from components.model.tune.examples import UNSCORED

_WORTH = 0.8
"""Share of the work of padded rows that a tree may be."""
_EVEN = 3000
"""Tokens of a row at which attention is as much work as the rest of a layer: in SmolLM2-135M, more in larger models."""
_PAIRS = 2**19
"""Pairs of tokens that attention may look at although padded rows have fewer: they take memory, here a little."""


def common_prefix(tokens: Sequence[Tensor], labels: Sequence[Tensor]) -> int:
    """How many tokens the examples of a batch share, when it is worth computing them once.

    Args:
        tokens: Ids of each example.
        labels: Its targets.

    Returns:
        Length of the beginning; the token after it is not scored in any example. 0: rows are better padded.
    """
    longest, fewest = max(map(len, tokens)), min(map(len, tokens))
    head = torch.stack([row[:fewest] for row in tokens])
    alike = (head == head[0]).all(dim=0).long().cumprod(dim=0).sum()
    scored = [(row != UNSCORED).nonzero().flatten().tolist() for row in labels]
    before_scored = min(places[0] if places else len(row) for places, row in zip(scored, labels, strict=True))
    shared = min(int(alike), before_scored - 1, fewest - 1)
    together, padded = sum(map(len, tokens)) - shared * (len(tokens) - 1), longest * len(tokens)
    less = together * (_EVEN + together) <= _WORTH * padded * (_EVEN + longest)
    fits = together**2 <= max(_PAIRS, padded * longest)
    return shared if shared > 0 and less and fits else 0


def join(rows: Sequence[Tensor], shared: int) -> Tensor:
    """One row of a column: the beginning once, and what follows it in each example."""
    return torch.cat([row[shared if number else 0 :] for number, row in enumerate(rows)])[None]


def tree(lengths: Sequence[int], shared: int) -> dict[str, Tensor]:
    """Positions and attention of the joined row.

    Args:
        lengths: Tokens of each example, the beginning included.
        shared: Tokens of the beginning.

    Returns:
        `position_ids`, row × tokens, and `attention_mask`, row × head × tokens × tokens, which eager attention
        adds to the scores.
    """
    positions = join([torch.arange(length) for length in lengths], shared)
    branch = join([torch.full((length,), number + 1) for number, length in enumerate(lengths)], shared)[0]
    branch[:shared] = 0
    seen = ((branch[:, None] == branch) | (branch == 0)).tril()
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {"position_ids": positions, "attention_mask": mask[None, None]}
