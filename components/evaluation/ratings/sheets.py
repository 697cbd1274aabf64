"""What a rater has rated, as CSV: written after every answer, filled in a spreadsheet, and checked line by line."""

import csv
import fcntl
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.common.errors import UsageError
from components.evaluation.ratings.scales import HIGHEST, LOWEST, NAMES
from components.evaluation.ratings.study import RATED, Study

Ratings = dict[str, dict[str, int]]
"""Value by answer and scale, in the order in which answers were rated."""

HEADER = ("answer", *NAMES)
_SHOWN = ("question", "text")
"""Columns that a sheet for a spreadsheet has beside; they are read by people only."""


def path_of(folder: Path, rater: str) -> Path:
    """Where the ratings of a rater are."""
    return folder / RATED / f"{rater}.csv"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the ratings of a study to one process, so that none overwrites what another took.

    Raises:
        UsageError: Another process has them.
    """
    with (folder / RATED / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{folder} is being served or changed; stop that first") from error
        yield


def write(path: Path, ratings: Mapping[str, Mapping[str, int]]) -> None:
    """Write ratings so that a reader, or a crash, meets the old file or the new one."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    for answer, values in ratings.items():
        rows.writerow([answer, *(values.get(name, "") for name in NAMES)])
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="") as file:
        file.write(text.getvalue())
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def blank(study: Study, rater: str) -> str:
    """Return a sheet to be filled in with a spreadsheet: a rater's answers in their order, with empty scales.

    Text that a spreadsheet would take for a formula is given an apostrophe.
    """
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["answer", *_SHOWN, *NAMES])
    for name in study.orders[rater]:
        shown = study.answers[name]
        rows.writerow([name, _harmless(shown.question), _harmless(shown.answer), *("" for _ in NAMES)])
    return text.getvalue()


def read(path: Path, study: Study, rater: str, *, whole: bool = True) -> Ratings:
    """Read and check the ratings of a rater.

    Args:
        path: A CSV file with the columns of `HEADER`; those of a blank sheet may stand between them.
        study: What was to be rated.
        rater: By whom.
        whole: Whether every answer must be rated on every scale.

    Raises:
        UsageError: Something is missing, unknown, twice there or out of range; names line and column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}: line {line}: not UTF-8; save it as CSV UTF-8") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    found: Ratings = {}
    try:
        columns = _columns(path, next(rows, []))
        for row in rows:
            if any(cell.strip() for cell in row):
                _read_row(path, rows.line_num, row, columns, study, rater, found, whole)
    except csv.Error as error:
        raise UsageError(f"{path}: line {rows.line_num}: {error}; save it as CSV again") from error
    missing = [name for name in study.orders[rater] if name not in found]
    if whole and missing:
        raise UsageError(
            f"{path}: line {rows.line_num + 1}: {len(missing)} answers of {rater} are missing, first {missing[0]}"
        )
    return found


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    names = [cell.strip().lower() for cell in header]
    lacking = [name for name in HEADER if name not in names]
    if lacking:
        raise UsageError(f"{path}: line 1: the column {lacking[0]} is missing; the columns are {', '.join(HEADER)}")
    for number, name in enumerate(names):
        if name not in (*HEADER, *_SHOWN):
            raise UsageError(f"{path}: line 1, column {number + 1}: {header[number]!r} is no column of a rating sheet")
        if name in names[:number]:
            raise UsageError(f"{path}: line 1, column {number + 1}: {name} is there twice")
    return {name: names.index(name) for name in HEADER}


def _read_row(
    path: Path,
    line: int,
    row: list[str],
    columns: dict[str, int],
    study: Study,
    rater: str,
    found: Ratings,
    whole: bool,
) -> None:
    def cell(column: str) -> str:
        return row[columns[column]].strip() if columns[column] < len(row) else ""

    def refuse(column: str, problem: str) -> UsageError:
        return UsageError(f"{path}: line {line}, column {columns[column] + 1} ({column}): {problem}")

    name = cell("answer")
    if name not in study.orders[rater]:
        raise refuse("answer", f"{name!r} is no answer that {rater} was to rate")
    if name in found:
        raise refuse("answer", f"{name} is there twice")
    values = {}
    for scale in NAMES:
        value = cell(scale)
        if not value and not whole:
            continue
        if value not in map(str, range(LOWEST, HIGHEST + 1)):
            raise refuse(scale, f"{value!r} is no whole number from {LOWEST} to {HIGHEST}")
        values[scale] = int(value)
    found[name] = values


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
