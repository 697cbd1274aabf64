"""Finds the lines that a page has and a text does not: cookie banners, navigation, calls to share or to subscribe."""

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import re2
from numpy.typing import NDArray

from components.data.filter.phrases import pattern_of, read_list

NAVIGATION = "navigation"
LONGEST = 200
"""Characters of a line beyond which it is a paragraph, whatever it says."""

_TARGET = re.compile(r"\]\([^)]*\)")
_TOKEN = re.compile(r"\w+")
_BLANK = re.compile(r"\n{3,}")
_TOKENS = 6
"""Most tokens of a phrase without an open end."""


@dataclass
class Cleaned:
    """A text without its boilerplate.

    Attributes:
        text: The lines that stay.
        removed: Lines removed, by section of the lists.
        characters: Visible characters of the lines removed.
        examples: One line for each section.
    """

    text: str
    removed: Counter[str] = field(default_factory=Counter)
    characters: int = 0
    examples: dict[str, str] = field(default_factory=dict)


def likely(text: pa.Array) -> NDArray[np.bool_]:
    """Tell which texts of a column may have boilerplate; the others have none."""
    return np.asarray(pc.match_substring_regex(text, _lists().gate).to_numpy(zero_copy_only=False), bool)


def clean(text: str) -> Cleaned:
    """Remove the boilerplate of a text, but not from fenced code."""
    cleaned = Cleaned(text)
    kept: list[str] = []
    fenced = False
    for line in text.split("\n"):
        fenced ^= line.lstrip().startswith(("```", "~~~"))
        section = "" if fenced else section_of(line)
        if not section:
            kept.append(line)
            continue
        cleaned.removed[section] += 1
        cleaned.characters += sum(map(len, line.split()))
        cleaned.examples.setdefault(section, line.strip())
    if cleaned.removed:
        cleaned.text = _BLANK.sub("\n\n", "\n".join(kept)).strip("\n")
    return cleaned


def section_of(line: str) -> str:
    """Name the section of the lists that a line belongs to, '' for a line of the text.

    A heading names a section of the text, not of the page, so it stays.
    """
    if not 0 < len(line) <= LONGEST or line.lstrip().startswith("#"):
        return ""
    lists = _lists()
    first = _TOKEN.search(line)
    if first is None:
        return ""
    tokens = []
    if first.group().casefold() in lists.beginnings:
        tokens = _TOKEN.findall(_TARGET.sub(" ", line).casefold())
    at, found = 0, []
    while at < len(tokens):
        for size in range(min(_TOKENS, len(tokens) - at), 0, -1):
            section = lists.closed.get("".join(tokens[at : at + size]))
            if section:
                found.append(section)
                at += size
                break
        else:
            break
    if found and at == len(tokens):
        others = [section for section in found if section != NAVIGATION]
        if others or len(found) > 1:
            return others[0] if others else NAVIGATION
    if not lists.likely.search(line):
        return ""
    match = lists.opened.search(line.strip())
    return str(match.lastgroup).replace("_", " ") if match else ""


@dataclass(frozen=True)
class _Lists:
    """The lists, ready to be looked up.

    Attributes:
        closed: Section by phrase, for phrases that are a line or an item of one; without spaces.
        beginnings: What the first word of a line is if it may be one of `closed`.
        opened: Finds phrases with an open end in a line; a group for each section.
        likely: Finds, faster, whatever `opened` finds, and more.
        gate: Finds, for Arrow, whatever `closed` and `opened` find, and more.
    """

    closed: dict[str, str]
    beginnings: frozenset[str]
    opened: re.Pattern[str]
    likely: "re2._Regexp"
    gate: str


@cache
def _lists() -> _Lists:
    every = read_list("boilerplate")
    closed = [(phrase, name) for name, phrases in every.items() for phrase in phrases if "*" not in phrase]
    opened = {name: [phrase for phrase in phrases if "*" in phrase] for name, phrases in every.items()}
    groups = [
        f"(?P<{name.replace(' ', '_')}>{'|'.join(map(_whole_line, phrases))})"
        for name, phrases in opened.items()
        if phrases
    ]
    begins = "|".join(pattern_of(phrase) for phrase, _ in closed)
    within = "|".join(pattern_of(phrase) for phrases in opened.values() for phrase in phrases)
    keys = {"".join(_TOKEN.findall(phrase.casefold())): name for phrase, name in closed}
    return _Lists(
        keys,
        frozenset(key[:end] for key in keys for end in range(1, len(key) + 1)),
        re.compile("|".join(groups), re.IGNORECASE),
        re2.compile(f"(?i){within}"),
        rf"(?i)(?m:^)[^\p{{L}}\p{{N}}\n#]*(?:{begins})(?:[^\p{{L}}\p{{N}}]|\z)|{within}",
    )


def _whole_line(phrase: str) -> str:
    before = "" if phrase.startswith("*") else r"^\W*"
    after = "" if phrase.endswith("*") else r"\W*$"
    return before + pattern_of(phrase) + after
