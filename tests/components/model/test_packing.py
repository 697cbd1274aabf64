from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.model.tune.examples import UNSCORED, Example
from components.model.tune.packing import Collator, pack, tabulate


def first_fit_decreasing(lengths: list[int], capacity: int) -> list[list[int]]:
    """The algorithm as the textbook has it."""
    rows: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        for row in rows:
            if sum(lengths[other] for other in row) + lengths[number] <= capacity:
                row.append(number)
                break
        else:
            rows.append([number])
    return rows


@given(st.lists(st.integers(1, 32), max_size=80))
def test_packing_is_first_fit_decreasing_and_loses_nothing(lengths: list[int]) -> None:
    rows = pack(lengths, 32)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 32 for row in rows)
    assert rows == first_fit_decreasing(lengths, 32) == pack(lengths, 32)


def example(*tokens: int, scored_from: int = 1, weight: float = 1.0) -> Example:
    scored = len(tokens) - scored_from
    return Example(f"document-{tokens[0]}", np.array(tokens, np.int32), scored_from, scored, weight)


ROWS = [[example(5, 6, 7), example(8, 9, scored_from=1)], [example(10, 11, 12, 13, scored_from=2)]]


def test_positions_begin_anew_with_each_example_and_its_first_token_is_not_scored() -> None:
    batch = Collator(0, packed=True)(list(tabulate(ROWS)))
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9], [10, 11, 12, 13, 0]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 3, 0]]
    none = UNSCORED
    assert batch["labels"].tolist() == [[none, 6, 7, none, 9], [none, none, 12, 13, none]]
    flat = Collator(0, packed=True, flat=True)(list(tabulate(ROWS)))
    assert flat["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11, 12, 13]]
    assert flat["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3]]


def test_rows_of_one_example_are_padded_and_masked() -> None:
    batch = Collator(0)(list(tabulate([[example(5, 6, 7)], [example(8, 9)]])))
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert "position_ids" not in batch


def test_the_weight_of_a_token_is_that_of_its_document_by_the_length_of_its_answer() -> None:
    rows = list(tabulate([[example(5, 6, 7, weight=2.0), example(8, 9)], [example(10, 11, 12, 13, 14, scored_from=1)]]))
    alike = Collator(0, packed=True, weighted=True)(rows)["loss_weights"]
    assert alike.tolist() == [[2, 2, 2, 1, 1], [1, 1, 1, 1, 1]]
    by_answer = Collator(0, packed=True, weighted=True, length_weight=0)(rows)["loss_weights"]
    assert by_answer.tolist() == [[1, 1, 1, 1, 1], [0.25] * 5]
    by_root = Collator(0, packed=True, weighted=True, length_weight=0.5)(rows)["loss_weights"]
    assert by_root[1].tolist() == [0.5] * 5
    chunk = Example("split", np.array([15, 16, 17], np.int32), 1, scored=4)
    by_whole = Collator(0, weighted=True, length_weight=0)(list(tabulate([[chunk]])))["loss_weights"]
    assert by_whole.tolist() == [[0.25] * 3], "a chunk counts as the answer that it is of"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("flat", [False, True])
def test_a_packed_example_is_computed_as_if_it_were_alone(base: Path, attention: str, flat: bool) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64, attn_implementation=attention)
    generator = np.random.default_rng(0)
    examples = [example(*generator.integers(100, 900, length).tolist()) for length in (5, 1, 9, 4, 12)]
    rows = [[examples[number] for number in row] for row in pack([len(one) for one in examples], 16)]
    assert len(rows) == 2
    batch = Collator(0, packed=True, flat=flat)(list(tabulate(rows)))
    del batch["labels"]
    with torch.no_grad():
        packed = model(**batch, use_cache=False).logits
        for number, row in enumerate(rows):
            start = sum(map(len, rows[0])) if flat and number else 0
            for one in row:
                alone = model(torch.as_tensor(one.tokens, dtype=torch.long)[None]).logits[0]
                among = packed[0 if flat else number, start : start + len(one)]
                assert torch.allclose(alone, among, atol=1e-4)
                start += len(one)
