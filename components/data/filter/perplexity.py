"""Perplexity under a small language model: character n-grams, learnt from the documents themselves.

A string of up to `ORDER` characters has a count and a number of different characters that followed it. The probability
of a character is interpolated over its contexts, longest last (Witten and Bell 1991; method C of Moffat 1990): what a
context has not seen, a shorter one answers for. White space is one space, digits are one digit, case does not count.

Documents are halved by their ids, and each half is judged by what was learnt from the other, so that no document is
expected because it was learnt.
"""

from collections.abc import Sequence
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.common.documents import read_batches
from components.common.errors import UsageError
from components.common.step import Context
from components.data.compiled import BYTES, OFFSETS, compiled, content, mix, read_character
from components.data.filter.kernel import classes
from components.data.filter.rules import RUNNING

ORDER = 6
"""Characters of the longest string that is counted."""
SLOTS = 1 << 22
"""Places for strings in a half's table: 64 MiB. At three quarters it is full, and nothing more is learnt."""
JUDGED = 8_192
"""Characters of a text that are judged, from its beginning."""
LEAST = 20_000
"""Characters of a script in a half below which there is nothing to judge that script by."""
CEILING = 1e12
UNSEEN = 2.0**-16
"""Probability of a character that was never seen: one of the Basic Multilingual Plane."""

_TABLE = numba.types.Array(numba.uint16, 1, "C", readonly=True)


@compiled(numba.types.UniTuple(numba.int64, 2)(BYTES, numba.int64, BYTES, _TABLE))
def _character(data, position, table, lower):  # type: ignore[no-untyped-def]
    """Read a character as the model sees it, and where the next one begins."""
    read, width = read_character(data, position)
    point = np.int64(read)
    kind = table[min(point, 0x30000)]
    if kind & 4:
        point = np.int64(32)
    elif kind & 2:
        point = np.int64(48)
    elif point < 0x10000:
        point = np.int64(lower[point])
    return point, position + width


@compiled(numba.int64(numba.uint64[:, ::1], numba.int64, numba.uint64))
def _place(keys, half, key):  # type: ignore[no-untyped-def]
    """Find the place of a string's hash, or the free one where it belongs."""
    mask = np.uint64(keys.shape[1] - 1)
    place = key & mask
    while keys[half, place] and keys[half, place] != key:
        place = (place + np.uint64(1)) & mask
    return np.int64(place)


@compiled(numba.uint64(numba.uint64, numba.int64))
def _extend(key, point):  # type: ignore[no-untyped-def]
    """Hash a string with one more character before it; never 0, which stands for none."""
    return max(mix(key * np.uint64(0x9E3779B97F4A7C15) + np.uint64(point + 1)), np.uint64(1))


@compiled(numba.int64(numba.uint8))
def _script(kind):  # type: ignore[no-untyped-def]
    """Number a character's script: alphabets (and what is no letter), scripts without spaces, Hangul."""
    return 2 if kind & 16 else 1 if kind & 8 else 0


@compiled(
    numba.void(
        *(BYTES, OFFSETS, BYTES, _TABLE, OFFSETS),
        *(numba.uint64[:, ::1], numba.uint32[:, ::1], numba.uint32[:, ::1], numba.int64[::1], numba.int64[:, ::1]),
    )
)
def _learn(  # type: ignore[no-untyped-def]
    data, offsets, table, lower, halves, keys, counts, followers, filled, characters
):
    empty = keys.shape[1]
    limit = 3 * empty // 4
    recent = np.zeros(8, np.int64)
    places, before = np.full(8, empty, np.int64), np.full(8, empty, np.int64)
    for document in range(len(offsets) - 1):
        half = halves[document]
        length, last = 0, np.int64(32)
        position = offsets[document]
        while position < offsets[document + 1] and filled[half] < limit:
            point, position = _character(data, position, table, lower)
            if point == 32 and last == 32:
                continue
            last = point
            recent[length % 8] = point
            length += 1
            characters[half, _script(table[min(point, 0x30000)])] += 1
            counts[half, empty] += 1
            key = np.uint64(0)
            for size in range(1, min(length, ORDER) + 1):
                key = _extend(key, recent[(length - size) % 8])
                place = _place(keys, half, key)
                if not keys[half, place]:
                    keys[half, place] = key
                    filled[half] += 1
                    followers[half, before[size - 1]] += 1
                counts[half, place] += 1
                places[size] = place
            before, places = places, before


