"""The words a text is searched by: whole ones, their parts, and pairs of Korean, Chinese and Japanese characters."""

import re
import unicodedata
from collections.abc import Iterator

_CJK = r"\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_RUN = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:[-._/+][^\W_{_CJK}]+)*")
_PART = re.compile(r"[^\W_]+")
_IS_CJK = re.compile(rf"[{_CJK}]")


def words(text: str) -> list[str]:
    """Split a text into what it is searched by, case folded.

    `grpc-interceptor` gives itself and its parts. A run of Hangul gives its pairs of syllables, so that a noun is found
    whatever particle follows it; character pairs are the standard index for Korean without a dictionary (McNamee and
    Mayfield, "Character n-gram tokenization for European language text retrieval", 2004; Lee and Ahn, "Using n-grams
    for Korean text retrieval", SIGIR 1996).
    """
    return list(_words(unicodedata.normalize("NFC", text).casefold()))


def _words(text: str) -> Iterator[str]:
    for match in _RUN.finditer(text):
        run = match[0]
        if _IS_CJK.match(run):
            yield from (run[start : start + 2] for start in range(max(1, len(run) - 1)))
            continue
        yield run
        parts = _PART.findall(run)
        if len(parts) > 1:
            yield from parts
