"""Drops documents of poor quality or in other languages; every rule has a name, a threshold and a source."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.common.documents import SCHEMA, DocumentWriter, count_documents, read_batches
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.excerpt import COLUMNS, excerpt
from components.data.filter.language import NO_LANGUAGE, UNDETERMINED, Identifier, primary
from components.data.filter.measure import Measures, measure
from components.data.filter.options import Filter
from components.data.reasons import Reason

ROWS = 1_000
EXAMPLES = 3
_PROSE = ("prose", "dialogue", "ticket")


class Poor(Reason):
    """Why a document is not good enough."""

    TOO_SHORT = "too_short", "Fewer visible characters than min_characters."
    TOO_LONG = "too_long", "More visible characters than max_characters."
    LANGUAGE = "language", "In none of the languages to keep."
    FEW_LETTERS = "few_letters", "Too few letters for prose (after Gopher's share of words with a letter)."
    DIGITS = "digits", "Too many digits for prose."
    SYMBOLS = "symbols", "Too many # and … per word (Gopher)."
    REPEATED_LINES = "repeated_lines", "Too many lines repeat an earlier one (Gopher)."
    REPEATED_CHARACTERS = "repeated_characters", "Too much text in lines that repeat an earlier one (Gopher)."
    REPEATED_WORDS = "repeated_words", "One pair of words makes up too much of the text (Gopher)."
    LONG_LINES = "long_lines", "Code with a very long line: generated or packed (Codex)."
    LONG_MEAN_LINE = "long_mean_line", "Code with long lines on average: generated or data (Codex)."
    CODE_SYMBOLS = "code_symbols", "Code with few letters and digits: data or art (Codex)."


def run(documents: Path, kept: Path, options: Filter, context: Context) -> Outcome:
    """Keep documents that pass every rule for their kind, with their language identified.

    Args:
        documents: Masked documents.
        kept: Folder for the documents kept.
        options: Thresholds.
        context: Where the run takes place.

    Returns:
        What was dropped, by the first rule that failed.
    """
    total = count_documents(documents)
    identifier = Identifier([*options.candidates, *options.languages], options.min_confidence)
    dropped: Counter[Poor] = Counter()
    languages: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    done = 0
    with DocumentWriter(kept) as writer:
        for batch in read_batches(documents, rows=ROWS):
            found = identify(batch, identifier)
            table = pa.Table.from_batches([batch])
            index = table.schema.get_field_index("language")
            table = table.set_column(index, SCHEMA.field("language"), pa.array(found, pa.string()))
            keep = np.ones(len(found), bool)
            for rule, failing, values, threshold in judge(
                table, measure(batch["text"], _of_kind(table, *_PROSE)), options
            ):
                first = keep & failing
                for row in np.flatnonzero(first)[: EXAMPLES - sum(entry["rule"] == rule.value for entry in examples)]:
                    examples.append(_example(table, int(row), rule, values[row], threshold))
                dropped[rule] += int(first.sum())
                keep &= ~failing
            languages.update(language for language, kept_ in zip(found, keep, strict=True) if kept_)
            writer.write(table.filter(pa.array(keep)))
            done += len(found)
            context.progress(done, total, f"{writer.rows:,} kept")
    dropped = +dropped
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        dropped={rule.value: count for rule, count in sorted(dropped.items())},
        metrics={f"language_{language}": count for language, count in sorted(languages.items())},
        report=_report(total, writer.rows, dropped, languages, examples),
    )


def identify(batch: pa.RecordBatch, identifier: Identifier) -> list[str]:
    """Name each document's language: as declared, `zxx` for code, else by identification."""
    return [
        declared if declared != UNDETERMINED else NO_LANGUAGE if kind == "code" else identifier.identify(text)
        for text, kind, declared in zip(
            *(batch[name].to_pylist() for name in ("text", "kind", "language")), strict=True
        )
    ]


