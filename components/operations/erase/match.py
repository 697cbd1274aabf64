"""Recognise a person in records and texts: by identifiers in the clear, by document ids, and by tombstones."""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args
from urllib.parse import unquote

from components.common import subjects
from components.common.subjects import WORDS
from components.common.tombstones import Tombstones
from components.data.mask.options import IDENTIFYING, Kind
from components.data.mask.patterns import find, shadow_of

KINDS = get_args(Kind)

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_NAME = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_SEPARATORS = r"[ .()/-]{0,3}"
_NO_AREA = "".join(rf"(?<![0-9][ .()/-]{{{count}}})" for count in range(4))
"""Without its own first digits a number must not stand behind another's: 031-2123-4567 is not 02-123-4567."""
_NUMBERS = sorted(IDENTIFYING - {"email"})
_SEPARABLE = frozenset({*_NUMBERS, "business_number"})
_DOT = re.compile(r"(?<=[^\W\d_])\.(?!\S)|(?<=\b[^\W\d_])\.")
"""A dot that belongs to an initial or an abbreviation: masking names people without it."""
_SPACING = re.compile(r"[\s.()/+\-\u2010-\u2015\u2212]+")
_NUMBER = re.compile(r"[0-9]{8,19}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[0-9A-Z]{11,30}")
_PASSPORT = re.compile(r"[A-Z][0-9]{8}|[A-Z][0-9]{3}[A-Z][0-9]{4}|[A-Z]{2}[0-9]{7}")
_NATIONAL = 10
_DIGITS = 8
"""Last digits of a number that are the same with and without a country's prefix."""
_NO_DIGITS = bytes(byte for byte in range(256) if not chr(byte).isdigit() or byte > 127)


@dataclass(frozen=True)
class Identifier:
    """One way to find a person, in the form in which it is compared."""

    kind: str
    canonical: str


def recognise(value: str) -> Identifier:
    """Tell what an identifier is, as `data/mask` would; what it does not know are words."""
    found = list(find(value.strip(), KINDS, keep_examples=False))
    if len(found) == 1 and (found[0].start, found[0].end) == (0, len(value.strip())):
        return Identifier(found[0].kind, found[0].canonical)
    return Identifier(WORDS, subjects.plain(value))


def readings(value: str) -> frozenset[Identifier]:
    """All that `data/mask` may have taken an identifier for: often only the words beside a number tell its kind."""
    signs = _SPACING.sub("", unicodedata.normalize("NFKC", value)).upper()
    found = {recognise(value)}
    if _NUMBER.fullmatch(signs):
        found |= {Identifier(kind, signs) for kind in _NUMBERS if kind != "phone"}
        found |= {Identifier("phone", number) for number in _telephones(signs)}
    elif _PASSPORT.fullmatch(signs):
        found.add(Identifier("passport", signs))
    elif _IBAN.fullmatch(signs):
        found.add(Identifier("bank_account", signs))
    elif {one.kind for one in found} == {WORDS}:
        found.add(Identifier(WORDS, subjects.plain(_DOT.sub(" ", value))))
    return frozenset(found)


def _telephones(digits: str) -> Iterator[str]:
    """What a telephone number may be in the form of the country: what is shorter and has no zero lacks its area."""
    if digits.startswith("0") or len(digits) >= _NATIONAL:
        number = digits.removeprefix("00")
        yield number
        yield re.sub(r"^(?:82|44)0?", "0", number)
        yield re.sub(r"^1(?=[0-9]{10}$)", "", number)


