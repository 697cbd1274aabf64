"""What all examples of a batch begin with is computed once, and nothing else changes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from components.model.tune.examples import UNSCORED, Example
from components.model.tune.packing import Collator, goes_by_mask, tabulate


def rows(*examples: tuple[list[int], int]) -> list[dict[str, Any]]:
    """Rows of an example each, given as its tokens and where its answer begins."""
    made = [
        Example(str(n), np.array(tokens, np.int32), start, len(tokens) - start)
        for n, (tokens, start) in enumerate(examples)
    ]
    return list(tabulate([[one] for one in made]))


def test_a_beginning_stands_once_and_is_seen_by_all() -> None:
    batch = Collator(0, shared=True)(rows(([1, 2, 3, 4, 5], 4), ([1, 2, 3, 6, 7, 8], 4), ([1, 2, 3, 9], 3)))
    none = UNSCORED
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 3, 6, 7, 8, 3, 9]], "the last before an answer is not shared"
    assert batch["labels"].tolist() == [[none, none, none, none, 5, none, none, 7, 8, none, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 4, 5, 2, 3]]
    seen = (batch["attention_mask"][0, 0] == 0).int()
    assert seen[4].tolist() == [1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert seen[8].tolist() == [1, 1, 0, 0, 0, 1, 1, 1, 1, 0, 0]
    assert seen[10].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]


token = st.integers(1, 3)


@given(
    st.lists(st.lists(token, min_size=2, max_size=7), min_size=1, max_size=5), st.lists(token, max_size=12), st.data()
)
def test_every_example_is_found_again_where_its_tokens_attend(
    ends: list[list[int]], beginning: list[int], data: st.DataObject
) -> None:
    examples = [beginning + end for end in ends]
    starts = [data.draw(st.integers(1, len(one) - 1)) for one in examples]
    batch = Collator(0, shared=True)(rows(*zip(examples, starts, strict=True)))
    if batch["attention_mask"].dim() == 2:
        assert batch["attention_mask"].sum() == sum(map(len, examples)), "padded as ever"
        return
    ids, labels, positions = (batch[name][0] for name in ("input_ids", "labels", "position_ids"))
    seen = batch["attention_mask"][0, 0] == 0
    assert len(ids) <= 0.8 * max(map(len, examples)) * len(examples)
    ends_at = [n for n in range(len(ids)) if n + 1 == len(ids) or not seen[n + 1, n]]
    assert len(ends_at) == len(examples)
    for last, tokens, start in zip(ends_at, examples, starts, strict=True):
        assert ids[seen[last]].tolist() == tokens
        assert positions[seen[last]].tolist() == list(range(len(tokens)))
        assert labels[seen[last]].tolist() == [UNSCORED] * start + tokens[start:]


def losses(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Mean loss of the scored tokens, and its gradients."""
    model.zero_grad()
    following = batch["labels"][:, 1:]
    logits = model(**{name: value for name, value in batch.items() if name != "labels"}, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1][following != UNSCORED], following[following != UNSCORED])
    loss.backward()
    return loss.detach(), [weights.grad.clone() for weights in model.parameters()]


def test_loss_and_gradients_are_those_of_padded_rows(base: Path) -> None:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64, attn_implementation="eager")
    drawn = np.random.default_rng(0)
    beginning = drawn.integers(100, 900, 20).tolist()
    given = rows(
        *((beginning + drawn.integers(100, 900, length).tolist(), 21 + length // 2) for length in (9, 4, 12, 6))
    )
    shared, padded = Collator(0, shared=True)(given), Collator(0)(given)
    assert shared["input_ids"].shape == (1, 51) and padded["input_ids"].shape == (4, 32)
    (one, its), (other, others) = losses(model, shared), losses(model, padded)
    assert torch.allclose(one, other, rtol=1e-6)
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(its, others, strict=True))


def test_what_would_take_more_memory_or_is_scored_from_the_beginning_is_padded() -> None:
    long = rows(*(([7, 7, n, *range(200)], 190) for n in range(12)))
    assert Collator(0, shared=True)(long)["input_ids"].shape == (12, 203)
    wide = rows(*(([*range(250), n, *range(770)], 1000) for n in range(6)))
    assert Collator(0, shared=True)(wide)["input_ids"].shape == (6, 1021), "fewer tokens, but more work"
    many = rows(*(([*range(60), 900 + n, *range(1000, 1059)], 110) for n in range(16)))
    assert Collator(0, shared=True)(many)["input_ids"].shape == (16, 120), "less work, but more pairs to look at"
    texts = rows(([1, 2, 3, 4], 1), ([1, 2, 3, 5], 1))
    assert Collator(0, shared=True)(texts)["input_ids"].shape == (2, 4)


@pytest.mark.parametrize(
    ("config", "goes"),
    [
        ({"model_type": "llama"}, True),
        ({"model_type": "qwen3"}, True),
        ({"model_type": "mistral"}, False),
        ({"model_type": "gemma3_text"}, False),
        ({"model_type": "lfm2", "num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]}, False),
        ({"model_type": "olmoe"}, False),
    ],
)
def test_only_models_that_go_by_the_mask_get_a_tree(config: dict[str, Any], goes: bool) -> None:
    assert goes_by_mask(AutoConfig.for_model(**config)) == goes
