"""What the step found, counted as it goes and shown in its report and on the data card."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from components.common.report import Report
from components.data.decontaminate.items import Questions
from components.data.decontaminate.kernel import GAP
from components.data.decontaminate.options import Decontaminate
from components.data.decontaminate.patterns import PAIR_WORDS, WAYS, Contaminated, Hits, Patterns
from components.data.excerpt import COLUMNS, may_quote

EXAMPLES = 4
_SHOWN = 200


class Findings:
    """Counts and examples; its size depends on the evaluation sets, not on the number of documents.

    Args:
        sets: The sets.
        patterns: What is looked for.
        options: How.
    """

    def __init__(self, sets: Sequence[Questions], patterns: Patterns, options: Decontaminate) -> None:
        self.dropped: Counter[Contaminated] = Counter()
        self._sets, self._patterns, self._options = sets, patterns, options
        self._found = np.zeros(len(patterns.items), bool)
        self._dropped_by: Counter[int] = Counter()
        self._cut_by: Counter[int] = Counter()
        self._cut = self._passages = 0
        self._examples: dict[str, list[dict[str, Any]]] = {}
        self._counts = np.zeros(0, np.int64)
        self._common: dict[int, str] = {}
        self._phrases = 0

    def saw_common(self, documents_with: np.ndarray, common: np.ndarray) -> None:
        """Note which runs are common phrases, and how many documents have each."""
        self._counts = documents_with
        self._phrases = int(common.sum())
        runs = np.flatnonzero(common)
        self._common = dict.fromkeys(map(int, runs[np.argsort(-documents_with[runs], kind="stable")][:10]), "")

    def saw_phrases(self, table: pa.Table, hits: Hits) -> None:
        """Note the words of common phrases where they may be quoted."""
        if not any(words == "" for words in self._common.values()):
            return
        for at in np.flatnonzero(np.isin(hits.runs, list(self._common))):
            run = int(hits.runs[at])
            if not self._common[run]:
                self._common[run] = _quote(table, int(hits.rows[at]), int(hits.first[at]), int(hits.end[at]))

    def saw(
        self,
        table: pa.Table,
        row: int,
        found: Hits,
        spans: Sequence[tuple[int, int]],
        reason: Contaminated | None,
    ) -> None:
        """Note what was found in a document, and why it went (None where it stays without its passages)."""
        items = np.unique(np.concatenate([self._patterns.items_of(run) for run in found.runs]))
        self._found[items] = True
        sets = [int(number) for number in np.unique(self._patterns.set_of[items])]
        if reason is None:
            self._cut += 1
            self._passages += len(spans)
            self._cut_by.update(sets)
        else:
            self.dropped[reason] += 1
            self._dropped_by.update(sets)
        way = WAYS[min(self._patterns.ways[found.runs])]
        examples = self._examples.setdefault(f"{reason}", [])
        if len(examples) < EXAMPLES:
            at = int(np.argmin(self._patterns.ways[found.runs]))
            examples.append(
                {
                    "what went": reason.value if reason else "passages",
                    "found by": way.value,
                    "sets": ", ".join(self._sets[number].name for number in sets),
                    "passages": len(spans),
                    "document": table["url"][row].as_py(),
                    "words": _quote(table, row, int(found.first[at]), int(found.end[at])),
                }
            )

    def summary(self) -> dict[str, Any]:
        """What the card says."""
        return {
            "ngram": self._options.ngram,
            "removed": self._options.remove,
            "documents_dropped": self.dropped.total(),
            "documents_cut": self._cut,
            "passages": self._passages,
            "common_phrases": self._phrases,
            "sets": [
                {"name": one.name, "sha256": one.sha256, **self._of(number)} for number, one in enumerate(self._sets)
            ],
        }

    def metrics(self) -> dict[str, float]:
        """Numbers worth plotting over runs."""
        return {
            "items": len(self._patterns.items),
            "items_found": int(self._found.sum()),
            "items_too_short": int((~self._patterns.sought).sum()),
            "passages": self._passages,
            "documents_cut": self._cut,
            "common_phrases": self._phrases,
        }

    def report(self, total: int, kept: int) -> Report:
        """Show it."""
        changed = self.dropped.total() + self._cut
        report = Report("Decontaminate", f"{changed:,} of {total:,} documents had words of evaluation sets.")
        report.metrics({"documents": total, "kept": kept, "without passages": self._cut, **self.metrics()})
        if not self._sets:
            return report.text("The recipe names no evaluation set (data.decontaminate.sets): nothing was looked for.")
        o = self._options
        report.text(
            f"Looked for: a question of at least {PAIR_WORDS} words and, at most {GAP} words later, its answer; "
            f"{o.ngram} words in a row of a question or an answer; a shorter question of at least {o.min_words} words. "
            "Two Chinese, Japanese or Korean characters are a word. Of questions that were made from documents of the "
            "corpus only the first, and never in the documents that they were made from."
        )
        report.table([{"set": one.name, **self._of(number)} for number, one in enumerate(self._sets)], "Sets")
        if self.dropped:
            ordered = sorted(self.dropped.items(), key=lambda entry: (-entry[1], entry[0]))
            report.bars({f"{reason.value}: {reason.sentence}": count for reason, count in ordered}, "Documents dropped")
        examples = [one for _, some in sorted(self._examples.items()) for one in some]
        if examples:
            report.table(examples, "Examples", len(examples))
        if self._common:
            report.table(
                [
                    {"documents": int(self._counts[run]), "words": words or "(not shown)"}
                    for run, words in self._common.items()
                ],
                f"Common phrases that stay: {self._phrases:,} runs of words in more than {o.max_documents} documents, "
                "the most frequent",
            )
        return report

    def _of(self, number: int) -> dict[str, int]:
        mine = self._patterns.set_of == number
        return {
            "items": int(mine.sum()),
            "found": int(self._found[mine].sum()),
            "too_short": int((~self._patterns.sought[mine]).sum()),
            "documents_dropped": self._dropped_by[number],
            "documents_cut": self._cut_by[number],
        }


def _quote(table: pa.Table, row: int, first: int, end: int) -> str:
    """Show words of a document, if they may be quoted."""
    document = {name: table[name][row].as_py() for name in COLUMNS}
    if not may_quote(document):
        return "(not shown)"
    words = " ".join(document["text"].encode()[first:end].decode().split())
    return words if len(words) <= _SHOWN else f"{words[:_SHOWN]}…"
