"""Licence statements as SPDX expressions.

Packages state their licence in several places and many wordings. `to_spdx` reads one statement, `classifiers_to_spdx`
trove classifiers, `text_to_spdx` recognises a licence by its words; each gives '' where nothing is certain.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from license_expression import ExpressionError, get_license_index, get_spdx_licensing

from components.common.errors import UsageError
from components.data.sources import PER_ITEM, Source, Use

LICENSING = get_spdx_licensing()

AMBIGUOUS_BSD = "BSD"
"""Answer to statements such as "BSD License", which do not say which one; a licence text can."""

_WORDINGS = {
    "Apache-2.0": {"apache", "apache2", "apache20", "apachesoftware", "apachesoftware20", "asl2", "asl20"},
    "BSD-2-Clause": {"2clausebsd", "bsd2", "bsd2clause", "simplifiedbsd"},
    "BSD-3-Clause": {"3clausebsd", "bsd3", "bsd3clause", "modifiedbsd", "newbsd", "revisedbsd"},
    "BSL-1.0": {"boost", "boostsoftware10bsl10"},
    "CC0-1.0": {"cc0", "cc010", "cc010universalcc010publicdomaindedication"},
    "CC-BY-4.0": {"ccby40", "creativecommonsattribution40international"},
    "AGPL-3.0-only": {"agpl3", "agpl30", "gnuafferogeneralpublic3"},
    "AGPL-3.0-or-later": {"gnuafferogeneralpublic3orlateragpl3+"},
    "GPL-2.0-only": {"gpl2", "gpl20", "gnugeneralpublic2gpl2"},
    "GPL-2.0-or-later": {"gpl2+", "gnugeneralpublic2orlatergpl2+"},
    "GPL-3.0-only": {"gpl3", "gpl30", "gnugeneralpublic3gpl3"},
    "GPL-3.0-or-later": {"gpl3+", "gnugeneralpublic3orlatergpl3+"},
    "LGPL-2.0-or-later": {"gnulessergeneralpublic2orlaterlgpl2+"},
    "LGPL-3.0-only": {"lgpl3", "gnulessergeneralpublic3lgpl3"},
    "LGPL-3.0-or-later": {"lgpl3+", "gnulessergeneralpublic3orlaterlgpl3+"},
    "HPND": {"hpnd", "historicalpermissionnoticeanddisclaimerhpnd"},
    "ISC": {"isc", "iscl", "isciscl"},
    "MIT": {"mit", "mitmit", "expat"},
    "MIT-0": {"mit0", "mitnoattributionmit0"},
    "MPL-2.0": {"mpl2", "mpl20", "mozillapublic20", "mozillapublic20mpl20"},
    **{
        f"LicenseRef-KOGL-{n}": {f"공공누리제{n}유형", f"공공누리{n}유형", f"kogltype{n}", f"kogl{n}"}
        for n in range(1, 5)
    },
    "PSF-2.0": {"psf", "psf2", "psfl", "pythonfoundation", "pythonsoftwarefoundation"},
    "Unlicense": {"un", "theununlicense", "ununlicense"},
    "Zlib": {"zlib", "zliblibpngzlib"},
    AMBIGUOUS_BSD: {"bsd", "bsdstyle"},
}
_SPDX_OF = {wording: expression for expression, wordings in _WORDINGS.items() for wording in wordings}
_URLS = {
    "apache.org/licenses/license-2.0": "Apache-2.0",
    "opensource.org/licenses/mit": "MIT",
    "opensource.org/license/mit": "MIT",
    "mozilla.org/mpl/2.0": "MPL-2.0",
}
_CREATIVE = re.compile(
    r"(?:creativecommons\.org/(?:licenses|publicdomain)/(?P<kind>by(?:-(?:nc|nd|sa))*|zero)/"
    r"|(?:cc|creative commons)[ -](?P<named>by(?:[ -](?:nc|nd|sa))*)[ -]v?)(?P<version>\d\.\d)/?"
)
_HEADER = re.compile(r"^[\W_]{0,8}SPDX-License-Identifier:[ \t]*([^\r\n]{1,200}?)[ \t]*(?:\*/|-->|$)", re.MULTILINE)
LONGEST = 200
"""Characters up to which a statement is a name or an expression; a longer one is a text."""
_NOT_A_NAME = re.compile(r"\b(?:the|licen[sc]ed?|licen[sc]es|version)\b|v(?=\.?\s*\d)|[^a-z0-9+가-힣]")

_PUBLIC = ("Permissive", "Public Domain")
_COPYLEFT_CATEGORIES = ("Copyleft", "Copyleft Limited")

_TEXTS = (
    ("Apache-2.0", ("apache license", "version 2.0, january 2004")),
    ("MPL-2.0", ("mozilla public license version 2.0",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "endorse or promote products")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("MIT", ("permission is hereby granted, free of charge", "the above copyright notice and this permission notice")),
    ("MIT-0", ("permission is hereby granted, free of charge", "to deal in the software without restriction")),
    ("ISC", ("permission to use, copy, modify, and", "distribute this software for any purpose with or without fee")),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
)
_COPYLEFT = ("gnu general public license", "gnu lesser general public license", "gnu affero general public license")


def declared_license(source: Source) -> str:
    """Give the licence that a source declares for all its items as SPDX, or '' where each states its own.

    Raises:
        UsageError: The declaration is no SPDX expression.
    """
    if source.license == PER_ITEM:
        return ""
    spdx = to_spdx(source.license)
    if not spdx or AMBIGUOUS_BSD in spdx.split():
        raise UsageError(
            f"source {source.id}: license: {source.license!r} is no SPDX expression; "
            "see https://spdx.org/licenses, or name your own terms LicenseRef-<name>"
        )
    return spdx


def to_spdx(statement: str) -> str:
    """Read one licence statement: an SPDX expression, a name, a URL, or a whole licence text in the wrong field.

    Returns:
        A normalised SPDX expression, `AMBIGUOUS_BSD`, or '' if it cannot be told.
    """
    statement = statement.strip()
    if not statement or len(statement) > LONGEST or "\n" in statement:
        return text_to_spdx(statement)
    return _name_to_spdx(statement)


@lru_cache(4096)
def _name_to_spdx(statement: str) -> str:
    known = _parse(statement)
    if known:
        return known
    url = re.sub(r"^https?://(www\.)?|/(deed|legalcode)(\.\w+)?$|/$|\.(html|txt)$", "", statement.lower())
    if creative := _CREATIVE.fullmatch(url):
        kind, version = creative["kind"] or creative["named"], creative["version"]
        return _parse(f"CC0-{version}" if kind == "zero" else f"CC-{kind.upper().replace(' ', '-')}-{version}")
    return _URLS.get(url) or _SPDX_OF.get(_NOT_A_NAME.sub("", statement.lower()), "")


def classifiers_to_spdx(classifiers: Iterable[str]) -> str:
    """Read trove classifiers. Several licences are joined by AND: whether one may choose is not said.

    Returns:
        An SPDX expression, `AMBIGUOUS_BSD`, or '' if there is no licence among them or one is not known.
    """
    names = [text.rpartition("::")[2].strip() for text in classifiers if text.startswith("License ::")]
    names = [name for name in names if name not in ("OSI Approved", "DFSG approved")]
    known = [to_spdx(name) for name in dict.fromkeys(names)]
    if not known or not all(known):
        return ""
    return known[0] if len(set(known)) == 1 else " AND ".join(dict.fromkeys(known))


def text_to_spdx(text: str) -> str:
    """Recognise one of the common permissive licences by its words.

    A text with copyleft words or with several licences in it is not recognised: that needs a person.
    """
    words = " ".join(text.lower().split())
    if not words or _is_copyleft(text):
        return ""
    found = [expression for expression, phrases in _TEXTS if all(phrase in words for phrase in phrases)]
    families = {expression.split("-")[0] for expression in found}
    return found[0] if len(families) == 1 else ""


def name_of_statement(statement: str) -> str:
    """Give the beginning of a statement, which may be a whole licence text, for showing."""
    return statement.strip().partition("\n")[0][:LONGEST]


def with_header(declared: str, text: str) -> str:
    """Give the licence of a file of a source: what is declared, and what the file says of itself as well."""
    own = header_to_spdx(text)
    return own if not declared or declared == own else f"({declared}) AND ({own})" if own else declared


def header_to_spdx(text: str) -> str:
    """Read the SPDX-License-Identifier in a file's first lines; several are joined by AND, '' where there is none."""
    found = [to_spdx(statement) for statement in _HEADER.findall(text[:1_500])]
    if not found or not all(found) or AMBIGUOUS_BSD in found:
        return ""
    return found[0] if len(set(found)) == 1 else _parse(" AND ".join(f"({one})" for one in dict.fromkeys(found)))


