"""Finds people and places in texts of any mixture of English and Korean, and tells who is who in a document.

A text is taken sentence by sentence: those whose letters are mostly Latin go to the English finder, those with Korean
words to the Korean one, mixed ones to both, and a Korean sentence's Latin words are looked up among the given names.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from components.data.mask import english, korean
from components.data.mask.detector import Finding
from components.data.mask.options import Kind

_SENTENCE = re.compile(r"[^\n.!?。]*(?:[\n.!?。]+\s*|$)")
_LETTER = re.compile(r"[A-Za-zÀ-ÿ]")
_HANGUL = re.compile("[가-힣]")
_KOREAN_WORD = re.compile("[가-힣]{2}")
_CAPITAL = re.compile("[A-ZÀ-Þ]")
LETTERS_A_SYLLABLE = 2.5
"""Latin letters that say as much as one syllable of Hangul."""
_LONGEST = 5_000
"""Characters that a finder reads at once, so that its memory does not grow with the text."""
_BEGINS = re.compile(r"(?<![\w@./-])\S")
_GOES_ON = re.compile(r"[0-9A-Za-zÀ-ɏ_@/-]")
_SHORTEST = 3
"""Characters of the shortest name that is looked for again."""


class _Piece(NamedTuple):
    place: int
    start: int
    text: str


def find_each(texts: Sequence[str], kinds: Sequence[Kind]) -> list[list[Finding]]:
    """Find people and places in each of many texts, in order and without overlaps.

    Args:
        texts: Any texts.
        kinds: The kinds to look for; without `person` and `place` nothing is.

    Raises:
        HeadraceError: What finds names is not installed.
    """
    found: list[list[Finding]] = [[] for _ in texts]
    if not {"person", "place"} & set(kinds):
        return found
    latin: list[_Piece] = []
    korean_words: list[_Piece] = []
    amid_hangul: list[_Piece] = []
    for place, text in enumerate(texts):
        for start, end, script in _pieces(text):
            piece = _Piece(place, start, text[start:end])
            if script == "latin":
                latin.append(piece)
            elif _CAPITAL.search(piece.text):
                amid_hangul.append(piece)
            if _KOREAN_WORD.search(piece.text):
                korean_words.append(piece)
    finders = ((latin, english.find), (korean_words, korean.find), (amid_hangul, english.find_listed))
    for pieces, finder in finders:
        if pieces:
            for piece, findings in zip(pieces, finder([piece.text for piece in pieces]), strict=True):
                found[piece.place] += [_moved(one, piece.start) for one in findings if one.kind in kinds]
    return [
        _in_order([*findings, *_again(text, findings)]) if findings else []
        for text, findings in zip(texts, found, strict=True)
    ]


def _moved(finding: Finding, by: int) -> Finding:
    return finding._replace(start=finding.start + by, end=finding.end + by)


def _in_order(findings: Sequence[Finding]) -> list[Finding]:
    kept: list[Finding] = []
    for one in sorted(findings, key=lambda one: (one.start, -one.end)):
        if not kept or kept[-1].end <= one.start:
            kept.append(one)
    return kept


def _pieces(text: str) -> Iterator[tuple[int, int, str]]:
    """Cut a text into runs of sentences of one script; those without a name's letters are left out."""
    start = end = 0
    running = ""
    for match in _SENTENCE.finditer(text):
        script = _script_of(match[0])
        if script != running or match.end() - start > _LONGEST:
            if running:
                yield from _cut(text, start, end, running)
            start, running = match.start(), script
        end = match.end()
    if running and start < end:
        yield from _cut(text, start, end, running)


def _cut(text: str, start: int, end: int, script: str) -> Iterator[tuple[int, int, str]]:
    """Cut what has no sentences, such as a table on one line, behind a space if it has any."""
    while end - start > _LONGEST:
        cut = text.rfind(" ", start, start + _LONGEST) + 1 or start + _LONGEST
        yield start, cut, script
        start = cut
    yield start, end, script


def _script_of(sentence: str) -> str:
    """Name the script that most of a sentence is in, '' where neither could be a name."""
    syllables = len(_HANGUL.findall(sentence)) if _KOREAN_WORD.search(sentence) else 0
    letters = len(_LETTER.findall(sentence)) if syllables or _CAPITAL.search(sentence) else 0
    if not syllables and not letters:
        return ""
    return "hangul" if syllables * LETTERS_A_SYLLABLE >= letters else "latin"


def _again(text: str, findings: Sequence[Finding]) -> list[Finding]:
    """Find the people of a text wherever it names them in full, and by surnames that are no words."""
    names: dict[str, str] = {}
    for one in findings:
        written = text[one.start : one.end]
        if one.kind != "person" or (len(written) < _SHORTEST if _HANGUL.match(written) else " " not in written):
            continue
        names[written] = one.canonical
        surname = written.rpartition(" ")[2]
        if not _HANGUL.match(written) and len(surname) > 3 and not english.is_word(surname):
            names.setdefault(surname, one.canonical.rpartition(" ")[2])
    return list(_occurrences(text, names)) if names else []


def _occurrences(text: str, names: Mapping[str, str]) -> Iterator[Finding]:
    """Find names as words of a text, the longest first; the time does not grow with how many names there are."""
    lengths: defaultdict[str, set[int]] = defaultdict(set)
    for name in names:
        lengths[name[:_SHORTEST]].add(len(name))
    end = 0
    for match in _BEGINS.finditer(text):
        start = match.start()
        if start < end:
            continue
        for length in sorted(lengths.get(text[start : start + _SHORTEST], ()), reverse=True):
            written = text[start : start + length]  # shorter where the text ends
            canonical = names.get(written)
            if canonical is not None and not _GOES_ON.match(text, start + len(written)):
                end = start + len(written)
                yield Finding(start, end, "person", canonical)
                break


def is_whole(name: str) -> bool:
    """Tell a person's whole name from a part of it, which is many people's."""
    return len(name) > 2 if _HANGUL.match(name) else " " in name


class People:
    """Tells who is who in one document: `김철수` and `김 부장`, `Ada Lovelace` and `Ms Lovelace`.

    A part of a name is the person whose it is, if that can be one only.

    Args:
        names: The people's names that the document has, in canonical form.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        known = sorted(set(names))
        near: defaultdict[str, list[str]] = defaultdict(list)
        for name in known:
            for part in _parts(name):
                near[part].append(name)
        wholes = {name: [one for one in _fewest(near, name) if _is_part(name, one)] for name in known}
        longest = {name: [one for one in wholes[name] if not wholes[one]] for name in known}
        self._whole = {name: found[0] for name, found in longest.items() if len(found) == 1}

    def who(self, name: str) -> str:
        """Give the whole name of which this one is a part, or the name itself."""
        return self._whole.get(name, name)


def _parts(whole: str) -> set[str]:
    """What a part of a name must be, or be made of."""
    if _HANGUL.match(whole):
        return {whole[0], *(whole[at:] for at in range(1, len(whole) - 1))}
    return {part for word in whole.split() for part in (word, word[0])}


def _fewest(near: Mapping[str, list[str]], short: str) -> set[str]:
    """The names that this one may be a part of, as few as its rarest word leaves."""
    return {*near.get(short, ()), *min((near.get(word, []) for word in short.split()), key=len)}


def _is_part(short: str, whole: str) -> bool:
    if len(short) >= len(whole):
        return False
    if _HANGUL.match(whole):
        return whole.endswith(short) if len(short) > 1 else whole.startswith(short)
    words = whole.split()
    return all(
        word in words or (len(word) == 1 and any(one.startswith(word) for one in words)) for word in short.split()
    )
