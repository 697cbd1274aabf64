"""Compiled kernels that measure texts: one pass over the UTF-8 bytes, then n-grams of the words' hashes.

What a word is: a run of letters, digits, marks and underscores, compared without case; in scripts that are written
without spaces (Han, Kana) each character. So a Korean word is what stands between spaces, particle included.
"""

import unicodedata
from collections.abc import Mapping
from functools import cache

import numba
import numpy as np

from components.data.compiled import BYTES, OFFSETS, compiled, mix, read_character

_WORDS = numba.types.Array(numba.uint16, 1, "C", readonly=True)
_HASHES = numba.types.Array(numba.uint64, 1, "C", readonly=True)
_FLAGS = numba.types.Array(numba.boolean, 1, "C", readonly=True)
_STATES = numba.types.Array(numba.uint32, 1, "C", readonly=True)
_FEATURES = numba.types.Array(numba.int32, 1, "C", readonly=True)

LETTER, DIGIT, SPACE, SPACELESS, HANGUL, UPPER, MARK, TERMINAL = (1 << bit for bit in range(8))
"""Bits of a character's class; a spaceless character is a word of its own."""

TABLED = 0x30000
"""Code points with a class of their own; the planes beyond hold rare Han letters."""

COLUMNS = (
    *("visible", "letters", "digits", "capitals", "hangul", "spaceless", "entropy"),
    *("longest_line", "mean_line", "longest_run", "addresses"),
    *("tokens", "worded", "words", "word_characters", "symbols"),
    *("lines", "repeated_lines", "line_characters", "repeated_line_characters"),
    *("paragraphs", "repeated_paragraphs", "paragraph_characters", "repeated_paragraph_characters"),
    *("bullets", "ellipses", "terminals", "stop_words", "stop_words_distinct"),
    *(f"top_{size}" for size in (2, 3, 4)),
    *(f"duplicate_{size}" for size in range(5, 11)),
)
"""What `measure` counts, in order. From `tokens` on only of prose proper: not of fenced code or addresses."""

_SPACELESS = (
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3040, 0x312F),
    (0x31A0, 0x31FF),
    (0x3400, 0x9FFF),
    (0xF900, 0xFAFF),
)
_HANGUL = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xA960, 0xA97F), (0xAC00, 0xD7FF))
_TERMINAL = ".!?\"'”’。！？…"

ENGLISH = ("the", "be", "to", "of", "and", "that", "have", "with")
"""Gopher's stop words."""
PARTICLES = "은는이가을를의에로와과도만서다요"
"""Last syllables of Korean particles and of verbs that end a sentence: what a Korean text cannot do without."""

_OFFSET, _PRIME = 0xCBF29CE484222325, 0x100000001B3
_BINS = 1024


@cache
def classes() -> tuple[np.ndarray, np.ndarray]:
    """Class bits of every code point below `TABLED` and one beyond, and lower case within the Basic plane."""
    table = np.full(TABLED + 1, LETTER | SPACELESS, np.uint8)
    lower = np.arange(0x10000, dtype=np.uint16)
    for point in range(TABLED):
        character = chr(point)
        bits = LETTER if character.isalpha() else DIGIT if character.isdigit() else SPACE if character.isspace() else 0
        if bits == LETTER and character.isupper():
            bits |= UPPER
        if point < 0x10000 and len(character.lower()) == 1:
            lower[point] = ord(character.lower())
        if character == "_" or (not bits and unicodedata.category(character)[0] in "MN"):
            bits |= MARK
        table[point] = bits
    for first, last in _SPACELESS:
        table[first : last + 1] |= np.where(table[first : last + 1] & LETTER, SPACELESS, 0).astype(np.uint8)
    table[0x20000:TABLED] |= np.where(table[0x20000:TABLED] & LETTER, SPACELESS, 0).astype(np.uint8)
    for first, last in _HANGUL:
        table[first : last + 1] |= np.where(table[first : last + 1] & LETTER, HANGUL, 0).astype(np.uint8)
    table[[ord(character) for character in _TERMINAL]] |= TERMINAL
    return table, lower


@compiled(numba.uint64(numba.uint64))
def _hash(text):  # type: ignore[no-untyped-def]
    """Finish the hash of a word; never 0, which stands for none."""
    return max(mix(text), np.uint64(1))


@compiled(numba.int64(numba.uint64[::1], numba.int32[::1], numba.uint64, numba.int64))
def _place(keys, counts, key, mask):  # type: ignore[no-untyped-def]
    """Find a key's place in an open-addressed table, or the free one where it belongs."""
    place = np.int64(key & np.uint64(mask))
    while counts[place] and keys[place] != key:
        place = (place + 1) & mask
    return place


