"""Vectors of chunks, kept in the store so that a second run computes only what is new.

Chunks are kept in bundles, by the digest of the embedder and of the bundle's texts and documents. A bundle begins with
a line that names every document that holds one of its texts: an erasure that looks for one of them finds the bundle,
and removes it. Numbers follow.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from components.common.ledger import canonical, sha256
from components.common.store import Store
from components.evaluation.retrieval.corpus import Corpus
from components.evaluation.retrieval.embedding import Embedder
from components.evaluation.retrieval.ranking import Embedded

KEPT = "embeddings"
"""Folder of the store that keeps vectors."""

_BUNDLES = 16
"""A text decides by its digest in which bundle it is: a changed document leaves the others as they are."""


def embed_chunks(
    corpus: Corpus, embedder: Embedder, store: Store, progress: Callable[[int], None]
) -> tuple[list[Embedded], int]:
    """Embed chunks, or read what was embedded before.

    Args:
        corpus: What is searched.
        embedder: Computes what is missing.
        store: Keeps vectors.
        progress: Called with the number of chunks done.

    Returns:
        The vectors in the order of the chunks, and how many of them had been kept.
    """
    texts = [chunk.told for chunk in corpus.chunks]
    bundles: dict[int, list[int]] = defaultdict(list)
    for number, text in enumerate(texts):
        bundles[int(sha256(text.encode())[:8], 16) % _BUNDLES].append(number)
    found: dict[int, Embedded] = {}
    missing: dict[str, tuple[list[int], list[str]]] = {}
    for _, numbers in sorted(bundles.items()):
        documents = sorted(frozenset().union(*(corpus.owners[number] for number in numbers)))
        content = sha256(canonical([documents, [texts[number] for number in numbers]]))
        key = f"{KEPT}/{embedder.digest[:16]}/{content}.vectors"
        if store.exists(key):
            found |= zip(numbers, _read(store.read(key)), strict=True)
        else:
            missing[key] = numbers, documents
    kept = len(found)
    progress(kept)
    new = [number for numbers, _ in missing.values() for number in numbers]
    embedded = embedder.embed([texts[number] for number in new], "document", lambda done: progress(kept + done))
    found |= zip(new, embedded, strict=True)
    for key, (numbers, documents) in missing.items():
        store.write(key, _written([found[number] for number in numbers], documents))
    return [found[number] for number in range(len(texts))], kept


def _written(vectors: Sequence[Embedded], documents: Sequence[str]) -> bytes:
    size = len(vectors[0].whole)
    head = {"documents": documents, "size": size, "tokens": [len(one.tokens) for one in vectors]}
    whole = np.stack([one.whole for one in vectors]).astype("<f2").tobytes()
    return json.dumps(head).encode() + b"\n" + whole + b"".join(one.tokens.tobytes() for one in vectors)


def _read(data: bytes) -> list[Embedded]:
    line, _, numbers = data.partition(b"\n")
    head = json.loads(line)
    size, lengths = head["size"], head["tokens"]
    split = 2 * size * len(lengths)
    whole = np.frombuffer(numbers[:split], "<f2").reshape(len(lengths), size)
    tokens = np.split(np.frombuffer(numbers[split:], np.int8).reshape(-1, size), np.cumsum(lengths)[:-1])
    return [Embedded(one, rows) for one, rows in zip(whole, tokens, strict=True)]
