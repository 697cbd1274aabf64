"""Reports: self-contained, the same bytes each time, and safe with what documents hold."""

import re

from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from components.common.report import Report, display


def sample() -> Report:
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([3, 2, 1])
    report = Report("Dedup <1>", "둘 중 하나").metrics({"kept": 1234, "share": 0.25}).bars({"near": 3, "exact": 1})
    return report.table([{"text": "<script>alert(1)</script>", "n": 1}], "Examples").figure(figure).code("a: <b>")


def test_the_same_report_has_the_same_bytes() -> None:
    assert sample().html() == sample().html()


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = sample().html()
    assert not re.search(r'(src|href)="(?!#)', re.sub(r'xmlns(:\w+)?="[^"]*"|xlink:href="#[^"]*"', "", page))


def test_documents_cannot_inject_markup() -> None:
    page = sample().html()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_report_can_be_read_back_and_embedded() -> None:
    back = Report.load(sample().html())
    assert (back.title, back.subtitle) == ("Dedup <1>", "둘 중 하나")
    whole = Report("Run").section(back, "3 s").html()
    assert "Dedup &lt;1&gt;" in whole
    assert whole.count("<svg") == 1


def test_long_tables_say_what_they_hide() -> None:
    assert "… and 5 more" in Report("t").table([{"n": n} for n in range(15)], limit=10).html()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_survives(text: str) -> None:
    back = Report.load(Report(text, text).text("body").html())
    assert back.title == text
    assert back.subtitle == text


def test_numbers_read_like_numbers() -> None:
    shown = [display(value) for value in (1234567, 0.123456, 12.5, 3.0, True, "x")]
    assert shown == ["1,234,567", "0.123", "12.5", "3", "yes", "x"]
