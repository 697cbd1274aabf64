"""Finds personal data in a text: where, of which kind, and a canonical form of it.

Two stages. One google-re2 alternation over all kinds finds where anything may begin, in one pass and in linear time;
at those few places the patterns that may begin with that byte, and their checks (checksum, calendar, network, words
beside it), decide. A batch of texts is searched as one: most texts hold nothing, and a call costs more than they do.
"""

import datetime
import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import re2

from components.data.mask import accounts, addresses, credentials
from components.data.mask.accounts import has_business_checksum
from components.data.mask.detector import (
    NO_DIGIT,
    NO_LETTER,
    Detector,
    Finding,
    hangul,
    shadow_of,
    value_of,
    value_span,
)
from components.data.mask.options import Kind

_STATES = 128 * 2**20
"""Bytes that the locating automaton may grow to; with RE2's own 8 MiB it is thrown away and built anew all the time."""
_BETWEEN = "\0"
"""Stands between the texts of a batch; no pattern reaches across it."""


def find(text: str, kinds: Sequence[Kind], keep_examples: bool = True) -> Iterator[Finding]:
    """Find personal data, in order and without overlaps.

    Args:
        text: Any text.
        kinds: The kinds to look for.
        keep_examples: Pass over addresses that belong to nobody.
    """
    locate, confirm = _engine(tuple(kinds))
    shadow = shadow_of(text)
    position = 0
    while match := locate.search(shadow, position):
        start = match.start() + 1
        found = _confirm(shadow, text, start, confirm[shadow[start]])
        if found is None:
            position = start
            continue
        position = found.end  # its last byte, as the shadow begins one earlier
        if not (keep_examples and _is_example(found.kind, found.canonical)):
            yield found


def find_each(texts: Sequence[str], kinds: Sequence[Kind], keep_examples: bool = True) -> list[list[Finding]]:
    """Find personal data in each of many texts; for short texts many times as fast as one by one."""
    found: list[list[Finding]] = [[] for _ in texts]
    ends = list(accumulate(len(text) + 1 for text in texts))
    place = begin = 0
    for start, end, kind, canonical in find(_BETWEEN.join(texts), kinds, keep_examples):
        while start >= ends[place]:
            begin = ends[place]
            place += 1
        found[place].append(Finding(start - begin, end - begin, kind, canonical))
    return found


def _confirm(
    shadow: bytes, text: str, start: int, detectors: Sequence[tuple[Detector, re.Pattern[bytes]]]
) -> Finding | None:
    before = shadow[start - 1]
    digit, letter = 0x30 <= before <= 0x39, shadow[start - 1 : start].isalpha()
    for detector, pattern in detectors:
        if digit or (letter and detector.before is not NO_DIGIT) or (before >= 0x80 and detector.before is NO_LETTER):
            continue
        match = pattern.match(shadow, start)
        while match:
            canonical = detector.check(match, shadow)
            first, last = value_span(match)
            if canonical and detector.read:
                canonical = detector.read(text[first - 1 : last - 1])
            if canonical:
                return Finding(first - 1, last - 1, detector.kind, canonical)
            if not detector.divisible:
                break
            shorter = max(match[0].rfind(separator) for separator in (b" ", b"-", b"."))
            match = pattern.match(shadow, start, start + shorter) if shorter > 0 else None
    return None


# E-mail ----------------------------------------------------------------------------------------------

_LOCAL = rb"[A-Za-z0-9_%+.-]+(?:'[A-Za-z0-9_%+.-]+)*"
_LABEL = rb"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_AT = rb"(?:@|\s?[\[({<]\s?(?:at|AT|At)\s?[\])}>]\s?)"
_DOT = rb"(?:\.|\s?[\[({<]\s?(?:dot|DOT|Dot)\s?[\])}>]\s?)"
_EMAIL = _LOCAL + _AT + _LABEL + rb"(?:" + _DOT + _LABEL + rb")*" + _DOT + rb"[A-Za-z]{2,24}"
_FILES = re.compile(r".*\.(?:css|csv|gif|html?|ico|jpe?g|jsx?|json|png|svg|toml|tsx|txt|webp|xml|ya?ml)")