@dataclass(frozen=True)
class Matcher:
    """What is looked for.

    Attributes:
        identifiers: A person's, in the clear.
        documents: Ids of documents.
        tombstones: Hashes of ids and identifiers, and the key they were made with.
    """

    tombstones: Tombstones
    identifiers: frozenset[Identifier] = frozenset()
    documents: frozenset[str] = frozenset()

    def refuses(self, row: Mapping[str, Any]) -> bool:
        """Whether a record was erased and may not come back: by its id, its text, or an identifier in it."""
        if not self.tombstones:
            return False
        known = self.is_document(row["id"]) or self.tombstones.has_text(row["revision"])
        return known or self.is_named_by(row) or self.is_told_in(row)

    def is_named_by(self, row: Mapping[str, Any]) -> bool:
        """Whether a record, whose texts may be masked, names the person as a subject."""
        return not self._names.isdisjoint(row.get("subjects") or ())

    def is_told_in(self, row: Mapping[str, Any]) -> bool:
        """Whether an identifier stands anywhere in a record."""
        return any(self.is_person_in(value) for value in texts_of(row))

    def is_document(self, identifier: str) -> bool:
        """Whether a document is to be erased."""
        return identifier in self.documents or self.tombstones.has_document(identifier)

    def is_person_in(self, text: str) -> bool:
        """Whether an identifier stands in a text."""
        if not self.identifiers and not self.tombstones.people:
            return False
        plain = subjects.plain(text) if self.identifiers else ""
        if any(pattern.search(plain) for pattern in self._patterns):
            return True
        if not self.tombstones.people and not self._worth_a_look(text):
            return False
        for finding in find(text, KINDS, keep_examples=False):
            if Identifier(finding.kind, finding.canonical) in self.identifiers:
                return True
            if self.tombstones.has_person(finding.kind, finding.canonical):
                return True
        return False

    def is_in(self, text: str) -> bool:
        """Whether an identifier, a name or an erased document's id stands in a text, also behind escapes.

        Escapes are those of JSON, HTML and URLs.
        """
        if any(self.is_document(found) for found in set(_ID.findall(text))):
            return True
        if not self._names.isdisjoint(_NAME.findall(text)):
            return True
        return any(self.is_person_in(form) for form in _unescaped(text))

    @cached_property
    def people(self) -> frozenset[str]:
        """The names of the person that may not come back; words are not among them, for others may have the same."""
        key = self.tombstones.key
        return frozenset(
            subjects.subject(key, one.kind, one.canonical) for one in self.identifiers if one.kind != WORDS
        )

    @cached_property
    def _names(self) -> frozenset[str]:
        key = self.tombstones.key
        every = {subjects.subject(key, one.kind, one.canonical) for one in self.identifiers}
        return frozenset(every | self.tombstones.people)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        """How the identifiers are written out, whatever stands around them; masking is stricter about surroundings."""
        return [re.compile(pattern) for pattern in sorted(set(map(_pattern, self.identifiers)))]

    def _worth_a_look(self, text: str) -> bool:
        """Whether any identifier can stand in a text at all; much faster than looking for it."""
        shadow = shadow_of(text)
        lowered, digits = shadow.lower(), shadow.translate(None, _NO_DIGITS)
        for one in self.identifiers:
            if one.kind == "email":
                hint, there = one.canonical.partition("@")[0].encode(), lowered
            elif one.kind in _SEPARABLE:
                hint, there = re.sub("[^0-9]", "", one.canonical)[-_DIGITS:].encode(), digits
            else:  # an address of the Internet has many forms
                hint, there = b"", lowered
            if one.kind != WORDS and hint in there:
                return True
        return False


def _pattern(identifier: Identifier) -> str:
    """How an identifier is written out in plain text."""
    value = identifier.canonical
    if identifier.kind == "phone":
        # Separators anywhere, a country's prefix with or without the zero behind it.
        number = _SEPARATORS.join(value.removeprefix("0"))
        if not value.startswith("0"):
            return rf"(?<![0-9])(?:00{_SEPARATORS})?(?:1{_SEPARATORS})?{number}(?![0-9])"
        prefix = rf"(?<![0-9])(?:(?:00)?(?:82|44){_SEPARATORS}(?:0{_SEPARATORS})?|0{_SEPARATORS})"
        return rf"(?:{prefix}|{_NO_AREA}){number}(?![0-9])"
    if identifier.kind in _SEPARABLE:
        border = "0-9" if value.isdigit() else "0-9a-z"
        return rf"(?<![{border}]){_SEPARATORS.join(subjects.plain(value))}(?![{border}])"
    # Letters may touch a name in scripts that write particles behind it, not in those that separate words.
    before = r"(?<![0-9a-z._%+-])" if identifier.kind == "email" else r"(?<![0-9a-z])"
    after = r"(?![0-9a-z])"
    return (before if value[0].isascii() else "") + re.escape(value) + (after if value[-1].isascii() else "")


def texts_of(row: Mapping[str, Any]) -> Iterator[str]:
    """Everything in a record that people wrote."""
    yield row["text"]
    yield row["url"]
    yield row["source"]
    yield from (message["content"] for message in row["messages"])
    metadata = row["metadata"]
    yield from (metadata.values() if isinstance(metadata, Mapping) else (value for _, value in metadata))


def _unescaped(text: str) -> Iterable[str]:
    forms = [text]
    if "\\u" in text:
        forms.append(_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text))
    if "&" in text:
        forms.append(html.unescape(text))
    if "%" in text:
        forms.append(unquote(text))
    return forms
