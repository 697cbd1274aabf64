"""The files in which stages hand on what they found: one for each shard of a stage, whole or absent."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from components.common.errors import HeadraceError

_FILE = re.compile(r"(?P<stage>\w+)-(?P<shard>\d{5})-of-(?P<shards>\d{5})\.arrow")


def shard_file(folder: Path, stage: str, shard: int, shards: int) -> Path:
    """Name the file of one shard of a stage."""
    return folder / f"{stage}-{shard:05d}-of-{shards:05d}.arrow"


def is_done(file: Path, work: str) -> bool:
    """Tell whether a shard's file is there and belongs to this piece of work."""
    return file.is_file() and _open(file).schema.metadata[b"work"].decode() == work


def write_shard(file: Path, tables: Iterable[Mapping[str, np.ndarray]], work: str, comparisons: int = 0) -> None:
    """Write a shard's tables, all of the same columns, one record batch each."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    sink = None
    for table in tables:
        batch = pa.RecordBatch.from_arrays([pa.array(values) for values in table.values()], list(table))
        if sink is None:
            metadata = {"work": work, "comparisons": str(comparisons)}
            sink = pa.ipc.new_file(str(partial), batch.schema.with_metadata(metadata))
        sink.write_batch(batch)
    if sink is None:
        raise ValueError("a shard has at least one table")
    sink.close()
    partial.rename(file)


class Shards:
    """What all shards of a stage wrote, read as one.

    Args:
        folders: Where their files are, at any depth.
        stage: Name of the stage.

    Raises:
        HeadraceError: A shard is missing, or shards are of different pieces of work.
    """

    def __init__(self, folders: Sequence[Path], stage: str) -> None:
        found = {}
        where = ", ".join(map(str, folders))
        for path in (path for folder in folders for path in sorted(folder.rglob(f"{stage}-*.arrow"))):
            if name := _FILE.fullmatch(path.name):
                found[int(name["shards"]), int(name["shard"])] = path
        wanted = [(shards, shard) for shards in sorted({key[0] for key in found}) for shard in range(shards)]
        missing = [key for key in wanted if key not in found]
        if not found or missing:
            what = f"shard {missing[0][1]} of {missing[0][0]} is" if missing else "all shards are"
            raise HeadraceError(f"{where}: {what} missing from {stage}; run the stage for it first")
        if len({shards for shards, _ in found}) > 1:
            raise HeadraceError(f"{where} holds {stage} in shards of different runs; keep those of one")
        self._files = [_open(found[key]) for key in wanted]
        works = {file.schema.metadata[b"work"].decode() for file in self._files}
        if len(works) > 1:
            raise HeadraceError(f"{where}: the shards of {stage} are of different documents or options; make all again")
        self.work = works.pop()

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return list(self._files[0].schema.names)

    @property
    def tables(self) -> int:
        """How many tables each shard wrote."""
        return int(self._files[0].num_record_batches)

    @cached_property
    def comparisons(self) -> int:
        """Comparisons made by all shards."""
        return sum(int(file.schema.metadata[b"comparisons"]) for file in self._files)

    def column(self, name: str) -> np.ndarray:
        """One column of all shards, in their order."""
        return np.concatenate([_array(file, 0, name) for file in self._files])

    def groups(self, table: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The rows of a table of groups and where groups begin, shard by shard."""
        for file in self._files:
            yield _array(file, table, "row"), _array(file, table, "opens")


def _open(file: Path) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(file)))


def _array(file: pa.ipc.RecordBatchFileReader, table: int, name: str) -> np.ndarray:
    return file.get_batch(table).column(name).to_numpy(zero_copy_only=False)
