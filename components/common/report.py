"""Reports people would rather look at than read: one self-contained, deterministic HTML page.

A report is a list of blocks (tiles, text, tables, bars, figures). Text stays text, so Korean renders with the reader's
fonts; nothing is loaded from elsewhere; everything that came from documents is escaped.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import matplotlib
from cycler import cycler
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

matplotlib.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "headrace",
        "font.family": "sans-serif",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "axes.prop_cycle": cycler(color=["#1f6f8b", "#e07a3f", "#5b8c5a", "#8c5b87", "#b0a030"]),
    }
)

_DOT = 'r="1.9" fill="#1f6f8b"'

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True)
class Trend:
    """A line of a dashboard: a value now, and how it came to be.

    Attributes:
        title: What is measured.
        value: The value now, in words.
        note: What belongs to it: unit, how many items, which way is good.
        points: Value and the ends of its interval over time; None where it was not measured.
        marked: Number of a point that is marked; -1 for none.
    """

    title: str
    value: str
    note: str
    points: Sequence[tuple[float, float, float] | None]
    marked: int = -1


class Report:
    """A page under construction; every method appends a block and returns the report.

    Args:
        title: What the page is about.
        subtitle: One sentence with the outcome.
        language: Language of the page, BCP-47.
    """

    def __init__(self, title: str, subtitle: str = "", language: str = "en") -> None:
        self.title = title
        self.subtitle = subtitle
        self.language = language
        self._blocks: list[Markup] = []

    def text(self, text: str) -> Self:
        """Add paragraphs; a blank line separates them."""
        return self._add("text", paragraphs=text.strip().split("\n\n"))

    def heading(self, text: str) -> Self:
        """Begin a section."""
        return self._add("heading", text=text)

    def metrics(self, values: Mapping[str, Any]) -> Self:
        """Add tiles of a label and a value."""
        return self._add("metrics", values={label: display(value) for label, value in values.items()})

    def table(self, rows: Sequence[Mapping[str, Any]], title: str = "", limit: int = 50) -> Self:
        """Add a table, one mapping a row; says so when it shows only the first `limit`."""
        columns = list(dict.fromkeys(name for row in rows for name in row))
        cells = [[display(row.get(name, "")) for name in columns] for row in rows[:limit]]
        shown = {name: [row[name] for row in rows if row.get(name, "") != ""] for name in columns}
        numeric = [all(isinstance(value, int | float) for value in shown[name]) for name in columns]
        hidden = max(0, len(rows) - limit)
        return self._add("table", title=title, columns=columns, rows=cells, numeric=numeric, hidden=hidden)

    def bars(self, values: Mapping[str, float], title: str = "") -> Self:
        """Add horizontal bars, largest value full width."""
        largest = max(values.values(), default=0) or 1
        bars = [(label, display(value), round(100 * value / largest, 2)) for label, value in values.items()]
        return self._add("bars", title=title, bars=bars)

    def trends(self, trends: Sequence[Trend]) -> Self:
        """Add lines of a dashboard, each with a sparkline and the band of its intervals."""
        return self._add("trends", trends=[(trend, _sparkline(trend)) for trend in trends])

    def code(self, text: str, title: str = "") -> Self:
        """Add preformatted text."""
        return self._add("code", title=title, text=text)

    def figure(self, figure: Figure, title: str = "") -> Self:
        """Add a matplotlib figure as SVG."""
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        svg = buffer.getvalue()
        return self._add("figure", title=title, svg=Markup(svg[svg.index("<svg") :]))

    def section(self, other: "Report", note: str = "", folded: bool = True) -> Self:
        """Embed another report as a section that folds."""
        return self._add("section", report=other, body=other.body, note=note, folded=folded)

    @classmethod
    def load(cls, page: str) -> "Report":
        """Read back a page that `html` rendered, to embed it in another.

        Raises:
            ValueError: It is no such page.
        """
        if "<main>" not in page or "</main>" not in page:
            raise ValueError("no page that was rendered from a report")
        main = page.split("<main>", 1)[1].rsplit("</main>", 1)[0]
        title, _, rest = main.partition("</h1>")
        subtitle, _, body = rest.partition("</p>")
        report = cls(Markup(title.split("<h1>", 1)[1]).unescape(), Markup(subtitle.split("<p>", 1)[1]).unescape())
        report._blocks = [Markup(body.strip())]
        return report

    @property
    def body(self) -> Markup:
        """The blocks without the page around them."""
        return Markup("\n").join(self._blocks)

    def html(self) -> str:
        """Render the page."""
        return _TEMPLATES.get_template("page.html.j2").render(report=self)

    def _add(self, block: str, **values: Any) -> Self:
        macro = getattr(_TEMPLATES.get_template("blocks.html.j2").module, block)
        self._blocks.append(Markup(macro(**values)))
        return self


def _sparkline(trend: Trend) -> Markup:
    """Draw points over time with the band of their intervals; gaps stay gaps. Empty for fewer than two points."""
    seen = [point for point in trend.points if point]
    if len(seen) < 2:
        return Markup("")
    low, high = min(point[1] for point in seen), max(point[2] for point in seen)
    width, height, edge = 120, 32, 4
    step = (width - 2 * edge) / (len(trend.points) - 1)

    def place(at: int, value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.5
        return f"{edge + at * step:.1f},{height - edge - share * (height - 2 * edge):.1f}"

    drawn = []
    for part in _unbroken(trend.points):
        band = [place(at, point[2]) for at, point in part] + [place(at, point[1]) for at, point in reversed(part)]
        drawn.append(f'<polygon points="{" ".join(band)}" fill="#1f6f8b" opacity=".18"/>')
        line = " ".join(place(at, point[0]) for at, point in part)
        drawn.append(f'<polyline points="{line}" fill="none" stroke="#1f6f8b" stroke-width="1.8"/>')
    for at, point in enumerate(trend.points):
        if point:
            x, y = place(at, point[0]).split(",")
            look = 'r="3.4" fill="#fff" stroke="#1f6f8b" stroke-width="1.8"' if at == trend.marked else _DOT
            drawn.append(f'<circle cx="{x}" cy="{y}" {look}/>')
    said = " → ".join(display(point[0]) if point else "–" for point in trend.points)
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{said}">'
        f"{''.join(drawn)}</svg>"
    )


def _unbroken(
    points: Sequence[tuple[float, float, float] | None],
) -> list[list[tuple[int, tuple[float, float, float]]]]:
    """Split points where some are missing; each with its number."""
    parts: list[list[tuple[int, tuple[float, float, float]]]] = [[]]
    for at, point in enumerate(points):
        if point:
            parts[-1].append((at, point))
        elif parts[-1]:
            parts.append([])
    return [part for part in parts if len(part) > 1]


def display(value: Any) -> str:
    """Write a value the way a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return f"{int(value):,}"
        return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)
