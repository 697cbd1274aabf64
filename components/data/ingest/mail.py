"""Reads mail from mbox files: each thread a document."""

import datetime
import email.errors
import email.header
import email.utils
import hashlib
import mailbox
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import EmailMessage, Message
from email.policy import default
from html.parser import HTMLParser
from typing import Any

from components.data.ingest.files import File, make_document
from components.data.ingest.items import Found, Skipped, Unread
from components.data.ingest.options import Ingest
from components.data.jsonl import bounded_lines, one_newline
from components.data.sources import Source

_ATTRIBUTION = re.compile(r"^(?:On .{5,120} wrote:|.{5,120}님이 작성:|-+ ?Original Message ?-+)\s*$", re.MULTILINE)
_PREFIX = re.compile(r"^\s*(?:(?:re|fwd?|aw|회신|전달)\s*:\s*)+", re.IGNORECASE)
_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)


@dataclass(frozen=True)
class _Head:
    """What of a mail tells where it belongs."""

    key: Any
    name: str
    answers: tuple[str, ...]
    subject: str
    sender: str
    sent: datetime.datetime | None


def read_mbox(file: File, source: Source, options: Ingest) -> Iterator[Found]:
    """Yield the threads of an mbox in the order in which they begin.

    Mails belong together by the mails they answer, and else by their subject. Text that quotes a mail of the same
    thread is left out; text that quotes another stays, as a quotation. A thread of two people is a dialogue with
    `messages`: whoever began it is the user. Attachments are counted, not read.
    """
    with file.path.open("rb") as stream:
        if any(line is None for line in bounded_lines(stream, options.max_record_bytes)):
            yield Skipped(Unread.TOO_LARGE, file.name, f"a line is longer than {options.max_record_bytes:,} bytes")
            return
    box = mailbox.mbox(str(file.path), factory=None, create=False)
    try:
        heads = [_head(key, box.get_bytes(key)[: 2**16]) for key in box.keys()]  # noqa: SIM118  a box iterates mails
        if not heads:
            yield Skipped(Unread.MALFORMED if file.path.stat().st_size else Unread.EMPTY, file.name, "it holds no mail")
        for thread in _threads(heads):
            yield from _thread(thread, box, file, source, options)
    finally:
        box.close()


def _head(key: Any, raw: bytes) -> _Head:
    mail = email.message_from_bytes(raw)
    answers = re.findall(r"<[^<>\s]+>", f"{mail.get('References', '')} {mail.get('In-Reply-To', '')}")
    name = re.search(r"<[^<>\s]+>", str(mail.get("Message-ID", "")))
    sender = email.utils.parseaddr(_decoded(mail.get("From", "")))[1].lower()
    return _Head(
        key, name[0] if name else f"<{key}>", tuple(answers), _subject(mail), sender, _sent(str(mail.get("Date", "")))
    )


def _threads(heads: list[_Head]) -> list[list[_Head]]:
    """Group mails into threads, each in the order in which it was written."""
    root: dict[str, str] = {}

    def find(name: str) -> str:
        while root.setdefault(name, name) != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for head in heads:
        for answered in head.answers:
            root[find(head.name)] = find(answered)
    subjects: dict[str, str] = {}
    for head in heads:
        subject = _PREFIX.sub("", head.subject).strip().lower()
        if not head.answers and subject:
            if _PREFIX.match(head.subject) and subject in subjects:
                root[find(head.name)] = find(subjects[subject])
            subjects.setdefault(subject, head.name)
    threads: dict[str, list[_Head]] = {}
    for head in heads:
        threads.setdefault(find(head.name), []).append(head)
    oldest = datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return [sorted(thread, key=lambda head: (head.sent or oldest, head.key)) for thread in threads.values()]


