"""Replaces personal data by typed masks: `[EMAIL_1]`, `[PHONE_2]`, the same number for the same person's data.

Numbers are consistent within a document, also where it names a person now in full, now in part. They are not across
documents: there they would be pseudonyms that link people.
"""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.common import subjects
from components.common.documents import SCHEMA, DocumentWriter, count_documents, read_batches, with_text
from components.common.keys import subject_key
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.mask.detector import Finding
from components.data.mask.options import IDENTIFYING, RULES, Kind, Mask
from components.data.mask.originals import sealing
from components.data.mask.patterns import find
from components.data.mask.people import LETTERS_A_SYLLABLE, People, find_each, is_whole

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
    "person": "PERSON",
    "place": "PLACE",
}
ROWS = 500
_MASK = re.compile(rf"\[({'|'.join(LABELS.values())})_(\d{{1,9}})\]")
_BEGINNING = 2_000
_HANGUL = re.compile("[가-힣]")
_LATIN = re.compile("[A-Za-z]")
_NOT_PERSONAL = "version"  # a version of four numbers reads like a network address


class Masker:
    """Masks the texts of one document with one numbering.

    Args:
        kinds: Kinds of personal data to mask.
        keep_examples: Leave addresses that belong to nobody.
        people: Who is who in the document.

    Attributes:
        masked: How much was masked, by kind.
        originals: By mask, how what it stands for was written, in order.
    """

    def __init__(self, kinds: Sequence[Kind], keep_examples: bool = True, people: People | None = None) -> None:
        self.kinds = kinds
        self.keep_examples = keep_examples
        self.masked: Counter[Kind] = Counter()
        self.originals: defaultdict[str, dict[str, None]] = defaultdict(dict)
        self._numbers: dict[tuple[Kind, str], int] = {}
        self._written: set[str] = set()
        self._last: Counter[str] = Counter()
        self._people = people or People()

    def mask(self, text: str, names: Sequence[Finding] = ()) -> str:
        """Mask a text. What rules find there is nothing left of when it is masked once more.

        Args:
            text: Any text.
            names: People and places in it; where rules find something else, they give way.
        """
        if "[" in text:
            for label, number in _MASK.findall(text):
                self._last[label] = max(self._last[label], int(number))
            names = _outside(names, (mask.span() for mask in _MASK.finditer(text)))
        while True:
            findings = list(find(text, self.kinds, self.keep_examples))
            findings += _outside(names, [(one.start, one.end) for one in findings])
            if not findings:
                return text
            pieces: list[str] = []
            position = 0
            for start, end, kind, canonical in sorted(findings):
                name = self._name(kind, canonical)
                self.originals[name][text[start:end]] = None
                pieces += [text[position:start], name]
                position = end
                self.masked[kind] += 1
            # A mask is a new neighbour for what stands beside it, so look again.
            text, names = "".join([*pieces, text[position:]]), ()

    def subjects(self, key: bytes) -> set[str]:
        """Name the people whose data was masked, so that erasure finds a text that does not tell them any more."""
        numbers = {(kind, canonical) for kind, canonical in self._numbers if kind in IDENTIFYING}
        people = {name for kind, name in self._numbers if kind == "person"} | self._written
        names = {(subjects.WORDS, subjects.plain(name)) for name in people if is_whole(name)}
        return {subjects.subject(key, *one) for one in numbers | names}

    def _name(self, kind: Kind, canonical: str) -> str:
        label = LABELS[kind]
        if kind == "person":
            self._written.add(canonical)  # a request may know the person by a shorter name
            canonical = self._people.who(canonical)
        if (kind, canonical) not in self._numbers:
            self._last[label] += 1
            self._numbers[kind, canonical] = self._last[label]
        return f"[{label}_{self._numbers[kind, canonical]}]"


def _outside(names: Iterable[Finding], spans: Iterable[tuple[int, int]]) -> list[Finding]:
    """Keep the names that touch none of some spans, which do not overlap."""
    ordered = sorted(spans)
    ends = [end for _, end in ordered]
    following = [(one, bisect_right(ends, one.start)) for one in names]
    return [one for one, at in following if at == len(ordered) or one.end <= ordered[at][0]]