@compiled(numba.int64(numba.int64))
def _room(entries):  # type: ignore[no-untyped-def]
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@compiled(
    numba.void(numba.uint64[::1], numba.int64[::1], numba.int64, numba.uint64[::1], numba.int32[::1], numba.float64[:])
)
def _repeats(hashes, lengths, count, keys, counts, out):  # type: ignore[no-untyped-def]
    """Count items, those that were there before, and the characters of both."""
    size = _room(count)
    counts[:size] = 0
    for item in range(count):
        place = _place(keys, counts, hashes[item], size - 1)
        out[0] += 1
        out[2] += lengths[item]
        if counts[place]:
            out[1] += 1
            out[3] += lengths[item]
        keys[place] = hashes[item]
        counts[place] = 1


@compiled(
    numba.void(
        numba.uint64[::1],
        numba.int64[::1],
        numba.int64,
        numba.int64,
        numba.uint64[::1],
        numba.uint64[::1],
        numba.int32[::1],
        numba.float64[:],
    )
)
def _ngrams(words, ends, count, factor, grams, keys, counts, out):  # type: ignore[no-untyped-def]
    """Characters in the most frequent n-gram for n of 2 to 4, and in those seen before for n of 5 to 10.

    `ends` holds the characters up to each word, and `factor` the words that stand for one. An n-gram with a word that
    has no letters (hash 0) does not count.
    """
    for word in range(count):
        grams[word] = words[word]
    size = _room(count)
    have = 1
    for column in range(9):
        wanted = (column + 2) * factor
        while have < wanted:
            for word in range(count - have):
                added = words[word + have]
                if grams[word] and added:
                    grams[word] = _hash(grams[word] * np.uint64(0x9E3779B97F4A7C15) + added)
                else:
                    grams[word] = np.uint64(0)
            have += 1
        if count < wanted:
            return
        counts[:size] = 0
        most, covered, reached = 1, 0, 0
        for word in range(count - wanted + 1):
            if not grams[word]:
                continue
            place = _place(keys, counts, grams[word], size - 1)
            keys[place] = grams[word]
            counts[place] += 1
            if wanted <= 4 * factor:
                characters = counts[place] * (ends[word + wanted] - ends[word])
                if counts[place] > most or (counts[place] == most and most > 1 and characters > covered):
                    most, covered = counts[place], characters
            elif counts[place] > 1:
                first = max(reached, word)
                reached = word + wanted
                covered += ends[reached] - ends[first]
        out[column] = covered


