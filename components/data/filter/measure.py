"""Measures of text quality for a whole batch at once, as ratios of what the kernels count."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.compiled import content
from components.data.filter import kernel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What the rules look at, one value for each document. From `words` on only prose proper is measured.

    Attributes:
        characters: Characters that are not whitespace.
        letters: Share of letters among them.
        digits: Share of digits among them.
        alphanumeric: Share of letters and digits among them.
        addresses: Share of them in the addresses of links.
        capitals: Share of capitals among the letters.
        hangul: Share of Hangul among the letters.
        spaceless: Share of letters of scripts without spaces between words.
        entropy: Bits for each visible character.
        longest_line: Characters of the longest line.
        mean_line: Mean characters of a line.
        longest_run: Longest run of base-64 characters.
        words: Words; in scripts without spaces, characters.
        word_length: Mean characters of a word.
        worded: Share of what stands between spaces, and has a letter or digit, that has a letter.
        symbols: `#` (but of headings) and ellipses per word.
        bullets: Share of lines that begin with a bullet, among lines with a letter.
        ellipses: Share of lines that end with an ellipsis.
        terminals: Share of lines that end like a sentence.
        stop_words: Share of words that are stop words or end in a Korean particle.
        stop_words_distinct: Different ones among them.
        repeated_lines: Share of lines that repeat an earlier line.
        repeated_line_characters: Share of characters in such lines.
        repeated_paragraphs: Share of paragraphs that repeat an earlier one.
        repeated_paragraph_characters: Share of characters in such paragraphs.
        top_ngrams: Share of characters in the most frequent n-gram of 2, 3 and 4 words.
        duplicate_ngrams: Share of characters in n-grams of 5 to 10 words that were there before.
    """

    characters: Floats
    letters: Floats
    digits: Floats
    alphanumeric: Floats
    addresses: Floats
    capitals: Floats
    hangul: Floats
    spaceless: Floats
    entropy: Floats
    longest_line: Floats
    mean_line: Floats
    longest_run: Floats
    words: Floats
    word_length: Floats
    worded: Floats
    symbols: Floats
    bullets: Floats
    ellipses: Floats
    terminals: Floats
    stop_words: Floats
    stop_words_distinct: Floats
    repeated_lines: Floats
    repeated_line_characters: Floats
    repeated_paragraphs: Floats
    repeated_paragraph_characters: Floats
    top_ngrams: tuple[Floats, ...]
    duplicate_ngrams: tuple[Floats, ...]


def measure(text: pa.Array, prose: NDArray[np.bool_]) -> Measures:
    """Measure every text of a column.

    Args:
        text: The texts, as large strings.
        prose: Which of them are prose; the words of others are not looked at.
    """
    n = kernel.measure(*content(text), prose)
    visible, letters, words = n["visible"], n["letters"], n["words"]
    return Measures(
        characters=visible,
        letters=_share(letters, visible),
        digits=_share(n["digits"], visible),
        alphanumeric=_share(letters + n["digits"], visible),
        addresses=_share(n["addresses"], visible),
        capitals=_share(n["capitals"], letters),
        hangul=_share(n["hangul"], letters),
        spaceless=_share(n["spaceless"], letters),
        entropy=n["entropy"],
        longest_line=n["longest_line"],
        mean_line=n["mean_line"],
        longest_run=n["longest_run"],
        words=words,
        word_length=_share(n["word_characters"], words),
        worded=_share(n["worded"], n["tokens"]),
        symbols=_share(n["symbols"], words),
        bullets=_share(n["bullets"], n["lines"]),
        ellipses=_share(n["ellipses"], n["lines"]),
        terminals=_share(n["terminals"], n["lines"]),
        stop_words=_share(n["stop_words"], words),
        stop_words_distinct=n["stop_words_distinct"],
        repeated_lines=_share(n["repeated_lines"], n["lines"]),
        repeated_line_characters=_share(n["repeated_line_characters"], n["line_characters"]),
        repeated_paragraphs=_share(n["repeated_paragraphs"], n["paragraphs"]),
        repeated_paragraph_characters=_share(n["repeated_paragraph_characters"], n["paragraph_characters"]),
        top_ngrams=tuple(np.minimum(_share(n[f"top_{size}"], visible), 1) for size in (2, 3, 4)),
        duplicate_ngrams=tuple(_share(n[f"duplicate_{size}"], visible) for size in range(5, 11)),
    )


def _share(part: Floats, whole: Floats) -> Floats:
    return part / np.maximum(whole, 1)