def judge(
    table: pa.Table, measures: Measures, options: Filter
) -> Iterator[tuple[Poor, NDArray[np.bool_], Any, float | str]]:
    """Apply every rule to a batch.

    Args:
        table: Documents with their language.
        measures: Measures of their texts.
        options: Thresholds.

    Yields:
        A rule, which documents fail it, the values it looked at, and its threshold.
    """
    languages = np.array(table["language"].to_pylist(), dtype=object)
    prose, code = _of_kind(table, *_PROSE), _of_kind(table, "code")
    wanted = [*(primary(tag) for tag in options.languages), UNDETERMINED, NO_LANGUAGE]
    foreign = ~np.isin(np.array([primary(tag) for tag in languages], dtype=object), wanted)
    m, o = measures, options
    yield Poor.TOO_SHORT, m.characters < o.min_characters, m.characters, o.min_characters
    yield Poor.TOO_LONG, m.characters > o.max_characters, m.characters, o.max_characters
    yield Poor.LANGUAGE, foreign & ~code, languages, ", ".join(o.languages)
    yield Poor.FEW_LETTERS, prose & (m.letters < o.min_alphabetic_ratio), m.letters, o.min_alphabetic_ratio
    yield Poor.DIGITS, prose & (m.digits > o.max_digit_ratio), m.digits, o.max_digit_ratio
    yield Poor.SYMBOLS, prose & (m.symbols > o.max_symbol_ratio), m.symbols, o.max_symbol_ratio
    limit = o.max_duplicate_line_ratio
    yield Poor.REPEATED_LINES, prose & (m.repeated_lines > limit), m.repeated_lines, limit
    limit = o.max_duplicate_line_characters
    yield Poor.REPEATED_CHARACTERS, prose & (m.repeated_characters > limit), m.repeated_characters, limit
    yield Poor.REPEATED_WORDS, prose & (m.top_bigram > o.max_top_ngram_ratio), m.top_bigram, o.max_top_ngram_ratio
    yield Poor.LONG_LINES, code & (m.longest_line > o.max_code_line), m.longest_line, o.max_code_line
    yield Poor.LONG_MEAN_LINE, code & (m.mean_line > o.max_code_mean_line), m.mean_line, o.max_code_mean_line
    limit = o.min_code_alphanumeric_ratio
    yield Poor.CODE_SYMBOLS, code & (m.alphanumeric < limit), m.alphanumeric, limit


def _of_kind(table: pa.Table, *kinds: str) -> NDArray[np.bool_]:
    return np.isin(np.array(table["kind"].to_pylist(), dtype=object), kinds)


def _example(table: pa.Table, row: int, rule: Poor, value: Any, threshold: float | str) -> dict[str, Any]:
    """Describe a dropped document."""
    shown = {name: table[name][row].as_py() for name in ("url", "kind", *COLUMNS)}
    return {
        "rule": rule.value,
        "document": shown["url"],
        "kind": shown["kind"],
        "value": value if isinstance(value, str) else round(float(value), 3),
        "threshold": threshold,
        "begins": excerpt(shown),
    }


def _report(
    total: int, kept: int, dropped: Counter[Poor], languages: Counter[str], examples: list[dict[str, Any]]
) -> Report:
    report = Report("Filter", f"{kept:,} of {total:,} documents are good enough.")
    report.metrics({"documents": total, "kept": kept, "dropped": total - kept, "languages": len(languages)})
    if dropped:
        ordered = sorted(dropped.items(), key=lambda entry: (-entry[1], entry[0]))
        report.bars({f"{rule.value}: {rule.sentence}": count for rule, count in ordered}, "Dropped, by rule")
        order = list(Poor)
        report.table(sorted(examples, key=lambda entry: order.index(Poor[entry["rule"].upper()])), "Examples")
    report.bars(dict(sorted(languages.items(), key=lambda entry: (-entry[1], entry[0]))), "Kept, by language")
    return report