def _thread(thread: list[_Head], box: mailbox.mbox, file: File, source: Source, options: Ingest) -> Iterator[Found]:
    parts: list[str] = []
    turns: list[tuple[str, str]] = []
    attachments = quoted = 0
    for head in thread:
        raw = box.get_bytes(head.key)
        where = f"mail {head.key + 1}"
        if len(raw) > options.max_record_bytes:
            yield Skipped(Unread.TOO_LARGE, file.name, f"{where}: {len(raw):,} bytes")
            continue
        try:
            mail = email.message_from_bytes(raw, policy=default)
            assert isinstance(mail, EmailMessage)
            body, form = _body(mail)
            attachments += sum(1 for _ in mail.iter_attachments())
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
            yield Skipped(Unread.MALFORMED, file.name, f"{where}: its parts break the rules of MIME")
            continue
        if form == "html":
            body = _as_text(body)
        known = any(answered in {other.name for other in thread} for answered in head.answers)
        body, lines = _without_quotes(body) if known or len(parts) else (_SIGNATURE.split(body)[0].strip(), 0)
        quoted += lines
        if not body:
            continue
        sent = f"{head.sent:%Y-%m-%d %H:%M}" if head.sent else ""
        parts.append(f"## {_decoded(str(mail.get('From', '')))} {sent}".rstrip() + f"\n\n{body}")
        turns.append((head.sender, body))
    if not parts:
        yield Skipped(Unread.EMPTY, file.name, f"the thread of mail {thread[0].key + 1}")
        return
    subject = _PREFIX.sub("", thread[0].subject).strip()
    text = f"# {subject}\n\n" * bool(subject) + "\n\n".join(parts) + "\n"
    ended = [head.sent for head in thread if head.sent]
    yield make_document(
        file,
        source,
        text,
        "dialogue",
        "text",
        part=hashlib.sha256(thread[0].name.encode()).hexdigest()[:12],
        messages=_messages(turns),
        modified=max(ended).replace(microsecond=0) if ended else None,
        metadata={
            "mails": str(len(parts)),
            "attachments": str(attachments),
            "quoted_lines_left_out": str(quoted),
            **({"title": subject} if subject else {}),
        },
    )


def _body(mail: EmailMessage) -> tuple[str, str]:
    part = mail.get_body(("plain", "html"))
    if part is None:
        return "", "plain"
    raw = part.get_payload(decode=True)
    data = raw if isinstance(raw, bytes) else b""
    charset = part.get_content_charset() or "utf-8"
    try:
        text = data.decode(charset)
    except (LookupError, UnicodeDecodeError):
        text = data.decode("utf-8", "replace")
    return one_newline(text), part.get_content_subtype()


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in ("style", "script")
        if tag in ("br", "p", "div", "tr", "li"):
            self.words.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


def _as_text(html: str) -> str:
    """Take the words out of an HTML mail; the line structure stays, the rest is styling."""
    words = _Words()
    words.feed(html)
    return re.sub(r"\n\s*\n+", "\n\n", "".join(words.words))


def _without_quotes(body: str) -> tuple[str, int]:
    """Leave out quoted lines, what announces them, and the signature; count the quoted lines."""
    body = _SIGNATURE.split(body)[0]
    lines = body.split("\n")
    own = [line for line in lines if not line.lstrip().startswith(">")]
    return _ATTRIBUTION.sub("", "\n".join(own)).strip(), len(lines) - len(own)


def _messages(turns: list[tuple[str, str]]) -> list[dict[str, str]]:
    """Two people who write to each other are a dialogue; more are a discussion, which has no roles."""
    if len({sender for sender, _ in turns}) != 2:
        return []
    messages: list[dict[str, str]] = []
    for sender, body in turns:
        role = "user" if sender == turns[0][0] else "assistant"
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += f"\n\n{body}"
        else:
            messages.append({"role": role, "content": body})
    return messages


def _subject(mail: Message) -> str:
    return " ".join(_decoded(str(mail.get("Subject", ""))).split())


def _decoded(header: str) -> str:
    """Decode an encoded header; what cannot be decoded stays as it is, without halves of surrogate pairs."""
    try:
        text = str(email.header.make_header(email.header.decode_header(header)))
    except (LookupError, ValueError, email.errors.HeaderParseError):
        text = header
    return text.encode("utf-8", "replace").decode("utf-8")


def _sent(date: str) -> datetime.datetime | None:
    try:
        time = email.utils.parsedate_to_datetime(date)
        return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
