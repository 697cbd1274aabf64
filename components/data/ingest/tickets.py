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
            if not isinstance(record, Mapping) or record.get(columns.ticket) in (None, ""):
                yield Skipped(Unread.MALFORMED, file.name, f"record {number}: it has no {columns.ticket}")
                continue
            tickets.setdefault(str(record[columns.ticket]), []).append((number, record))
    except (csv.Error, ValueError, RecursionError) as error:
        detail = f"{error.msg}, line {error.lineno}" if isinstance(error, json.JSONDecodeError) else "it breaks off"
        yield Skipped(Unread.MALFORMED, file.name, detail)
    if not tickets:
        yield Skipped(Unread.EMPTY, file.name)
    for name, records in tickets.items():
        first = records[0][0]
        try:
            messages, repaired, last = _dialogue([record for _, record in records], columns)
        except TicketError as error:
            reason = Unread.UNORDERED if str(error).startswith("order") else Unread.MALFORMED
            yield Skipped(reason, file.name, f"the ticket of record {first}: {error}")
            continue
        text = "\n\n".join(f"{message['role']}: {message['content']}" for message in messages) + "\n"
        if len(text) > options.max_record_bytes:
            yield Skipped(Unread.TOO_LARGE, file.name, f"the ticket of record {first}: {len(text):,} characters")
            continue
        extra = {"turns": str(len(messages)), **({"turn_order": "repaired"} if repaired else {})}
        yield make_document(
            file, source, text, "ticket", "text", part=name, messages=messages, modified=last, metadata=extra
        )


def order_turns(turns: Sequence[Turn]) -> tuple[list[dict[str, str]], bool]:
    """Put turns in order, join what one speaker says in a row, and tell whether the order had to be repaired.

    Times decide where all turns have one; turns of the same time stay as they are. Without any the order in the file
    is believed only if a user begins, and nobody's times are guessed.

    Raises:
        TicketError: Nobody says anything, or the order cannot be told.
    """
    said = [turn for turn in turns if turn.content.strip()]
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
    return messages, ordered != said


def _dialogue(
    records: Sequence[Mapping[str, Any]], columns: TicketExport
) -> tuple[list[dict[str, str]], bool, datetime.datetime | None]:
    rows: list[Any] = []
    for record in records:
        nested = record.get(columns.messages)
        rows += nested if isinstance(nested, list) else [record]
    turns = [_turn(row, columns) for row in rows]
    messages, repaired = order_turns(turns)
    for message in messages:
        try:
            message["content"].encode()
        except UnicodeEncodeError as error:
            raise TicketError("half of a surrogate pair, which no text holds") from error
    times = [turn.time for turn in turns if turn.time]
    return messages, repaired, max(times).replace(microsecond=0) if times else None


def _turn(row: Any, columns: TicketExport) -> Turn:
    if not isinstance(row, Mapping):
        raise TicketError("a turn is not an object")
    speaker, content, time = row.get(columns.role), row.get(columns.content, ""), row.get(columns.time)
    role = columns.roles.get(str(speaker).strip().lower())
    if role is None:
        raise TicketError(f"{columns.role}: a speaker that tickets.roles does not name")
    if not isinstance(content, str):
        raise TicketError(f"{columns.content}: is no text")
    return Turn(role, content, _time(time, columns.time))


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
    if suffix in ("csv", "tsv"):
        yield from enumerate(
            csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if suffix == "tsv" else ","), 1
        )
    elif suffix in ("jsonl", "ndjson"):
        yield from ((number, json.loads(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    else:
        content = json.loads(text)
        if isinstance(content, Mapping) and len(content) == 1:
            content = next(iter(content.values()))
        yield from enumerate(content if isinstance(content, list) else [content], 1)
