"""Find facts in documents: package metadata, sections, questions with answers, table rows, dialogues."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from components.data.curate.wordings import Fact, Kind
from components.data.mask.options import Mask
from components.data.mask.personal import Masker

CODE_HOSTS = frozenset({"github.com", "www.github.com", "gitlab.com", "bitbucket.org"})
"""Hosts of so many home pages that naming them says nothing about one package."""

_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*$")
_UNDERLINE = re.compile(r"(={2,}|-{2,})\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")
_NOT_PROSE = re.compile(r"(\s{4}|\t|\s*(?:[-*+•]|\d+[.)])\s|\s*[>|<]|\$ |---|\*\*\*)")
_ASKED = re.compile(r"\W{0,4}(?:Q|Question|질문|문)\s?\d*\s?[.:)]\W{0,3}\s*(.+)", re.IGNORECASE)
_ANSWERED = re.compile(r"\W{0,4}(?:A|Answer|답변|답)\s?\d*\s?[.:)]\W{0,3}\s*(.+)", re.IGNORECASE)
_ROW = re.compile(r"\s*\|(.+)\|\s*$")
_RULE = re.compile(r"[\s|:\-]+$")
_SENTENCE_END = re.compile(r"(?<=[.!?。])\s+")
_IMAGE = re.compile(r"!\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])|\[\s*\]\([^)]*\)")
_LINK = re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])")
_MARKS = re.compile(r"<[^>]+>|`+|\*\*|__(?=\w)|(?<=\w)__|(?<!\w)[*_](?=\w)|(?<=\w)[*_](?!\w)")
UNFIT = re.compile(r"https?:|www\.|\[\^|_\(|\)_|[\[<{][A-Z]+(?:_[A-Z0-9]+)*[\]>}]|[|{}\\]")
_CJK = r"\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}][^\s{_CJK}]*")
"""What counts as a word: a Chinese, Japanese or Korean character, or a run without spaces."""

_PEOPLE = re.compile(r"^\| (?:author|maintainer) \| (.+) \|$", re.MULTILINE)
_NUMBERING = re.compile(r"(?:\d+[.)])+\d*\s+")
_RELEASE = re.compile(r"\W*v?\d+\.\d+\.\d|.*\d{4}-\d\d-\d\d", re.IGNORECASE)
_ELSEWHERE = re.compile(
    r"(?:see|please|refer|read|copyright|for (?:more|further|details|information))\b"
    r"|.*\b(?:the following|(?:as|described|given|listed|see|shown) (?:above|below|follows|here)|click here)\b"
    r"|.*[:?!？]$|.*\s[.,](?:\s|$)|.*(?:다음|아래)와 같|.*(?:참고|참조)",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(r"\W*(?:true|false|yes|no|n/?a|none|:[\w-]+:|예|아니요|없음)?\W*(?:\d+\))?", re.IGNORECASE)
_LEAST = re.compile(r">=\s*(\d+\.\d+(?:\.[1-9]\d*)?)")
_HANGUL = re.compile(r"[가-힣]")


@dataclass(frozen=True)
class Section:
    """A heading and the blocks of text below it, up to the next heading."""

    heading: str
    blocks: Sequence[Sequence[str]]


def find_facts(row: Mapping[str, Any], language: str, answer_words: int) -> Iterator[Fact]:
    """Find what a document says that can be asked.

    Args:
        row: A document.
        language: Language to ask in.
        answer_words: Most words in an answer.

    Yields:
        Facts with a short, clean answer. Whether another document answers the same question otherwise is for the caller
        to see.
    """
    metadata = dict(row["metadata"])
    if row["messages"]:
        found = _dialogue(row["messages"], language)
    elif metadata.get("item") == "metadata" and "name" in metadata:
        found = _package(metadata, row["text"], language)
    elif row["kind"] in ("code", "log", "math") or metadata.get("item") == "license":
        return
    else:
        found = _document(row["text"], _title(row, metadata), language)
    for fact in found:
        short = 0 < len(WORD.findall(fact.answer)) <= answer_words
        if fact.kind is not Kind.DIALOGUE and _ELSEWHERE.match(fact.answer):
            continue
        if short and not any(UNFIT.search(text) for text in (fact.answer, fact.subject, fact.detail, fact.column)):
            yield fact


def language_of(row: Mapping[str, Any]) -> str:
    """Language to ask about a document in: Korean for Korean ones, else English."""
    if row["language"] == "und":
        return "ko" if len(_HANGUL.findall(row["text"][:2000])) > 20 else "en"
    return "ko" if row["language"].startswith("ko") else "en"


def sections(text: str) -> list[Section]:
    """Split Markdown by its headings; code blocks are left out."""
    found: list[Section] = []
    blocks: list[list[str]] = [[]]
    fenced = False
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
            blocks.append([])
            continue
        if fenced:
            continue
        below = lines[number + 1] if number + 1 < len(lines) else ""
        marked = _HEADING.match(line)
        if marked or (_is_title(line) and _UNDERLINE.match(below) and len(below.rstrip()) >= len(line.strip()) // 2):
            blocks = [[]]
            found.append(Section(_clean(marked[2] if marked else line), blocks))
        elif _UNDERLINE.match(line) and number and _is_title(lines[number - 1]):
            continue
        elif line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [Section(part.heading, [block for block in part.blocks if block]) for part in found if part.heading]


def _is_title(line: str) -> bool:
    return bool(line.strip()) and len(line) < 100 and not line[0].isspace() and not _UNDERLINE.match(line)


def _package(metadata: Mapping[str, str], text: str, language: str) -> Iterator[Fact]:
    name = metadata["name"]
    home = urlsplit(metadata.get("homepage", "")).hostname or ""
    requires = metadata.get("requires", "")
    least = _LEAST.findall(metadata.get("requires_python", ""))
    summary = metadata.get("summary", "").rstrip(". ")
    answers = {
        Kind.LICENSE: metadata.get("license", ""),
        Kind.PURPOSE: "" if summary.casefold() == name.casefold() else summary,
        Kind.DEPENDENCY: "" if "," in requires else requires,
        Kind.PYTHON: least[0] if len(least) == 1 else "",
        Kind.DOMAIN: _organisation(metadata, text),
        Kind.HOME: "" if home in CODE_HOSTS else home.removeprefix("www."),
    }
    for kind, answer in answers.items():
        yield Fact(kind, language, name, answer)


def _organisation(metadata: Mapping[str, str], text: str) -> str:
    """Mail domain of the maintainers, or '' if it is a person's or a mail provider's.

    An organisation's is known by its name in the addresses of the package's pages.
    """
    domain = metadata.get("maintainer_domain", "")
    pages = f"{metadata.get('homepage', '')} {metadata.get('repository', '')}".casefold()
    people = re.findall(r"\w{4,}", " ".join(_PEOPLE.findall(text)).casefold())
    label = ["", *domain.split(".")][-2]
    shared = len(label) > 3 and label in pages and not domain.endswith(tuple(CODE_HOSTS))
    return domain if shared and not any(person in domain for person in people) else ""


def _document(text: str, title: str, language: str) -> Iterator[Fact]:
    for section in sections(text):
        sentence = _first_sentence(section)
        if re.search(r"\w[?？]$", section.heading):
            yield Fact(Kind.QUESTION, language, title, sentence, _NUMBERING.sub("", section.heading, count=1))
        elif _is_name(section.heading) and section.heading.casefold() != title.casefold():
            yield Fact(Kind.SECTION, language, title, sentence, section.heading)
    yield from _asked_and_answered(text, title, language)
    yield from _cells(text, title, language)


def _asked_and_answered(text: str, title: str, language: str) -> Iterator[Fact]:
    """Find lines that begin with Q: and A:."""
    question = ""
    for line in text.splitlines():
        if asked := _ASKED.match(line):
            question = _clean(asked[1])
        elif question and (answered := _ANSWERED.match(line)):
            yield Fact(Kind.QUESTION, language, title, _sentence(_clean(answered[1])), question)
            question = ""
        elif line.strip():
            question = ""


def _cells(text: str, title: str, language: str) -> Iterator[Fact]:
    """Find the cells of pipe tables, named by the first cell of their row and the head of their column."""
    header: list[str] = []
    previous: list[str] = []
    for line in text.splitlines():
        row = _ROW.match(line)
        if not row:
            header, previous = [], []
        elif _RULE.match(line) and previous and not header:
            header = previous
        else:
            previous = [_clean(cell) for cell in re.split(r"(?<!\\)\|", row[1])]
            if header and len(previous) == len(header) and _is_name(previous[0]):
                for column, value in zip(header[1:], previous[1:], strict=True):
                    if _is_name(column) and not _NO_VALUE.fullmatch(value):
                        yield Fact(Kind.CELL, language, title, value, previous[0], column)


def _is_name(text: str) -> bool:
    """Tell whether a text can name a section, a row or a column: a few words, no number, release or mark."""
    named = re.search(r"[^\W\d]", text) and not _RELEASE.match(text) and not _NO_VALUE.fullmatch(text)
    return bool(named) and len(text) <= 60


def _dialogue(messages: Sequence[Mapping[str, str]], language: str) -> Iterator[Fact]:
    """Take the first exchange; later ones depend on what was said before."""
    spoken = [message for message in messages if message["role"] in ("user", "assistant")]
    if len(spoken) >= 2 and (spoken[0]["role"], spoken[1]["role"]) == ("user", "assistant"):
        question, answer = (" ".join(message["content"].split()) for message in spoken[:2])
        yield Fact(Kind.DIALOGUE, language, "", answer, question)


def _title(row: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """What to call a document: its package or title, its first main heading, or its file name."""
    if named := metadata.get("package") or metadata.get("title"):
        return named
    if heading := re.search(r"^# (.+)$", row["text"], re.MULTILINE):
        return _clean(heading[1])
    name = re.split(r"[/#]", row["url"].rstrip("/"))[-1].rpartition(".")[0] or row["url"]
    return Masker(Mask().kinds).mask(name)  # addresses stay as they are when documents are masked


def _first_sentence(section: Section) -> str:
    """First sentence below a heading, or '' where something other than prose comes first."""
    for block in section.blocks:
        cleaned = _clean(" ".join(line.strip() for line in block))
        if not cleaned:
            continue
        return "" if any(_NOT_PROSE.match(line) for line in block) else _sentence(cleaned)
    return ""


def _sentence(text: str) -> str:
    first = _SENTENCE_END.split(text, maxsplit=1)[0]
    whole = len(WORD.findall(first)) >= 2 and first[-1:] in ".!?。"
    return first if whole else ""


def _clean(text: str) -> str:
    """Plain words of a line of markup."""
    text = _IMAGE.sub(" ", text)
    text = _LINK.sub(r"\1", text)
    return " ".join(_MARKS.sub("", text).split()).strip(" #")
