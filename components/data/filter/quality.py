"""Drops documents of poor quality or in other languages; every rule has a name, a threshold and a source."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.common.documents import (
    SCHEMA,
    DocumentWriter,
    count_documents,
    read_batches,
    text_revision,
    with_metadata,
)
from components.common.step import Context, Outcome
from components.data.filter import boilerplate
from components.data.filter.findings import Findings
from components.data.filter.language import NO_LANGUAGE, UNDETERMINED, Identifier
from components.data.filter.measure import Floats, measure
from components.data.filter.options import Filter
from components.data.filter.phrases import Phrases, read_list
from components.data.filter.rules import PROSE, RUNNING, Facts, judge, says_generated
from components.data.filter.score import score

if TYPE_CHECKING:
    from components.data.filter.perplexity import Model

ROWS = 1_000


class Reader:
    """Finds out what the rules need to know of documents.

    Args:
        options: Thresholds, languages and terms.
        model: What foresees running text; None where perplexity is not measured.
    """

    def __init__(self, options: Filter, model: "Model | None" = None) -> None:
        self._options, self._model = options, model
        self._identifier = Identifier([*options.candidates, *options.languages], options.min_confidence)
        self._spam, self._harmful, self._placeholders = (
            Phrases(phrase for phrases in read_list(purpose).values() for phrase in phrases)
            for purpose in ("spam", "harmful", "placeholder")
        )
        self._banned = Phrases(options.terms.banned)

    def read(self, batch: pa.RecordBatch, findings: Findings) -> tuple[pa.Table, Facts]:
        """Clean a batch, name its languages, and look at what is left.

        Args:
            batch: Documents.
            findings: Gets the lines removed and the languages.

        Returns:
            The documents as they would be kept, and the facts about them.
        """
        table = pa.Table.from_batches([batch])
        kinds = np.array(batch["kind"].to_pylist(), dtype=object)
        running, code = np.isin(kinds, RUNNING), kinds == "code"
        table, removed = self._clean(table, np.isin(kinds, PROSE), findings)
        text = table["text"].combine_chunks()
        languages, confidence = self._identify(text, kinds, batch["language"].to_pylist())
        index = table.schema.get_field_index("language")
        table = table.set_column(index, SCHEMA.field("language"), pa.array(languages, pa.string()))
        spam, distinct = _count(self._spam, text, running)
        measures = measure(text, running)
        facts = Facts(
            kinds=kinds,
            languages=np.array(languages, dtype=object),
            measures=measures,
            boilerplate=removed / np.maximum(measures.characters + removed, 1),
            spam=spam,
            spam_distinct=distinct,
            harmful=_count(self._harmful, text, running)[0],
            placeholders=_count(self._placeholders, text, np.isin(kinds, PROSE))[0],
            banned=_count(self._banned, text, np.ones(len(kinds), bool))[0],
            generated=_where(says_generated, text, code),
            perplexity=self._perplexity(text, batch["id"], running),
        )
        findings.saw_languages(languages, confidence)
        findings.saw_perplexity(languages, facts.perplexity)
        return table, facts

    def _clean(self, table: pa.Table, prose: NDArray[np.bool_], findings: Findings) -> tuple[pa.Table, Floats]:
        """Remove boilerplate from prose; the text of a dialogue stays what its messages say."""
        removed = np.zeros(table.num_rows)
        text = table["text"].combine_chunks()
        alone = pc.list_value_length(table["messages"]).to_numpy() == 0
        texts: dict[int, str] = {}
        for row in np.flatnonzero(_where(boilerplate.likely, text, prose & alone)):
            cleaned = boilerplate.clean(text[row].as_py())
            if cleaned.removed:
                removed[row] = cleaned.characters
                findings.saw_boilerplate(table, int(row), cleaned)
                texts[int(row)] = cleaned.text
        if texts and self._options.boilerplate.remove:
            table = _with_texts(table, texts)
        return table, removed

    def _perplexity(self, text: pa.Array, ids: pa.Array, running: NDArray[np.bool_]) -> Floats:
        """Ask the model, if there is one, how well it foresees running text."""
        found = np.full(len(text), np.nan)
        if self._model and running.any():
            rows = pa.array(running)
            found[running] = self._model.perplexity(text.filter(rows), ids.filter(rows))
        return found

    def _identify(self, text: pa.Array, kinds: NDArray[np.object_], declared: list[str]) -> tuple[list[str], Floats]:
        """Name each document's language: as declared, `zxx` for code, else by identification."""
        confidence = np.full(len(kinds), np.nan)
        languages = list(declared)
        for row, (language, kind) in enumerate(zip(declared, kinds, strict=True)):
            if language != UNDETERMINED:
                continue
            if kind == "code":
                languages[row] = NO_LANGUAGE
            else:
                languages[row], confidence[row] = self._identifier.identify(text[row].as_py())
        return languages, confidence


def run(documents: Path, kept: Path, options: Filter, context: Context) -> Outcome:
    """Keep documents that pass every rule for their kind, with their language identified and their quality scored.

    Args:
        documents: Masked documents.
        kept: Folder for the documents kept.
        options: Thresholds.
        context: Where the run takes place.

    Returns:
        What was dropped, by the first rule that failed.
    """
    total = count_documents(documents)
    model = None
    if options.perplexity.model != "none":
        from components.data.filter.perplexity import learn

        model = learn(documents, options.perplexity.sources, context)
    reader = Reader(options, model)
    findings = Findings()
    done = 0
    with DocumentWriter(kept) as writer:
        for batch in read_batches(documents, rows=ROWS):
            table, facts = reader.read(batch, findings)
            keep = np.ones(table.num_rows, bool)
            for verdict in judge(facts, options):
                findings.saw_verdict(table, keep & verdict.failing, verdict)
                keep &= ~verdict.failing
            scores = score(facts, options)
            keep &= ~findings.saw_scores(table, facts.kinds, keep, scores, options.min_quality)
            table = with_metadata(table, "quality", [f"{value:.3f}" for value in scores])
            if model:
                told = (None if np.isnan(value) else f"{value:.1f}" for value in facts.perplexity)
                table = with_metadata(table, "perplexity", list(told))
            findings.kept_languages(facts.languages[keep])
            writer.write(table.filter(pa.array(keep)))
            done += len(keep)
            context.progress(done, total, f"{writer.rows:,} kept")
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        dropped={rule.value: count for rule, count in sorted(findings.dropped.items())},
        metrics=findings.metrics(),
        report=findings.report(total, writer.rows),
    )


def _where(tell: object, text: pa.Array, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Ask about some texts of a column only; of the others the answer is no."""
    told = np.zeros(len(text), bool)
    if rows.any():
        told[rows] = tell(text.filter(pa.array(rows)))  # type: ignore[operator]
    return told


def _count(phrases: Phrases, text: pa.Array, rows: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Count phrases in some texts of a column, and different ones."""
    counts, distinct = np.zeros(len(text)), np.zeros(len(text))
    for row in np.flatnonzero(_where(phrases.likely, text, rows)):
        found = phrases.count(text[row].as_py())
        counts[row], distinct[row] = found.total(), len(found)
    return counts, distinct


def _with_texts(table: pa.Table, texts: dict[int, str]) -> pa.Table:
    """Replace the texts of some rows, and their revisions."""
    rows = pa.array(np.isin(np.arange(table.num_rows), list(texts)))
    for name, values in (("text", list(texts.values())), ("revision", list(map(text_revision, texts.values())))):
        field = SCHEMA.field(name)
        column = pc.replace_with_mask(table[name].combine_chunks(), rows, pa.array(values, field.type))
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table
