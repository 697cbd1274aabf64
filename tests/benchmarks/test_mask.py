"""Masking against Presidio's rules, on the same labelled sentences in the same run.

Presidio is not among the project's dependencies; it goes into the environment by hand, with nothing else changed:

    .venv/bin/pip install -c constraints.txt presidio-analyzer==2.2.366
    .venv/bin/pytest -m benchmark tests/benchmarks/test_mask.py

Only its recognisers with patterns run: the fastest that it can be, without a language model. Korean ones, which are off
by default, are on. A finding counts when it covers half of what is labelled, which is kind to Presidio, whose ends are
often one sign off; beside it stand the figures with both ends exact.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from components.data.mask import people
from components.data.mask.detector import Finding
from components.data.mask.patterns import find, find_each
from tests.benchmarks.faked import faked
from tests.benchmarks.judging import Score, Span, judge
from tests.benchmarks.labelled import NAMES, RULES, Language, Sentence, Split, sentences
from tests.benchmarks.named import named

COUNT = 1_000
"""Sentences of each language."""
KINDS = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "KR_RRN": "resident_number",
    "KR_FRN": "resident_number",
    "KR_BRN": "business_number",
    "KR_DRIVER_LICENSE": "driving_licence",
    "KR_PASSPORT": "passport",
    "US_PASSPORT": "passport",
    "US_BANK_NUMBER": "bank_account",
    "IBAN_CODE": "bank_account",
    "CREDIT_CARD": "card",
    "IP_ADDRESS": "ip",
}
DOCUMENTS = 300
LANGUAGES: tuple[Language, ...] = ("en", "ko")
Scores = tuple[Score, Score]


def spans_of(found: Sequence[Any]) -> list[list[Span]]:
    return [[(one.start, one.end, one.kind) for one in findings] for findings in found]


def presidio(language: Language) -> Callable[[str], list[Span]]:
    recognisers = pytest.importorskip("presidio_analyzer.predefined_recognizers", reason="see this file's first lines")
    names = [
        "EmailRecognizer", "PhoneRecognizer", "CreditCardRecognizer", "IbanRecognizer", "IpRecognizer",
        "UsBankRecognizer", "UsPassportRecognizer", "KrRrnRecognizer", "KrFrnRecognizer", "KrBrnRecognizer",
        "KrDriverLicenseRecognizer", "KrPassportRecognizer",
    ]  # fmt: skip
    chosen = [getattr(recognisers, name)(supported_language=language) for name in names if name != "PhoneRecognizer"]
    chosen.append(recognisers.PhoneRecognizer(supported_language=language, supported_regions=("US", "GB", "KR", "DE")))

    def analyse(text: str) -> list[Span]:
        results = [
            result
            for one in chosen
            for result in one.analyze(text, one.supported_entities, None)
            if result.score >= 0.4 and result.entity_type in KINDS
        ]
        kept: list[Any] = []
        for result in sorted(results, key=lambda result: (-result.score, result.start - result.end)):
            if all(result.end <= other.start or result.start >= other.end for other in kept):
                kept.append(result)
        return [(result.start, result.end, KINDS[result.entity_type]) for result in kept]

    return analyse


def names_in(labelled: Sequence[Sentence]) -> list[list[Span]]:
    """Find people and places that are no part of what rules find."""
    texts = [sentence.text for sentence in labelled]
    rules, names = find_each(texts, RULES, False), people.find_each(texts, NAMES)  # type: ignore[arg-type]

    def free(name: Finding, others: Sequence[Finding]) -> bool:
        return all(name.end <= other.start or other.end <= name.start for other in others)

    return [
        [(one.start, one.end, one.kind) for one in found if free(one, ruled)]
        for found, ruled in zip(names, rules, strict=True)
    ]


def spacy_alone(language: Language) -> Callable[[list[str]], list[list[Span]]] | None:
    """What the model says by itself; for Korean there is none."""
    if language == "ko":
        return None
    from components.data.mask.english import _model

    kinds = {"PERSON": "person", "GPE": "place", "LOC": "place"}
    return lambda texts: [
        [(one.start_char, one.end_char, kinds[one.label_]) for one in document.ents if one.label_ in kinds]
        for document in _model().pipe(texts)
    ]


def both_ways(labelled: Sequence[Sentence], found: Sequence[Sequence[Span]], kinds: Sequence[str]) -> Scores:
    """Judge with half of a label covered, and with both ends exact."""
    return judge(labelled, found, kinds, partly=True), judge(labelled, found, kinds)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    work()
    began = time.process_time()
    return work(), time.process_time() - began


def table(title: str, ours: Scores, theirs: Scores, kinds: Sequence[str]) -> None:
    """Print figures by kind: findings that cover half of a label, then those whose ends both agree."""
    print(f"\n{title}")
    print("| kind | labelled | P | R | F1 | exact P | R | F1 | Presidio F1 | exact F1 |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for kind in (*kinds, ""):
        chosen = (kind,) if kind else tuple(kinds)
        labelled = sum(ours[0].right[one] + ours[0].missed[one] for one in chosen)
        if not labelled:
            continue
        figures = [value for score in ours for value in (score.precision(*chosen), score.recall(*chosen))]
        figures = [*figures[:2], ours[0].f1(*chosen), *figures[2:], ours[1].f1(*chosen)]
        figures += [score.f1(*chosen) for score in theirs]
        named = f"`{kind}`" if kind else "**all**"
        print(f"| {named} | {labelled:,} | {' | '.join(f'{one:.3f}' if one == one else '–' for one in figures)} |")


def documents() -> list[str]:
    """Descriptions and documentation of the installed packages, whole."""
    site = Path(np.__file__).parents[1]
    paths = sorted(path for end in ("*.md", "*.rst", "METADATA") for path in site.rglob(end))
    texts = (path.read_text("utf-8", errors="ignore") for path in paths)
    return [text for text in texts if 1_000 < len(text) < 100_000][:DOCUMENTS]


@pytest.mark.benchmark
def test_speed_on_documents(capsys: pytest.CaptureFixture[str]) -> None:
    analyse, texts = presidio("en"), documents()
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    _, single = timed(lambda: [list(find(text, RULES)) for text in texts])  # type: ignore[arg-type]
    _, peer = timed(lambda: [analyse(text) for text in texts])
    with capsys.disabled():
        print(
            f"\n{len(texts)} documents, {megabytes:.1f} MB, one core: {megabytes / single:.1f} MB/s, "
            f"{len(texts) / single:,.0f} documents a second; Presidio's rules {megabytes / peer:.2f} MB/s, "
            f"{len(texts) / peer:,.0f}: {peer / single:.0f} times as many"
        )
    assert peer > single


@pytest.mark.benchmark
@pytest.mark.parametrize("split", ["test", "fresh", "faker"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_rules_against_presidio(
    language: Language, split: Split | Literal["faker"], capsys: pytest.CaptureFixture[str]
) -> None:
    analyse = presidio(language)
    labelled = faked(language, COUNT) if split == "faker" else sentences(split, language, COUNT)
    texts = [sentence.text for sentence in labelled]
    ours, single = timed(lambda: [list(find(text, RULES, keep_examples=False)) for text in texts])  # type: ignore[arg-type]
    _, batched = timed(lambda: find_each(texts, RULES, keep_examples=False))  # type: ignore[arg-type]
    theirs, peer = timed(lambda: [analyse(text) for text in texts])
    mine, its = both_ways(labelled, spans_of(ours), RULES), both_ways(labelled, theirs, RULES)
    with capsys.disabled():
        table(f"{language}, {split}, {COUNT:,} sentences", mine, its, RULES)
        print(
            f"{COUNT / batched:,.0f} sentences a second in batches, {COUNT / single:,.0f} one by one, "
            f"Presidio {COUNT / peer:,.0f}: {peer / batched:.0f} and {peer / single:.0f} times as many"
        )
        for line in mine[0].errors[:40]:
            print("  ", line)
    assert mine[0].f1() > 0.9 and peer > batched


@pytest.mark.benchmark
@pytest.mark.parametrize("split", ["test", "faker"])
@pytest.mark.parametrize("language", LANGUAGES)
def test_people_and_places(
    language: Language, split: Literal["test", "faker"], capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("spacy", "kiwipiepy"):
        pytest.importorskip(package, reason="packages of the extra `names`")
    labelled = named(split, language, COUNT) if split == "test" else faked(language, COUNT)
    found, seconds = timed(lambda: names_in(labelled))
    kilobytes = sum(len(sentence.text.encode()) for sentence in labelled) / 1e3
    alone = spacy_alone(language)
    with capsys.disabled():
        print(f"\n{language}, {split}, {COUNT:,} sentences, {kilobytes / seconds:.0f} KB a second on one core")
        print("| kind | labelled | P | R | F1 | exact P | R | F1 | spaCy alone F1 |")
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
        partly, exact = both_ways(labelled, found, NAMES)
        peer = judge(labelled, alone([one.text for one in labelled]), NAMES, partly=True) if alone else None
        for kind in NAMES:
            figures = [f"{value(kind):.3f}" for one in (partly, exact) for value in (one.precision, one.recall, one.f1)]
            other = f"{peer.f1(kind):.3f}" if peer else "–"
            print(f"| `{kind}` | {partly.right[kind] + partly.missed[kind]:,} | {' | '.join(figures)} | {other} |")
    assert partly.f1("person") > 0.8
