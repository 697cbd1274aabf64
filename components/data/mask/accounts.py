"""Numbers that only the words beside them tell from others: bank accounts, passports, licences without hyphens.

Bank accounts with an IBAN need no words: it has its country's length and a checksum (ISO 13616).
"""

import re

from components.data.mask.detector import NO_DIGIT, Detector, hangul, value_of, value_span

# Bank accounts ---------------------------------------------------------------------------------------

_LENGTHS = """
    AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18
    DO:28 EE:20 EG:29 ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23
    IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19
    MR:27 MT:31 MU:30 NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 SA:24 SC:31 SE:24 SI:19 SK:24
    SM:27 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20
"""
_LENGTH = {country: int(length) for country, length in re.findall(r"([A-Z]{2}):(\d\d)", _LENGTHS)}
"""Signs of an IBAN by country, from the registry of ISO 13616."""
_IBAN = rb"[A-Z]{2}[0-9]{2}(?:(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?|[A-Z0-9]{11,30})"


def _iban(match: re.Match[bytes], shadow: bytes) -> str:
    number = match[0].replace(b" ", b"").decode("ascii")
    if re.match(rb"[0-9A-Za-z_]", shadow[match.end() :]) or _LENGTH.get(number[:2]) != len(number):
        return ""
    return number if has_iban_checksum(number) else ""


def has_iban_checksum(number: str) -> bool:
    """Verify the check digits of an international bank account number, written without spaces."""
    return int("".join(str(int(sign, 36)) for sign in number[4:] + number[:4])) % 97 == 1


_BANK = "(?:은행|뱅크|농협|수협|신협|우체국|새마을금고|[Kk][Bb]|[Nn][Hh]|[Ii][Bb][Kk]|[Ss][Cc]제일)"
_SAYS_ACCOUNT = "(?:계좌|입금|송금|이체|환불|급여 ?통장|통장)"
_GROUPS = "[0-9]{2,6}(?:-[0-9]{1,7}){1,4}"
_ACCOUNT = hangul(
    f"(?:{_BANK}|{_SAYS_ACCOUNT})(?:[가-힣A-Za-z():,.= ]|-[ ]){{0,20}}?(?P<value>{_GROUPS}|[0-9]{{10,14}})"
)
_ACCOUNT_FIRST = hangul(f"(?P<value>{_GROUPS}|[0-9]{{10,14}})[ ,(/]{{1,3}}[가-힣]{{0,6}}{_BANK}")
_ENGLISH_ACCOUNT = (
    rb"(?i:(?:bank|checking|savings|deposit)(?: account)?|account (?:number|no\.?|#)"
    rb"|acct\.?(?: (?:number|no\.?|#))?|routing number)"
    rb"(?i:[ :#]|number|no\.|is|was|account|of){1,24}?(?P<value>[0-9]{8,17}|[0-9]{2,6}(?:-[0-9]{1,7}){1,4})"
)
_OTHER_NUMBER = re.compile(hangul("주문|운송|송장|접수|예약|문의|전화|고객|센터|대표|사업자|카드번|등록"))
_TELEPHONE = re.compile(rb"01[016789]-?[0-9]{3,4}-?[0-9]{4}|0[2-7][0-9]?-[0-9]{3,4}-[0-9]{4}|1[568][0-9]{2}-[0-9]{4}")
_DATE = re.compile(rb"(?:19|20)[0-9]{2}-?[01][0-9]-?[0-3][0-9].*")


def _account(match: re.Match[bytes], shadow: bytes) -> str:
    value = value_of(match)
    start, end = value_span(match)
    digits = re.sub(rb"[^0-9]", b"", value).decode("ascii")
    announced = shadow[match.start() : start]
    if not _ends(shadow, start, end) or _TELEPHONE.fullmatch(value) or _OTHER_NUMBER.search(announced):
        return ""
    if _DATE.fullmatch(value) and len(digits) <= 8:
        return ""
    shortest = 8 if announced[:1].isalpha() and announced.isascii() else 10
    return digits if shortest <= len(digits) <= 17 else ""


def _ends(shadow: bytes, start: int, end: int) -> bool:
    """Tell a number that stands for itself from a part of a longer one."""
    before, after = shadow[max(0, start - 2) : start], shadow[end : end + 2]
    return not (re.search(rb"[0-9A-Za-z_][.-]?$", before) or re.match(rb"[0-9A-Za-z_]|[.,-][0-9]", after))


# Passports, and numbers that have a form of their own only with hyphens -------------------------------

_PASSPORT_NUMBER = rb"(?P<value>[A-Za-z][0-9]{8}|[A-Za-z][0-9]{3}[A-Za-z][0-9]{4}|[A-Za-z]{2}[0-9]{7}|[0-9]{9})"
_PASSPORT = (
    rb"(?i:passport)(?i:[ :#(.,/\"'-]|number|no|nr|num|is|was|id|with|the|holds|under){0,24}?" + _PASSPORT_NUMBER
)
_KOREAN_PASSPORT = hangul("여권[가-힣 :(#.\"']{0,12}?") + _PASSPORT_NUMBER
_BUSINESS = hangul("사업자 ?(?:등록)? ?번호[가-힣 :(]{0,6}?(?P<value>[1-9][0-9]{9})")
_LICENCE = hangul("면허[가-힣 :(]{0,10}?(?P<value>(?:1[1-9]|2[0-8])[0-9]{10})")
_ENGLISH_LICENCE = (
    rb"(?i:driv(?:er'?s?|ing) licen[cs]e)(?i:[ :#(]|number|no\.?|is){1,16}?(?P<value>(?:1[1-9]|2[0-8])[0-9]{10})"
)


def _announced(match: re.Match[bytes], shadow: bytes) -> str:
    start, end = value_span(match)
    return value_of(match).decode("ascii").upper() if _ends(shadow, start, end) else ""


def _business(match: re.Match[bytes], shadow: bytes) -> str:
    digits = _announced(match, shadow)
    return digits if digits and has_business_checksum(digits) else ""


def has_business_checksum(digits: str) -> bool:
    """Verify the check digit of a Korean business registration number."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, (1, 3, 7, 1, 3, 7, 1, 3, 5), strict=False))
    return (10 - (total + int(digits[8]) * 5 // 10) % 10) % 10 == int(digits[9])


_KOREAN = rb"\x80-\xff"
DETECTORS = (
    Detector("passport", rb"Pp", _PASSPORT, _announced),
    Detector("passport", _KOREAN, _KOREAN_PASSPORT, _announced, NO_DIGIT),
    Detector("business_number", _KOREAN, _BUSINESS, _business, NO_DIGIT),
    Detector("driving_licence", _KOREAN, _LICENCE, _announced, NO_DIGIT),
    Detector("driving_licence", rb"Dd", _ENGLISH_LICENCE, _announced),
    Detector("bank_account", rb"A-Z", _IBAN, _iban, divisible=True),
    Detector("bank_account", rb"KkNnIiSs\x80-\xff", _ACCOUNT, _account, NO_DIGIT, divisible=True),
    Detector("bank_account", rb"0-9", _ACCOUNT_FIRST, _account, divisible=True),
    Detector("bank_account", rb"A-Za-z", _ENGLISH_ACCOUNT, _account, divisible=True),
)
