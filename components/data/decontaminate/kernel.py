"""Compiled loops that look for runs of words in the UTF-8 bytes of an Arrow text column.

Words are those of near-duplicate search: runs of letters, digits, marks and underscores, compared without case, and
each Chinese, Japanese or Korean character. Lengths are counted in halves of a word, of which such a character is one.
A run is known by a polynomial hash of its words, so that of any stretch of a text the hash is one subtraction away.
"""

from dataclasses import dataclass

import numba
import numpy as np

from components.data.compiled import BYTES, OFFSETS, compiled, mix, read_character
from components.data.deduplicate.kernel import CLASSES, LOWER

_WORDS = numba.types.Array(numba.uint16, 1, "C", readonly=True)
_HASHES = numba.types.Array(numba.uint64, 1, "C", readonly=True)
_LENGTHS = numba.types.Array(numba.int32, 1, "C", readonly=True)

GAP = 8
"""Most words between a question and its answer: “A:”, a role, a line that leads over."""
_BITS = 16
"""Bits of the filter for each key: most windows are turned away by it, without a look at the table."""
_LETTER, _IDEOGRAPH = 1, 2
"""Values of `CLASSES`."""


@compiled(numba.int64(BYTES, numba.int64, numba.int64, BYTES, _WORDS, numba.uint64[::1], numba.int64[:, ::1]))
def _split(data, start, end, classes, lower, prefix, places):  # type: ignore[no-untyped-def]
    """Split data[start:end] into words.

    Of word w, places[:, w] are its first byte, the byte behind it, and the halves before it; prefix[w] is the hash of
    the words before it. Returns how many there are.
    """
    base, prime, offset = np.uint64(0x9E3779B97F4A7C15), np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)
    words = 0
    word = offset
    begin = np.int64(-1)
    position = start
    prefix[0] = 0
    places[2, 0] = 0
    while position <= end:
        at = position
        kind, point = 0, np.uint32(0)
        if position < end:
            point, width = read_character(data, position)
            position += width
            if point < 0x10000:
                kind = classes[point]
                point = np.uint32(lower[point])
            else:
                kind = _IDEOGRAPH if point >= 0x20000 else _LETTER
        else:
            position += 1
        if kind == _LETTER:
            if begin < 0:
                begin = at
            word = (word ^ np.uint64(point)) * prime
            continue
        if begin >= 0:
            prefix[words + 1] = prefix[words] * base + mix(word)
            places[0, words], places[1, words] = begin, at
            places[2, words + 1] = places[2, words] + 2
            words += 1
            word, begin = offset, np.int64(-1)
        if kind == _IDEOGRAPH:
            prefix[words + 1] = prefix[words] * base + mix(offset ^ np.uint64(point))
            places[0, words], places[1, words] = at, position
            places[2, words + 1] = places[2, words] + 1
            words += 1
    return words


@compiled(numba.uint64[::1](numba.int64))
def _powers(count):  # type: ignore[no-untyped-def]
    powers = np.ones(count, np.uint64)
    for exponent in range(1, count):
        powers[exponent] = powers[exponent - 1] * np.uint64(0x9E3779B97F4A7C15)
    return powers


@compiled(numba.uint64(numba.uint64[::1], numba.uint64[::1], numba.int64, numba.int64))
def _run(prefix, powers, first, end):  # type: ignore[no-untyped-def]
    """Hash the words from `first` up to `end`."""
    return mix(prefix[end] - prefix[first] * powers[end - first])


@compiled(numba.int64(OFFSETS))
def _longest(offsets):  # type: ignore[no-untyped-def]
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    return longest


@compiled(
    numba.void(BYTES, OFFSETS, BYTES, _WORDS, numba.int64, numba.uint64[:, ::1], numba.int64[:, ::1]),
)
def _sign(data, offsets, classes, lower, halves, hashes, lengths):  # type: ignore[no-untyped-def]
    longest = _longest(offsets)
    prefix = np.empty(longest + 2, np.uint64)
    places = np.empty((3, longest + 2), np.int64)
    powers = _powers(longest + 2)
    for text in range(len(offsets) - 1):
        words = _split(data, offsets[text], offsets[text + 1], classes, lower, prefix, places)
        head = 0
        while head < words and places[2, head] < halves:
            head += 1
        hashes[0, text] = _run(prefix, powers, 0, head)
        hashes[1, text] = _run(prefix, powers, 0, words)
        lengths[0, text], lengths[1, text] = words, places[2, words]


@compiled(
    numba.int64(BYTES, OFFSETS, BYTES, _WORDS, numba.int64, numba.uint64[::1], numba.int32[::1], numba.int64[::1])
)
def _windows(data, offsets, classes, lower, halves, hashes, lengths, texts):  # type: ignore[no-untyped-def]
    longest = _longest(offsets)
    prefix = np.empty(longest + 2, np.uint64)
    places = np.empty((3, longest + 2), np.int64)
    powers = _powers(longest + 2)
    found = 0
    for text in range(len(offsets) - 1):
        words = _split(data, offsets[text], offsets[text + 1], classes, lower, prefix, places)
        end = 0
        for first in range(words):
            while end < words and places[2, end] - places[2, first] < halves:
                end += 1
            if places[2, end] - places[2, first] < halves:
                break
            hashes[found] = _run(prefix, powers, first, end)
            lengths[found] = end - first
            texts[found] = text
            found += 1
    return found


