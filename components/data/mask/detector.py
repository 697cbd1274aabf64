"""What a detector is, and the ASCII shadow of a text that detectors look at.

The shadow has one byte for each character. Full-width forms and typographic dashes are folded; the Hangul syllables
that patterns name have a byte each, every other syllable shares one, and whatever else is beyond ASCII is `?`. So a
Korean particle behind a number is a border, where the Unicode notion of a word sees none, and Korean words that
announce a number or end a street's name cost no more than English ones.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from components.data.mask.options import Kind


class Finding(NamedTuple):
    """Personal data in a text: `text[start:end]`."""

    start: int
    end: int
    kind: Kind
    canonical: str


NO_DIGIT = rb"[^0-9]"
NO_WORD = rb"[^0-9A-Za-z]"
NO_LETTER = rb"[^0-9A-Za-z\x80-\xff]"


def _judge(match: re.Match[bytes], shadow: bytes) -> str:
    return value_of(match).decode("latin-1")


@dataclass(frozen=True)
class Detector:
    """How one form of one kind of personal data looks.

    Attributes:
        kind: The kind.
        starts: The bytes that a match may begin with, as the inside of a class.
        pattern: What it looks like, in the syntax that `re` and RE2 share. A group `value` is what is masked, when
            words that announce it belong to the pattern; without the group all of the match is.
        check: From the match and the shadow around it to the canonical form, or '' if it is something else.
        before: Class of what may stand at the left; letters may (`tel010-…`) where separators make it unmistakable.
        read: From the words as they are written to the canonical form, or '' if they are something else.
        divisible: Another number may follow behind a space or a hyphen, so that what is left of it may be one alone.
    """

    kind: Kind
    starts: bytes
    pattern: bytes
    check: Callable[[re.Match[bytes], bytes], str] = _judge
    before: bytes = NO_WORD
    read: Callable[[str], str] | None = None
    divisible: bool = False


def value_of(match: re.Match[bytes]) -> bytes:
    """What a match would mask."""
    return match["value"] if match.re.groupindex else match[0]


def value_span(match: re.Match[bytes]) -> tuple[int, int]:
    """Where what a match would mask begins and ends."""
    return match.span("value") if match.re.groupindex else match.span()


_SYLLABLES = (
    "가간강개객건경계고광구국군권금급기길남년농대도동드등라로록리릴릿마면명문밀배뱅버번별보부북분불비사산살상새서선"
    "세센속송수스시신안암약업여역예우운울원월위은을읍의이인일입자장전점접제종좌주증지쪽차천청체충층치카크큰키터토통"
    "특판포표하행허협호화환회파트빌거"
)
_BYTES = {syllable: 0x81 + place for place, syllable in enumerate(_SYLLABLES)}
HANGUL = rb"[\x80-\xff]"


def hangul(pattern: str) -> bytes:
    """Write a pattern for the shadow; `[가-힣]` is any syllable, others must be among those that have a byte."""
    return b"".join(
        bytes([_BYTES[sign]]) if "가" <= sign <= "힣" else sign.encode("ascii")
        for sign in pattern.replace("[가-힣]", r"[\x80-\xff]").replace("가-힣", r"\x80-\xff")
    )


@cache
def _shadows() -> npt.NDArray[np.uint8]:
    """The byte of each character of the basic plane."""
    table = np.full(0x10000, ord("?"), np.uint8)
    table[:0x80] = np.arange(0x80)
    table[0xAC00:0xD7A4] = 0x80
    for syllable, byte in _BYTES.items():
        table[ord(syllable)] = byte
    table[0xFF01:0xFF5F] = np.arange(0x21, 0x7F)  # full-width ASCII
    table[[0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2015, 0x2212, 0x30FC, 0xFE63]] = ord("-")
    table[[0x00A0, 0x2002, 0x2003, 0x2007, 0x2009, 0x202F, 0x3000]] = ord(" ")
    return table


def plain(value: str) -> str:
    """Write words in the one form in which they are compared."""
    return " ".join(value.casefold().split())


def shadow_of(text: str) -> bytes:
    """Write a text with one byte a character, behind a line break that gives the first one a left neighbour."""
    if text.isascii():
        return b"\n" + text.encode()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return b"\n" + _shadows()[np.minimum(codes, 0xFFFF)].tobytes()
