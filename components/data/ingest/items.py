"""What readers share: reading a file as text, and saying what could not be read."""

import datetime
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from components.data.ingest.evidence import Evidence
from components.data.jsonl import one_newline
from components.data.reasons import Reason


class Unread(Reason):
    """Why something found in a source did not become a document."""

    UNREADABLE = "unreadable", "The file could not be opened or read."
    UNDECODABLE = "undecodable", "The bytes are no text in UTF-8, UTF-16 or a Korean encoding."
    TOO_LARGE = "too_large", "The file or record is larger than the recipe takes."
    MALFORMED = "malformed", "It breaks the rules of its format."
    UNORDERED = "unordered", "It is a dialogue whose turns have no order that could be told."
    UNSUPPORTED = "unsupported", "No reader is there for this kind of file."
    EMPTY = "empty", "There is no text in it."
    ERASED = "erased", "It was erased at a person's request and may not come back."
    REPEATED = "repeated", "The same text at the same address of the same source was read before."
    REFUSED = "refused", "The site forbids it; `refused.jsonl` names the rule."
    UNREACHABLE = "unreachable", "The site did not give it."
    OUTSIDE = "outside", "It leads away from what was declared."
    BEYOND = "beyond", "The site has more pages than the declaration takes."
    CONFIDENTIAL = "confidential", "It is more confidential than the recipe's ceiling; it was left where it is."


QUARANTINED = frozenset({Unread.UNREADABLE, Unread.UNDECODABLE, Unread.TOO_LARGE, Unread.MALFORMED, Unread.UNORDERED})
"""Reasons that mean bad input; the others are what a source may well hold."""


@dataclass(frozen=True)
class Skipped:
    """Something in a source that did not become a document, or as many records as it holds."""

    reason: Unread
    where: str
    detail: str = ""
    records: int = 1


Found = dict[str, Any] | Skipped | Evidence
"""A document (see `new_document`), what was skipped, or what a site said about its use."""


class Reader(Protocol):
    """One way to read a source. A further kind of source is a further reader."""

    def __len__(self) -> int:
        """Count the things to read: packages, files."""

    def state(self) -> Iterator[str]:
        """Yield what changes when the source does, without reading it: names, versions, sizes, times."""

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield what is found in each thing, in a fixed order; a large thing is read while it is consumed."""


UTF_16 = (b"\xff\xfe", b"\xfe\xff")
"""Byte-order marks."""


def decode(data: bytes) -> str | None:
    """Decode UTF-8, UTF-16 with a byte-order mark, or CP949; None when it is neither.

    Nearly every sequence of bytes is *some* CP949: that is believed only of text whose letters beyond ASCII are Hangul,
    and most of it the syllables of KS X 1001, which Korean is written with: the others look like a Western quotation
    mark and the letter after it.
    """
    if data[:4] == b"\xff\xfe\0\0":
        return None  # UTF-32
    if data[:2] in UTF_16:
        encodings = ["utf-16"]
    elif b"\0" in data:
        return None
    else:
        encodings = ["utf-8-sig", "cp949"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "cp949" or _is_korean(text):
            return one_newline(text)
    return None


_SYLLABLES = frozenset(bytes((row, cell)).decode("euc_kr") for row in range(0xB0, 0xC9) for cell in range(0xA1, 0xFF))


def _is_korean(text: str) -> bool:
    foreign = [character for character in text if ord(character) > 127]
    hangul = sum("가" <= character <= "힣" for character in foreign)
    return hangul > 0.8 * len(foreign) and 2 * sum(map(_SYLLABLES.__contains__, foreign)) >= hangul


def read_bytes(path: Path, where: str, max_bytes: int) -> bytes | Skipped:
    """Read a regular file, or say why not."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return Skipped(Unread.UNREADABLE, where, "not a regular file")
        if status.st_size > max_bytes:
            return Skipped(Unread.TOO_LARGE, where, f"{status.st_size:,} bytes")
        return path.read_bytes() or Skipped(Unread.EMPTY, where)
    except OSError as error:
        return Skipped(Unread.UNREADABLE, where, error.strerror or str(error))


def read_text(path: Path, where: str, max_bytes: int) -> str | Skipped:
    """Read a text file, or say why not."""
    data = read_bytes(path, where, max_bytes)
    if isinstance(data, Skipped):
        return data
    text = decode(data)
    if text is None:
        return Skipped(Unread.UNDECODABLE, where)
    return text if text.strip() else Skipped(Unread.EMPTY, where)


def modified_at(path: Path) -> datetime.datetime:
    """When a file was last changed, to the second: our time of retrieval, because the clock would differ every run."""
    return datetime.datetime.fromtimestamp(int(path.stat().st_mtime), datetime.UTC)
