"""Identifies the language of a text among a few candidates, with py3langid, which brings its model along."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from components.common.errors import UsageError
from components.data.filter.kernel import Automaton

CHARACTERS = 500
"""How much of the words at a text's beginning, and as much at its middle, is looked at."""

UNDETERMINED = "und"
NO_LANGUAGE = "zxx"
"""BCP-47's answer for what is not language, such as code."""
KOREAN = "ko"

_NOT_LANGUAGE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\]\([^)\s]*\)|<[^>\n]*>|\[[A-Z_]+_\d+\]|[\d|#*_=~-]+", re.DOTALL
)
_HANGUL = re.compile("[가-힣]+")


class Identifier:
    """Tells languages apart.

    Args:
        candidates: BCP-47 tags to choose from; regions and scripts are ignored.
        min_confidence: Least probability; below it the answer is `und`.

    Raises:
        UsageError: A candidate is not known.
    """

    def __init__(self, candidates: Sequence[str], min_confidence: float) -> None:
        languages = {primary(tag) for tag in candidates}
        self._model = _load_model(tuple(sorted(languages)))
        self._min_confidence = min_confidence
        self._korean = KOREAN in languages

    def identify(self, text: str) -> tuple[str, float]:
        """Name the language of a text, code and addresses in it left aside, and how probable that is.

        No other language is written in Hangul, so where most letters are syllables nothing needs to be weighed.
        """
        if len(text) <= 16 * CHARACTERS:
            words = _words(text, 2 * CHARACTERS)
        else:
            middle = len(text) // 2
            ends = (text[: 8 * CHARACTERS], text[middle : middle + 8 * CHARACTERS])
            words = " ".join(_words(end, CHARACTERS) for end in ends)
        letters = sum(map(str.isalpha, words))
        if not letters:
            return UNDETERMINED, 0.0
        if self._korean and 2 * sum(map(len, _HANGUL.findall(words))) > letters:
            return KOREAN, 1.0
        language, confidence = self._model.classify(words)
        return (str(language) if confidence >= self._min_confidence else UNDETERMINED), float(confidence)


class CompiledIdentifier(LanguageIdentifier):  # type: ignore[misc]
    """py3langid's own, to the bit, with its walk over the bytes of a text compiled: that is most of its time."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        bases = np.asarray(self.tk_row, np.uint32) << 8
        self._automaton = Automaton(
            np.asarray(self.tk_nextmove, np.uint32), bases, np.asarray(self.tk_output, np.int32)
        )

    def _raw_score(self, text: bytes) -> np.ndarray:
        features, counts = self._automaton.count(text)
        if not len(features):
            return np.asarray(super()._raw_score(text))
        return np.asarray(np.log1p(counts) @ self.nb_ptc[features] + self.nb_pc)


def _words(text: str, characters: int) -> str:
    return " ".join(_NOT_LANGUAGE.sub(" ", text).split())[:characters]


@cache
def _load_model(languages: tuple[str, ...]) -> CompiledIdentifier:
    model = CompiledIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(model.nb_classes)
    unknown = [language for language in languages if language not in known]
    if unknown:
        raise UsageError(f"data/filter: {', '.join(unknown)}: no such language; known: {', '.join(sorted(known))}")
    model.set_languages(list(languages))
    return model


def primary(tag: str) -> str:
    """Give the primary language of a BCP-47 tag: `en` of `en-GB`."""
    return tag.partition("-")[0].lower()