def run(documents: Path, masked: Path, originals: Path, options: Mask, context: Context) -> Outcome:
    """Mask the texts, messages and metadata of every document.

    Args:
        documents: Documents that may be used.
        masked: Folder for the masked documents.
        originals: Folder for what the masks stand for, sealed; empty if the recipe does not ask for it.
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
    languages: dict[str, Counter[str]] = {}
    touched = done = 0
    # Without all rules, finding nothing does not mean that there is nothing.
    complete = set(RULES) <= set(options.kinds)
    with DocumentWriter(masked) as writer, sealing(originals, options.reversible_to) as seal:
        for batch in read_batches(documents, rows=ROWS):
            texts, messages, metadata, pii, people, stand = [], [], [], [], [], []
            rows = list(
                zip(
                    *(
                        batch[name].to_pylist()
                        for name in ("text", "messages", "metadata", "pii", "subjects", "source", "language")
                    ),
                    strict=True,
                )
            )
            found_names = find_each([value for row in rows for value in _strings(*row[:3])], options.kinds)
            place = 0
            for text, dialogue, pairs, before, named, source, language in rows:
                last = place + len(_strings(text, dialogue, pairs))
                names = found_names[place:last]
                place = last
                people_met = People(one.canonical for each in names for one in each if one.kind == "person")
                masker = Masker(options.kinds, options.keep_examples, people_met)
                following = iter(names)
                texts.append(masker.mask(text, next(following)))
                messages.append(
                    [{**message, "content": masker.mask(message["content"], next(following))} for message in dialogue]
                )
                metadata.append(
                    [
                        (name, value if name == _NOT_PERSONAL else masker.mask(value, next(following)))
                        for name, value in pairs
                    ]
                )
                pii.append(_state(before, bool(masker.masked), complete))
                people.append(sorted(masker.subjects(key).union(named)))
                stand.append(masker.originals)
                counts = languages.setdefault(_language(language, text), Counter())
                counts.update(["documents", *(["with masks"] if masker.masked else []), *masker.masked.elements()])
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
            seal(zip(batch["id"].to_pylist(), people, stand, strict=True))
            done += batch.num_rows
            context.progress(done, total, f"{found.total():,} masked")
    return Outcome(
        counts_in=total,
        counts_out=writer.rows,
        metrics={"documents_masked": touched, **{f"masked_{kind}": found[kind] for kind in sorted(found)}},
        report=_report(
            total,
            touched,
            found,
            affected,
            sources,
            languages,
            [kind for kind in LABELS if kind not in options.kinds],
        ),
    )


def _strings(text: str, dialogue: list[dict[str, Any]], pairs: list[tuple[str, str]]) -> list[str]:
    """What of a document is masked, in the order in which it is."""
    said = [message["content"] for message in dialogue]
    return [text, *said, *(value for name, value in pairs if name != _NOT_PERSONAL)]


def _language(tag: str, text: str) -> str:
    """A document's language; where it is not known yet, the script that most of its beginning is in."""
    if tag != "und":
        return tag
    beginning = text[:_BEGINNING]
    hangul, latin = len(_HANGUL.findall(beginning)), len(_LATIN.findall(beginning))
    if not hangul and not latin:
        return "other script"
    return "Hangul" if hangul * LETTERS_A_SYLLABLE >= latin else "Latin script"


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
    languages: dict[str, Counter[str]],
    passed_over: list[Kind],
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
        report.table(
            [
                {"language": name, **{column: counts[column] for column in ("documents", "with masks", *sorted(found))}}
                for name, counts in sorted(languages.items(), key=lambda entry: (-entry[1]["documents"], entry[0]))
            ],
            "Languages, and scripts where the language is not known yet",
            20,
        )
        ordered = sorted(sources.items(), key=lambda entry: (-entry[1].total(), entry[0]))
        report.table(
            [{"source": name, **{kind: counts[kind] for kind in sorted(found)}} for name, counts in ordered],
            "Sources",
            20,
        )
    if passed_over:
        report.text(f"Not looked for: {', '.join(passed_over)}.")
    return report
