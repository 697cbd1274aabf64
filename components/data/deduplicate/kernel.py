"""Compiled kernels of near-duplicate search, over the UTF-8 bytes of an Arrow text column.

Words, shingles, signatures and comparisons are loops over integers; no Python string is made. A word is a run of
letters, digits, marks and underscores, compared without case; a Chinese, Japanese or Korean character is a word of its
own. A shingle is the hash of consecutive words; a document shorter than one shingle is one shingle.
"""

import unicodedata

import numba
import numpy as np

from components.data.compiled import BYTES, OFFSETS, compiled, mix

_WORDS = numba.types.Array(numba.uint16, 1, "C", readonly=True)
_HASHES = numba.types.Array(numba.uint64, 1, "C", readonly=True)
_ROWS = numba.types.Array(numba.uint32, 1, "C", readonly=True)
_FLAGS = numba.types.Array(numba.boolean, 1, "C", readonly=True)

_SEPARATOR, _LETTER, _IDEOGRAPH = 0, 1, 2
_IDEOGRAPHS = (
    *((0x1100, 0x11FF), (0x2E80, 0x2FDF), (0x3005, 0x3007), (0x3040, 0x31FF), (0x3400, 0x9FFF)),
    *((0xA960, 0xA97F), (0xAC00, 0xD7FF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F)),
)


def _classify() -> tuple[np.ndarray, np.ndarray]:
    """Class and lower case of every code point of the Basic Multilingual Plane."""
    classes = np.zeros(0x10000, np.uint8)
    lower = np.arange(0x10000, dtype=np.uint16)
    for point in range(0x10000):
        character = chr(point)
        if character == "_" or unicodedata.category(character)[0] in "LNM":
            classes[point] = _LETTER
            if len(character.lower()) == 1:
                lower[point] = ord(character.lower())
    for first, last in _IDEOGRAPHS:
        classes[first : last + 1][classes[first : last + 1] == _LETTER] = _IDEOGRAPH
    return classes, lower


CLASSES, LOWER = _classify()


@compiled(
    numba.int64(
        BYTES,
        numba.int64,
        numba.int64,
        BYTES,
        _WORDS,
        numba.int64,
        numba.uint64,
        numba.uint64[::1],
        numba.uint64[::1],
    )
)
def _shingle(data, start, end, classes, lower, size, seed, recent, out):  # type: ignore[no-untyped-def]
    """Hash the shingles of data[start:end] into `out`; `recent` holds the last `size` words. Returns their number."""
    base = np.uint64(0x9E3779B97F4A7C15)
    leaving = np.uint64(1)
    for _ in range(size):
        leaving *= base
    rolling = np.uint64(0)
    word = seed
    open_word = False
    words = 0
    slot = 0
    shingles = 0
    position = start
    while position <= end:
        kind = _SEPARATOR
        point = np.uint32(0)
        if position < end:
            # `read_character`, written out: signing is a twelfth slower with the call.
            first = data[position]
            if first < 0x80:
                point, width = np.uint32(first), 1
            elif first < 0xE0:
                point, width = np.uint32(first & 0x1F), 2
            elif first < 0xF0:
                point, width = np.uint32(first & 0x0F), 3
            else:
                point, width = np.uint32(first & 0x07), 4
            for offset in range(1, width):
                point = (point << np.uint32(6)) | np.uint32(data[position + offset] & 0x3F)
            position += width
            if point < 0x10000:
                kind = classes[point]
                point = np.uint32(lower[point])
            else:
                kind = _IDEOGRAPH if point >= 0x20000 else _LETTER
        else:
            position += 1
        if kind == _LETTER:
            word = (word ^ np.uint64(point)) * np.uint64(0x100000001B3)
            open_word = True
            continue
        for closing in range(2):
            # A character that ends a word may itself be a word: first close the open one, then add the character.
            if closing == 0:
                if not open_word:
                    continue
                value = mix(word)
                word = seed
                open_word = False
            else:
                if kind != _IDEOGRAPH:
                    continue
                value = mix(seed ^ np.uint64(point))
            rolling = rolling * base + value
            if words >= size:
                rolling -= recent[slot] * leaving
            recent[slot] = value
            slot = slot + 1 if slot + 1 < size else 0
            words += 1
            if words >= size:
                out[shingles] = mix(rolling)
                shingles += 1
    if 0 < words < size:
        out[0] = mix(rolling)
        shingles = 1
    return shingles