@compiled(
    numba.void(
        *(BYTES, OFFSETS, BYTES, _TABLE, OFFSETS),
        *(numba.uint64[:, ::1], numba.uint32[:, ::1], numba.uint32[:, ::1], numba.float64[:, ::1]),
    )
)
def _judge(data, offsets, table, lower, halves, keys, counts, followers, out):  # type: ignore[no-untyped-def]
    empty = keys.shape[1]
    recent = np.zeros(8, np.int64)
    places, before = np.full(8, empty, np.int64), np.full(8, empty, np.int64)
    for document in range(len(offsets) - 1):
        half = 1 - halves[document]
        position, length, last = offsets[document], 0, np.int64(32)
        bits, words, inside = 0.0, 0.0, False
        scripts = np.zeros(3, np.int64)
        before[1:] = -1
        while position < offsets[document + 1] and length < JUDGED:
            point, position = _character(data, position, table, lower)
            if point == 32 and last == 32:
                continue
            last = point
            recent[length % 8] = point
            length += 1
            kind = table[min(point, 0x30000)]
            if kind & 25:
                scripts[_script(kind)] += 1
            if kind & 24:
                words += 0.5
                inside = False
            elif kind & 67:
                words += not inside
                inside = True
            else:
                inside = False
            key = np.uint64(0)
            chance = UNSEEN
            places[1:] = -1
            for size in range(1, min(length, ORDER) + 1):
                context = before[size - 1]
                if context < 0:
                    break
                seen = np.uint32(0)
                if places[size - 1] >= 0:
                    key = _extend(key, recent[(length - size) % 8])
                    place = _place(keys, half, key)
                    if keys[half, place]:
                        places[size] = place
                        seen = counts[half, place]
                different = float(followers[half, context])
                if different:
                    chance = (float(seen) + different * chance) / (float(counts[half, context]) + different)
            if kind & 95:
                bits -= np.log2(chance)
            before, places = places, before
        out[0, document], out[1, document], out[2, document] = bits, words, np.argmax(scripts)


class Model:
    """What was learnt of the strings of two halves of a corpus.

    Args:
        least: Characters of a script that a half must have learnt before it judges texts in that script.
    """

    def __init__(self, least: int = LEAST) -> None:
        self._least = least
        self._keys = np.zeros((2, SLOTS), np.uint64)
        # The last place is the empty string's.
        self._counts = np.zeros((2, SLOTS + 1), np.uint32)
        self._followers = np.zeros((2, SLOTS + 1), np.uint32)
        self._filled = np.zeros(2, np.int64)
        self.characters = np.zeros((2, 3), np.int64)

    def learn(self, text: pa.Array, ids: pa.Array) -> None:
        """Count the strings of texts; nothing more once a half's table is full."""
        tables = (self._keys, self._counts, self._followers)
        _learn(*content(text), *classes(), _halves(ids), *tables, self._filled, self.characters)

    def perplexity(self, text: pa.Array, ids: pa.Array) -> NDArray[np.float64]:
        """Judge texts by what was learnt from the other half: perplexity of a word, or two Hangul, Han or Kana.

        NaN of a text without words, or in a script of which too little was learnt.
        """
        out, halves = np.zeros((3, len(text))), _halves(ids)
        _judge(*content(text), *classes(), halves, self._keys, self._counts, self._followers, out)
        bits, words, scripts = out
        able = (words > 0) & (self.characters[1 - halves, scripts.astype(int)] >= self._least)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(able, np.minimum(2.0 ** np.minimum(bits / words, 64), CEILING), np.nan)


def learn(documents: Path, sources: Sequence[str], context: Context) -> Model:
    """Learn from running text.

    Args:
        documents: Where it is.
        sources: Sources to learn from, with those below them; empty: all.
        context: The run.

    Raises:
        UsageError: There is too little of it.
    """
    model = Model()
    for batch in read_batches(documents, ["id", "text", "kind", "source"], 1_000):
        wanted = np.isin(np.array(batch.column("kind").to_pylist(), dtype=object), RUNNING)
        if sources:
            names = batch.column("source").to_pylist()
            wanted &= np.array([any(f"{name}/".startswith(f"{one}/") for one in sources) for name in names], bool)
        rows = pa.array(wanted)
        model.learn(batch.column("text").filter(rows), batch.column("id").filter(rows))
        context.progress(int(model.characters.sum()), 0, "characters learnt")
    if model.characters.min(axis=0).max() < LEAST:
        where = f"sources {', '.join(sources)}" if sources else "the documents"
        raise UsageError(
            f"filter.perplexity: {where} hold {model.characters.sum():,} characters of running text; at least "
            f"{2 * LEAST:,} are needed to judge by. Name other sources, or set model: none"
        )
    return model


def _halves(ids: pa.Array) -> NDArray[np.int64]:
    """Halve documents by the last digit of their ids."""
    return np.array([int(value[-1], 16) & 1 for value in ids.to_pylist()], np.int64)
