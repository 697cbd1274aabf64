"""Reads the exports of ticket and chat systems: each ticket a dialogue whose turns are in order, or refused."""

import csv
import datetime
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.data.ingest.files import File, make_document
from components.data.ingest.items import Found, Skipped, Unread, read_text
from components.data.ingest.options import Ingest
from components.data.jsonl import one_newline
from components.data.sources import Source, TicketExport

csv.field_size_limit(2**31 - 1)  # the file's size is what bounds a cell


class TicketError(ValueError):
    """A ticket whose turns cannot be told; the message quotes nothing."""


@dataclass(frozen=True)
class Turn:
    """What somebody said, and when if that is known."""

    role: str
    content: str
    time: datetime.datetime | None = None


def read_tickets(file: File, source: Source, options: Ingest) -> Iterator[Found]:
    """Yield the tickets of a CSV, TSV, JSON or JSON Lines export in the order in which they begin.

    A CSV or JSON Lines row is a turn, unless it holds a list of turns; a JSON file is a list of either, alone or under
    its only key. The file is read whole, so `max_binary_bytes` bounds it.
    """
    text = read_text(file.path, file.name, options.max_binary_bytes)
    if isinstance(text, Skipped):
        yield text
        return
    columns = source.tickets
    tickets: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    try:
        for number, record in _records(text, file.suffix.lstrip(".")):
            if isinstance(record, TicketError):
                yield Skipped(Unread.MALFORMED, file.name, f"record {number}: {record}")
                continue
            if not isinstance(record, Mapping) or record.get(columns.ticket) in (None, ""):
                yield Skipped(Unread.MALFORMED, file.name, f"record {number}: it has no {columns.ticket}")
                continue
            name = str(record[columns.ticket])
            if not _is_text(name):
                yield Skipped(Unread.MALFORMED, file.name, f"record {number}: half of a surrogate pair in its name")
                continue
            tickets.setdefault(name, []).append((number, record))
    except (csv.Error, ValueError, RecursionError) as error:
        detail = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "it breaks off"
        yield Skipped(Unread.MALFORMED, file.name, detail)
    if not tickets:
        yield Skipped(Unread.EMPTY, file.name)
    for name, records in tickets.items():
        first = records[0][0]
        try:
            told = _dialogue([record for _, record in records], columns)
        except TicketError as error:
            reason = Unread.UNORDERED if str(error).startswith("order") else Unread.MALFORMED
            yield Skipped(reason, file.name, f"the ticket of record {first}: {error}")
            continue
        text = "\n\n".join(f"{message['role']}: {message['content']}" for message in told.messages) + "\n"
        if len(text) > options.max_record_bytes:
            yield Skipped(Unread.TOO_LARGE, file.name, f"the ticket of record {first}: {len(text):,} characters")
            continue
        extra = {"turns": str(len(told.messages))}
        extra |= {"turn_order": "repaired"} if told.repaired else {}
        extra |= {"turns_empty": str(told.empty)} if told.empty else {}
        extra |= {"turns_repeated": str(told.repeated)} if told.repeated else {}
        yield make_document(
            file, source, text, "ticket", "text", part=name, messages=told.messages, modified=told.ended, metadata=extra
        )


@dataclass(frozen=True)
class Dialogue:
    """Turns in order.

    Attributes:
        messages: What was said by whom, speakers taking turns.
        repaired: Whether the file had another order.
        empty: Turns without words, which were left out.
        repeated: Turns that the export holds again, which were left out.
        ended: When the last was said, if that is known.
    """

    messages: list[dict[str, str]]
    repaired: bool
    empty: int = 0
    repeated: int = 0
    ended: datetime.datetime | None = None


def order_turns(turns: Sequence[Turn]) -> Dialogue:
    """Put turns in order, join what one speaker says in a row, and tell whether the order had to be repaired.

    Times decide where all turns have one; turns of the same time stay as they are. Without any the order in the file
    is believed only if a user begins, and nobody's times are guessed. What the same speaker says at the same time, or
    without times right after it, in the same words is one turn.

    Raises:
        TicketError: Nobody says anything, or the order cannot be told.
    """
    spoken = [turn for turn in turns if turn.content.strip()]
    if any(turn.time for turn in spoken):
        said = list(dict.fromkeys(spoken))
    else:
        said = [turn for place, turn in enumerate(spoken) if not place or turn != spoken[place - 1]]
    if not any(turn.role == "user" for turn in said):
        raise TicketError("no user says anything")
    times = [turn.time for turn in said if turn.time is not None]
    if times and len(times) < len(said):
        raise TicketError("order: some turns have a time and some have none")
    if times:
        ordered = [turn for _, turn in sorted(zip(times, said, strict=True), key=lambda pair: pair[0])]
    else:
        ordered = said
        if next(turn.role for turn in said if turn.role != "system") != "user":
            raise TicketError("order: no turn has a time, and it is not a user who begins")
    messages: list[dict[str, str]] = []
    for turn in ordered:
        content = one_newline(turn.content).strip()
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += f"\n\n{content}"
        else:
            messages.append({"role": turn.role, "content": content})
    ended = max(times).replace(microsecond=0) if times else None
    return Dialogue(messages, ordered != said, len(turns) - len(spoken), len(spoken) - len(said), ended)


def _dialogue(records: Sequence[Mapping[str, Any]], columns: TicketExport) -> Dialogue:
    rows: list[Any] = []
    for record in records:
        nested = record.get(columns.messages)
        rows += nested if isinstance(nested, list) else [record]
    told = order_turns([_turn(row, columns) for row in rows])
    if not all(_is_text(message["content"]) for message in told.messages):
        raise TicketError("half of a surrogate pair, which no text holds")
    return told


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _turn(row: Any, columns: TicketExport) -> Turn:
    if not isinstance(row, Mapping):
        raise TicketError("a turn is not an object")
    speaker, content, time = row.get(columns.role), row.get(columns.content), row.get(columns.time)
    role = columns.roles.get(str(speaker).strip().lower())
    if role is None:
        raise TicketError(f"{columns.role}: a speaker that tickets.roles does not name")
    if not isinstance(content, str | None):
        raise TicketError(f"{columns.content}: is no text")
    return Turn(role, content or "", _time(time, columns.time))


def _time(value: Any, column: str) -> datetime.datetime | None:
    if value in (None, ""):
        return None
    try:
        if isinstance(value, int | float) or str(value).replace(".", "", 1).isdigit():
            return datetime.datetime.fromtimestamp(float(value), datetime.UTC)
        time = datetime.datetime.fromisoformat(str(value).strip())
        return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).astimezone(datetime.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise TicketError(f"{column}: is no ISO 8601 time and no number of seconds") from error


def _records(text: str, suffix: str) -> Iterator[tuple[int, Any]]:
    """Yield the records of an export by number, one that cannot be read as the error it is.

    Raises:
        ValueError: The whole breaks off.
    """
    if suffix in ("csv", "tsv"):
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == "tsv" else ",", strict=True)
        for number, row in enumerate(rows, 1):
            yield number, TicketError("it has more cells than the head") if None in row else row
    elif suffix in ("jsonl", "ndjson"):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                yield number, _line(line)
    else:
        content = json.loads(text)
        if isinstance(content, Mapping) and len(content) == 1:
            content = next(iter(content.values()))
        yield from enumerate(content if isinstance(content, list) else [content], 1)


def _line(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return TicketError("it is not JSON")
