"""Measures of text quality, computed for a whole batch at once on Arrow columns."""

from dataclasses import dataclass

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


def measure(text: pa.Array) -> Measures:
    """Measure every text of a column. Fenced code inside a text is not measured as prose."""
    text = text.cast(pa.large_string())
    prose = _without(text, r"(?s)```.*?(?:```|\z)")
    prose = _without(prose, r"(?m)^#{1,6}\s")
    visible = np.maximum(_length(_without(text, r"\s+")), 1)
    letters = _length(_without(text, r"[^\p{L}]+")) / visible
    digits = _length(_without(text, r"[^\p{Nd}]+")) / visible
    words = pc.utf8_split_whitespace(prose)
    word_counts = np.maximum(pc.list_value_length(words).to_numpy(zero_copy_only=False).astype(float), 1)
    symbols = sum(pc.count_substring(prose, sign).to_numpy(zero_copy_only=False) for sign in ("#", "…", "..."))
    longest_line, mean_line = _line_lengths(text)
    repeated_lines, repeated_characters = _repeated_lines(prose)
    return Measures(
        characters=visible,
        letters=letters,
        digits=digits,
        alphanumeric=letters + digits,
        symbols=symbols / word_counts,
        repeated_lines=repeated_lines,
        repeated_characters=repeated_characters,
        top_bigram=_top_bigram(words, visible),
        longest_line=longest_line,
        mean_line=mean_line,
    )


def _without(text: pa.Array, pattern: str) -> pa.Array:
    return pc.replace_substring_regex(text, pattern, "")


def _length(text: pa.Array) -> Floats:
    return pc.utf8_length(text).to_numpy(zero_copy_only=False).astype(float)


def _line_lengths(text: pa.Array) -> tuple[Floats, Floats]:
    lines = pc.split_pattern(text, "\n")
    parents = pc.list_parent_indices(lines).to_numpy()
    lengths = _length(lines.flatten())
    longest = np.zeros(len(text))
    np.maximum.at(longest, parents, lengths)
    counts = np.maximum(np.bincount(parents, minlength=len(text)), 1)
    return longest, np.bincount(parents, lengths, len(text)) / counts


def _repeated_lines(text: pa.Array) -> tuple[Floats, Floats]:
    """Find the share of lines, and of characters in them, that were there before; lines without a letter do not count."""
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
