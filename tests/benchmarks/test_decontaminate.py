"""What looking for evaluation sets costs, on real documents.

.venv/bin/pytest -m benchmark tests/benchmarks/test_decontaminate.py
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from components.common.documents import DocumentWriter, new_document
from components.common.environment import Environment
from components.common.step import Context
from components.data.decontaminate.clean import run
from components.data.decontaminate.items import read_set
from components.data.decontaminate.options import Decontaminate, EvaluationSet
from components.data.decontaminate.patterns import Patterns

QUESTIONS = 20_000


def sources() -> tuple[list[str], list[str]]:
    """Code and documentation of the installed packages: nine of ten to clean, paragraphs of the tenth to ask."""
    site = Path(np.__file__).parents[1]
    files = sorted(path for end in ("*.md", "*.rst", "METADATA", "*.py") for path in site.rglob(end))[:20_000]
    texts, asked = [], []
    for number, path in enumerate(files):
        text = path.read_text("utf-8", errors="ignore")
        if 200 < len(text) < 100_000:
            if number % 10:
                texts.append(text)
            else:
                asked += [part for part in text.split("\n\n") if 60 < len(part) < 600]
    return texts, asked[:QUESTIONS]


@pytest.mark.benchmark
def test_documents_a_second(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts, asked = sources()
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with DocumentWriter(tmp_path / "documents") as writer:
        for begin in range(0, len(texts), 1_000):
            writer.write(
                new_document(source="s", url=str(begin + n), text=text, retrieved_at=when)
                for n, text in enumerate(texts[begin : begin + 1_000])
            )
    exam = tmp_path / "exam.jsonl"
    exam.write_text("\n".join(json.dumps({"question": question}) for question in asked), "utf-8")
    options = Decontaminate(sets=[EvaluationSet(name="exam", location=str(exam))])
    environment = Environment(name="bench", store=f"file://{tmp_path}/store", tracking="", signing_key="")
    began = time.process_time()
    patterns = Patterns([read_set(options.sets[0])], options)
    read = time.process_time() - began
    (tmp_path / "clean").mkdir()
    with capsys.disabled():
        began = time.process_time()
        outcome = run(tmp_path / "documents", tmp_path / "clean", options, Context("bench", environment))
        spent = time.process_time() - began - read
        column = pa.array(texts, pa.large_string())
        began = time.process_time()
        patterns.find(column, [str(number) for number in range(len(texts))])
        looked = time.process_time() - began
        megabytes = sum(len(text.encode()) for text in texts) / 1e6
        print(
            f"\n{len(texts):,} documents, {megabytes:.0f} MB; {len(asked):,} questions, {len(patterns):,} runs of words"
        )
        print(f"  reading the questions: {read:.1f} s")
        print(
            f"  both passes, with reading and writing: {len(texts) / spent:,.0f} docs/s, {megabytes / spent:.0f} MB/s"
        )
        print(f"  looking alone: {megabytes / looked:.0f} MB/s")
        found = outcome.metrics
        print(f"  found {found['items_found']:,} questions, {found['common_phrases']:,} common phrases")
    assert outcome.counts_out