def _email(match: re.Match[bytes], shadow: bytes) -> str:
    address = re.sub(r"\s", "", match[0].decode("ascii").lower())
    address = re.sub(r"[\[({<]at[\])}>]", "@", address)
    address = re.sub(r"[\[({<]dot[\])}>]", ".", address)
    local, _, domain = address.rpartition("@")
    if _FILES.fullmatch(domain):  # icon@2x.png
        return ""
    after = shadow[match.end() : match.end() + 1]
    if local == "git" and after in (b":", b"/"):  # an address of repositories
        return ""
    # What stands before an address in a list or in emphasis makes it nobody else's.
    return address.lstrip("_.%+-" if after == b"_" else ".%+-")


# Telephone -------------------------------------------------------------------------------------------

_MOBILE = rb"(?:(?:\+|00)82[ .-]?\(?0?\)?|\(?0)1[016789]\)?[ .-]?[0-9]{3,4}[ .-]?[0-9]{4}"
_LANDLINE = rb"\(?0(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|80|50[2-8]?)(?:\) ?|[.-])[0-9]{3,4}[.-][0-9]{4}"
_EXTENSION = rb"(?: ?(?:x|ext\.?) ?[0-9]{1,5})?"
_EXTENDED = re.compile(rb" ?(?:x|ext\.?) ?[0-9]+$")
_INTERNATIONAL = rb"(?:\+|00)[1-9][0-9]{0,2}(?:[ .()-]{0,3}[0-9]){6,13}" + _EXTENSION
_NORTH_AMERICAN = (
    rb"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?[2-9][0-9]{2}[ .-]|[2-9][0-9]{2}-[2-9][0-9]{2}-"
    rb"|[2-9][0-9]{2}\.[2-9][0-9]{2}\.)[0-9]{4}" + _EXTENSION
)
_BRITISH = rb"(?:\(0[12378][0-9]{1,4}\) ?|0[12378][0-9]{1,4} )[0-9]{3,4} ?[0-9]{2,4}"
_BRITISH_PLAN = re.compile(rb"02\d \d{8}|0(?:11\d|1\d1|3\d\d|8\d\d) \d{6,7}|0(?:1|7)\d{3} \d{5,6}")
"""Area codes of the British numbering plan (Ofcom) and how many digits follow."""
_ANNOUNCED = (
    rb"(?i:(?:tele)?phone|tel|call|cell|mobile|fax|dial|whatsapp|text me|contact|reach)"
    rb"(?i:[ :.#(,\"'-]|number|no|is|was|at|on|me|us|him|her|them|now|or|my|the){1,24}?"
    rb"(?P<value>(?:1[ .-]?)?[2-9][0-9]{2} ?[2-9][0-9]{2} ?[0-9]{4}" + _EXTENSION + rb"|0[12378][0-9]{8,9})"
)


def _digits(match: re.Match[bytes]) -> str:
    return re.sub(rb"[^0-9]", b"", match[0]).decode("ascii")


def _whole(match: re.Match[bytes], shadow: bytes) -> bool:
    """Tell a number that stands for itself from a part of a longer number, a decimal or an identifier."""
    after = shadow[match.end() : match.end() + 2]
    if match[0].isdigit():
        before = shadow[max(0, match.start() - 2) : match.start()]
        # A comma is no part of it: groups of thousands are shorter, and rows of values have commas without spaces.
        return not (re.search(rb"[A-Za-z_]$|[0-9][.-]$", before) or re.match(rb"[0-9A-Za-z_]|\.[0-9]", after))
    return not after[:1].isdigit()


def _mobile(match: re.Match[bytes], shadow: bytes) -> str:
    if not _whole(match, shadow) or not _parentheses(match[0]):
        return ""
    digits = re.sub(r"^(?:00)?820?", "0", _digits(match))
    if match[0].isdigit() and (len(digits) != 11 or not digits.startswith("010") or set(digits) <= {"0", "1"}):
        return ""
    return digits


def _landline(match: re.Match[bytes], shadow: bytes) -> str:
    inside = re.search(rb"[0-9][.-]$", shadow[max(0, match.start() - 2) : match.start()])
    return _digits(match) if not inside and _whole(match, shadow) and _parentheses(match[0]) else ""