def _is_copyleft(text: str) -> bool:
    words = " ".join(text.lower().split())
    return any(name in words for name in _COPYLEFT)


def refine(expression: str, texts: Iterable[str]) -> str:
    """Replace an ambiguous BSD, or fill in an expression that is missing, from the licence texts that came along.

    A text with copyleft words among them fills in nothing: what it covers needs a person.
    """
    if expression and AMBIGUOUS_BSD not in expression.split():
        return expression
    texts = list(texts)
    found = {text_to_spdx(text) for text in texts} - {""}
    if not expression:
        return found.pop() if len(found) == 1 and not any(map(_is_copyleft, texts)) else ""
    variants = [name for name in found if name.startswith("BSD-")]
    if len(variants) != 1:
        return ""
    return " ".join(variants[0] if word == AMBIGUOUS_BSD else word for word in expression.split())


class Terms(NamedTuple):
    """What a licence allows, and whether what is made from it must carry the same one; None: nobody has said."""

    commercial: bool | None = None
    modification: bool | None = None
    share_alike: bool | None = None


@cache
def terms_of(key: str) -> Terms:
    """Tell the terms of one licence.

    The families of licences are those of ScanCode's licence database, which `license-expression` brings. Creative
    Commons says it in the name (NC, ND, SA), the Korea Open Government License (공공누리) by its type: 2 and 4 forbid
    commercial use, 3 and 4 modification.

    Args:
        key: SPDX identifier of a licence.
    """
    if key.startswith("CC-BY"):
        elements = key.split("-")
        return Terms("NC" not in elements, "ND" not in elements, "SA" in elements)
    if kogl := re.fullmatch(r"LicenseRef-KOGL-([1-4])", key):
        return Terms(kogl[1] in "13", kogl[1] in "12", False)
    if key == "LicenseRef-in-house":
        return Terms(True, True, False)
    category = _categories().get(key, "")
    if category in _PUBLIC:
        return Terms(True, True, False)
    return Terms(True, True, True) if category in _COPYLEFT_CATEGORIES else Terms()


