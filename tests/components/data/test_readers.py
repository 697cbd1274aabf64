"""Each kind of source gives its documents: repositories, buckets, mail, tickets, logs."""

import csv
import json
import mailbox
import os
from collections.abc import Callable
from email.message import EmailMessage
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dulwich import porcelain
from dulwich.objects import Blob
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.documents import DocumentWriter, part_files, read_table
from components.common.environment import Environment
from components.common.errors import UsageError
from components.common.step import Context
from components.common.store import open_store
from components.data.ingest.options import Ingest
from components.data.ingest.read import fingerprint, run
from components.data.ingest.tickets import TicketError, Turn, order_turns
from components.data.quarantine import FILE
from components.data.sources import Source


def source(location: Path | str, **fields: Any) -> Source:
    return Source.model_validate({"id": "mine", "license": "MIT", "owner": "me", "location": str(location)} | fields)


@pytest.fixture
def read(tmp_path: Path, environment: Environment) -> Callable[..., tuple[list[dict[str, Any]], list[dict[str, str]]]]:
    numbers = iter(range(100))

    def read_source(declared: Source, **options: Any) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        folder = tmp_path / f"out-{next(numbers)}"
        options = {"max_quarantined_share": 1, **options}
        run(folder, Ingest(sources=[declared], **options), Context("data/ingest", environment))
        rows = [{**row, "metadata": dict(row["metadata"])} for row in read_table(folder).to_pylist()]
        return rows, [json.loads(line) for line in (folder / FILE).read_text().splitlines()]

    return read_source