@compiled(
    numba.void(BYTES, OFFSETS, _FLAGS, BYTES, _WORDS, _HASHES, BYTES, numba.float64[:, ::1]),
)
def _measure(data, offsets, prose, table, lower, stops, particles, out):  # type: ignore[no-untyped-def]
    longest = 0
    for document in range(len(offsets) - 1):
        longest = max(longest, offsets[document + 1] - offsets[document])
    words = np.empty(longest // 2 + 2, np.uint64)
    grams = np.empty(longest // 2 + 2, np.uint64)
    ends = np.zeros(longest // 2 + 3, np.int64)
    lines = np.empty(longest // 2 + 2, np.uint64)
    line_lengths = np.empty(longest // 2 + 2, np.int64)
    paragraphs = np.empty(longest // 2 + 2, np.uint64)
    paragraph_lengths = np.empty(longest // 2 + 2, np.int64)
    keys = np.empty(_room(longest // 2 + 2), np.uint64)
    counts = np.empty(_room(longest // 2 + 2), np.int32)
    bins = np.empty(1024, np.int64)
    offset, prime = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
    for document in range(len(offsets) - 1):
        row = out[document]
        position, end = offsets[document], offsets[document + 1]
        is_prose = prose[document]
        bins[:] = 0
        visible = letters = digits = capitals = hangul = spaceless = 0
        line_length = longest_line = line_sum = line_count = run = longest_run = addresses = 0
        tokens = worded = symbols = bullets = ellipses = terminals = stop_words = stop_bits = 0
        word_count = line_total = paragraph_total = characters = 0
        token_open = token_letter = word_letter = fenced = in_address = heading = line_letter = False
        word, word_length, last_hangul = offset, 0, np.uint32(0)
        line, line_visible, line_first, line_last, line_dots = offset, 0, np.uint32(0), np.uint8(0), 0
        paragraph, paragraph_length, paragraph_letter = offset, 0, False
        before = np.uint32(0)
        while position <= end:
            # The end of a text ends its last line.
            at_end = position == end
            point = np.uint32(10)
            if not at_end:
                point, width = read_character(data, position)
            else:
                width = 1
            kind = table[min(point, np.uint32(0x30000))]
            space = (kind & 4) != 0
            newline = point == 10
            if not space:
                visible += 1
                bins[(point ^ (point >> np.uint32(10))) & np.uint32(1023)] += 1
                letters += kind & 1
                digits += (kind >> 1) & 1
                capitals += (kind >> 5) & 1
                hangul += (kind >> 4) & 1
                spaceless += (kind >> 3) & 1
            if point < 128 and ((kind & 3) or point == 43 or point == 47 or point == 61):
                run += 1
                longest_run = max(longest_run, run)
            else:
                run = 0
            if newline:
                longest_line = max(longest_line, line_length)
                line_sum += line_length
                line_count += 1
                line_length = 0
            else:
                line_length += 1
            if is_prose:
                if not space and line_visible == 0:
                    line_first = point
                    heading = point == 35
                    if (
                        (point == 96 or point == 126)
                        and position + 2 < end
                        and data[position + 1] == data[position]
                        and data[position + 2] == data[position]
                    ):
                        fenced = not fenced
                        line_first = np.uint32(0)
                        line_visible = -1
                if not in_address and not token_open and point == 104 and position + 7 < end:
                    in_address = (
                        data[position + 1] == 116
                        and data[position + 2] == 116
                        and data[position + 3] == 112
                        and (data[position + 4] == 58 or (data[position + 4] == 115 and data[position + 5] == 58))
                    )
                elif not in_address and point == 40 and before == 93:
                    in_address = True
                if in_address and (space or point == 41 or point == 62):
                    in_address = False
                skipped = fenced or line_visible < 0
                if in_address:
                    addresses += 1
                    skipped = True
                # The word that is open ends here unless this character belongs to it.
                inside = not skipped and (
                    ((kind & 67) != 0 and (kind & 8) == 0)
                    or (
                        (point == 39 or point == 0x2019)
                        and word_length > 0
                        and position + width < end
                        and (table[min(data[position + width], np.uint8(127))] & 1) != 0
                    )
                )
                if word_length > 0 and not inside:
                    if word_letter:
                        words[word_count] = _hash(word)
                        if last_hangul:
                            if word_length > 1:
                                for index in range(0, len(particles), 2):
                                    if last_hangul == (np.uint32(particles[index]) << np.uint32(8)) | np.uint32(
                                        particles[index + 1]
                                    ):
                                        stop_words += 1
                                        stop_bits |= 1 << (index // 2 + 16)
                        elif word_length < 5:
                            for index in range(len(stops)):
                                if stops[index] == words[word_count]:
                                    stop_words += 1
                                    stop_bits |= 1 << index
                    else:
                        words[word_count] = np.uint64(0)
                    word_count += 1
                    characters += word_length
                    ends[word_count] = characters
                    word, word_length, word_letter, last_hangul = offset, 0, False, np.uint32(0)
                if inside:
                    small = np.uint32(lower[point]) if point < 0x10000 else point
                    word = (word ^ np.uint64(small)) * prime
                    word_length += 1
                    word_letter = word_letter or (kind & 1) != 0
                    last_hangul = point if (kind & 16) else np.uint32(0)
                elif (kind & 8) and not skipped:
                    words[word_count] = _hash(offset ^ np.uint64(point))
                    word_count += 1
                    characters += 1
                    ends[word_count] = characters
                if space:
                    if token_open:
                        tokens += 1
                        worded += token_letter
                    token_open = token_letter = False
                elif not skipped:
                    token_open = token_open or (kind & 3) != 0
                    token_letter = token_letter or (kind & 1) != 0
                if not space and line_visible >= 0:
                    line_visible += 1
                    if not skipped:
                        if point == 35:
                            symbols += not heading
                        else:
                            heading = False
                        if point == 0x2026:
                            symbols += 1
                        if point == 46:
                            line_dots += 1
                            if line_dots == 3:
                                symbols += 1
                        else:
                            line_dots = 3 if point == 0x2026 else 0
                        line = (line ^ np.uint64(point)) * prime
                        line_letter = line_letter or (kind & 1) != 0
                        line_last = kind
                if newline:
                    if line_visible > 0 and not fenced:
                        if line_letter:
                            lines[line_total] = _hash(line)
                            line_lengths[line_total] = line_visible
                            line_total += 1
                            bullets += (
                                line_first == 45
                                or line_first == 42
                                or line_first == 0x2022
                                or line_first == 0xB7
                                or line_first == 0x30FB
                                or line_first == 0x25AA
                                or line_first == 0x25CF
                                or line_first == 0x25A0
                            )
                            ellipses += line_dots >= 3
                            terminals += (line_last & 128) != 0
                            paragraph_letter = True
                        paragraph = (paragraph ^ line) * prime
                        paragraph_length += line_visible
                    if paragraph_length > 0 and (line_visible == 0 or at_end):
                        if paragraph_letter:
                            paragraphs[paragraph_total] = _hash(paragraph)
                            paragraph_lengths[paragraph_total] = paragraph_length
                            paragraph_total += 1
                        paragraph, paragraph_length, paragraph_letter = offset, 0, False
                    line, line_visible, line_first, line_last, line_dots = offset, 0, np.uint32(0), np.uint8(0), 0
                    line_letter = heading = False
                before = point
            position += width
        entropy = 0.0
        if visible:
            for index in range(1024):
                if bins[index]:
                    share = bins[index] / visible
                    entropy -= share * np.log2(share)
        row[0], row[1], row[2], row[3], row[4], row[5] = visible, letters, digits, capitals, hangul, spaceless
        row[6] = entropy
        row[7], row[8], row[9], row[10] = longest_line, line_sum / max(line_count, 1), longest_run, addresses
        if not is_prose:
            continue
        row[11], row[12], row[13], row[14], row[15] = tokens, worded, word_count, characters, symbols
        _repeats(lines, line_lengths, line_total, keys, counts, row[16:20])
        _repeats(paragraphs, paragraph_lengths, paragraph_total, keys, counts, row[20:24])
        row[24], row[25], row[26], row[27] = bullets, ellipses, terminals, stop_words
        distinct = 0
        while stop_bits:
            distinct += stop_bits & 1
            stop_bits >>= 1
        row[28] = distinct
        factor = 2 if 2 * spaceless > letters else 1
        _ngrams(words, ends, word_count, factor, grams, keys, counts, row[29:38])


@compiled(numba.int64(BYTES, _STATES, _STATES, _FEATURES, numba.int64[::1], numba.float32[::1], numba.int32[::1]))
def _visit(text, moves, bases, outputs, found, counts, places):  # type: ignore[no-untyped-def]
    state = np.uint32(0)
    distinct = 0
    for letter in text:
        state = moves[bases[state] + letter]
        feature = outputs[state]
        if feature < 0:
            continue
        if places[feature] < 0:
            places[feature] = distinct
            found[distinct] = feature
            counts[distinct] = 0
            distinct += 1
        counts[places[feature]] += 1
    for place in range(distinct):
        places[found[place]] = -1
    return distinct


class Automaton:
    """Counts the features of a text that a deterministic automaton over its bytes tells.

    Args:
        moves: The next state, at a state's base plus the byte.
        bases: Where each state's moves begin.
        outputs: The feature that each state tells, -1 for none.
    """

    def __init__(self, moves: np.ndarray, bases: np.ndarray, outputs: np.ndarray) -> None:
        self._tables = moves, bases, outputs
        self._places = np.full(outputs.max() + 1, -1, np.int32)

    def count(self, text: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Give the features of a text in the order in which they are first told, and how often each is."""
        found, counts = np.empty(len(text), np.int64), np.empty(len(text), np.float32)
        distinct = _visit(np.frombuffer(text, np.uint8), *self._tables, found, counts, self._places)
        return found[:distinct], counts[:distinct]


def measure(data: np.ndarray, offsets: np.ndarray, prose: np.ndarray) -> Mapping[str, np.ndarray]:
    """Count what the rules look at.

    Args:
        data: UTF-8 bytes of all documents.
        offsets: Where each document begins in `data`, and the end.
        prose: Which of them are prose; of others only characters and lines are counted.

    Returns:
        For each name in `COLUMNS` a value for each document.
    """
    out = np.zeros((len(offsets) - 1, len(COLUMNS)))
    stops = np.array([_word_hash(word) for word in ENGLISH], np.uint64)
    _measure(data, offsets, prose, *classes(), stops, np.frombuffer(PARTICLES.encode("utf-16-be"), np.uint8), out)
    return dict(zip(COLUMNS, out.T.copy(), strict=True))


def _word_hash(word: str) -> int:
    value = _OFFSET
    for character in word:
        value = (value ^ ord(character)) * _PRIME % 2**64
    return int(_hash(np.uint64(value)))
