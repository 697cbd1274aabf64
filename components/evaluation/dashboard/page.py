"""The dashboard: one page over all releases, with trends, for a phone, a desk and paper."""

from collections.abc import Sequence
from dataclasses import dataclass

from components.common.report import Report, Trend
from components.evaluation.dashboard.history import Release
from components.evaluation.dashboard.measures import MEASURES, WORDS
from components.evaluation.evidence import Interval, Metric, with_interval
from components.evaluation.incumbent.look import short
from components.evaluation.ratings.scales import Language


@dataclass(frozen=True)
class Builds:
    """How many trainings gave the same bytes when they were made again: a share, its interval, and of how many."""

    share: float
    interval: Interval
    runs: int


def dashboard(
    releases: Sequence[Release],
    serving: str,
    unknown: str,
    builds: Builds | None,
    language: Language,
) -> Report:
    """Lay out the page.

    Args:
        releases: Every version, in the order of registration.
        serving: `name/version` that serves; '' for none.
        unknown: Why that is not known; '' if it is.
        builds: What rebuilds came to; None if there were none.
        language: Of the page.
    """
    words = WORDS[language]
    if serving:
        state = words["serves"].format(version=short(serving))
    else:
        state = words["unknown"].format(why=unknown) if unknown else words["nothing"]
    names = ", ".join(sorted({release.version.partition("/")[0] for release in releases})) or "–"
    subtitle = words["subtitle"].format(versions=len(releases), names=names, serving=state)
    report = Report(words["title"], subtitle, language)
    if not releases:
        return report.text(words["none"])
    evaluated = [release for release in releases if release.metrics]
    report.heading(words["measured"])
    report.text(words["note"])
    found = [[measure.find(release.metrics) for release in evaluated] for measure in MEASURES]
    trends = [
        _trend(measure.title[language], line, evaluated, serving, language)
        for measure, line in zip(MEASURES, found, strict=True)
    ]
    report.trends([*trends, _rebuilt(builds, language)])
    shown = {metric.name for line in found for metric in line if metric}
    others = sorted({metric.name for release in evaluated for metric in release.metrics} - shown)
    if others:
        report.heading(words["others"])
        report.trends([_trend(name, _named(name, evaluated), evaluated, serving, language) for name in others])
    report.heading(words["versions"])
    for release in reversed(releases):
        report.section(_version(release, language), words["now"] if release.version == serving else "")
    return report


def _named(name: str, releases: Sequence[Release]) -> list[Metric | None]:
    return [next((metric for metric in release.metrics if metric.name == name), None) for release in releases]


def _trend(
    title: str, line: Sequence[Metric | None], releases: Sequence[Release], serving: str, language: Language
) -> Trend:
    words = WORDS[language]
    newest = line[-1] if line else None
    any_of = next((metric for metric in reversed(line) if metric), None)
    notes = []
    if any_of:
        notes = [any_of.unit, words["higher" if any_of.higher_is_better else "lower"]]
    if newest:
        notes.insert(0, words["of"].format(items=f"{newest.n:,}"))
    return Trend(
        title,
        with_interval(newest.value, newest.interval) if newest else words["not"],
        " · ".join(filter(None, notes)),
        [(metric.value, *metric.interval) if metric else None for metric in line],
        next((at for at, release in enumerate(releases) if release.version == serving), -1),
    )


def _rebuilt(builds: Builds | None, language: Language) -> Trend:
    words = WORDS[language]
    if builds is None:
        return Trend(words["rebuilt"], words["not"], "", [])
    value = with_interval(builds.share, builds.interval)
    return Trend(words["rebuilt"], value, words["rebuilds"].format(runs=builds.runs), [])


def _version(release: Release, language: Language) -> Report:
    words = WORDS[language]
    date = release.registered[:10]
    decided = release.decision or words["uncertain"]
    part = Report(short(release.version), f"{date} · {decided}" if date else decided)
    if release.sentence:
        part.text(release.sentence)
    rows = [
        {
            words["metric"]: metric.name,
            words["candidate"]: with_interval(metric.value, metric.interval),
            words["base"]: with_interval(metric.base_value, metric.base_interval)
            if metric.base_value is not None
            else words["not"],
            words["items"]: metric.n,
        }
        for metric in release.metrics
    ]
    return part.table(rows) if rows else part