def test_a_repository_gives_what_is_committed_and_says_which_commit(read, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    repository = porcelain.init(str(folder))
    (folder / "a.py").write_text("x = 1\n")
    (folder / "규정.md").write_text("# Rules\n")
    (folder / "link.md").symlink_to("a.py")
    porcelain.add(repository, [str(folder / name) for name in ("a.py", "규정.md", "link.md")])
    with pytest.raises(UsageError, match="has no commit yet"):
        read(source(f"git:{folder}"))
    when = {"author_timestamp": 1_700_000_000, "commit_timestamp": 1_700_000_000}
    commit = porcelain.commit(repository, b"One", author=b"A <a@b>", committer=b"A <a@b>", **when)
    before = fingerprint([source(f"git:{folder}")])
    (folder / "a.py").write_text("x = 2\n")
    (folder / "untracked.py").write_text("y = 1\n")
    rows, aside = read(source(f"git:{folder}"))
    assert {row["url"]: row["text"] for row in rows} == {"a.py": "x = 1\n", "규정.md": "# Rules\n"}
    assert {row["metadata"]["commit"] for row in rows} == {commit.decode()}
    assert {row["retrieved_at"].timestamp() for row in rows} == {1_700_000_000}
    assert aside == []
    assert fingerprint([source(f"git:{folder}")]) == before
    porcelain.add(repository, [str(folder / "a.py")])
    porcelain.commit(repository, b"Two", author=b"A <a@b>", committer=b"A <a@b>", **when)
    assert fingerprint([source(f"git:{folder}")]) != before
    with pytest.raises(UsageError, match="is no git repository"):
        read(source(f"git:{tmp_path / 'nowhere'}"))


def test_an_object_that_is_damaged_costs_no_other(read, tmp_path):
    repository = porcelain.init(tmp_path)
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(f"# {name}")
    porcelain.add(repository, paths=[str(tmp_path / "a.md"), str(tmp_path / "b.md")])
    porcelain.commit(repository, message=b"x", author=b"a <a@b>", committer=b"a <a@b>")
    sha = Blob.from_string(b"# a.md").id.decode()
    damaged = tmp_path / ".git" / "objects" / sha[:2] / sha[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(b"nothing of the kind")
    rows, aside = read(source(f"git:{tmp_path}"))
    assert [row["url"] for row in rows] == ["b.md"]
    assert [(row["what"], row["reason"]) for row in aside] == [("a.md", "unreadable")]


def test_a_bucket_is_read_like_a_folder(read, cloud, tmp_path, document):
    store = open_store(f"{cloud}/docs")
    store.write("guide/intro.md", b"# Hello\n")
    store.write("rows.jsonl", b'{"text": "one"}\n{"text": 1}\n')
    store.write(".hidden.md", b"# No\n")
    with DocumentWriter(tmp_path / "imported") as writer:
        writer.write([document("whole", "w", source="mine")])
    store.upload(part_files(tmp_path / "imported")[0], "old/part-00000.parquet")
    rows, aside = read(source(f"{cloud}/docs"))
    assert {row["url"]: row["text"] for row in rows} == {
        "guide/intro.md": "# Hello\n",
        "rows.jsonl#line-1": "one",
        "w": "whole",
    }
    assert [row["detail"] for row in aside] == ["line 2: text: is a number, not a string"]
    before = fingerprint([source(f"{cloud}/docs")])
    assert fingerprint([source(f"{cloud}/docs")]) == before
    store.write("guide/intro.md", b"# Hello again\n")
    assert fingerprint([source(f"{cloud}/docs")]) != before
    with pytest.raises(UsageError, match="cannot be listed"):
        read(source("gs://no-such-bucket-here/docs"))


def mail(name: str, sender: str, subject: str, body: str, day: int, answers: str = "", **parts: bytes) -> EmailMessage:
    message = EmailMessage()
    message["Message-ID"], message["From"], message["Subject"] = f"<{name}@x>", sender, subject
    message["Date"] = f"{day:02d} Jan 2026 10:00:00 +0900"
    if answers:
        message["In-Reply-To"] = f"<{answers}@x>"
    message.set_content(body)
    for file, data in parts.items():
        message.add_attachment(data, maintype="application", subtype="octet-stream", filename=file)
    return message


@pytest.fixture
def box(tmp_path: Path) -> Path:
    (tmp_path / "mail").mkdir()
    made = mailbox.mbox(str(tmp_path / "mail" / "list.mbox"))
    ask = "안녕하세요, 수문이 닫히지 않습니다.\n\n-- \nKim"
    answer = "On Thu, 1 Jan 2026 Kim <kim@x> wrote:\n> 안녕하세요, 수문이 닫히지 않습니다.\n\nTry the lever."
    for message in (
        mail("b", "Lee <lee@x>", "Re: 수문", answer, 2, "a"),
        mail("a", "Kim <kim@x>", "수문", ask, 1, picture=b"\0" * 9),
        mail("c", "Kim <kim@x>", "RE: 수문", "It works.", 3),
        mail("z", "One <one@x>", "Fair", "> quoted from elsewhere\nLook.", 4),
        mail("y", "Two <two@x>", "Re: Fair", "Yes.", 5, "z"),
        mail("w", "Three <three@x>", "Re: Fair", "No.", 6, "y"),
    ):
        made.add(message)
    page = EmailMessage()
    page["From"], page["Subject"] = "=?utf-8?b?7ZWc?= <h@x>", "Page"
    page.set_content("<style>p{}</style><p>Only<br>HTML</p>", subtype="html")
    made.add(page)
    made.close()
    return tmp_path / "mail"


def test_mail_becomes_threads_without_what_they_quote_of_themselves(read, box):
    rows, aside = read(source(box))
    assert aside == []
    sluice, fair, page = rows
    assert sluice["text"].startswith(
        "# 수문\n\n## Kim <kim@x> 2026-01-01 01:00\n\n안녕하세요, 수문이 닫히지 않습니다.\n\n## Lee"
    )
    assert sluice["text"].count("안녕하세요") == 1
    assert sluice["messages"] == [
        {"role": "user", "content": "안녕하세요, 수문이 닫히지 않습니다."},
        {"role": "assistant", "content": "Try the lever."},
        {"role": "user", "content": "It works."},
    ]
    assert sluice["kind"] == "dialogue"
    counts = {name: sluice["metadata"][name] for name in ("mails", "attachments", "quoted_lines_left_out")}
    assert counts == {"mails": "3", "attachments": "1", "quoted_lines_left_out": "1"}
    assert fair["messages"] == []
    assert "> quoted from elsewhere" in fair["text"]
    assert "Only\nHTML" in page["text"]
    assert "한 <h@x>" in page["text"]
    assert "p{}" not in page["text"]


def test_a_mailbox_that_is_none_or_has_an_endless_line_is_set_aside(read, box):
    (box / "none.mbox").write_text("just words\n")
    (box / "wide.mbox").write_bytes(b"From a\nSubject: x\n\n" + b"x" * 9_000 + b"\n")
    (box / "odd.mbox").write_bytes(b"From a\nContent-Type: text/plain; charset=\xff\xfe\nSubject: \xff\n\nWords\xff.\n")
    rows, aside = read(source(box), max_record_bytes=5_000)
    assert len(rows) == 3
    assert {row["what"]: row["reason"] for row in aside} == {
        "none.mbox": "malformed",
        "odd.mbox": "malformed",
        "wide.mbox": "too_large",
    }


def mailed(name: str, *mails: bytes) -> bytes:
    return b"".join(b"From a\nSubject: %s\n%s\n\n" % (name.encode(), mail) for mail in mails)


def test_a_mail_that_breaks_the_rules_costs_no_other_and_none_of_its_words_are_made_up(read, tmp_path):
    fine = b"From: k@x\n\nfine words"
    bad = {
        "its text is broken base64": b"Content-Transfer-Encoding: base64\n\nabcde",
        "its text is not in the encoding that it states": b"Content-Type: text/plain; charset=utf-8\n\nGr\xf6\xdfe",
        "a header of more than 2,000 bytes": b"From: " + b"a@b," * 20_000 + b"\n\nhi",
        "its HTML is nested too deeply": b"Content-Type: text/html\n\n" + b"<div>" * 9_000 + b"words",
        "its parts break the rules of MIME": b"".join(
            b"Content-Type: multipart/mixed; boundary=x%d\n\n--x%d\n" % (depth, depth) for depth in range(1_000)
        ),
    }
    for number, mail in enumerate(bad.values()):
        (tmp_path / f"{number}.mbox").write_bytes(mailed("x", mail) + mailed("y", fine))
    (tmp_path / "odd.mbox").write_bytes(
        mailed("half", b"Content-Type: text/plain; charset=unicode_escape\n\n\\ud800 words")
        + mailed("page", b"Content-Type: text/html\n\n<![ <p>one</p></script></style> two")
        + mailed("name", b"From: =?\xfftf-8?b?7ZWc?= <h@x>\n\nthree")
        + mailed("comments", b"From: " + b"(" * 1_900 + b"\n\nfour")
        + mailed("korean", "Content-Type: text/plain; charset=euc-kr\n\n물레방아 뷁".encode("cp949"))
    )
    rows, aside = read(source(tmp_path))
    assert [(row["reason"], row["detail"]) for row in aside] == [("malformed", f"mail 1: {why}") for why in bad]
    said = [row["text"].rpartition("##")[2].partition("\n\n")[2].strip() for row in rows]
    assert said == ["fine words"] * len(bad) + ["\\ud800 words", "one two", "three", "four", "물레방아 뷁"]


def test_tickets_of_a_table_become_dialogues_in_the_order_of_their_times(read, tmp_path):
    turns = [
        ("1", "agent", "Pull the lever.", "2026-01-01T10:05:00+09:00"),
        ("2", "customer", "Hello?", ""),
        ("1", "customer", "수문이 닫히지 않아요.", "2026-01-01T01:00:00Z"),
        ("1", "customer", "Thanks!", "1767229800"),
        ("3", "agent", "We are closed.", ""),
        ("4", "wizard", "Abracadabra.", ""),
        ("2", "agent", "Hello.", ""),
        ("5", "customer", "One", "2026-01-01"),
        ("5", "agent", "Two", ""),
    ]
    with (tmp_path / "export.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket_id", "role", "content", "created_at"])
        writer.writerows(turns)
    rows, aside = read(source(tmp_path / ".", kind="ticket"))
    first, second = rows
    assert [(message["role"], message["content"]) for message in first["messages"]] == [
        ("user", "수문이 닫히지 않아요."),
        ("assistant", "Pull the lever."),
        ("user", "Thanks!"),
    ]
    assert first["metadata"]["turn_order"] == "repaired"
    assert first["text"].startswith("user: 수문이 닫히지 않아요.\n\nassistant: ")
    assert (first["kind"], first["url"], first["retrieved_at"].isoformat()) == (
        "ticket",
        "export.csv#1",
        "2026-01-01T01:10:00+00:00",
    )
    assert len(second["messages"]) == 2
    assert [(row["reason"], row["detail"]) for row in aside] == [
        ("malformed", "the ticket of record 5: no user says anything"),
        ("malformed", "the ticket of record 6: role: a speaker that tickets.roles does not name"),
        ("unordered", "the ticket of record 8: order: some turns have a time and some have none"),
    ]


def test_tickets_of_json_have_their_own_names_for_things(read, tmp_path):
    said = [{"who": "Client", "body": "Hi"}, {"who": "STAFF", "body": "Hello"}]
    (tmp_path / "export.json").write_text(json.dumps({"issues": [{"key": "A-1", "comments": said}, {"key": ""}]}))
    (tmp_path / "more.jsonl").write_text(json.dumps({"key": "A-2", "comments": said[::-1]}))
    names = {"ticket": "key", "messages": "comments", "role": "who", "content": "body"}
    tickets = {**names, "roles": {"client": "user", "staff": "assistant"}}
    rows, aside = read(source(tmp_path, kind="ticket", tickets=tickets))
    assert [row["url"] for row in rows] == ["export.json#A-1"]
    assert [(row["what"], row["reason"]) for row in aside] == [
        ("export.json", "malformed"),
        ("more.jsonl", "unordered"),
    ]


def test_a_wrong_turn_costs_its_ticket_and_what_an_export_repeats_or_leaves_empty_is_counted(read, tmp_path):
    turns = [
        {"ticket_id": "a", "role": "user", "content": "q", "created_at": "2026-01-01T00:00:00"},
        {"ticket_id": "a", "role": "agent", "content": None, "created_at": "2026-01-01T00:00:30"},
        {"ticket_id": "a", "role": "agent", "content": "yes", "created_at": "2026-01-01T00:01:00"},
        {"ticket_id": "a", "role": "user", "content": "q", "created_at": "2026-01-01T00:00:00"},
        {"ticket_id": "half \ud800", "role": "user", "content": "x"},
        {"ticket_id": "b", "role": "user", "content": "half \udfff"},
        {"ticket_id": "c", "role": "user", "content": "x", "created_at": 1e99},
        {"ticket_id": "d", "role": "user", "content": "later"},
    ]
    lines = [json.dumps(turn) for turn in turns]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines[:2], "{broken", "[" * 99_999, *lines[2:]]))
    (tmp_path / "b.csv").write_text("ticket_id,role,content\n1,user,one, two\n2,user,three\n")
    (tmp_path / "c.csv").write_text('ticket_id,role,content\n1,user,"not closed\n2,user,three\n')
    (tmp_path / "d.csv").write_text("ticket_id,role,content\n1,user," + "x" * 200_000 + "\n")
    rows, aside = read(source(tmp_path, kind="ticket"))
    found = {row["url"]: row for row in rows}
    assert list(found) == ["a.jsonl#a", "a.jsonl#d", "b.csv#2", "d.csv#1"]
    assert [message["content"] for message in found["a.jsonl#a"]["messages"]] == ["q", "yes"]
    counted = {name: found["a.jsonl#a"]["metadata"].get(name) for name in ("turns", "turns_empty", "turns_repeated")}
    assert counted == {"turns": "2", "turns_empty": "1", "turns_repeated": "1"}
    assert [(row["what"], row["detail"]) for row in aside] == [
        ("a.jsonl", "record 3: it is not JSON"),
        ("a.jsonl", "record 4: it is not JSON"),
        ("a.jsonl", "record 7: half of a surrogate pair in its name"),
        ("a.jsonl", "the ticket of record 8: half of a surrogate pair, which no text holds"),
        ("a.jsonl", "the ticket of record 9: created_at: is no ISO 8601 time and no number of seconds"),
        ("b.csv", "record 1: it has more cells than the head"),
        ("c.csv", "it breaks off"),
    ]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.integers(0, 99)), min_size=1), st.randoms()
)
def test_timed_turns_come_in_order_whatever_order_the_export_has(said, random):
    from datetime import UTC, datetime

    turns = [Turn(role, f"{place}", datetime.fromtimestamp(time, UTC)) for place, (role, time) in enumerate(said)]
    shuffled = sorted(turns, key=lambda turn: (turn.time, random.random()))
    random.shuffle(shuffled)
    if not any(turn.role == "user" for turn in turns):
        with pytest.raises(TicketError, match="no user"):
            order_turns(shuffled)
        return
    messages = order_turns(shuffled).messages
    spoken = [part for message in messages for part in message["content"].split("\n\n")]
    times = {f"{place}": time for place, (_, time) in enumerate(said)}
    assert sorted(spoken) == sorted(times)
    assert [times[part] for part in spoken] == sorted(times.values())
    assert all(before["role"] != after["role"] for before, after in pairwise(messages))


