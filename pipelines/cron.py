"""Cron expressions as Kubeflow Pipelines reads them: six fields, seconds first, in UTC."""

import os
import re
from datetime import UTC, datetime
from itertools import islice

from cron_descriptor import ExpressionDescriptor, Options
from cronsim import CronSim, CronSimError

from components.common.errors import UsageError

_FIELDS = ("second", "minute", "hour", "day of the month", "month", "weekday")
_RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_NAMES = {
    "month": {name: number for number, name in enumerate(_MONTHS, 1)},
    "weekday": {name: number for number, name in enumerate(_WEEKDAYS)},
}
_TERM = re.compile(r"(?P<first>\*|\?|\w+)(?:-(?P<last>\w+))?(?:/(?P<step>\d+))?")


class Cron:
    """A checked expression.

    Args:
        expression: What is written in the environment.
        where: What to call its origin in messages.

    Raises:
        UsageError: Kubeflow would refuse it, read it as something else than it looks like, or never start a run.
    """

    def __init__(self, expression: str, where: str) -> None:
        self.expression = " ".join(expression.split())
        self._where = where
        fields = self.expression.split()
        if len(fields) == 5:
            raise self._wrong(f"it has five fields and Kubeflow reads seconds first; write '0 {self.expression}'")
        if len(fields) != 6:
            raise self._wrong(f"six fields are needed ({', '.join(_FIELDS)}), and there are {len(fields)}")
        values = [self._values(number, text) for number, text in enumerate(fields)]
        if len(values[0]) > 1:
            raise self._wrong(f"it would start a run {len(values[0])} times a minute; write 0 for the seconds")
        if len(values[3]) < 31 and len(values[5]) < 7:
            raise self._wrong("a day of the month and a weekday together mean either of them; write * for one")
        plain = [
            "*" if len(found) == high - low + 1 else ",".join(map(str, found))
            for found, (low, high) in zip(values, _RANGES, strict=True)
        ]
        self._plain = " ".join(plain)
        if not self.next(datetime(2000, 1, 1, tzinfo=UTC), 1):
            raise self._wrong("no such day exists, so it would never start a run; correct the day or the month")

    def next(self, after: datetime, count: int) -> list[datetime]:
        """The times that follow."""
        try:
            return list(islice(CronSim(self._plain, after), count))
        except CronSimError:
            return []

    def preview(self, after: datetime) -> str:
        """Say in plain words when it starts a run, with the next three times; in Korean where the terminal is."""
        korean = (os.environ.get("LC_ALL") or os.environ.get("LANG") or "").startswith("ko")
        options = Options()
        options.locale_code = "ko_KR" if korean else "en_US"
        options.use_24hour_time_format = True
        words = ExpressionDescriptor(self.expression, options).get_description()
        times = ", ".join(f"{time:%a %Y-%m-%d %H:%M}" for time in self.next(after, 3))
        return f"{words} (UTC); {'다음' if korean else 'next'}: {times}"

    def _values(self, number: int, text: str) -> list[int]:
        name, (low, high) = _FIELDS[number], _RANGES[number]
        found: set[int] = set()
        for term in text.split(","):
            match = _TERM.fullmatch(term)
            if not match:
                raise self._wrong(f"{name}: {term!r} is not of the form *, 5, 1-5, */10 or 5/10")
            first, last, step = match["first"], match["last"], int(match["step"] or 1)
            if step == 0:
                raise self._wrong(f"{name}: a step of 0 leads nowhere; write {first}")
            if first in ("*", "?"):
                if last:
                    raise self._wrong(f"{name}: {term!r} is no range; write {low}-{last}")
                start, end = low, high
            else:
                start = self._number(number, first)
                end = self._number(number, last) if last else (high if match["step"] else start)
            if start > end:
                raise self._wrong(f"{name}: {term!r} runs backwards; write {start}-{high},{low}-{end}")
            found.update(range(start, end + 1, step))
        return sorted(found)

    def _number(self, number: int, text: str) -> int:
        name, (low, high) = _FIELDS[number], _RANGES[number]
        value = _NAMES.get(name, {}).get(text.upper(), int(text) if text.isascii() and text.isdigit() else None)
        if value is None:
            names = f" or {', '.join(_NAMES[name])}" if name in _NAMES else ""
            raise self._wrong(f"{name}: {text!r} is no number from {low} to {high}{names}")
        if not low <= value <= high:
            hint = "; Sunday is 0" if name == "weekday" and value == 7 else ""
            raise self._wrong(f"{name}: {value} is not from {low} to {high}{hint}")
        return value

    def _wrong(self, problem: str) -> UsageError:
        return UsageError(f"{self._where}: cron {self.expression!r}: {problem}")
