"""Secrets: keys and tokens by their issuer's prefix, key blocks, signed tokens, and what words announce as secret.

Words alone decide nothing: what follows `password` or `토큰` must also be so irregular that it is no word, no name in a
program, no placeholder.
"""

import base64
import binascii
import json
import math
import re
from collections import Counter

from components.data.mask.detector import NO_DIGIT, Detector, hangul, value_of, value_span

_PREFIXED = (
    rb"(?:A(?:KI|SI)A[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{40,255}"
    rb"|glpat-[A-Za-z0-9_-]{20,64}|xox[abprs]-[A-Za-z0-9-]{20,255}|[sr]k_live_[A-Za-z0-9]{16,255}"
    rb"|AIza[A-Za-z0-9_-]{35}|hf_[A-Za-z0-9]{34}|npm_[A-Za-z0-9]{36}|pypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,255}"
    rb"|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}|sk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,255})"
)
_PLACEHOLDER = 10
"""Fewer different characters than this behind the prefix are no key but its picture (`ghp_xxxxxxxx…`)."""


def _prefixed(match: re.Match[bytes], shadow: bytes) -> str:
    token = match[0].decode("ascii")
    varied = len(set(token[4:])) >= _PLACEHOLDER and any(character.isdigit() for character in token[4:])
    return token if varied and not re.match(rb"[0-9A-Za-z_]", shadow[match.end() :]) else ""


_BLOCK = (
    rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:[A-Za-z0-9+/=\s\\:,.()>|#*\"'_-]*-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|[A-Za-z0-9+/=\s\\]*)"
)


def _block(match: re.Match[bytes], shadow: bytes) -> str:
    body = re.sub(rb"-----[A-Z0-9 ]+-----|\\[nr]|[^A-Za-z0-9+/=]", b"", match[0]).decode("ascii")
    return body if len(set(body)) >= _PLACEHOLDER else ""


_SIGNED = rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{16,}"


def _signed(match: re.Match[bytes], shadow: bytes) -> str:
    """A JSON Web Token: its head is JSON that names an algorithm."""
    token = match[0].decode("ascii")
    head = token.partition(".")[0]
    try:
        fields = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError):
        return ""
    return token if isinstance(fields, dict) and "alg" in fields else ""


# What words announce ---------------------------------------------------------------------------------

_WORDS = (
    rb"(?i:pass(?:word|wd|phrase)|pwd|secret(?:[_-]?(?:access[_-]?)?key)?|(?:access|auth|api|refresh)?[_-]?token"
    rb"|(?:api|access|private|client|account|encryption|signing)[ _-]?key|client[_-]?secret|credential)"
)
_IS = rb"(?:[\"'`]?\s{0,3}(?:=>|:=|[=:])\s{0,3}|,? (?:is|was)(?: now)?:? |[\"'`]? )(?:[bur]?[\"'`])?"
_KOREAN_WORDS = hangul("(?:비밀번호|비번|암호|토큰|시크릿|(?:인증|접속|비밀|보안|[Aa][Pp][Ii])[ -]?키)")
_KOREAN_IS = hangul("(?:[가-힣 ]{0,6}|[ \"'`]{0,2}[:=])[ \"'`(]{0,2}")
_VALUE = rb"(?P<value>[A-Za-z0-9!#$%&()*+./:=?@^_~|-]{7,}[A-Za-z0-9!#$%&*+=^_~-])"
_URL = rb"://[A-Za-z0-9._%+-]{0,64}:(?P<value>[^\s\x00:/\"'<>{}\[\]\x80-\xff]{5,128})@[A-Za-z0-9\[]"
_BEARER = rb"(?i:bearer|basic) (?P<value>[A-Za-z0-9._~+/-]{16,}={0,2})"

_PICTURE = re.compile(
    r"(?i)your|example|change.?me|placeholder|x{4}|dummy|redacted|sample|\*{3}|\.\.\.|insert|12345678|^https?:|^\$[{(]|^\$\w+$|^%\w+%?$|^&\w+;|^/"
    r"|^[a-z_]\w{0,30}(?:\.[a-z_]\w{0,30})+$|[A-Za-z_]{3}\w*\("  # attribute.of.an.object, call(
)
_REGULAR = re.compile(r"(?:[A-Z]?[a-z]*|[A-Z]+)\d{0,3}|\d+")
_PASSWORD = re.compile(rb"(?i)pass(?:word|wd|phrase)|pwd")
_BITS = 3.0
"""Bits per character (Shannon) that a long value must have: hexadecimal digits reach 4, words in English stay near 4
too, so that being no word is judged by itself."""


def _announced(match: re.Match[bytes], shadow: bytes) -> str:
    value = value_of(match).decode("ascii")
    start, end = value_span(match)
    if shadow[end : end + 1] in (b"(", b"[", b"{") or not is_irregular(value):
        return ""
    if len(value) >= 16:
        return value
    # Short ones must look like something that a person or a generator chose as a password.
    classes = sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]", "[^A-Za-z0-9]"))
    stated = shadow[start - 1 : start] in (b'"', b"'", b"`") or match[0][0] >= 0x80
    return value if classes >= (3 if stated or _PASSWORD.match(match[0]) else 4) else ""


def _in_url(match: re.Match[bytes], shadow: bytes) -> str:
    value = value_of(match).decode("latin-1")
    return "" if _PICTURE.search(value) or value.lower() in ("password", "passwd", "secret", "token") else value


def is_irregular(value: str) -> bool:
    """Tell what somebody or something chose to be hard to guess from words, identifiers, placeholders and numbers."""
    if not re.search("[0-9]", value) or not re.search("[A-Za-z]", value) or _PICTURE.search(value):
        return False
    if len(value) < 16:
        return True
    if all(_REGULAR.fullmatch(part) for part in re.split(r"[_./:-]", value)):
        return False
    counts = Counter(value)
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts.values()) >= _BITS


DETECTORS = (
    Detector("secret", rb"AghxsrnpS", _PREFIXED, _prefixed),
    Detector("secret", rb"\-", _BLOCK, _block),
    Detector("secret", rb"e", _SIGNED, _signed),
    Detector("secret", rb":", _URL, _in_url, NO_DIGIT),
    Detector("secret", rb"bB", _BEARER, _announced),
    Detector("secret", rb"pPsSaArRtTcCeE_\-", _WORDS + _IS + _VALUE, _announced, NO_DIGIT),
    Detector("secret", rb"Aa\x80-\xff", _KOREAN_WORDS + _KOREAN_IS + _VALUE, _announced, NO_DIGIT),
)