@compiled(
    numba.int64(
        *(BYTES, OFFSETS, BYTES, _WORDS, OFFSETS),
        *(_HASHES, _LENGTHS, _HASHES, _LENGTHS, _HASHES),
        *(_HASHES, _LENGTHS, BYTES, numba.int64[:, ::1]),
    )
)
def _find(  # type: ignore[no-untyped-def]
    data,
    offsets,
    classes,
    lower,
    halves,
    keys,
    lengths,
    hashes,
    answer_lengths,
    answer_hashes,
    table_keys,
    table,
    bits,
    out,
):
    longest = _longest(offsets)
    prefix = np.empty(longest + 2, np.uint64)
    places = np.empty((3, longest + 2), np.int64)
    powers = _powers(longest + 2)
    mask, bit_mask = np.uint64(len(table) - 1), np.uint64(8 * len(bits) - 1)
    found = 0
    for document in range(len(offsets) - 1):
        words = _split(data, offsets[document], offsets[document + 1], classes, lower, prefix, places)
        for wanted in halves:
            end = 0
            for first in range(words):
                while end < words and places[2, end] - places[2, first] < wanted:
                    end += 1
                if places[2, end] - places[2, first] < wanted:
                    break
                key = _run(prefix, powers, first, end)
                bit = (key >> np.uint64(20)) & bit_mask
                if not (bits[bit >> np.uint64(3)] >> np.uint8(bit & np.uint64(7))) & 1:
                    continue
                place = key & mask
                while table[place] >= 0 and table_keys[place] != key:
                    place = (place + np.uint64(1)) & mask
                if table[place] < 0:
                    continue
                pattern = np.int64(table[place])
                while pattern < len(keys) and keys[pattern] == key:
                    last = first + lengths[pattern]
                    fits = last <= words and _run(prefix, powers, first, last) == hashes[pattern]
                    answer = np.int64(answer_lengths[pattern])
                    if fits and answer:
                        fits = False
                        for gap in range(min(GAP, words - last - answer) + 1):
                            if _run(prefix, powers, last + gap, last + gap + answer) == answer_hashes[pattern]:
                                fits, last = True, last + gap + answer
                                break
                    if fits:
                        if found < out.shape[1]:
                            out[0, found], out[1, found] = document, pattern
                            out[2, found] = places[0, first] - offsets[document]
                            out[3, found] = places[1, last - 1] - offsets[document]
                        found += 1
                    pattern += 1
    return found


@compiled(numba.void(_HASHES, _LENGTHS, numba.uint64[::1], numba.int32[::1], numba.uint8[::1]))
def _fill(distinct, first, keys, table, bits):  # type: ignore[no-untyped-def]
    mask, bit_mask = np.uint64(len(table) - 1), np.uint64(8 * len(bits) - 1)
    for entry in range(len(distinct)):
        place = distinct[entry] & mask
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        keys[place], table[place] = distinct[entry], first[entry]
        bit = (distinct[entry] >> np.uint64(20)) & bit_mask
        bits[bit >> np.uint64(3)] |= np.uint8(1 << (bit & np.uint64(7)))


@dataclass(frozen=True)
class Signed:
    """Whole texts as hashes, one value for each.

    Attributes:
        heads: Hash of the first words, as many as a key takes.
        hashes: Hash of all words.
        words: How many there are.
        halves: How many halves of a word there are.
    """

    heads: np.ndarray
    hashes: np.ndarray
    words: np.ndarray
    halves: np.ndarray


def sign(data: np.ndarray, offsets: np.ndarray, words: int) -> Signed:
    """Hash whole texts, and their first `words` words."""
    hashes = np.zeros((2, len(offsets) - 1), np.uint64)
    lengths = np.zeros((2, len(offsets) - 1), np.int64)
    _sign(data, offsets, CLASSES, LOWER, 2 * words, hashes, lengths)
    return Signed(hashes[0], hashes[1], lengths[0], lengths[1])


def windows(data: np.ndarray, offsets: np.ndarray, words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hash every run of `words` words: its hash, how many words it really has, and the text that it is in."""
    room = int(offsets[-1] - offsets[0]) + 1
    hashes, lengths, texts = np.empty(room, np.uint64), np.empty(room, np.int32), np.empty(room, np.int64)
    found = _windows(data, offsets, CLASSES, LOWER, 2 * words, hashes, lengths, texts)
    return hashes[:found].copy(), lengths[:found].copy(), texts[:found].copy()


class Table:
    """Runs of words to look for.

    Args:
        starts: How many words keys are of.
        keys: Hash of the first words of each, sorted; as many as one of `starts` says.
        lengths: Words of each.
        hashes: Hash of each.
        answer_lengths: Words of the run that must follow; 0 for none.
        answer_hashes: Hash of it.
    """

    def __init__(
        self,
        starts: tuple[int, ...],
        keys: np.ndarray,
        lengths: np.ndarray,
        hashes: np.ndarray,
        answer_lengths: np.ndarray,
        answer_hashes: np.ndarray,
    ) -> None:
        self._runs = (keys, lengths, hashes, answer_lengths, answer_hashes)
        self._halves = np.array([2 * words for words in starts], np.int64)
        distinct, first = np.unique(keys, return_index=True)
        size = 1 << max(4, int(2 * len(distinct)).bit_length())
        self._keys, self._first = np.zeros(size, np.uint64), np.full(size, -1, np.int32)
        self._bits = np.zeros(_BITS * size // 16, np.uint8)
        _fill(distinct, first.astype(np.int32), self._keys, self._first, self._bits)
        self._room = 1_024

    def find(self, data: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Find them in texts: an array of rows `text`, `run`, `first byte`, `byte behind it`, both within the text."""
        while True:
            out = np.empty((4, self._room), np.int64)
            found = _find(
                data, offsets, CLASSES, LOWER, self._halves, *self._runs, self._keys, self._first, self._bits, out
            )
            if found <= self._room:
                return out[:, :found]
            self._room = 2 * found