def test_logs_are_cut_by_time_and_a_line_without_one_belongs_to_the_line_before(read, tmp_path):
    (tmp_path / "app.log").write_text(
        "2026-01-01 10:00:00,123 ERROR boom\nTraceback:\n  File x\n2026-01-01 10:05:00 INFO on\n"
        "2026-01-01T10:30:00Z INFO later\n"
    )
    (tmp_path / "web.log").write_text('1.2.3.4 - - [01/Jan/2026:10:00:00 +0900] "GET /"\n')
    (tmp_path / "sys.log").write_text("Jan  1 10:00:00 host sshd: hi\n")
    (tmp_path / "plain.log").write_text("no time\nat all\n")
    (tmp_path / "wide.log").write_bytes("2026-01-01 10:00:00 on\n".encode("utf-16"))
    (tmp_path / "early.log").write_text("0001-01-01T00:00:00+05:00 before the first day\n")
    os.utime(tmp_path / "sys.log", (1_767_225_600, 1_767_225_600))
    rows, aside = read(source(tmp_path))
    found = {row["url"]: row for row in rows}
    assert list(found) == [
        "app.log#L1-4",
        "app.log#L5-5",
        "early.log#L1-1",
        "plain.log#L1-2",
        "sys.log#L1-1",
        "web.log#L1-1",
    ]
    assert found["app.log#L1-4"]["text"].splitlines()[1:3] == ["Traceback:", "  File x"]
    assert found["app.log#L1-4"]["metadata"]["to"] == "2026-01-01T10:05:00+00:00"
    assert found["web.log#L1-1"]["metadata"]["from"] == "2026-01-01T01:00:00+00:00"
    assert found["sys.log#L1-1"]["metadata"]["from"] == "2026-01-01T10:00:00+00:00"
    assert {row["kind"] for row in rows} == {"log"}
    assert [(row["what"], row["detail"]) for row in aside] == [("wide.log", "it is in UTF-16; convert it to UTF-8")]


