"""Deduplication against datasketch's own bulk path, on the same real documents in the same run."""

import re
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import xxhash
from datasketch import MinHash, MinHashLSH

from components.common.documents import DocumentWriter, new_document
from components.common.environment import Environment
from components.common.step import Context
from components.data.deduplicate.minhash import cluster
from components.data.deduplicate.options import Deduplicate
from components.data.deduplicate.stages import bands_and_rows

WORD = re.compile(r"[\u1100-\u11ff\u3040-\u31ff\u3400-\u9fff\uac00-\ud7ff]|\w+")


def corpus(limit: int) -> list[str]:
    texts = []
    for path in sorted(Path(np.__file__).parents[1].rglob("*.py")):
        text = path.read_text("utf-8", errors="ignore")
        if 200 < len(text) < 100_000:
            texts.append(text)
        if len(texts) == limit:
            break
    return texts


def datasketch_clusters(texts: list[str], options: Deduplicate) -> list[set[int]]:
    """Near-duplicate pairs as datasketch's users find them: bulk signatures, an LSH index, a query for each."""
    bands, rows = bands_and_rows(options)
    shingled = []
    for text in texts:
        words = WORD.findall(text.lower())
        size = options.shingle
        shingled.append({" ".join(words[at : at + size]).encode() for at in range(max(1, len(words) - size + 1))})
    signatures = MinHash.bulk(shingled, num_perm=bands * rows, hashfunc=xxhash.xxh32_intdigest)
    index = MinHashLSH(num_perm=bands * rows, params=(bands, rows))
    for number, signature in enumerate(signatures):
        index.insert(number, signature)
    return [set(index.query(signature)) for signature in signatures]


@pytest.mark.benchmark
def test_documents_per_second_against_datasketch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = corpus(3000)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    with DocumentWriter(tmp_path / "documents") as writer:
        writer.write(
            new_document(source="s", url=str(number), text=text, retrieved_at=when) for number, text in enumerate(texts)
        )
    options = Deduplicate()
    environment = Environment(name="benchmark", store=f"file://{tmp_path}", tracking="", signing_key="")

    began = time.process_time()
    cluster(tmp_path / "documents", options, Context("data/deduplicate", environment))
    ours = time.process_time() - began
    began = time.process_time()
    datasketch_clusters(texts, options)
    theirs = time.process_time() - began
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    with capsys.disabled():
        print(
            f"\n{len(texts):,} documents, {megabytes:.0f} MB: {len(texts) / ours:,.0f} documents per CPU-second "
            f"(reading and exact verification included), datasketch {len(texts) / theirs:,.0f} (signatures and index "
            f"only, not verified): ratio {theirs / ours:.1f}"
        )
    assert theirs > ours
