"""Search a corpus in each of the ways that are compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from components.evaluation.retrieval.embedding import Embedder, locate
from components.evaluation.retrieval.options import Retrieval, Retriever
from components.evaluation.retrieval.ranking import Embedded, Words, best, diversify, fuse, late_interaction
from components.model.precision import weight_type

RETRIEVERS: tuple[Retriever, ...] = ("dense", "sparse", "hybrid", "mmr", "reranked")


class Search:
    """The ways to search a corpus.

    Args:
        texts: The chunks, as they are indexed.
        vectors: Their vectors.
        embedder: Embeds questions.
        options: How to score, fuse and order.
    """

    def __init__(
        self, texts: Sequence[str], vectors: Sequence[Embedded], embedder: Embedder, options: Retrieval
    ) -> None:
        self._texts = texts
        self._vectors = vectors
        self._whole = np.stack([one.whole for one in vectors]).astype(np.float32)
        self._words = Words(texts, options.k1, options.b)
        self._embedder = embedder
        self._options = options
        self._reader = CrossEncoder(options.reranker, options.precision) if options.reranker else None

    def rank(self, question: str, language: str, retriever: Retriever) -> np.ndarray:
        """Rank every chunk for a question.

        Args:
            question: What is looked for.
            language: Its language. Where the embedder does not know it, ways that use both meaning and words use words
                alone.
            retriever: In which way.

        Returns:
            Numbers of the chunks, the best first.
        """
        by_words = best(self._words.scores(question))
        if retriever == "sparse" or (retriever != "dense" and language not in self._options.embedder_languages):
            return by_words
        asked = self._embedder.embed([question], "query")[0]
        vector = asked.whole.astype(np.float32)
        by_meaning = best(self._whole @ vector)
        if retriever == "dense":
            return by_meaning
        both = fuse([by_meaning, by_words], self._options.fusion)
        if retriever == "mmr":
            return diversify(both, vector, self._whole, self._options.relevance, self._options.candidates)
        if retriever == "reranked":
            pool = both[: self._options.candidates]
            return np.concatenate([pool[best(self._look_closer(question, asked, pool))], both[len(pool) :]])
        return both

    def _look_closer(self, question: str, asked: Embedded, pool: np.ndarray) -> np.ndarray:
        if self._reader:
            return self._reader.scores(question, [self._texts[number] for number in pool])
        return np.array([late_interaction(asked.tokens, self._vectors[number].tokens) for number in pool])


class CrossEncoder:
    """A model that reads a question and a chunk together and says how well they fit (Nogueira and Cho 2019).

    Args:
        model: `package:NAME` of an installed package that holds one, or a directory.
        precision: `auto`, `bf16` or `fp32`.
    """

    def __init__(self, model: str, precision: str) -> None:
        folder = locate(model)
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=weight_type(precision), use_safetensors=True
        )
        self._network = loaded.to(device).eval()
        self._longest = min(self._network.config.max_position_embeddings, self._tokenizer.model_max_length)

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """Score every text; a model with several classes by the last one."""
        encoded = self._tokenizer(
            [question] * len(texts),
            list(texts),
            truncation="only_second",
            max_length=self._longest,
            padding=True,
            return_tensors="pt",
        ).to(self._network.device)
        with torch.inference_mode():
            logits = self._network(**encoded).logits.float()
        return logits[:, -1].cpu().numpy()
