"""Lists of phrases, in the package by language and in the recipe, and finding them between the borders of words.

A list is a text file, a phrase a line; `#` begins a comment and `[name]` a section. `*` at an end of a phrase leaves
that end open. A Korean phrase may be followed by particles, and its spaces may be missing: `시발` is found in `시발이`
but not in `시발점`.
"""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import re2
from numpy.typing import NDArray

LISTS = Path(__file__).parent / "lists"

_KOREAN = re.compile("[가-힣]")
_PARTICLES = re.compile(
    "(?:은|는|이|가|을|를|의|에|에서|에게|께|한테|와|과|랑|이랑|로|으로|도|만|까지|부터|처럼|보다|마다|밖에|조차|마저|이나|나"
    "|라도|이라도|야|아|님|들|이다|입니다|이에요|예요|이었다|였다|인|이고|이며|라고|이라고|라는|이라는|같은|같이|하는|하다)"
    r"{0,3}(?!\w)"
)


def read_list(purpose: str, folder: Path = LISTS) -> dict[str, list[str]]:
    """Read the lists of a purpose in every language, by section ('' where there are none)."""
    sections: dict[str, list[str]] = {}
    for file in sorted(folder.glob(f"{purpose}.*.txt")):
        section = ""
        for line in file.read_text("utf-8").splitlines():
            line = line.strip()
            if line.startswith("["):
                section = line.strip("[]")
            elif line and not line.startswith("#"):
                sections.setdefault(section, []).append(line)
    return sections


def pattern_of(phrase: str) -> str:
    """Write the middle of a phrase as a regular expression: any spaces between words, or in Korean none."""
    words = phrase.strip("*").split()
    gap = r"\s*" if _KOREAN.search(phrase) else r"\s+"
    return gap.join(r"[^\n]*".join(map(re.escape, word.split("*"))) for word in words)


class Phrases:
    """Phrases to find in texts.

    Args:
        phrases: As they stand in a list.
    """

    def __init__(self, phrases: Iterable[str]) -> None:
        self._by_key = {_key(phrase.strip("*")): phrase for phrase in phrases}

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self._by_key)

    @cached_property
    def _stems(self) -> str:
        return "|".join(pattern_of(phrase) for phrase in sorted(self._by_key.values()))

    @cached_property
    def _finder(self) -> "re2._Regexp":
        options = re2.Options()
        options.case_sensitive, options.longest_match = False, True
        return re2.compile(self._stems, options)

    def likely(self, text: pa.Array) -> NDArray[np.bool_]:
        """Tell which texts of a column may have a phrase; the others have none."""
        if not self:
            return np.zeros(len(text), bool)
        found = pc.match_substring_regex(text, self._stems, ignore_case=True)
        return np.asarray(found.to_numpy(zero_copy_only=False), bool)

    def count(self, text: str) -> Counter[str]:
        """Count the phrases of a text that stand between borders of words."""
        found: Counter[str] = Counter()
        for match in self._finder.finditer(text):
            phrase = self._by_key[_key(match.group())]
            begins = phrase.startswith("*") or not _is_word(text[match.start() - 1 : match.start()])
            if begins and (phrase.endswith("*") or _ends(text, match.end(), phrase)):
                found[phrase] += 1
        return found


def _key(text: str) -> str:
    return "".join(text.casefold().split())


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _ends(text: str, end: int, phrase: str) -> bool:
    if _KOREAN.search(phrase):
        return _PARTICLES.match(text, end) is not None
    # A Korean particle may follow a word in Latin letters as well.
    following = text[end : end + 1]
    return not _is_word(following) or (_KOREAN.match(following) is not None and _PARTICLES.match(text, end) is not None)