def objection(expression: str, allowed: Collection[str], needs: Iterable[Use] = (), share_alike: bool = True) -> str:
    """Say why documents under a licence may not be used; '' if they may.

    `A OR B` may be used if one side may, `A AND B` if both may, `A WITH E` if licence and exception are allowed.

    Args:
        expression: An SPDX expression.
        allowed: Licences and exceptions that may be used. One that is named here and whose terms are not known counts
            as read by whoever named it.
        needs: What it must not forbid.
        share_alike: Whether it may ask for the same licence for what is made from the documents.
    """
    tree = LICENSING.parse(expression)
    return _objection(tree, allowed, tuple(needs), share_alike) if tree is not None else "no licence"


def _objection(node: object, allowed: Collection[str], needs: tuple[Use, ...], share_alike: bool) -> str:
    if isinstance(node, LICENSING.OR | LICENSING.AND):
        found = [_objection(part, allowed, needs, share_alike) for part in node.args]
        if isinstance(node, LICENSING.OR) and not all(found):
            return ""
        return "; ".join(dict.fromkeys(filter(None, found)))
    keys = [symbol.key for symbol in LICENSING.license_symbols(node, decompose=True)]
    if missing := [key for key in keys if key not in allowed]:
        return f"{missing[0]} is not on the list"
    terms = terms_of(keys[0])
    forbidden = [need for need in needs if getattr(terms, need) is False]
    if forbidden:
        return f"{keys[0]} forbids {_USES[forbidden[0]]}"
    return f"{keys[0]} asks for itself on what is made from it" if terms.share_alike and not share_alike else ""


_USES: Mapping[Use, str] = {"commercial": "commercial use", "modification": "changed copies"}


@cache
def _categories() -> dict[str, str]:
    """Map SPDX identifiers to families of licences."""
    return {
        key: entry["category"]
        for entry in get_license_index()
        for key in (entry.get("spdx_license_key"), *entry.get("other_spdx_license_keys", ()))
        if key
    }


def _parse(statement: str) -> str:
    """Normalise an SPDX expression; `LicenseRef-…` names are its open end and pass."""
    try:
        tree = LICENSING.parse(statement, strict=True)
    except (ExpressionError, AttributeError, IndexError, TypeError, RecursionError):  # its own handling fails on some
        return ""
    if tree is None:
        return ""
    unknown = LICENSING.unknown_license_keys(tree)
    if any(not re.fullmatch(r"LicenseRef-[A-Za-z0-9.-]+", key) for key in unknown):
        return ""
    return str(tree.render("{symbol.key}"))
