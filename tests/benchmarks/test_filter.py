"""The filter's rules against datatrove's Gopher and C4 filters, on the same real documents in the same run.

datatrove has an environment of its own, because its dependencies are not the project's:

    python3 -m venv /tmp/datatrove && /tmp/datatrove/bin/pip install datatrove==0.10.1 nltk==3.10.4
    HEADRACE_DATATROVE=/tmp/datatrove/bin/python .venv/bin/pytest -m benchmark tests/benchmarks/test_filter.py
"""

import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.common.documents import SCHEMA, new_document
from components.data.compiled import content
from components.data.filter import boilerplate, kernel
from components.data.filter.findings import Findings
from components.data.filter.language import Identifier
from components.data.filter.options import Filter
from components.data.filter.perplexity import Model
from components.data.filter.phrases import Phrases, read_list
from components.data.filter.quality import Reader
from components.data.filter.rules import Poor, judge
from components.data.filter.score import score

KOREAN = (
    "이 항구는 북쪽에서 온 상인들이 세웠고 지금도 쓰이고 있다. 봄이 되면 곡식과 목재를 실은 배가 이곳에서 떠난다. "
    "좁은 수로가 방앗간까지 이어지며, 주인은 수문을 손본다. 강물이 불어나면 배는 하루나 이틀을 기다려야 한다. "
)
PEER = """
import json, sys, time
from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
from datatrove.utils import word_tokenizers
texts = json.load(open(sys.argv[1]))
# Words by white space, so that no tokenizer's model is part of the time.
class Words(word_tokenizers.WordTokenizer):
    def word_tokenize(self, text): return text.split()
    def sent_tokenize(self, text): return text.split(". ")
    def span_tokenize(self, text): return []
import datatrove.pipeline.filters.gopher_quality_filter as a, datatrove.pipeline.filters.gopher_repetition_filter as b
import datatrove.pipeline.filters.c4_filters as c
split = lambda text, language=None: text.split()
a.split_into_words = b.split_into_words = split
c.split_into_sentences = lambda text, language=None: text.split(". ")
seconds, reasons = {}, {}
for filter_ in (GopherQualityFilter(), GopherRepetitionFilter(), C4QualityFilter()):
    began = time.process_time()
    told = [filter_.filter(Document(text=text, id=str(number))) for number, text in enumerate(texts)]
    seconds[type(filter_).__name__] = time.process_time() - began
    reasons[type(filter_).__name__] = ["" if one is True else one[1] for one in told]
print(json.dumps([seconds, reasons]))
"""


MARKUP = re.compile(
    r"(?ms)^(```|~~~).*?^\1|^\s*[|+].*?$|^[ #=~^*-]+|https?://\S+|\]\([^)]*\)|<[^>\n]*>|[`*|]|^Metadata-Version:.*?\n\n"
)
FAMILIES = {
    "GopherQualityFilter": (
        *(Poor.FEW_WORDS, Poor.WORD_LENGTH, Poor.SYMBOLS, Poor.BULLETS, Poor.ELLIPSES, Poor.FEW_STOP_WORDS),
    ),
    "GopherRepetitionFilter": (
        *(Poor.REPEATED_LINES, Poor.REPEATED_LINE_CHARACTERS, Poor.REPEATED_PARAGRAPHS),
        *(Poor.REPEATED_PARAGRAPH_CHARACTERS, Poor.REPEATED_WORDS, Poor.REPEATED_PHRASES),
    ),
}
"""datatrove's filters whose papers are the filter's as well, and the rules that are theirs."""
APART = ("gopher_short_doc", "gopher_long_doc")
"""Reasons that have no counterpart: the filter counts characters, and lets short answers pass."""


def agreement(yours: np.ndarray, mine: np.ndarray) -> str:
    """Count who drops what, and how much more they agree than by chance (Cohen's kappa)."""
    counts = [(yours & mine).sum(), (yours & ~mine).sum(), (~yours & mine).sum(), (~yours & ~mine).sum()]
    same = (counts[0] + counts[3]) / len(mine)
    chance = yours.mean() * mine.mean() + (1 - yours.mean()) * (1 - mine.mean())
    return f"{counts[0]:6,} {counts[1]:15,} {counts[2]:14,} {counts[3]:8,} {(same - chance) / (1 - chance):6.2f}"


def plain(text: str) -> str:
    """Leave out what the filter does not take for words: fenced code, addresses, tables, tags, marks of headings."""
    lines = (" ".join(line.split()) for line in MARKUP.sub(" ", text).split("\n"))
    return "\n".join(line for line in lines if not line or any(map(str.isalpha, line)))


def documents_of(texts: list[str]) -> pa.RecordBatch:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [new_document(source="s", url=str(n), text=text, retrieved_at=when) for n, text in enumerate(texts)]
    return pa.Table.from_pylist(
        [{**row, "metadata": list(row["metadata"].items())} for row in rows], schema=SCHEMA
    ).to_batches()[0]


def corpus(limit: int) -> list[str]:
    """Descriptions, documentation and licences of the installed packages."""
    site = Path(np.__file__).parents[1]
    texts = []
    for path in sorted(path for end in ("*.md", "*.rst", "METADATA") for path in site.rglob(end)):
        text = path.read_text("utf-8", errors="ignore")
        if 200 < len(text) < 100_000:
            texts.append(text)
    return texts[:limit]