def _international(match: re.Match[bytes], shadow: bytes) -> str:
    number = _EXTENDED.sub(b"", match[0])
    digits = re.sub(rb"[^0-9]", b"", number).decode("ascii").removeprefix("00")
    groups = re.findall(rb"[0-9]+", number)
    separators = re.sub(rb"[0-9+]", b"", number)
    if re.search(rb"[0-9][.-]$", shadow[max(0, match.start() - 2) : match.start()]):  # 124-81-00998 120
        return ""
    if not _whole(match, shadow) or not _parentheses(match[0]) or not 8 <= len(digits) <= 15:
        return ""
    if not separators and (match[0].startswith(b"00") or len(digits) < 10):
        return ""
    if (
        separators == b"." or set(b".-") <= set(separators) or any(len(group) == 1 for group in groups[2:])
    ):  # +1.2345, 0081-17.98, +1-2-3
        return ""
    return re.sub(r"^(?:82|44)0?|^1(?=\d{10}$)", lambda code: "" if code[0] == "1" else "0", digits)


def _north_american(match: re.Match[bytes], shadow: bytes) -> str:
    before = shadow[max(0, match.start() - 2) : match.start()]
    after = shadow[match.end() : match.end() + 2]
    if not _whole(match, shadow) or re.fullmatch(rb"[0-9A-Fa-f][.-]", before) or re.fullmatch(rb"[.-][0-9]", after):
        return ""
    return re.sub(rb"[^0-9]", b"", _EXTENDED.sub(b"", match[0])).decode("ascii")[-10:]


def _british(match: re.Match[bytes], shadow: bytes) -> str:
    area, _, rest = match[0].replace(b"(", b"").replace(b")", b" ").partition(b" ")
    number = area + b" " + rest.replace(b" ", b"")
    return _digits(match) if _BRITISH_PLAN.fullmatch(number) and _whole(match, shadow) else ""


def _announced(match: re.Match[bytes], shadow: bytes) -> str:
    start, end = value_span(match)
    before, after = shadow[start - 1 : start], shadow[end : end + 2]
    if before.isalnum() or re.match(rb"[0-9A-Za-z_]|[.-][0-9]", after):
        return ""
    digits = re.sub(rb"[^0-9]", b"", _EXTENDED.sub(b"", value_of(match))).decode("ascii")
    return digits if digits.startswith("0") else digits[-10:]


def _parentheses(number: bytes) -> bool:
    return number.count(b"(") <= number.count(b")") <= 1 and not number.endswith(b")")


# Resident and foreigner registration numbers ---------------------------------------------------------

_RESIDENT = rb"[0-9]{2}[01][0-9][0-3][0-9](?: ?- ?| )?[0-9][0-9]{6}"
_CENTURY = {
    "9": 1800,
    "0": 1800,
    "1": 1900,
    "2": 1900,
    "5": 1900,
    "6": 1900,
    "3": 2000,
    "4": 2000,
    "7": 2000,
    "8": 2000,
}


def _resident(match: re.Match[bytes], shadow: bytes) -> str:
    digits = _digits(match)
    if not _whole(match, shadow):
        return ""
    try:
        born = datetime.date(_CENTURY[digits[6]] + int(digits[:2]), int(digits[2:4]), int(digits[4:6]))
    except ValueError:
        return ""
    if b"-" in match[0]:
        # Since October 2020 all digits behind the first are random, also for people who get a new number: the checksum
        # cannot clear what has the form and a date in it.
        return digits
    if born.year >= 2040:  # Korean barcodes begin with 880 and often hold a date
        return ""
    return digits if born >= datetime.date(2020, 10, 1) or has_resident_checksum(digits) else ""


def has_resident_checksum(digits: str) -> bool:
    """Verify the check digit of a resident (…1-4) or foreigner (…5-8) registration number given before October 2020."""
    weighted = sum(
        int(digit) * weight for digit, weight in zip(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=False)
    )
    shift = 13 if digits[6] in "5678" else 11
    return (shift - weighted % 11) % 10 == int(digits[12])


