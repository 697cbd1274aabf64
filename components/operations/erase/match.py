"""Recognise a person in records and texts: by identifiers in the clear, by document ids, and by tombstones."""

import html
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args
from urllib.parse import unquote

from components.common import subjects
from components.common.tombstones import Tombstones
from components.data.mask.options import Kind
from components.data.mask.patterns import find, shadow_of

KINDS = get_args(Kind)
WORDS = "words"
"""Kind of an identifier that is no number or address: a name, a user name."""

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_SEPARATORS = r"[ .()/-]{0,3}"
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
        return self.is_document(row["id"]) or self.tombstones.has_text(row["revision"]) or self.is_person(row)

    def is_person(self, row: Mapping[str, Any]) -> bool:
        """Whether an identifier stands anywhere in a record, or the record names the person as a subject."""
        if not self._names.isdisjoint(row.get("subjects") or ()):
            return True
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
        """Whether an identifier or an erased document's id stands in a text, also behind JSON, HTML and URL escapes."""
        if any(self.is_document(found) for found in set(_ID.findall(text))):
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
        return [_pattern(one) for one in sorted(self.identifiers, key=lambda one: (one.kind, one.canonical))]

    def _worth_a_look(self, text: str) -> bool:
        """Whether any identifier can stand in a text at all; much faster than looking for it."""
        shadow = shadow_of(text)
        lowered, digits = shadow.lower(), shadow.translate(None, _NO_DIGITS)
        for one in self.identifiers:
            if one.kind == "email":
                hint, there = one.canonical.partition("@")[0].encode(), lowered
            elif one.canonical.isdigit():
                hint, there = one.canonical[-_DIGITS:].encode(), digits
            else:  # an address of the Internet has many forms
                hint, there = b"", lowered
            if one.kind != WORDS and hint in there:
                return True
        return False


def _pattern(identifier: Identifier) -> re.Pattern[str]:
    value = identifier.canonical
    if value.isdigit() and identifier.kind != WORDS:
        # Separators anywhere, a country's prefix with or without the zero behind it.
        digits = _SEPARATORS.join(value.lstrip("0") or value)
        return re.compile(rf"(?<![0-9])(?:\+?[0-9]{{1,4}}{_SEPARATORS})?{digits}(?![0-9])")
    # Letters may touch a name in scripts that write particles behind it, not in those that separate words.
    before = r"(?<![0-9a-z._%+-])" if identifier.kind == "email" else r"(?<![0-9a-z])"
    after = r"(?![0-9a-z])"
    return re.compile(
        (before if value[0].isascii() else "") + re.escape(value) + (after if value[-1].isascii() else "")
    )


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
