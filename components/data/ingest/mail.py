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
from email.message import EmailMessage, Message, MIMEPart
from email.parser import BytesHeaderParser
from email.policy import default
from typing import Any

from lxml import etree

from components.data.ingest.files import File, make_document
from components.data.ingest.items import Found, Skipped, Unread, decode
from components.data.ingest.options import Ingest
from components.data.jsonl import bounded_lines, one_newline
from components.data.sources import Source

_ATTRIBUTION = re.compile(r"^(?:On .{5,120} wrote:|.{5,120}님이 작성:|-+ ?Original Message ?-+)\s*$", re.MULTILINE)
_PREFIX = re.compile(r"^\s*(?:(?:re|fwd?|aw|회신|전달)\s*:\s*)+", re.IGNORECASE)
_SIGNATURE = re.compile(r"^-- ?$", re.MULTILINE)


_HEAD = 2**16
"""Bytes of a mail in which its head is looked for."""
_WIDE = re.compile(rb"^(?:from|content-[\w-]+):(?:[^\n]|\n[ \t]){2000}", re.MULTILINE | re.IGNORECASE)
"""A header line of more than 2,000 bytes: those that are read have a line or two, and reading takes their square."""


class _MailError(ValueError):
    """A mail that cannot be read, and why; the message quotes nothing."""


@dataclass(frozen=True)
class _Head:
    """What of a mail tells where it belongs."""

    key: Any
    name: str
    answers: tuple[str, ...]
    subject: str
    sender: str
    name_of_sender: str
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
        heads = [_head(key, _raw(box, key, _HEAD)) for key in box.keys()]  # noqa: SIM118  a box iterates mails
        if not heads:
            yield Skipped(Unread.MALFORMED if file.path.stat().st_size else Unread.EMPTY, file.name, "it holds no mail")
        for thread in _threads(heads):
            yield from _thread(thread, box, file, source, options)
    finally:
        box.close()


def _raw(box: mailbox.mbox, key: Any, most: int) -> bytes:
    """Read a mail, or its beginning: a mail may be longer than memory."""
    file: Any = box.get_file(key)
    found: bytes = file.read(most)
    return found


def _head(key: Any, raw: bytes) -> _Head:
    mail = BytesHeaderParser().parsebytes(raw)
    answers = re.findall(r"<[^<>\s]+>", f"{mail.get('References', '')} {mail.get('In-Reply-To', '')}")
    name = re.search(r"<[^<>\s]+>", str(mail.get("Message-ID", "")))
    wrote = " ".join(_decoded(str(mail.get("From", ""))[:2_000]).split())
    try:
        sender = email.utils.parseaddr(wrote)[1].lower()
    except RecursionError:  # comments within comments
        sender = wrote.lower()
    sent = _sent(str(mail.get("Date", "")))
    return _Head(key, name[0] if name else f"<{key}>", tuple(answers), _subject(mail), sender, wrote, sent)


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
    size = skipped = 0
    for head in thread:
        raw = _raw(box, head.key, options.max_record_bytes + 1)
        where = f"mail {head.key + 1}"
        if len(raw) > options.max_record_bytes:
            yield Skipped(Unread.TOO_LARGE, file.name, f"{where}: is longer than {options.max_record_bytes:,} bytes")
            skipped += 1
            continue
        try:
            body, attached = _read(raw)
        except _MailError as error:
            yield Skipped(Unread.MALFORMED, file.name, f"{where}: {error}")
            skipped += 1
            continue
        attachments += attached
        known = any(answered in {other.name for other in thread} for answered in head.answers)
        body, lines = _without_quotes(body) if known or len(parts) else (_SIGNATURE.split(body)[0].strip(), 0)
        quoted += lines
        if not body:
            continue
        size += len(body)
        if size > options.max_record_bytes:
            detail = f"the thread of mail {thread[0].key + 1}: more than {options.max_record_bytes:,} characters"
            yield Skipped(Unread.TOO_LARGE, file.name, detail, len(thread))
            return
        sent = f"{head.sent:%Y-%m-%d %H:%M}" if head.sent else ""
        parts.append(f"## {head.name_of_sender} {sent}".rstrip() + f"\n\n{body}")
        turns.append((head.sender, body))
    if not parts:
        if skipped < len(thread):
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


def _read(raw: bytes) -> tuple[str, int]:
    """Give a mail's words, and how many attachments it has.

    Raises:
        _MailError: It cannot be read.
    """
    if _WIDE.search(raw):
        raise _MailError("a header of more than 2,000 bytes")
    try:
        mail = email.message_from_bytes(raw, policy=default)
        assert isinstance(mail, EmailMessage)
        part = mail.get_body(("plain", "html"))
        attached = sum(1 for _ in mail.iter_attachments()) if part is not mail else 0
        form = part.get_content_subtype() if part else "plain"
        text = _words(part) if part else ""
    except _MailError:
        raise
    except Exception as error:  # whatever `email` raises of what breaks the rules; its words may quote the mail
        raise _MailError("its parts break the rules of MIME") from error
    return (_of_page(text) if form == "html" else text), attached


def _words(part: MIMEPart) -> str:
    raw = part.get_payload(decode=True)
    data = raw if isinstance(raw, bytes) else b""
    if any(isinstance(defect, email.errors.InvalidBase64LengthDefect) for defect in part.defects):
        raise _MailError("its text is broken base64")
    try:
        text: str | None = data.decode(part.get_content_charset() or "utf-8")
        (text or "").encode()
    except (LookupError, UnicodeError):
        text = decode(data)
    if text is None:
        raise _MailError("its text is not in the encoding that it states")
    return one_newline(text)


def _of_page(html: str) -> str:
    """Take the words out of an HTML mail; the line structure stays, the rest is styling."""
    parser = etree.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)
    try:
        root = etree.fromstring(html.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _MailError("its HTML cannot be read") from error
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        raise _MailError("its HTML is nested too deeply")
    said: list[str] = []
    for event, element in etree.iterwalk(root, events=("start", "end", "comment")) if root is not None else ():
        if event == "start" and isinstance(element.tag, str):
            said.append("\n" * (element.tag in ("br", "p", "div", "tr", "li")))
            said.append((element.text or "") * (element.tag not in ("style", "script")))
        elif event != "start":
            said.append(element.tail or "")
    return re.sub(r"\n\s*\n+", "\n\n", "".join(said))


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
    except (LookupError, ValueError, email.errors.MessageError):
        text = header
    return text.encode("utf-8", "replace").decode("utf-8")


def _sent(date: str) -> datetime.datetime | None:
    try:
        time = email.utils.parsedate_to_datetime(date)
        return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
