from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.model.tune.order import Epochs, arrange

lengths = st.lists(st.integers(1, 500), min_size=1, max_size=300).map(np.array)
orders = st.sampled_from(["similar", "random", "short_first"])


@given(lengths, orders, st.integers(1, 16), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_takes_every_row_once_in_an_order_of_seed_and_epoch_alone(rows, order, batch, seed, epoch) -> None:
    taken = arrange(rows, order, batch, seed, epoch)
    assert sorted(taken) == list(range(len(rows)))
    assert (taken == arrange(rows, order, batch, seed, epoch)).all()


@pytest.mark.parametrize("order", ["similar", "random", "short_first"])
def test_epochs_and_seeds_differ(order) -> None:
    rows = np.arange(100) // 10
    first = arrange(rows, order, 4, 0, 0)
    assert (first != arrange(rows, order, 4, 0, 1)).any()
    assert (first != arrange(rows, order, 4, 1, 0)).any()


@given(lengths, st.integers(1, 16))
def test_long_rows_come_last_in_a_curriculum(rows, batch) -> None:
    assert (np.diff(rows[arrange(rows, "short_first", batch, 0, 0)]) >= 0).all()


def test_similar_rows_share_batches_and_the_batches_do_not_go_by_length() -> None:
    rows = np.random.default_rng(0).integers(10, 500, 800)
    taken = rows[arrange(rows, "similar", 8, 0, 0)].reshape(-1, 8)
    mixed = rows[arrange(rows, "random", 8, 0, 0)].reshape(-1, 8)
    assert np.ptp(taken, axis=1).mean() < np.ptp(mixed, axis=1).mean() / 10
    assert abs(np.corrcoef(np.arange(100), taken.mean(axis=1))[0, 1]) < 0.3


def test_a_small_set_has_other_batches_in_every_epoch() -> None:
    rows = np.arange(176)
    first, second = ({frozenset(batch) for batch in arrange(rows, "similar", 8, 0, n).reshape(-1, 8)} for n in (0, 1))
    assert len(first & second) < 4


def test_the_records_of_an_epoch_are_those_of_its_rows() -> None:
    epochs = Epochs([3, 1, 2], [["a", "b"], ["c"], ["a"]], "short_first", 1, 0)
    epochs.set_epoch(1)
    assert list(epochs) == [1, 2, 0]
    assert epochs.records(1) == ["c", "a", "a", "b"]


@pytest.mark.parametrize("order", ["similar", "random", "short_first"])
def test_a_resumed_loader_goes_on_where_the_order_was(order) -> None:
    from accelerate import Accelerator, skip_first_batches
    from torch.utils.data import DataLoader

    epochs = Epochs([1 + number % 7 for number in range(40)], [[str(n)] for n in range(40)], order, 4, 5)
    loader = Accelerator(cpu=True).prepare(DataLoader(list(range(40)), batch_size=4, sampler=epochs))
    loader.set_epoch(2)
    whole = [row for batch in loader for row in batch.tolist()]
    assert [str(row) for row in whole] == epochs.records(2)
    epochs.set_epoch(0)
    resumed = skip_first_batches(loader, 3)
    resumed.set_epoch(2)
    assert [row for batch in resumed for row in batch.tolist()] == whole[12:]
    assert Counter(whole) == Counter(range(40))