# Korean business registration numbers and driving licences -------------------------------------------

_BUSINESS = rb"[1-9][0-9]{2}-[0-9]{2}-[0-9]{5}"
_LICENCE = rb"(?:1[1-9]|2[0-8])-[0-9]{2}-[0-9]{6}-[0-9]{2}"  # the office that gave it, year, number, check digits


def _alone(match: re.Match[bytes], shadow: bytes) -> bool:
    """Tell a number with hyphens from a part of a longer one, such as an ISBN or an order number."""
    before, after = shadow[max(0, match.start() - 2) : match.start()], shadow[match.end() : match.end() + 2]
    return not (re.search(rb"[0-9A-Za-z_][.-]$|[_/]$", before) or re.match(rb"[0-9A-Za-z_]|[.-][0-9A-Za-z]", after))


def _business(match: re.Match[bytes], shadow: bytes) -> str:
    digits = _digits(match)
    return digits if _alone(match, shadow) and has_business_checksum(digits) else ""


def _licence(match: re.Match[bytes], shadow: bytes) -> str:
    return _digits(match) if _alone(match, shadow) else ""


# Payment cards ---------------------------------------------------------------------------------------

_CARD = (
    rb"(?:[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}(?:[ -][0-9]{1,3})?|3[47][0-9]{2}[ -][0-9]{6}[ -][0-9]{5}"
    rb"|3[0689][0-9]{2}[ -][0-9]{6}[ -][0-9]{4}|[0-9]{13,19})"
)
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|3[47]\d{13}"
    r"|(?:2131|1800)\d{11}|3(?:0[0-5]|[689]\d)\d{11}|35\d{14}|(?:6011|65\d\d|64[4-9]\d)\d{12}|62\d{14,17}|9\d{15}"
)


def _card(match: re.Match[bytes], shadow: bytes) -> str:
    digits = _digits(match)
    domestic = digits[0] == "9"  # issued for use in Korea only; too common a first digit to believe without separators
    if not _whole(match, shadow) or (domestic and match[0].isdigit()):
        return ""
    return digits if _ISSUERS.fullmatch(digits) and has_luhn_checksum(digits) else ""


def has_luhn_checksum(digits: str) -> bool:
    """Verify the check digit of a payment card."""
    total = sum(
        int(digit) if index % 2 == 0 else sum(divmod(2 * int(digit), 10)) for index, digit in enumerate(digits[::-1])
    )
    return total % 10 == 0 and len(set(digits)) > 1


# Internet addresses ----------------------------------------------------------------------------------

_IPV4 = rb"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
_GROUP = rb"[0-9A-Fa-f]{1,4}"
_GROUPS = _GROUP + rb"(?::" + _GROUP + rb")"
_IPV6 = (
    rb"(?:" + _GROUPS + rb"{2,7}(?:::(?:" + _GROUPS + rb"{0,4})?)?|" + _GROUPS + rb"?::(?:" + _GROUPS + rb"{0,5})?|::"
    + _GROUPS + rb"{2,6})(?:(?:\.[0-9]{1,3}){3})?"
)  # fmt: skip
_VERSION = re.compile(
    rb"(?:\bv|[=<>~!]=|[\^~])\s?$|(?:\b(?:version|release|upgraded?)|"
    + hangul("버전|릴리스|배포판")
    + rb")(?: (?:from|to|of))?[^0-9\n]{0,5}(?:v?[0-9][0-9A-Za-z.+-]*[^0-9\n]{1,12})?$",
    re.IGNORECASE,
)


def _ipv4(match: re.Match[bytes], shadow: bytes) -> str:
    before, after = shadow[max(0, match.start() - 48) : match.start()], shadow[match.end() : match.end() + 2]
    if re.search(rb"[0-9]\.$", before) or re.match(rb"[0-9A-Za-z_]|\.[0-9]", after) or _VERSION.search(before):
        return ""
    if re.search(rb"[A-Za-z0-9]-$", before) and re.match(rb"[.-][A-Za-z]", after):  # name-1.2.3.40.tar.gz
        return ""
    parts = match[0].split(b".")
    if any(int(part) > 255 or (len(part) > 1 and part.startswith(b"0")) for part in parts):
        return ""
    if parts[0] == b"0" or all(len(part) == 1 for part in parts[:3]):  # far more often a version, a section or an OID
        return ""
    return match[0].decode("ascii")


