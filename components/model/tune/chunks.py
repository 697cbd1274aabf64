"""Splits what is too long for the model into chunks that overlap, where the text has a border if it can."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 0.5
"""Share of its room that a chunk fills at least; a border before that is not waited for."""

_BORDERS = (
    re.compile(r"[.!?。！？][)\]\"'”’」』]*(?=\s)"),  # a sentence; many tokenizers put the space into the next token
    re.compile(r"\n"),  # a line
    re.compile(r"\n[ \t]*\n\s*"),  # a paragraph
    re.compile(r"\n\s*(?=#{1,6} )"),  # what stands under a heading
)
"""What ends where a text may be cut, the weakest first."""


@dataclass(frozen=True)
class Chunk:
    """Tokens `start` to `stop` of a sequence; those from `fresh` on are in no chunk before it."""

    start: int
    fresh: int
    stop: int


def split(length: int, room: int, overlap: int, borders: np.ndarray) -> list[Chunk]:
    """Split a sequence of tokens.

    Args:
        length: Tokens of the sequence.
        room: Most tokens of a chunk.
        overlap: Tokens that a chunk repeats; less than `LEAST` of the room.
        borders: For each token how strong the border before it is, 0 for none.

    Returns:
        The chunks in order. What is fresh in them, one after the other, is the sequence.
    """
    chunks: list[Chunk] = []
    fresh = 0
    while True:
        start = max(0, fresh - overlap)
        if length - start <= room:
            return [*chunks, Chunk(start, fresh, length)]
        first, last = start + int(np.ceil(LEAST * room)), start + room
        within = borders[first : last + 1]
        strongest = np.flatnonzero(within == within.max())[-1]
        stop = first + int(strongest) if within.max() else last
        chunks.append(Chunk(start, fresh, stop))
        fresh = stop


def borders(text: str, starts: Sequence[int]) -> np.ndarray:
    """Find where a tokenized text has borders.

    Args:
        text: The text.
        starts: Where in it each token begins.

    Returns:
        For each token the strength of the border before it: 4 a heading, 3 a paragraph, 2 a line, 1 a sentence,
        0 none.
    """
    strengths = np.zeros(len(starts), np.int8)
    for strength, pattern in enumerate(_BORDERS, 1):
        ends = [border.end() for border in pattern.finditer(text)]
        tokens = np.searchsorted(starts, ends)  # the first token that lies behind the border
        strengths[tokens[tokens < len(strengths)]] = strength
    return strengths
