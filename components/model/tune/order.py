"""In which order a training takes its rows: a function of seed and epoch alone, so that a resumed one replays it."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from components.model.tune.inputs import Order

POOL = 50
"""Most batches within which rows of similar length are put together, as transformers' LengthGroupedSampler does."""
POOLS = 4
"""Fewest pools of an epoch, if they have a batch each: in a single one all epochs would have the same batches."""


class Epochs(Sampler[int]):
    """The rows of a training, epoch by epoch.

    The trainer's data loader calls `set_epoch`; whoever keeps books asks `records`.

    Args:
        lengths: Tokens of each row.
        records: Ids of the documents in each row.
        order: How rows follow each other.
        batch: Rows of an optimizer step.
        seed: Seed of the order.
    """

    def __init__(
        self, lengths: Sequence[int], records: Sequence[Sequence[str]], order: Order, batch: int, seed: int
    ) -> None:
        self._lengths = np.asarray(lengths, np.int64)
        self._records = records
        self._order: Order = order
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        """How many rows an epoch takes."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """Take the rows of the epoch that was begun."""
        return iter(self.rows(self._epoch).tolist())

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self._epoch = epoch

    def rows(self, epoch: int) -> np.ndarray:
        """Numbers of the rows in the order in which an epoch takes them."""
        return arrange(self._lengths, self._order, self._batch, self._seed, epoch)

    def records(self, epoch: int, start: int = 0, stop: int | None = None) -> list[str]:
        """Ids of the documents in the order in which an epoch takes them; of one in several chunks, once for each.

        Args:
            epoch: The epoch, counted from 0.
            start: Rows taken before.
            stop: Rows taken in the end; all when None.
        """
        return [record for row in self.rows(epoch)[start:stop] for record in self._records[row]]


def arrange(lengths: np.ndarray, order: Order, batch: int, seed: int, epoch: int) -> np.ndarray:
    """Order the rows of an epoch.

    Args:
        lengths: Tokens of each row.
        order: `random`; `similar`, random but rows of similar length in a batch, because what is padded is computed;
            `short_first`, by length, so that long ones come last (curriculum learning, Bengio et al. 2009).
        batch: Rows of an optimizer step.
        seed: Seed of the training.
        epoch: Number of the epoch.

    Returns:
        The numbers of the rows, each once.
    """
    generator = np.random.default_rng([seed, epoch])
    rows = generator.permutation(len(lengths))
    if order == "random":
        return rows
    if order == "short_first":
        return rows[np.argsort(lengths[rows], kind="stable")]
    pooled = batch * max(1, min(POOL, len(rows) // (POOLS * batch)))
    pools = [rows[start : start + pooled] for start in range(0, len(rows), pooled)]
    batches = []
    for pool in pools:
        grouped = pool[np.argsort(-lengths[pool], kind="stable")]
        batches += [grouped[start : start + batch] for start in range(0, len(grouped), batch)]
    # A short batch stays last: the steps of an epoch then do not depend on the order.
    full = [number for number, rows in enumerate(batches) if len(rows) == batch]
    rest = [number for number, rows in enumerate(batches) if len(rows) < batch]
    return np.concatenate([batches[number] for number in [*generator.permutation(full).tolist(), *rest]])
