"""What the step found, counted as it goes and shown in its report."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.common.report import Report
from components.data.excerpt import COLUMNS, excerpt, may_quote
from components.data.filter.boilerplate import Cleaned
from components.data.filter.measure import Floats
from components.data.filter.rules import Poor, Verdict

EXAMPLES = 3
BINS = 10
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
"""Quantiles of perplexity in the report."""


class Findings:
    """Counts and examples; its size does not depend on the number of documents."""

    def __init__(self) -> None:
        self.dropped: Counter[Poor] = Counter()
        self._rules: dict[Poor, tuple[str, str]] = {}
        self._examples: dict[Poor, list[dict[str, Any]]] = {}
        self._lines: Counter[str] = Counter()
        self._cleaned: Counter[str] = Counter()
        self._line_examples: dict[str, str] = {}
        self._changed = 0
        self._languages: Counter[str] = Counter()
        self._identified: Counter[str] = Counter()
        self._confidence: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()
        self._scores: dict[str, NDArray[np.int64]] = {}
        self._perplexity: dict[str, Counter[int]] = {}

    def saw_boilerplate(self, table: pa.Table, row: int, cleaned: Cleaned) -> None:
        """Note the lines removed from a document."""
        self._changed += 1
        self._lines.update(cleaned.removed)
        self._cleaned.update(cleaned.removed.keys())
        if new := cleaned.examples.keys() - self._line_examples.keys():
            document = {name: table[name][row].as_py() for name in COLUMNS}
            if may_quote(document):
                self._line_examples |= {section: cleaned.examples[section] for section in new}

    def saw_languages(self, languages: list[str], confidence: Floats) -> None:
        """Note what languages documents are in, and how sure that is (NaN where it was declared)."""
        for language, probability in zip(languages, confidence, strict=True):
            self._languages[language] += 1
            if not np.isnan(probability):
                self._identified[language] += 1
                self._confidence[language] += probability

    def kept_languages(self, languages: NDArray[Any]) -> None:
        """Note the languages of documents that stay."""
        self._kept.update(languages)

    def saw_perplexity(self, languages: list[str], perplexity: Floats) -> None:
        """Note perplexities by language, to a quarter of a power of two."""
        for language, value in zip(languages, perplexity, strict=True):
            if not np.isnan(value):
                self._perplexity.setdefault(language, Counter())[int(np.ceil(4 * np.log2(max(value, 1))))] += 1

    def saw_verdict(self, table: pa.Table, failing: NDArray[np.bool_], verdict: Verdict) -> None:
        """Note what a rule drops first."""
        rule = verdict.rule
        self._rules[rule] = (", ".join(verdict.kinds) or "all", verdict.threshold)
        rows = np.flatnonzero(failing)
        if not len(rows):
            return
        self.dropped[rule] += len(rows)
        examples = self._examples.setdefault(rule, [])
        for row in rows[: EXAMPLES - len(examples)]:
            shown = {name: table[name][int(row)].as_py() for name in ("url", "kind", *COLUMNS)}
            value = verdict.values[row]
            examples.append(
                {
                    "rule": rule.value,
                    "document": shown["url"],
                    "kind": shown["kind"],
                    "value": value if isinstance(value, str) else round(float(value), 3),
                    "threshold": verdict.threshold,
                    "begins": excerpt(shown),
                }
            )

    def saw_scores(
        self, table: pa.Table, kinds: NDArray[Any], keep: NDArray[np.bool_], scores: Floats, least: float
    ) -> NDArray[np.bool_]:
        """Note the scores of the documents that all rules let pass; returns which of them are under the least."""
        failing = keep & (scores < least)
        self.saw_verdict(table, failing, Verdict(Poor.LOW_QUALITY, (), failing, scores, f"≥ {least:g}"))
        bins = np.minimum((scores * BINS).astype(int), BINS - 1)
        for kind in np.unique(kinds[keep]):
            counts = np.bincount(bins[keep & (kinds == kind)], minlength=BINS)
            self._scores[kind] = self._scores.get(kind, np.zeros(BINS, np.int64)) + counts
        return failing

    def metrics(self) -> dict[str, float]:
        """Numbers worth plotting over runs."""
        return {
            **{f"language_{language}": count for language, count in sorted(self._kept.items())},
            "boilerplate_lines": self._lines.total(),
            "boilerplate_documents": self._changed,
        }

    def report(self, total: int, kept: int) -> Report:
        """Show it."""
        report = Report("Filter", f"{kept:,} of {total:,} documents are good enough.")
        report.metrics(
            {
                "documents": total,
                "kept": kept,
                "dropped": total - kept,
                "languages": len(self._kept),
                "lines of boilerplate": self._lines.total(),
            }
        )
        if self.dropped:
            ordered = sorted(self.dropped.items(), key=lambda entry: (-entry[1], entry[0]))
            report.bars({f"{rule.value}: {rule.sentence}": count for rule, count in ordered}, "Dropped, by rule")
            report.table(
                [example for rule in Poor for example in self._examples.get(rule, [])], "Examples", len(Poor) * EXAMPLES
            )
        report.table(
            [
                {"rule": rule.value, "judges": kinds, "must be": threshold, "dropped": self.dropped[rule]}
                for rule, (kinds, threshold) in self._rules.items()
            ],
            "Rules, in the order in which they give the reason",
        )
        self._report_boilerplate(report)
        self._report_languages(report)
        self._report_perplexity(report)
        if self._scores:
            report.table(
                [
                    {"quality": f"{step / BINS:.1f} to {(step + 1) / BINS:.1f}"}
                    | {kind: int(counts[step]) for kind, counts in sorted(self._scores.items())}
                    for step in range(BINS)
                ],
                "Documents that all rules let pass, by quality",
            )
        return report

    def _report_boilerplate(self, report: Report) -> None:
        if self._lines:
            report.table(
                [
                    {
                        "lines": section,
                        "removed": count,
                        "documents": self._cleaned[section],
                        "for example": self._line_examples.get(section, "(not shown)"),
                    }
                    for section, count in sorted(self._lines.items(), key=lambda entry: (-entry[1], entry[0]))
                ],
                f"Boilerplate: {self._lines.total():,} lines in {self._changed:,} documents, "
                f"{self.dropped[Poor.BOILERPLATE]:,} documents that were little else",
            )

    def _report_languages(self, report: Report) -> None:
        if self._languages:
            report.table(
                [
                    {
                        "language": language,
                        "documents": count,
                        "kept": self._kept[language],
                        "dropped by any rule": round(1 - self._kept[language] / count, 3),
                        "identified": self._identified[language],
                        "mean confidence": round(self._confidence[language] / self._identified[language], 3)
                        if self._identified[language]
                        else "",
                    }
                    for language, count in sorted(self._languages.items(), key=lambda entry: (-entry[1], entry[0]))
                ],
                "Languages",
            )

    def _report_perplexity(self, report: Report) -> None:
        if self._perplexity:
            report.table(
                [
                    {"language": language, "documents": counts.total()}
                    | {f"{share:.0%} up to": _quantile(counts, share) for share in SHARES}
                    for language, counts in sorted(self._perplexity.items(), key=lambda item: -item[1].total())
                ],
                "Perplexity of a word, by language, to a fifth; perplexity.above should lie beyond what is good",
            )


def _quantile(quarters: Counter[int], share: float) -> float:
    """The bound that a share of the documents stay under, from counts by quarters of powers of two."""
    seen = 0
    for quarter, count in sorted(quarters.items()):
        seen += count
        if seen >= share * quarters.total():
            return float(f"{2 ** (quarter / 4):.3g}")
    return 0.0
