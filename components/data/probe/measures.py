"""What an answer is measured by beside its correctness: whether the evidence bears it, and whether it has the form.

Both are rules, the same for every model, so that they cost nothing and drift nowhere.
"""

import re
import unicodedata

from components.data.curate.facts import UNFIT, WORD

_WORDS = re.compile(r"[^\W_]+")
_CJK = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_OPENING = re.compile(r"(^|[.!?]\s+)[A-Z][a-z]{0,2}\b")
_MARKUP = re.compile(r"<\|[^|>]*\|>|```|</?\w+>")
SHORT = 3
"""Letters up to which a word in lower case claims nothing: the, is, of."""


def hallucinated(answer: str, evidence: str) -> float:
    """Tell whether an answer says something that the evidence does not.

    A word claims something if it has a digit, a capital or more than three letters; a capital that opens a sentence
    does not count. Latin words must occur in the evidence whole, in any case; in Chinese, Japanese and Korean, where
    particles cling to words, their first two characters must.

    Args:
        answer: What a model answered.
        evidence: The question and the text of the document that answers it.

    Returns:
        1 if any such word is missing from the evidence, else 0.
    """
    held = _folded(evidence)
    words = set(_WORDS.findall(held))
    return float(
        any(not _is_held(word, held, words) for word in _WORDS.findall(_OPENING.sub(r"\1", _composed(answer))))
    )


def in_format(answer: str, answer_words: int) -> float:
    """Tell whether an answer has the form it was trained to have.

    Args:
        answer: What a model answered.
        answer_words: Most words in an answer.

    Returns:
        1 for one line of at most so many words without markup, links or templates, else 0.
    """
    fits = 0 < len(WORD.findall(answer)) <= answer_words and "\n" not in answer.strip()
    return float(fits and not _MARKUP.search(answer) and not UNFIT.search(answer))


def _is_held(word: str, held: str, words: set[str]) -> bool:
    if _CJK.search(word):
        return len(word) < 2 or word[:2].casefold() in held
    claims = len(word) > SHORT or not word.islower()
    return not claims or word.casefold() in words


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _composed(_composed(text).casefold())
