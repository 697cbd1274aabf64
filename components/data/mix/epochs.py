"""Read a mixture epoch by epoch: each in another order, each without another share of the documents.

A mixture is written in an order in which every stretch has the mixture's shares. So an epoch leaves out one stretch,
the next epoch the next one: every document is left out equally often, and the weights hold in each epoch. What is left
is read in blocks (Parquet row groups) in random order, and shuffled over a window of some blocks: memory is bounded by
the window, and no text is sorted on disk.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from components.common.documents import BATCH_BYTES, BATCH_ROWS, part_files
from components.common.errors import HeadraceError
from components.data.scatter import scatter

MIXTURE = "mixture.json"
"""Beside the parts: how the mixture was made, and the seed and dropout of its epochs."""
WINDOW_ROWS = 8 * BATCH_ROWS
WINDOW_BYTES = 4 * BATCH_BYTES
"""What is shuffled at once: a window ends with the block that reaches either."""


@dataclass(frozen=True)
class Block:
    """A row group: its file, its place there, the mixture's row that it begins with, its rows and bytes."""

    part: Path
    group: int
    first: int
    rows: int
    bytes: int


def read_epoch(mixture: Path, epoch: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Stream one epoch of a mixture, or of the dataset version made of it. The same epoch is always the same.

    Args:
        mixture: Output of data/mix, or a dataset version.
        epoch: Number of the epoch, from 0.
        columns: Columns to read; all of them when None.

    Raises:
        HeadraceError: It is no mixture.
    """
    file = mixture / MIXTURE
    if not file.is_file():
        raise HeadraceError(f"{mixture} has no {MIXTURE}; make the dataset version from what data/mix wrote")
    settings = json.loads(file.read_bytes())
    blocks = _blocks(mixture)
    total = sum(block.rows for block in blocks)
    kept = ~left_out(total, epoch, settings["dropout"])
    window: list[pa.Table] = []
    rows = size = windows = 0
    for index in _permutation(len(blocks), settings["seed"], epoch, 0):
        block = blocks[index]
        mask = kept[block.first : block.first + block.rows]
        if mask.any():
            table = pq.ParquetFile(block.part).read_row_group(block.group, columns=list(columns) if columns else None)
            window.append(table if mask.all() else table.filter(pa.array(mask)))
            rows, size = rows + int(mask.sum()), size + block.bytes
        if rows >= WINDOW_ROWS or size >= WINDOW_BYTES:
            windows += 1
            yield from _shuffled(window, settings["seed"], epoch, windows)
            window, rows, size = [], 0, 0
    yield from _shuffled(window, settings["seed"], epoch, windows + 1)


def left_out(total: int, epoch: int, dropout: float) -> np.ndarray:
    """Tell which rows of a mixture an epoch leaves out: a stretch, that goes on where the last epoch's ended."""
    start, end = (round(total * dropout * number) for number in (epoch, epoch + 1))
    mask = np.zeros(total, bool)
    if total:
        mask[np.arange(start, end) % total] = True
    return mask


def _blocks(mixture: Path) -> list[Block]:
    blocks: list[Block] = []
    first = 0
    for part in part_files(mixture):
        metadata = pq.read_metadata(part)
        for group in range(metadata.num_row_groups):
            row_group = metadata.row_group(group)
            blocks.append(Block(part, group, first, row_group.num_rows, row_group.total_byte_size))
            first += row_group.num_rows
    return blocks


def _shuffled(window: Sequence[pa.Table], *seeds: int) -> Iterator[pa.RecordBatch]:
    if window:
        table = pa.concat_tables(window)
        yield from table.take(pa.array(_permutation(table.num_rows, *seeds))).to_batches(max_chunksize=BATCH_ROWS)


def _permutation(length: int, *seeds: int) -> np.ndarray:
    key = np.random.SeedSequence(seeds).generate_state(1, np.uint64)
    return np.argsort(scatter(np.arange(length, dtype=np.uint64) ^ key), kind="stable")
