"""How a generated answer is compared with the expected one.

Both are normalised first: Unicode NFC (so that composed and decomposed Hangul are the same), case folded, quotation
marks and closing punctuation left out, white space collapsed. Nothing else: articles and Korean particles count, and so
does punctuation inside a word, because answers are names, versions and licences (`BSD-3-Clause`, `2.0`).
"""

import re
import unicodedata
from collections import Counter

_EDGES = "\"'`“”‘’«»「」『』.,;:!?。、，！？*()[]"
_SPACE = re.compile(r"\s+")


def normalize(answer: str) -> str:
    """Bring an answer to the form in which answers are compared."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", answer).casefold())
    words = (word.strip(_EDGES) for word in _SPACE.split(folded))
    return " ".join(word for word in words if word)


def exact_match(answer: str, expected: str) -> float:
    """1 when the answers are the same once normalised, else 0."""
    return float(normalize(answer) == normalize(expected))


def token_f1(answer: str, expected: str) -> float:
    """Harmonic mean of precision and recall over the words of the answers, as in SQuAD."""
    given, wanted = normalize(answer).split(), normalize(expected).split()
    if not given or not wanted:
        return float(given == wanted)
    common = (Counter(given) & Counter(wanted)).total()
    return 2 * common / (len(given) + len(wanted))