def seconds(work: Callable[[], object]) -> float:
    work()
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.benchmark
def test_rules_against_datatrove(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = os.environ.get("HEADRACE_DATATROVE", "")
    if not python:
        pytest.skip("HEADRACE_DATATROVE names no Python that has datatrove; see this file's first lines")
    texts = corpus(1_000)
    with capsys.disabled():
        compare(python, texts, "as they are", tmp_path)
        compare(python, list(filter(lambda text: len(text.split()) >= 50, map(plain, texts))), "plain", tmp_path)


def compare(python: str, texts: list[str], name: str, folder: Path) -> None:
    file = folder / "texts.json"
    file.write_text(json.dumps(texts), "utf-8")
    answer = subprocess.run([python, "-c", PEER, str(file)], capture_output=True, text=True, check=True).stdout
    theirs, reasons = json.loads(answer.splitlines()[-1])
    data, offsets = content(pa.array(texts, pa.large_string()))
    ours = seconds(lambda: kernel.measure(data, offsets, np.ones(len(texts), bool)))
    megabytes = len(data) / 1e6
    batch, reader = documents_of(texts), Reader(Filter())
    verdicts = {verdict.rule: verdict.failing for verdict in judge(reader.read(batch, Findings())[1], Filter())}
    everything = seconds(lambda: list(judge(reader.read(batch, Findings())[1], Filter())))
    rates = {"headrace, measures of both Gopher filters": ours, "headrace, all rules": everything, **theirs}
    print(f"\n{len(texts):,} documents {name}, {megabytes:.1f} MB, one core")
    for what, spent in rates.items():
        print(f"  {what}: {len(texts) / spent:,.0f} docs/s, {megabytes / spent:.2f} MB/s")
    gopher = theirs["GopherQualityFilter"] + theirs["GopherRepetitionFilter"]
    print(f"  datatrove's two Gopher filters: {gopher / ours:.0f} times as long as the measures")
    print(f"  its three filters: {sum(theirs.values()) / everything:.1f} times as long as all rules with language")
    print("  dropped by                  both  only datatrove  only headrace  neither  kappa")
    for what, rules in FAMILIES.items():
        mine = np.logical_or.reduce([verdicts[rule] for rule in rules])
        yours = np.array([reason not in ("", *APART) for reason in reasons[what]])
        print(f"  {what:24} {agreement(yours, mine)}")
    for what, told in reasons.items():
        print(f"  {what}: {dict(Counter(filter(None, told)).most_common())}")
    dropped = Counter({rule.value: int(failing.sum()) for rule, failing in verdicts.items() if failing.any()})
    print(f"  headrace: {dict(dropped.most_common())}")
    assert gopher > ours


@pytest.mark.benchmark
def test_what_each_part_costs(capsys: pytest.CaptureFixture[str]) -> None:
    texts = corpus(1_000)
    batch = documents_of(texts)
    column = batch["text"]
    data, offsets = content(column)
    options, findings = Filter(), Findings()
    identifier, reader = Identifier(options.candidates, 0.6), Reader(options)
    _, facts = reader.read(batch, findings)
    model = Model()
    model.learn(column, batch["id"])
    korean = [KOREAN * (1 + n % 20) for n in range(1_000)]
    prose, nothing = np.ones(len(texts), bool), np.zeros(len(texts), bool)
    lists = {
        purpose: Phrases(phrase for phrases in read_list(purpose).values() for phrase in phrases)
        for purpose in ("spam", "harmful", "placeholder")
    }
    costs = {
        "language, English": seconds(lambda: [identifier.identify(text) for text in texts]),
        "language, Korean": seconds(lambda: [identifier.identify(text) for text in korean]),
        "characters and lines (code, tables)": seconds(lambda: kernel.measure(data, offsets, nothing)),
        "characters, lines, words and n-grams (prose)": seconds(lambda: kernel.measure(data, offsets, prose)),
        "finding boilerplate": seconds(lambda: boilerplate.likely(column)),
        "removing it": seconds(
            lambda: [boilerplate.clean(texts[row]) for row in np.flatnonzero(boilerplate.likely(column))]
        ),
        **{
            f"{purpose} phrases": seconds(
                lambda phrases=phrases: [phrases.count(texts[row]) for row in np.flatnonzero(phrases.likely(column))]
            )
            for purpose, phrases in lists.items()
        },
        "perplexity, learning": seconds(lambda: Model().learn(column, batch["id"])),
        "perplexity, judging": seconds(lambda: model.perplexity(column, batch["id"])),
        "all rules' verdicts": seconds(lambda: list(judge(facts, options))),
        "quality score": seconds(lambda: score(facts, options)),
        "all but perplexity": seconds(lambda: reader.read(batch, findings)),
    }
    megabytes = len(data) / 1e6
    with capsys.disabled():
        print(f"\n{len(texts):,} documents of prose, {megabytes:.1f} MB, one core")
        for name, spent in costs.items():
            print(f"  {name}: {1e6 * spent / len(texts):,.1f} µs a document")
        print(f"  all but perplexity: {megabytes / costs['all but perplexity']:.1f} MB/s")
    assert costs["all but perplexity"] > 0
