"""Reads evaluation sets: questions and answers out of JSON Lines and Parquet, near or in a bucket."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.common.errors import UsageError
from components.common.ledger import file_digest
from components.common.store import open_store
from components.data.decontaminate.options import EvaluationSet

SUFFIXES = (".jsonl", ".ndjson", ".parquet")
OWN = "held-out"
"""What the line's own held-out questions are called."""


@dataclass(frozen=True)
class Item:
    """A question of an evaluation set.

    Attributes:
        question: Its words.
        answers: Each answer that counts as right; empty where the set has none.
        parents: Documents of the corpus that it was made from.
    """

    question: str
    answers: tuple[str, ...] = ()
    parents: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Questions:
    """An evaluation set, read.

    Attributes:
        name: What reports and the card call it.
        sha256: Digest of its files.
        items: Its questions.
    """

    name: str
    sha256: str
    items: Sequence[Item]


def read_set(wanted: EvaluationSet) -> Questions:
    """Read an evaluation set.

    Raises:
        UsageError: A file is missing, cannot be read, or lacks a field; the message names set, file and line.
    """
    where = f"decontaminate.sets: {wanted.name}"
    with _files(wanted.location, where) as files:
        items = [item for file in files for item in _items(file, wanted, f"{where}: {file.name}")]
        digest = hashlib.sha256("".join(file_digest(file) for file in files).encode()).hexdigest()
    if not items:
        raise UsageError(f"{where}: {wanted.location} holds no questions; name the file that has them")
    return Questions(wanted.name, digest, items)


def own_questions(folder: Path) -> Questions:
    """Read the questions that data/curate holds out."""
    wanted = EvaluationSet(name=OWN, location=str(folder))
    files = sorted(folder.glob("part-*.parquet"))
    items = [item for file in files for item in _items(file, wanted, f"{OWN}: {file.name}")]
    return Questions(OWN, hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest(), items)


def read_rows(location: str, where: str) -> tuple[list[tuple[str, Mapping[str, Any]]], str]:
    """Read the records of a set with all of their fields.

    Args:
        location: Its file or folder, near or in a bucket.
        where: What to call the set in messages.

    Returns:
        Each record behind its place (`FILE, line 3`), and a digest of the files.

    Raises:
        UsageError: A file is missing or cannot be read; the message names file and line.
    """
    with _files(location, where) as files:
        rows = [
            (f"{where}: {file.name}, {place}", row)
            for file in files
            for place, row in (_parquet if file.suffix == ".parquet" else _lines)(file, f"{where}: {file.name}")
        ]
        return rows, hashlib.sha256("".join(map(file_digest, files)).encode()).hexdigest()


@contextmanager
def _files(location: str, where: str) -> Iterator[list[Path]]:
    """Bring the files of a set here."""
    if location.startswith("gs://"):
        with TemporaryDirectory() as folder:
            yield _fetch(location, Path(folder), where)
        return
    path = Path(location.removeprefix("file://")).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        if not files:
            raise UsageError(f"{where}: {path} holds no {', '.join(SUFFIXES)}; name the folder that has the questions")
        yield files
        return
    if path.suffix not in SUFFIXES:
        raise UsageError(f"{where}: {path} is none of {', '.join(SUFFIXES)}; convert it")
    if not path.is_file():
        raise UsageError(f"{where}: there is no file {path}; give its whole path")
    yield [path]


def _fetch(location: str, folder: Path, where: str) -> list[Path]:
    root, _, name = location.rstrip("/").rpartition("/")
    if root == "gs:/":
        root, name = location, ""
    store = open_store(root)
    wanted = name if name.endswith(SUFFIXES) else f"{name}/" if name else ""
    keys = [key for key in store.list(wanted) if key.endswith(SUFFIXES)]
    if not keys:
        raise UsageError(f"{where}: {location} holds no {', '.join(SUFFIXES)}; see what the bucket has")
    files = []
    for number, key in enumerate(keys):
        files.append(folder / f"{number:05d}-{key.rpartition('/')[2]}")
        store.download(key, files[-1])
    return files


def _items(file: Path, wanted: EvaluationSet, where: str) -> Iterator[Item]:
    rows = _parquet(file, where) if file.suffix == ".parquet" else _lines(file, where)
    for place, row in rows:
        at = f"{where}, {place}"
        if messages := row.get("messages"):
            yield _dialogue(messages, row, at)
            continue
        question = _texts(row, wanted.question, at, "question")
        if len(question) != 1:
            raise UsageError(f"{at}: {wanted.question} holds {len(question)} texts; a question is one")
        answers = _texts(row, wanted.answer, at, "answer") if wanted.answer else ()
        yield Item(question[0], answers, _parents(row))


def _dialogue(messages: Any, row: Mapping[str, Any], at: str) -> Item:
    """The last question of a dialogue, and what is answered to it."""
    try:
        spoken = [(message["role"], message["content"]) for message in messages]
        *_, question = (content for role, content in spoken if role == "user")
    except (TypeError, KeyError, ValueError) as error:
        raise UsageError(f"{at}: messages has no message with role user and its content") from error
    answers = tuple(content for role, content in spoken[-1:] if role == "assistant")
    return Item(str(question), tuple(map(str, answers)), _parents(row))


def _parents(row: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(map(str, row.get("parents") or ()))


def field_of(row: Mapping[str, Any], field: str, at: str, option: str) -> Any:
    """Look up a field of a record; dots descend.

    Raises:
        UsageError: It has none; the message names those it has and the option that names one.
    """
    value: Any = row
    for name in field.split("."):
        if not isinstance(value, Mapping) or name not in value:
            known = ", ".join(sorted(row)) or "none"
            raise UsageError(f"{at}: has no field {field}; its fields are {known}: name one of them as {option}")
        value = value[name]
    return value


def _texts(row: Mapping[str, Any], field: str, at: str, option: str) -> tuple[str, ...]:
    """Look up a field; a list holds several texts, a number is written out."""
    value = field_of(row, field, at, option)
    values = value if isinstance(value, list) else [value]
    if bad := [one for one in values if isinstance(one, bool) or not isinstance(one, str | int | float)]:
        raise UsageError(f"{at}: {field} holds {type(bad[0]).__name__}, not text")
    return tuple(map(str, values))


def _lines(file: Path, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig"))
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{where}, line {number}: is not JSON in UTF-8; correct the line") from error
                if not isinstance(row, dict):
                    raise UsageError(f"{where}, line {number}: is {type(row).__name__}, not an object with fields")
                yield f"line {number}", row
    except OSError as error:
        raise UsageError(f"{where}: cannot be read ({error.strerror})") from error


def _parquet(file: Path, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_size=1_000):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        after = f" after row {number}" if number else ""
        raise UsageError(f"{where}: is not readable Parquet{after}; write it again") from error
