"""Cut documents into chunks where their structure allows it, none longer than so many tokens."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+")
_WORD_END = re.compile(r"\s+")
_FULL = 4
"""A chunk is not cut at a better place when that leaves less than one part in so many of its room used."""


class Border(IntEnum):
    """What ends at a place where a text may be cut; the greater, the better the place."""

    WORD = 0
    SENTENCE = 1
    LINE = 2
    PARAGRAPH = 3
    SECTION = 4


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    Attributes:
        start: Its first character.
        end: The character after its last.
        headings: The headings above its first line, outermost first.
    """

    start: int
    end: int
    headings: tuple[str, ...]


def cut(text: str, tokens: Sequence[int], size: int) -> list[Piece]:
    """Cut a text: at headings, else between paragraphs, lines, sentences or words, whichever comes first in that order.

    Args:
        text: Markdown, code or plain text.
        tokens: Where each of its tokens begins, ascending, in characters.
        size: Most tokens in a piece.

    Returns:
        Pieces in order, without the white space between them; together they hold every other character.
    """
    borders, headings = _borders(text)
    places = sorted(borders)
    pieces = []
    start = 0
    while start < len(text):
        end = _end(start, len(text), tokens, size, places, borders)
        kept = text[start:end]
        first = start + len(kept) - len(kept.lstrip())
        last = start + len(kept.rstrip())
        if first < last:
            pieces.append(Piece(first, last, _above(first, headings)))
        start = end
    return pieces


def _end(
    start: int, length: int, tokens: Sequence[int], size: int, places: Sequence[int], borders: dict[int, Border]
) -> int:
    """Where the piece that begins at `start` ends."""
    following = bisect_right(tokens, start)  # the token that begins at `start`, or lies across it, is its first
    limit = tokens[following - 1 + size] if following - 1 + size < len(tokens) else length
    if limit >= length:
        return length
    least = tokens[following - 1 + max(1, size // _FULL)]
    for low in (least, start + 1):
        candidates = places[bisect_right(places, low - 1) : bisect_right(places, limit)]
        if candidates:
            return max(candidates, key=lambda place: (borders[place], place))
    return max(limit, start + 1)


def _borders(text: str) -> tuple[dict[int, Border], list[tuple[int, int, str]]]:
    """Every place where a text may be cut, and its headings: where, of which level, in which words."""
    borders: dict[int, Border] = {match.end(): Border.WORD for match in _WORD_END.finditer(text)}
    borders |= {match.end(): Border.SENTENCE for match in _SENTENCE_END.finditer(text)}
    headings = []
    fenced, blank, at = False, False, 0
    for line in text.splitlines(keepends=True):
        borders[at] = Border.PARAGRAPH if blank else Border.LINE
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (heading := _HEADING.match(line)):
            borders[at] = Border.SECTION
            headings.append((at, len(heading[1]), heading[2]))
        blank = not line.strip()
        at += len(line)
    borders.pop(0, None)
    return borders, headings


def _above(place: int, headings: Sequence[tuple[int, int, str]]) -> tuple[str, ...]:
    """The headings that a place stands under, its own line not among them."""
    path: list[tuple[int, str]] = []
    for at, level, words in _before(place, headings):
        del at
        path = [*((depth, name) for depth, name in path if depth < level), (level, words)]
    own = next((level for at, level, _ in headings if at == place), None)
    return tuple(words for level, words in path if own is None or level < own)


def _before(place: int, headings: Sequence[tuple[int, int, str]]) -> Iterator[tuple[int, int, str]]:
    return (heading for heading in headings if heading[0] < place)
