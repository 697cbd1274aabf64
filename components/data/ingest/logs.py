"""Cuts log files into documents: a session or a stretch of time each."""

import datetime
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from components.data.ingest.files import File, make_document
from components.data.ingest.items import UTF_16, Found, Skipped, Unread, decode
from components.data.ingest.options import Ingest
from components.data.jsonl import bounded_lines
from components.data.sources import Source

_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?")
_WEB = re.compile(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}")
_SYSLOG = re.compile(r"^(?:<\d+>)?([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d)\b")
_NEAR = 120
"""Characters from the start of a line within which its time stands."""


@dataclass
class _Stretch:
    """Lines that belong together."""

    first: int
    lines: list[str] = field(default_factory=list)
    size: int = 0
    last: int = 0
    began: datetime.datetime | None = None
    ended: datetime.datetime | None = None


def read_log(file: File, source: Source, options: Ingest) -> Iterator[Found]:
    """Yield a log's sessions, or its stretches of time where it has none, in the order in which they end.

    A line without a time of its own, as a traceback has, belongs to the line before. Sessions are held in the order in
    which they were last heard of, so only the first are asked whether they are over. No more than `max_record_bytes` of
    open sessions are held; then the one that has been silent longest ends.
    """
    window = datetime.timedelta(minutes=source.logs.window_minutes)
    pattern = re.compile(source.logs.session) if source.logs.session else None
    open_: dict[str, _Stretch] = {}
    held = 0
    key = ""

    def close(name: str) -> dict[str, object]:
        nonlocal held
        stretch = open_.pop(name)
        held -= stretch.size
        return _document(stretch, name, file, source)

    with file.path.open("rb") as stream:
        for number, raw in enumerate(bounded_lines(stream, options.max_record_bytes), 1):
            if number == 1 and raw and raw[:2] in UTF_16:
                yield Skipped(Unread.UNDECODABLE, file.name, "it is in UTF-16; convert it to UTF-8")
                return
            line = decode(raw) if raw is not None else None
            if line is None:
                reason = Unread.TOO_LARGE if raw is None else Unread.UNDECODABLE
                yield Skipped(reason, file.name, f"line {number}")
                continue
            time = line_time(line[:_NEAR], file.modified.year)
            session = pattern.search(line) if pattern else None
            if session:
                key = session[1] or ""
            elif time and pattern:
                key = ""
            if time:
                if key in open_ and _is_over(open_[key], time, window, bool(key)):
                    yield close(key)
                while open_ and _is_over(open_[first := next(iter(open_))], time, window, bool(first)):
                    yield close(first)
            if key in open_ and open_[key].size + len(line) > options.max_file_bytes:
                yield close(key)
            while held + len(line) > options.max_record_bytes and open_:
                yield close(next(iter(open_)))
            stretch = open_.pop(key, None) or _Stretch(number)
            open_[key] = stretch
            stretch.lines.append(line.rstrip("\n"))
            stretch.size += len(line)
            held += len(line)
            stretch.last = number
            stretch.began = stretch.began or time
            stretch.ended = time or stretch.ended
    if not open_:
        yield Skipped(Unread.EMPTY, file.name)
    for name in list(open_):
        yield close(name)


def line_time(line: str, year: int) -> datetime.datetime | None:
    """Read the time of a log line: ISO 8601, a web server's, or syslog's, which leaves out the year.

    A time without an offset counts as UTC.
    """
    try:
        if found := _ISO.search(line):
            time = datetime.datetime.fromisoformat(found[0].replace(",", "."))
        elif found := _WEB.search(line):
            time = datetime.datetime.strptime(found[0], "%d/%b/%Y:%H:%M:%S %z")
        elif found := _SYSLOG.match(line):
            time = datetime.datetime.strptime(f"{year} {found[1]}", "%Y %b %d %H:%M:%S")
        else:
            return None
        return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError):
        return None


def _is_over(stretch: _Stretch, now: datetime.datetime, window: datetime.timedelta, session: bool) -> bool:
    since = stretch.ended if session else stretch.began
    return since is not None and now - since > window


def _document(stretch: _Stretch, session: str, file: File, source: Source) -> dict[str, object]:
    lines = f"L{stretch.first}-{stretch.last}"
    metadata = {"lines": lines}
    if session:
        metadata["session"] = hashlib.sha256(session.encode()).hexdigest()[:12]  # it may be somebody's name
    for name, time in (("from", stretch.began), ("to", stretch.ended)):
        if time:
            metadata[name] = time.isoformat()
    modified = stretch.ended.replace(microsecond=0) if stretch.ended else None
    text = "\n".join(stretch.lines) + "\n"
    return make_document(file, source, text, "log", "text", part=lines, modified=modified, metadata=metadata)