@compiled(
    numba.void(BYTES, OFFSETS, BYTES, _WORDS, numba.int64, numba.int64, numba.int64, numba.uint64, numba.uint64[:, ::1])
)
def _sign(data, offsets, classes, lower, size, bands, rows, seed, keys):  # type: ignore[no-untyped-def]
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    shingles = np.empty(longest // 2 + 2, np.uint64)
    recent = np.empty(size, np.uint64)
    bins = bands * rows
    empty = np.uint64(0xFFFFFFFFFFFFFFFF)
    least = np.empty(bins, np.uint64)
    filled = np.empty(bins, np.uint64)
    for document in range(len(offsets) - 1):
        count = _shingle(data, offsets[document], offsets[document + 1], classes, lower, size, seed, recent, shingles)
        if count == 0:
            continue
        least[:] = empty
        for index in range(count):
            value = shingles[index]
            target = np.int64(((value >> np.uint64(32)) * np.uint64(bins)) >> np.uint64(32))
            value &= np.uint64(0xFFFFFFFF)
            if value < least[target]:
                least[target] = value
        for target in range(bins):
            source = np.int64(target)
            attempt = np.uint64(0)
            while least[source] == empty:
                attempt += np.uint64(1)
                source = np.int64(mix(np.uint64(target) * np.uint64(0x9E3779B97F4A7C15) + attempt) % np.uint64(bins))
            filled[target] = least[source]
        for band in range(bands):
            key = np.uint64(band + 1)
            for row in range(rows):
                key = mix(key * np.uint64(0x9E3779B97F4A7C15) + filled[band * rows + row])
            keys[document, band] = max(key, np.uint64(1))


@compiled(numba.int64(BYTES, OFFSETS, BYTES, _WORDS, numba.int64, numba.uint64, numba.uint64[::1], numba.int64[::1]))
def _collect(data, offsets, classes, lower, size, seed, out, counts):  # type: ignore[no-untyped-def]
    recent = np.empty(size, np.uint64)
    total = 0
    for document in range(len(offsets) - 1):
        found = _shingle(
            data, offsets[document], offsets[document + 1], classes, lower, size, seed, recent, out[total:]
        )
        ordered = np.sort(out[total : total + found])
        distinct = 0
        for index in range(found):
            if index == 0 or ordered[index] != ordered[index - 1]:
                out[total + distinct] = ordered[index]
                distinct += 1
        counts[document] = distinct
        total += distinct
    return total


@compiled(
    numba.types.UniTuple(numba.int64, 2)(
        BYTES, OFFSETS, BYTES, _WORDS, numba.int64, numba.uint64, numba.uint64, numba.uint64[::1]
    )
)
def _below(data, offsets, classes, lower, size, seed, limit, out):  # type: ignore[no-untyped-def]
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    shingles = np.empty(longest // 2 + 2, np.uint64)
    recent = np.empty(size, np.uint64)
    total = 0
    kept = 0
    for document in range(len(offsets) - 1):
        count = _shingle(data, offsets[document], offsets[document + 1], classes, lower, size, seed, recent, shingles)
        total += count
        for index in range(count):
            if shingles[index] <= limit:
                out[kept] = shingles[index]
                kept += 1
    return total, kept


@compiled(numba.boolean(_HASHES, numba.int64, numba.int64, numba.int64, numba.int64, numba.float64))
def _alike(shingles, left, left_end, right, right_end, threshold):  # type: ignore[no-untyped-def]
    """Tell whether two sorted sets have at least this Jaccard similarity."""
    total = (left_end - left) + (right_end - right)
    # |A ∩ B| / (|A| + |B| - |A ∩ B|) >= t  <=>  |A ∩ B| >= t / (1 + t) (|A| + |B|)
    needed = np.int64(np.ceil(threshold / (1 + threshold) * total - 1e-9))
    shared = 0
    while left < left_end and right < right_end:
        if shared + min(left_end - left, right_end - right) < needed:
            return False
        if shingles[left] < shingles[right]:
            left += 1
        elif shingles[left] > shingles[right]:
            right += 1
        else:
            shared += 1
            left += 1
            right += 1
    return shared >= needed


@compiled(numba.int64(numba.int64[::1], numba.int64))
def _root(parents, node):  # type: ignore[no-untyped-def]
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


@compiled(numba.void(_ROWS, _FLAGS, numba.int64[::1]))
def _join(rows, opens, parents):  # type: ignore[no-untyped-def]
    for position in range(len(rows)):
        if not opens[position]:
            left, right = _root(parents, rows[position - 1]), _root(parents, rows[position])
            parents[max(left, right)] = min(left, right)


@compiled(
    numba.int64(_ROWS, _FLAGS, numba.int64, _HASHES, OFFSETS, OFFSETS, numba.float64, numba.int64, numba.int64[::1])
)
def _link(rows, opens, begin, shingles, starts, lengths, threshold, window, parents):  # type: ignore[no-untyped-def]
    compared = 0
    first = 0
    for position in range(len(rows)):
        if opens[position]:
            first = position
        if position < begin:
            continue
        right = rows[position]
        for earlier in range(max(first, position - window), position):
            left = rows[earlier]
            left_root, right_root = _root(parents, left), _root(parents, right)
            if left_root == right_root:
                continue
            compared += 1
            if _alike(
                shingles,
                starts[left],
                starts[left] + lengths[left],
                starts[right],
                starts[right] + lengths[right],
                threshold,
            ):
                parents[max(left_root, right_root)] = min(left_root, right_root)
    return compared


def sign(data: np.ndarray, offsets: np.ndarray, size: int, bands: int, rows: int, seed: int) -> np.ndarray:
    """Compute the band keys of documents by one-permutation MinHash with densification.

    Each shingle falls into one of bands × rows bins and the least of each bin is the signature; an empty bin borrows
    from another by a fixed sequence of tries (Shrivastava 2017, "Optimal densification for fast and accurate minwise
    hashing").

    Args:
        data: UTF-8 bytes of all documents.
        offsets: Where each document begins in `data`, and the end.
        size: Words in a shingle.
        bands: Bands of the signature.
        rows: Hash values in a band.
        seed: Seed of the hash.

    Returns:
        One row of band keys a document; zeros where it has no words.
    """
    keys = np.zeros((len(offsets) - 1, bands), np.uint64)
    _sign(data, offsets, CLASSES, LOWER, size, bands, rows, _seed(seed), keys)
    return keys


def shingle_sets(data: np.ndarray, offsets: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute the set of shingles of each document.

    Args:
        data: UTF-8 bytes of all documents.
        offsets: Where each document begins in `data`, and the end.
        size: Words in a shingle.
        seed: Seed of the hash.

    Returns:
        The sorted shingles of all documents one after the other, and how many each has.
    """
    counts = np.zeros(len(offsets) - 1, np.int64)
    room = np.empty((offsets[-1] - offsets[0]) // 2 + 2 * len(offsets), np.uint64)
    total = _collect(data, offsets, CLASSES, LOWER, size, _seed(seed), room, counts)
    return room[:total], counts


def shingles_below(data: np.ndarray, offsets: np.ndarray, size: int, limit: int) -> tuple[int, np.ndarray]:
    """Count the shingles of all documents, and give those whose hash is not above a limit, repeats included.

    Args:
        data: UTF-8 bytes of all documents.
        offsets: Where each document begins in `data`, and the end.
        size: Words in a shingle.
        limit: The largest hash to give.
    """
    room = np.empty((offsets[-1] - offsets[0]) // 2 + 2 * len(offsets), np.uint64)
    total, kept = _below(data, offsets, CLASSES, LOWER, size, _seed(0), np.uint64(limit), room)
    return total, room[:kept]


def join(rows: np.ndarray, opens: np.ndarray, parents: np.ndarray) -> None:
    """Connect the members of each group.

    Args:
        rows: Members of all groups, one group after the other.
        opens: Where a group begins.
        parents: Union-find forest, changed in place; a root is the smallest index of its tree.
    """
    _join(rows, opens, parents)


def link(
    rows: np.ndarray,
    opens: np.ndarray,
    begin: int,
    shingles: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    threshold: float,
    window: int,
    parents: np.ndarray,
) -> int:
    """Connect the members of each group whose shingle sets are alike enough.

    Args:
        rows: Members of all groups, one group after the other.
        opens: Where a group begins.
        begin: The first position to compare with those before it, which were compared already.
        shingles: Sorted shingle sets, one after the other.
        starts: Where the set of each row begins.
        lengths: Size of the set of each row.
        threshold: Least Jaccard similarity.
        window: A member is compared with at most so many of those before it in its group.
        parents: Union-find forest, changed in place.

    Returns:
        The number of comparisons made.
    """
    return int(_link(rows, opens, begin, shingles, starts, lengths, threshold, window, parents))


def flatten(parents: np.ndarray) -> np.ndarray:
    """Return the root of every node."""
    while (parents != (above := parents[parents])).any():
        parents = above
    return parents


def _seed(seed: int) -> np.uint64:
    return np.uint64(0xCBF29CE484222325 ^ seed)
