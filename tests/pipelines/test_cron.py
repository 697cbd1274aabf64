"""Cron expressions: read as Kubeflow reads them, refused with the fix."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.environment import load_environment
from components.common.errors import UsageError
from pipelines.cron import Cron

NOW = datetime(2026, 11, 25, 20, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expression", "language", "preview"),
    [
        (
            "0 0 3 * * 1",
            "C.UTF-8",
            "At 03:00, only on Monday (UTC); next: Mon 2026-11-30 03:00, Mon 2026-12-07 03:00, Mon 2026-12-14 03:00",
        ),
        (
            "0  */10 * * * *",
            "C.UTF-8",
            "Every 10 minutes (UTC); next: Wed 2026-11-25 20:10, Wed 2026-11-25 20:20, Wed 2026-11-25 20:30",
        ),
        (
            "0 0 3 1 * ?",
            "ko_KR.UTF-8",
            "03:00, 매월 1일 (UTC); 다음: Tue 2026-12-01 03:00, Fri 2027-01-01 03:00, Mon 2027-02-01 03:00",
        ),
        (
            "0 30 9-17/4 * JAN,jul mon-FRI",
            "",
            "At 30 minutes past the hour, every 4 hours, between 09:00 and 17:59, Monday through Friday, only in "
            "January and July (UTC); next: Fri 2027-01-01 09:30, Fri 2027-01-01 13:30, Fri 2027-01-01 17:30",
        ),
    ],
)
def test_a_person_sees_when(expression: str, language: str, preview: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", language)
    assert Cron(expression, "here").preview(NOW) == preview


@pytest.mark.parametrize(
    ("expression", "fix"),
    [
        ("0 3 * * 1", "it has five fields and Kubeflow reads seconds first; write '0 0 3 * * 1'"),
        ("@daily", "six fields are needed"),
        ("* 0 3 * * 1", "60 times a minute; write 0 for the seconds"),
        ("0 0 3 31 2 *", "no such day exists"),
        ("0 0 3 30 FEB *", "no such day exists"),
        ("0 0 24 * * *", "hour: 24 is not from 0 to 23"),
        ("0 0 3 * * 7", "weekday: 7 is not from 0 to 6; Sunday is 0"),
        ("0 0 3 0 * *", "day of the month: 0 is not from 1 to 31"),
        ("0 0 3 1 * 1", "mean either of them; write * for one"),
        ("0 0 3 L * *", "'L' is no number from 1 to 31"),
        ("0 0 3 * * MONDAY", "or SUN, MON"),
        ("0 50-10 3 * * *", "runs backwards; write 50-59,0-10"),
        ("0 */0 3 * * *", "a step of 0 leads nowhere"),
        ("0 1-2-3 * * * *", "is not of the form"),
        ("0 *-5 * * * *", "is no range; write 0-5"),
        ("0 ² * * * *", "minute: '²' is no number"),
    ],
)
def test_what_kubeflow_would_misread_is_refused_with_the_fix(expression: str, fix: str) -> None:
    with pytest.raises(UsageError) as raised:
        Cron(expression, "environment dev: schedules: nightly")
    assert str(raised.value).startswith("environment dev: schedules: nightly: cron ")
    assert fix in str(raised.value)


def test_a_leap_day_is_a_day() -> None:
    assert Cron("0 0 0 29 2 *", "here").next(NOW, 1) == [datetime(2028, 2, 29, tzinfo=UTC)]


fields = st.tuples(*(st.integers(low, high) for low, high in ((0, 59), (0, 59), (0, 23), (1, 28), (1, 12))))


@given(fields, st.integers(1, 30))
def test_the_times_are_those_of_the_fields(numbers: tuple[int, ...], step: int) -> None:
    second, minute, hour, day, month = numbers
    for time in Cron(f"{second} {minute}/{step} {hour} {day} {month} *", "here").next(NOW, 5):
        assert (time.second, time.hour, time.day, time.month) == (second, hour, day, month)
        assert time.minute >= minute
        assert (time.minute - minute) % step == 0
        assert time > NOW


@given(st.lists(st.text("0123456789*?/-,LWMON# ", max_size=6), min_size=5, max_size=7))
def test_any_text_is_read_or_refused(parts: list[str]) -> None:
    try:
        cron = Cron(" ".join(parts), "here")
    except UsageError:
        return
    assert cron.next(NOW, 1)


def test_the_schedules_of_the_project_hold() -> None:
    for name in ("dev", "staging", "prod"):
        for schedule in load_environment(name).schedules:
            assert Cron(schedule.cron, name).next(NOW, 1)
