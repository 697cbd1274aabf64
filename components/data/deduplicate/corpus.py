"""What is compared: the documents of earlier versions, then those to clean, as one sequence of rows."""

import hashlib
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.common.documents import part_files, read_part
from components.common.errors import UsageError
from components.common.store import Store
from components.data.compiled import content

_KERNEL_BYTES = 16_000_000
"""Text that is handed to the kernels at once: bounds their working memory, whatever the length of documents."""


@dataclass(frozen=True)
class Part:
    """One Parquet file of the sequence: its first row's number, how many it has, and the version it belongs to."""

    path: Path
    first: int
    rows: int
    version: str


@dataclass(frozen=True)
class Corpus:
    """Documents by row number.

    Attributes:
        parts: The files, in order of their rows.
        earlier: Rows of earlier versions; they come first.
        total: All rows.
    """

    parts: Sequence[Part]
    earlier: int
    total: int

    @classmethod
    def of(cls, documents: Path, versions: Sequence[str], store: Store, folder: Path) -> "Corpus":
        """Line up the documents behind those of earlier versions, which are fetched into a folder.

        Raises:
            UsageError: The store has no such version.
        """
        parts: list[Part] = []
        first = 0
        for version in [*versions, ""]:
            source = _fetch(version, store, folder) if version else documents
            for path in part_files(source):
                rows = pq.read_metadata(path).num_rows
                parts.append(Part(path, first, rows, version))
                first += rows
        own = sum(part.rows for part in parts if not part.version)
        return cls(parts, first - own, first)

    def version_of(self, row: int) -> str:
        """Name the dataset version that a row belongs to; '' for the documents to clean."""
        return self.parts[bisect([part.first for part in self.parts], row) - 1].version

    def read(
        self, columns: Sequence[str] | None = None, first: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Stream rows first to end, each batch with the number of its first row."""
        end = self.total if end is None else end
        for part in self.parts:
            if part.first >= end or part.first + part.rows <= first:
                continue
            at = part.first
            for batch in read_part(part.path, columns):
                start, stop = max(first - at, 0), min(end - at, batch.num_rows)
                if start < stop:
                    yield at + start, batch.slice(start, stop - start)
                at += batch.num_rows

    def texts(self, chosen: np.ndarray, first: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Stream the texts of chosen rows.

        Args:
            chosen: For each row from `first` on, whether it is wanted.
            first: The first row.

        Yields:
            Row numbers, UTF-8 bytes, and where each text begins in them, and the end.
        """
        for at, batch in self.read(["text"], first, first + len(chosen)):
            wanted = chosen[at - first : at - first + batch.num_rows]
            text = batch.column(0)
            if not wanted.all():
                text = text.filter(pa.array(wanted))
            if not len(text):
                continue
            rows = at + np.flatnonzero(wanted)
            data, bounds = content(text)
            begin = 0
            while begin < len(rows):
                stop = int(np.searchsorted(bounds, bounds[begin] + _KERNEL_BYTES, "right")) - 1
                stop = min(max(stop, begin + 1), len(rows))
                yield rows[begin:stop], data, bounds[begin : stop + 1]
                begin = stop

    def fingerprint(self) -> str:
        """Digest what the corpus holds: ids and texts, in order."""
        digest = hashlib.sha256()
        for _, batch in self.read(["id", "revision"]):
            for column in batch.columns:
                digest.update("".join(column.to_pylist()).encode())
        return digest.hexdigest()


def numbers(hexadecimal: pa.Array, word: int) -> np.ndarray:
    """Read 16 digits of each SHA-256 as a number: the digits from 16 × `word` on."""
    digits = pc.utf8_slice_codeunits(hexadecimal, 16 * word, 16 * word + 16)
    return np.frombuffer(bytes.fromhex("".join(digits.to_pylist())), ">u8").astype(np.uint64)


def _fetch(version: str, store: Store, folder: Path) -> Path:
    """Bring the parts of a dataset version here."""
    target = folder / version.replace("/", "-")
    keys = [key for key in store.list(f"{version}/") if key.endswith(".parquet")]
    if not keys:
        raise UsageError(f"deduplicate.earlier: {store.uri} has no {version}; see its datasets folder for what it has")
    target.mkdir(parents=True, exist_ok=True)
    for key in keys:
        file = target / key.rpartition("/")[2]
        if not file.exists():
            store.download(key, file)
    return target
