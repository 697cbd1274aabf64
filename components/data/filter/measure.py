"""Measures of text quality, computed for a whole batch at once on Arrow columns."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What the rules look at, one value for each document.

    Attributes:
        characters: Characters that are not whitespace.
        letters: Share of letters among them.
        digits: Share of digits among them.
        alphanumeric: Share of letters and digits among them.
        symbols: `#` (but of headings) and ellipses per word.
        repeated_lines: Share of lines that repeat an earlier line.
        repeated_characters: Share of characters in such lines.
        top_bigram: Share of characters in the most frequent word 2-gram.
        longest_line: Characters of the longest line.
        mean_line: Mean characters of a line.
    """

    characters: Floats
    letters: Floats
    digits: Floats
    alphanumeric: Floats
    symbols: Floats
    repeated_lines: Floats
    repeated_characters: Floats
    top_bigram: Floats
    longest_line: Floats
    mean_line: Floats


def measure(text: pa.Array, prose: NDArray[np.bool_]) -> Measures:
    """Measure every text of a column.

    Args:
        text: The texts.
        prose: Which of them are prose; repetition and symbols are measured only there, and not in fenced code.
    """
    characters, letters, digits, longest_line, mean_line = _characters(text)
    visible = np.maximum(characters, 1)
    body = pc.if_else(pa.array(prose), text.cast(pa.large_string()), "")
    body = pc.replace_substring_regex(body, _NOT_PROSE, "")
    words = pc.utf8_split_whitespace(body)
    word_counts = np.maximum(pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(float), 1)
    symbols = sum(pc.count_substring(body, sign).to_numpy(zero_copy_only=False) for sign in ("#", "…", "..."))
    repeated_lines, repeated_characters = _repeated_lines(body)
    return Measures(
        characters=characters,
        letters=letters / visible,
        digits=digits / visible,
        alphanumeric=(letters + digits) / visible,
        symbols=symbols / word_counts,
        repeated_lines=repeated_lines,
        repeated_characters=repeated_characters,
        top_bigram=_top_bigram(words, visible),
        longest_line=longest_line,
        mean_line=mean_line,
    )


_NOT_PROSE = r"(?s:```.*?(?:```|\z))|(?m:^#{1,6}\s)|\]\([^)\s]*\)|https?://[^\s)>]+"
_LETTER, _DIGIT, _SPACE = 1, 2, 3
_TABLED = 0x30000


@cache
def _classes() -> NDArray[np.uint8]:
    """Make a table from code points to letter, digit, space or 0; the planes beyond the table hold rare Han letters."""
    table = np.full(_TABLED + 1, _LETTER, np.uint8)
    for code in range(_TABLED):
        character = chr(code)
        if character.isalpha():
            table[code] = _LETTER
        elif character.isdigit():
            table[code] = _DIGIT
        elif character.isspace():
            table[code] = _SPACE
        else:
            table[code] = 0
    return table


def _characters(text: pa.Array) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Count visible characters, letters and digits, and measure lines, on one array of the column's code points."""
    texts = [f"{value}\n" for value in text.to_pylist()]
    points = np.frombuffer("".join(texts).encode("utf-32-le"), np.uint32)
    starts = np.cumsum([0, *map(len, texts)][:-1])
    if not len(texts):
        nothing = np.zeros(0)
        return nothing, nothing, nothing, nothing, nothing
    classes = _classes()[np.minimum(points, _TABLED)]
    visible, letters, digits = (
        np.add.reduceat(wanted, starts, dtype=np.int64).astype(float)
        for wanted in (classes != _SPACE, classes == _LETTER, classes == _DIGIT)
    )
    ends = np.flatnonzero(points == ord("\n"))
    lengths = np.diff(ends, prepend=-1) - 1
    first = np.searchsorted(ends, starts)
    lines = np.diff(first, append=len(ends))
    return (
        visible,
        letters,
        digits,
        np.maximum.reduceat(lengths, first).astype(float),
        np.add.reduceat(lengths, first) / lines,
    )


def _repeated_lines(text: pa.Array) -> tuple[Floats, Floats]:
    """Find the share of lines, and of characters in them, that were there before, among lines with a letter."""
    lines = pc.split_pattern(text, "\n")
    flat = pc.utf8_trim_whitespace(lines.flatten())
    worded = pc.match_substring_regex(flat, r"\p{L}").to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(lines).to_numpy()[worded]
    lengths = _length(flat)[worded]
    codes = flat.dictionary_encode().indices.to_numpy()[worded].astype(np.int64)
    again = np.ones(len(codes), bool)
    again[np.unique(parents * (codes.max(initial=0) + 1) + codes, return_index=True)[1]] = False
    total = np.maximum(np.bincount(parents, minlength=len(text)), 1)
    characters = np.maximum(np.bincount(parents, lengths, len(text)), 1)
    return (
        np.bincount(parents[again], minlength=len(text)) / total,
        np.bincount(parents[again], lengths[again], len(text)) / characters,
    )


def _length(text: pa.Array) -> Floats:
    return pc.utf8_length(text).to_numpy(zero_copy_only=False).astype(float)


def _top_bigram(words: pa.Array, visible: Floats) -> Floats:
    """Find the share of the most frequent pair of neighbouring words; words without a letter are not counted."""
    parents = pc.list_parent_indices(words).to_numpy()
    flat = words.flatten()
    worded = pc.match_substring_regex(flat, r"\p{L}").to_numpy(zero_copy_only=False)
    codes = flat.dictionary_encode().indices.to_numpy().astype(np.int64)
    lengths = _length(flat)
    share = np.zeros(len(words))
    if len(codes) < 2:
        return share
    pair = (parents[1:] == parents[:-1]) & worded[1:] & worded[:-1]
    keys = np.stack([parents[1:][pair], codes[:-1][pair], codes[1:][pair]], axis=1)
    if not len(keys):
        return share
    weights = (lengths[:-1] + lengths[1:])[pair]
    order = np.lexsort(keys.T[::-1])
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, (ordered[1:] != ordered[:-1]).any(axis=1)])
    counts = np.diff(np.r_[starts, len(ordered)])
    covered = np.where(counts > 1, counts * weights[order][starts], 0)
    np.maximum.at(share, ordered[starts, 0], covered)
    return share / visible