def test_logs_with_sessions_are_cut_by_session_and_hold_a_bounded_number_of_lines(read, tmp_path):
    lines = [f"2026-01-01 10:{minute:02d}:00 user=u{minute % 2} step {minute}" for minute in range(10)]
    lines.append("2026-01-01 11:00:00 user=u0 again")
    (tmp_path / "app.log").write_bytes("\n".join(lines).encode() + b"\n\xff\xff\n" + b"x" * 900 + b"\n")
    declared = source(tmp_path, kind="log", logs={"session": r"user=(\w+)"})
    rows, aside = read(declared, max_record_bytes=800)
    assert [row["metadata"]["lines"] for row in rows] == ["L1-9", "L2-10", "L11-11"]
    assert rows[0]["text"].count("user=u0") == 5
    assert len({row["metadata"]["session"] for row in rows}) == 2
    assert {(row["reason"], row["detail"]) for row in aside} == {("undecodable", "line 12"), ("too_large", "line 13")}
    assert len(read(declared, max_record_bytes=100, max_file_bytes=100)[0]) > 5


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"logs": {"session": "("}}, "logs.session: is no regular expression"),
        ({"logs": {"session": "x"}}, "logs.session: has no group"),
        ({"tickets": {"roles": {"a": "poet"}}}, "tickets.roles.a: Input should be"),
        ({"crawl": {"max_pages": 0}}, "crawl.max_pages: Input should be greater"),
    ],
)
def test_a_wrong_detail_of_a_declaration_is_named_with_its_line(fields, problem, tmp_path):
    from components.data.sources import load_sources

    [name] = fields
    common = "- id: a\n  license: MIT\n  owner: me\n  location: x\n"
    (tmp_path / "sources.yaml").write_text(f"sources:\n{common}{common.replace('a', 'b', 1)}  {name}: {fields[name]}\n")
    with pytest.raises(UsageError, match=rf"sources.yaml, line 10: source b: {problem}"):
        load_sources(tmp_path / "sources.yaml")
