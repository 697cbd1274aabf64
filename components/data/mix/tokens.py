"""Count the tokens of texts: by the tokenizer of the model to be trained, or by a measure that needs none."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.common.errors import UsageError
from components.common.ledger import file_digest
from components.common.store import Store

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WORDS = r"[\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hangul}\p{Hiragana}\p{Katakana}]+"
"""The measure without a tokenizer: a run without white space; a Chinese, Japanese or Korean character is one."""

_FILE = "tokenizer.json"
_BYTES = 1_000_000
"""Text that the tokenizer is given at once; it keeps some hundred bytes for each token of it."""


def count_words(text: pa.Array) -> np.ndarray:
    """Count the tokens of each text by the measure that needs no tokenizer."""
    return pc.count_substring_regex(text, WORDS).to_numpy(zero_copy_only=False).astype(np.int64)


class Measure:
    """Counts tokens.

    Args:
        tokenizer: A `tokenizer.json`, a folder that holds one, or a version of the store; empty for the measure that
            needs none.
        store: Where versions are.
        folder: Where the tokenizer of a version may be put.

    Raises:
        UsageError: There is no tokenizer, or it cannot be read.
    """

    def __init__(self, tokenizer: str, store: Store, folder: Path) -> None:
        self._tokenizer: Tokenizer | None = None
        self.name = "runs without white space; a Chinese, Japanese or Korean character is one of its own"
        if tokenizer:
            file = _find(tokenizer, store, folder)
            self._tokenizer = _load(file)
            self.name = f"tokenizer {tokenizer} (SHA-256 {file_digest(file)[:12]})"

    def count(self, text: pa.Array) -> np.ndarray:
        """Count the tokens of each text."""
        if self._tokenizer is None:
            return count_words(text)
        counted = [
            len(encoding.ids)
            for texts in _portions(text)
            for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        ]
        return np.array(counted, np.int64)


def _find(tokenizer: str, store: Store, folder: Path) -> Path:
    if tokenizer.startswith("models/"):
        key = f"{tokenizer.rstrip('/')}/{_FILE}"
        if not store.exists(key):
            raise UsageError(f"mix.tokenizer: {store.uri} has no {key}; see its models folder for what it has")
        store.download(key, folder / _FILE)
        return folder / _FILE
    path = Path(tokenizer).expanduser()
    file = path / _FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"mix.tokenizer: {file} does not exist; give a tokenizer.json or a folder that holds one")
    return file


def _load(file: Path) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(file))
    except Exception as error:  # the library has no exception of its own
        raise UsageError(f"mix.tokenizer: {file} is no tokenizer ({error}); save it with `save_pretrained`") from error
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def _portions(text: pa.Array) -> Iterator[list[str]]:
    ends = np.cumsum(pc.binary_length(text).to_numpy(zero_copy_only=False))
    start = 0
    while start < len(text):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BYTES, "right")))
        yield text.slice(start, stop - start).to_pylist()
        start = stop
