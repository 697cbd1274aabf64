"""Sketches of sets too large to keep: how many different elements there are, and how many another set has not.

A sketch keeps the `SIZE` smallest hashes of a set (bottom-k, Cohen 1997; also called KMV, Bar-Yossef 2002). It is a
uniform sample of the set's elements, the same one whatever their order, and two sketches sample alike: an element that
both sets have is in both sketches or in neither, below the smaller of their limits.
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from components.data.deduplicate.kernel import shingles_below

SIZE = 16_384
"""Hashes kept: 128 KiB. A count has a standard error of 1/√SIZE = 0.8 %, a share of at most 0.4 percentage points, and
twice that where the other set is four times as large, because then a quarter of the hashes can be compared."""
_LARGEST = 2**64 - 1
_Z = 1.96
"""Two-sided 95 % of the normal distribution."""


@dataclass(frozen=True)
class Share:
    """An estimated share.

    Attributes:
        value: The estimate.
        low: Lower bound of its 95 % interval (Wilson).
        high: Upper bound.
        sample: Elements that it was estimated from.
    """

    value: float
    low: float
    high: float
    sample: int


class Sketch:
    """The smallest hashes of a set.

    Args:
        values: Hashes that are in the set.
    """

    def __init__(self, values: np.ndarray | None = None) -> None:
        self.values = np.zeros(0, np.uint64)
        if values is not None:
            self.add(values)

    @property
    def limit(self) -> int:
        """The largest hash that is of interest: every element of the set up to it is here."""
        return int(self.values[-1]) if len(self.values) == SIZE else _LARGEST

    def add(self, values: np.ndarray) -> None:
        """Add elements by their hashes; those added before change nothing."""
        if len(values):
            self.values = np.unique(np.concatenate([self.values, values]))[:SIZE]

    def distinct(self) -> int:
        """Estimate the number of different elements; exact while all of them are kept."""
        full = len(self.values) == SIZE
        return round((SIZE - 1) * 2**64 / self.limit) if full else len(self.values)

    def not_in(self, other: "Sketch") -> Share:
        """Estimate the share of this set's elements that another set has not; exact while both are kept whole."""
        limit = min(self.limit, other.limit)
        mine = self.values[self.values <= np.uint64(limit)]
        found = wilson(int((~np.isin(mine, other.values)).sum()), len(mine))
        whole = limit == _LARGEST and found.sample
        return replace(found, low=found.value, high=found.value) if whole else found

    def save(self, path: Path) -> None:
        """Write the hashes as a NumPy array."""
        np.save(path, self.values)


def wilson(found: int, sample: int) -> Share:
    """Estimate a share from a sample, with Wilson's 95 % interval."""
    if not sample:
        return Share(0.0, 0.0, 1.0, 0)
    share = found / sample
    spread = 1 + _Z**2 / sample
    middle = (share + _Z**2 / (2 * sample)) / spread
    half = _Z / spread * math.sqrt(share * (1 - share) / sample + _Z**2 / (4 * sample**2))
    return Share(share, max(0.0, middle - half), min(1.0, middle + half), sample)


class Ngrams:
    """A sketch of the n-grams of texts: runs of words, a Chinese, Japanese or Korean character being one.

    Args:
        words: Words in an n-gram.
    """

    def __init__(self, words: int) -> None:
        self.words = words
        self.total = 0
        self.sketch = Sketch()

    def add(self, data: np.ndarray, offsets: np.ndarray) -> None:
        """Add the n-grams of documents; one that is shorter is one n-gram.

        Args:
            data: UTF-8 bytes of all documents.
            offsets: Where each document begins in `data`, and the end.
        """
        total, values = shingles_below(data, offsets, self.words, self.sketch.limit)
        self.total += total
        self.sketch.add(values)
