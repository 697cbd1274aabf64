"""Identifies the language of a text among a few candidates, with py3langid, which brings its model along."""

import re
from collections.abc import Sequence
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from components.common.errors import UsageError

CHARACTERS = 4_000
"""How much of a text is looked at: accuracy is complete long before (see the step's README)."""

UNDETERMINED = "und"
NO_LANGUAGE = "zxx"
"""BCP-47's answer for what is not language, such as code."""

_NOT_LANGUAGE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|<[^>\n]*>|\[[A-Z_]+_\d+\]|[\d|#*_=~-]+", re.DOTALL)


class Identifier:
    """Tells languages apart.

    Args:
        candidates: BCP-47 tags to choose from; regions and scripts are ignored.
        min_confidence: Least probability; below it the answer is `und`.

    Raises:
        UsageError: A candidate is not known.
    """

    def __init__(self, candidates: Sequence[str], min_confidence: float) -> None:
        self._model = _load_model(tuple(sorted({primary(tag) for tag in candidates})))
        self._min_confidence = min_confidence

    def identify(self, text: str) -> str:
        """Name the language of a text, code and addresses in it left aside."""
        words = " ".join(_NOT_LANGUAGE.sub(" ", text[: 4 * CHARACTERS]).split())[:CHARACTERS]
        if not any(character.isalpha() for character in words):
            return UNDETERMINED
        language, confidence = self._model.classify(words)
        return str(language) if confidence >= self._min_confidence else UNDETERMINED


@cache
def _load_model(languages: tuple[str, ...]) -> LanguageIdentifier:
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    known = set(model.nb_classes)
    unknown = [language for language in languages if language not in known]
    if unknown:
        raise UsageError(f"data/filter: {', '.join(unknown)}: no such language; known: {', '.join(sorted(known))}")
    model.set_languages(list(languages))
    return model


def primary(tag: str) -> str:
    """Give the primary language of a BCP-47 tag: `en` of `en-GB`."""
    return tag.partition("-")[0].lower()