def _ipv6(match: re.Match[bytes], shadow: bytes) -> str:
    text = match[0].decode("ascii")
    if re.match(rb"[0-9A-Za-z_:]", shadow[match.end() :]) or shadow[match.start() - 1 : match.start()] == b":":
        return ""
    groups = [group for group in text.split(":") if group]
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return ""
    # Short forms such as a::b and 1::2 are names and slices.
    prefixed = len(groups) >= 2 and re.match(r"[23][0-9a-f]{3}:|f[cd][0-9a-f]{2}:|fe[89ab][0-9a-f]:", text.lower())
    long = len(groups) >= 3 and any(character.isdigit() for character in text)
    return str(address) if prefixed or long else ""


# All together ----------------------------------------------------------------------------------------

_DETECTORS = (
    *credentials.DETECTORS,
    Detector("email", rb"0-9A-Za-z_%+.\-", _EMAIL, _email),
    Detector("resident_number", rb"0-9", _RESIDENT, _resident, NO_DIGIT),
    Detector("driving_licence", rb"12", _LICENCE, _licence, NO_DIGIT),
    Detector("business_number", rb"1-9", _BUSINESS, _business, NO_DIGIT),
    Detector("card", rb"0-9", _CARD, _card, NO_DIGIT, divisible=True),
    Detector("phone", rb"0+(", _MOBILE, _mobile, NO_DIGIT, divisible=True),
    Detector("phone", rb"0(", _LANDLINE, _landline, divisible=True),
    Detector("phone", rb"0+", _INTERNATIONAL, _international, divisible=True),
    Detector("phone", rb"1-9(", _NORTH_AMERICAN, _north_american),
    Detector("phone", rb"0(", _BRITISH, _british),
    Detector("phone", rb"CDFMPTWRcdfmptwr", _ANNOUNCED, _announced),
    Detector("ip", rb"0-9", _IPV4, _ipv4),
    Detector("ip", rb"0-9A-Fa-f:", _IPV6, _ipv6),
    *addresses.DETECTORS,
    *accounts.DETECTORS,
)
_Confirmers = list[list[tuple[Detector, re.Pattern[bytes]]]]


@cache
def _engine(kinds: tuple[Kind, ...]) -> tuple[Any, _Confirmers]:
    """Compile the alternation that locates, and the patterns that confirm what begins with each byte."""
    chosen = [detector for detector in _DETECTORS if detector.kind in kinds]
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.never_capture = True
    options.max_mem = _STATES
    forms = [detector.before + rb"(?:" + detector.pattern + rb")" for detector in chosen]
    locate = re2.compile(b"|".join(forms) or rb"\z.", options)
    compiled = [(detector, re.compile(detector.pattern), re.compile(b"[%b]" % detector.starts)) for detector in chosen]
    return locate, [
        [(detector, pattern) for detector, pattern, starts in compiled if starts.match(bytes([byte]))]
        for byte in range(256)
    ]


_EXAMPLE_DOMAINS = re.compile(r"(?:.*\.)?(?:example\.(?:com|net|org|edu)|example|test|invalid|localhost)")
_EXAMPLE_NETWORKS = [
    ipaddress.ip_network(network)
    for network in (
        "127.0.0.0/8",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "255.0.0.0/8",
        "::1/128",
        "2001:db8::/32",
        "3fff::/20",
    )
]


def _is_example(kind: Kind, canonical: str) -> bool:
    if kind == "email":
        return bool(_EXAMPLE_DOMAINS.fullmatch(canonical.rpartition("@")[2]))
    if kind == "secret":
        return canonical.endswith("EXAMPLE")  # as in the documentation of Amazon Web Services
    if kind == "ip":
        address = ipaddress.ip_address(canonical)
        return any(address in network for network in _EXAMPLE_NETWORKS if network.version == address.version)
    return False
