"""Replaces personal data by typed masks: `[EMAIL_1]`, `[PHONE_2]`, the same number for the same person's data.

Numbers are consistent within a document, not across documents: across them they would be pseudonyms that link people.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa

from components.common import subjects
from components.common.documents import SCHEMA, DocumentWriter, count_documents, read_batches, with_text
from components.common.keys import subject_key
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.mask.options import IDENTIFYING, Kind, Mask
from components.data.mask.patterns import find

LABELS: dict[Kind, str] = {
    "email": "EMAIL",
    "resident_number": "RESIDENT_NUMBER",
    "business_number": "BUSINESS_NUMBER",
    "driving_licence": "DRIVING_LICENCE",
    "passport": "PASSPORT",
    "bank_account": "BANK_ACCOUNT",
    "card": "CARD",
    "phone": "PHONE",
    "ip": "IP",
    "address": "ADDRESS",
    "secret": "SECRET",
}
ROWS = 500
_MASK = re.compile(rf"\[({'|'.join(LABELS.values())})_(\d{{1,9}})\]")
_NOT_PERSONAL = "version"  # a version of four numbers reads like a network address


class Masker:
    """Masks the texts of one document with one numbering.

    Args:
        kinds: Kinds of personal data to mask.
        keep_examples: Leave addresses that belong to nobody.
    """

    def __init__(self, kinds: Sequence[Kind], keep_examples: bool = True) -> None:
        self.kinds = kinds
        self.keep_examples = keep_examples
        self.masked: Counter[Kind] = Counter()
        self._numbers: dict[tuple[Kind, str], int] = {}
        self._last: Counter[str] = Counter()

    def mask(self, text: str) -> str:
        """Mask a text. Masking it once more changes nothing."""
        if "[" in text:
            for label, number in _MASK.findall(text):
                self._last[label] = max(self._last[label], int(number))
        while True:
            pieces: list[str] = []
            position = 0
            for finding in find(text, self.kinds, self.keep_examples):
                pieces += [text[position : finding.start], self._name(finding.kind, finding.canonical)]
                position = finding.end
                self.masked[finding.kind] += 1
            if not pieces:
                return text
            # A mask is a new neighbour for what stands beside it, so look again.
            text = "".join([*pieces, text[position:]])

    def subjects(self, key: bytes) -> set[str]:
        """Name the people whose data was masked, so that erasure finds a text that does not tell them any more."""
        return {subjects.subject(key, kind, canonical) for kind, canonical in self._numbers if kind in IDENTIFYING}

    def _name(self, kind: Kind, canonical: str) -> str:
        label = LABELS[kind]
        if (kind, canonical) not in self._numbers:
            self._last[label] += 1
            self._numbers[kind, canonical] = self._last[label]
        return f"[{label}_{self._numbers[kind, canonical]}]"


def run(documents: Path, masked: Path, options: Mask, context: Context) -> Outcome:
    """Mask the texts, messages and metadata of every document.

    Args:
        documents: Documents that may be used.
        masked: Folder for the masked documents.
        options: What to mask.
        context: Where the run takes place.

    Returns:
        What was masked, by kind; no document is dropped.

    Raises:
        HeadraceError: The key is missing under which people are named.
    """
    key = subject_key(context.environment)
    total = count_documents(documents)
    found: Counter[Kind] = Counter()
    affected: Counter[Kind] = Counter()
    sources: dict[str, Counter[Kind]] = {}
    touched = done = 0
    # Without all kinds, finding nothing does not mean that there is nothing.
    complete = set(options.kinds) == set(get_args(Kind))
    with DocumentWriter(masked) as writer:
        for batch in read_batches(documents, rows=ROWS):
            texts, messages, metadata, pii, people = [], [], [], [], []
            for text, dialogue, pairs, before, named, source in zip(
                *(batch[name].to_pylist() for name in ("text", "messages", "metadata", "pii", "subjects", "source")),
                strict=True,
            ):
                masker = Masker(options.kinds, options.keep_examples)
                texts.append(masker.mask(text))
                messages.append([{**message, "content": masker.mask(message["content"])} for message in dialogue])
                metadata.append(
                    [(name, value if name == _NOT_PERSONAL else masker.mask(value)) for name, value in pairs]
                )
                pii.append(_state(before, bool(masker.masked), complete))
                people.append(sorted(masker.subjects(key).union(named)))
                if masker.masked:
                    touched += 1
                    found += masker.masked
                    affected.update(set(masker.masked))
                    sources.setdefault(source, Counter()).update(masker.masked)
            table = with_text(pa.Table.from_batches([batch]), texts)
            for name, values in (("messages", messages), ("metadata", metadata), ("pii", pii), ("subjects", people)):
                field = SCHEMA.field(name)
                table = table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))
            writer.write(table)
            done += batch.num_rows
            context.progress(done, total, f"{found.total():,} masked")
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        metrics={"documents_masked": touched, **{f"masked_{kind}": found[kind] for kind in sorted(found)}},
        report=_report(total, touched, found, affected, sources),
    )


def _state(before: str, found: bool, complete: bool) -> str:
    """Tell what may be said about personal data in a document after masking."""
    if not complete and before == "present":
        return "present"
    return "masked" if found or before == "masked" else "none"


def _report(
    total: int,
    touched: int,
    found: Counter[Kind],
    affected: Counter[Kind],
    sources: dict[str, Counter[Kind]],
) -> Report:
    """Show how much was masked where. No surroundings of a mask are shown: a name often stands there."""
    report = Report("Mask", f"{found.total():,} pieces of personal data masked in {touched:,} of {total:,} documents.")
    report.metrics(
        {"documents": total, "documents masked": touched, "masked": found.total(), "sources concerned": len(sources)}
    )
    if found:
        report.bars(dict(found.most_common()), "Masked, by kind")
        report.table(
            [
                {"kind": kind, "mask": f"[{LABELS[kind]}_1]", "masked": found[kind], "documents": affected[kind]}
                for kind in sorted(found)
            ],
            "Kinds",
        )
        ordered = sorted(sources.items(), key=lambda entry: (-entry[1].total(), entry[0]))
        report.table(
            [{"source": name, **{kind: counts[kind] for kind in sorted(found)}} for name, counts in ordered],
            "Sources",
            20,
        )
    report.text("Names of people and places are not found by this step.")
    return report
