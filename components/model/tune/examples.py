"""What a training learns from: documents as tokens, with what is scored and what it weighs."""

import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from components.common.documents import read_batches
from components.common.errors import HeadraceError
from components.data.reasons import Reason
from components.model.json_answers import call_violation, json_violation, read_calls
from components.model.tune.chunks import Chunk, borders, split
from components.model.tune.inputs import Chunks
from components.model.tune.render import Rendered, Renderer

UNSCORED = -100
"""Label of a token that is not scored."""


class LeftOut(Reason):
    """Why a document is not trained on."""

    NO_ANSWER = "no_answer", "It does not end with an answer to a question."
    NO_TEXT = "no_text", "It has neither messages nor text."
    TOO_LONG = "too_long", "With the chat template it has more tokens than `max_length`, and `chunks` are off."
    SPECIAL_TOKEN = "special_token", "A message holds a special token of the model, with which it could forge another."
    BROKEN_CALL = "broken_call", "Its answer calls a function that it was not given, or otherwise than its schema says."
    BROKEN_JSON = "broken_json", "Its answer is not JSON that meets the schema it was asked for."
    NO_WEIGHT = "no_weight", "Its weight is 0."


@dataclass(frozen=True)
class Example:
    """A sequence that the model is trained on: a document, or a chunk of one.

    Attributes:
        record: Id of the document.
        tokens: Ids of its tokens, int32.
        scored_from: Position of the first token that is scored; all after it are too.
        scored: How many tokens of the document are scored, in all its chunks together.
        weight: What its scored tokens count, 1 for an ordinary document.
    """

    record: str
    tokens: np.ndarray
    scored_from: int
    scored: int
    weight: float = 1.0

    def __len__(self) -> int:
        """How many tokens it has."""
        return len(self.tokens)

    @property
    def labels(self) -> np.ndarray:
        """The tokens, `UNSCORED` where they are not scored."""
        labels = self.tokens.copy()
        labels[: self.scored_from] = UNSCORED
        return labels


@dataclass
class Examples:
    """The examples of an artifact of documents, in their order.

    Attributes:
        examples: What is trained on.
        documents: How many documents were read.
        dropped: How many were left out, by reason.
        dialogues: How many of the rest are dialogues: their answer is scored.
        texts: How many are texts without messages: all of them is scored.
        split: How many were split into chunks.
        longest: Tokens of the longest document that is trained on, before splitting.
    """

    examples: list[Example] = field(default_factory=list)
    documents: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    dialogues: int = 0
    texts: int = 0
    split: int = 0
    longest: int = 0

    @property
    def trained(self) -> int:
        """How many documents are trained on."""
        return self.dialogues + self.texts

    @property
    def records(self) -> list[str]:
        """Ids of the documents that are trained on, each once, in order."""
        return list(dict.fromkeys(example.record for example in self.examples))

    def leave_out(self, reason: LeftOut) -> None:
        """Count a document that is not trained on."""
        self.dropped[reason] = self.dropped.get(reason, 0) + 1


def read_examples(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, chunks: Chunks) -> Examples:
    """Read what can be trained on.

    A document with messages is a dialogue and its last answer is learnt; one without is a text, all of which is. A
    dialogue may have in its metadata `tools` (JSON list of functions), `schema` (JSON schema of its answer) and, like a
    text, `weight`.

    Args:
        path: Documents.
        tokenizer: Tokenizer of the model, with its chat template.
        max_length: Most tokens of an example.
        chunks: What happens to longer documents.

    Raises:
        HeadraceError: A document's metadata cannot be read, the chat template does not fit, nothing is left to train
            on, or all answers are the same.
    """
    found, answers = Examples(), set()
    reader = _Reader(tokenizer, max_length, chunks, found)
    for batch in read_batches(path, ["id", "text", "messages", "metadata"]):
        documents = batch.to_pylist()
        found.documents += len(documents)
        dialogues, texts = [], []
        for document in documents:
            document["metadata"] = dict(document["metadata"])
            if reason := reader.unfit(document):
                found.leave_out(reason)
            elif document["messages"]:
                dialogues.append(document)
                answers.add(document["messages"][-1]["content"].strip())
            else:
                texts.append(document)
        found.examples += reader.read(dialogues, texts)
    found.dropped = {str(reason): found.dropped[reason] for reason in LeftOut if reason in found.dropped}
    if not found.examples:
        counts = ", ".join(f"{reason}: {count}" for reason, count in found.dropped.items()) or "there are none"
        raise HeadraceError(f"none of the {found.documents} pairs can be trained on ({counts})")
    if found.dialogues > 1 and len(answers) == 1 and not found.texts:
        raise HeadraceError(
            f"all {found.dialogues} pairs have the same answer, and a model would learn to give it whatever it is "
            "asked; train on pairs with different answers"
        )
    return found


def is_answered(messages: Sequence[Mapping[str, str]]) -> bool:
    """Tell whether a dialogue ends with an answer that has words, given to somebody or to what a tool returned."""
    return (
        len(messages) > 1
        and messages[-1]["role"] == "assistant"
        and bool(messages[-1]["content"].strip())
        and messages[-2]["role"] in ("user", "tool")
    )


def stated(document: Mapping[str, Any], name: str, kind: type[list[Any]] | type[dict[str, Any]]) -> str:
    """What a document's metadata states as JSON; '' where it states nothing.

    Args:
        document: Its id, and its metadata as a dictionary.
        name: Name in the metadata: `tools` or `schema`.
        kind: What the JSON must be.

    Raises:
        HeadraceError: It is something else.
    """
    given: str = document["metadata"].get(name, "")
    if given:
        try:
            value = json.loads(given)
        except ValueError:
            value = None
        if not isinstance(value, kind):
            wanted = "a JSON list of functions" if kind is list else "a JSON schema, which is an object"
            raise HeadraceError(f"document {document['id']}: metadata.{name} is not {wanted}; correct or remove it")
    return given


class _Reader:
    """Turns documents into examples, and counts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, chunks: Chunks, found: Examples) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._chunks = chunks
        self._found = found
        self._renderer: Renderer | None = None

    def unfit(self, document: Mapping[str, Any]) -> LeftOut | None:
        """Why a document cannot be trained on, as far as its words tell."""
        messages = document["messages"]
        if not _weight(document):
            return LeftOut.NO_WEIGHT
        if not messages:
            return None if document["text"].strip() else LeftOut.NO_TEXT
        if not is_answered(messages):
            return LeftOut.NO_ANSWER
        specials = self._tokenizer.all_special_tokens
        if any(special in message["content"] for message in messages for special in specials):
            return LeftOut.SPECIAL_TOKEN
        answer = messages[-1]["content"]
        if (tools := stated(document, "tools", list)) and _calls(answer) and call_violation(answer, tools):
            return LeftOut.BROKEN_CALL
        if (schema := stated(document, "schema", dict)) and json_violation(answer, schema):
            return LeftOut.BROKEN_JSON
        return None

    def read(self, dialogues: Sequence[Mapping[str, Any]], texts: Sequence[Mapping[str, Any]]) -> Iterator[Example]:
        """Make the examples of a batch of documents."""
        if dialogues:
            self._renderer = self._renderer or Renderer(self._tokenizer)
            rendered = self._renderer.render(
                [document["messages"] for document in dialogues],
                [stated(document, "tools", list) for document in dialogues],
                [stated(document, "schema", dict) for document in dialogues],
            )
            for document, dialogue in zip(dialogues, rendered, strict=True):
                kept = yield from self._fit(document, dialogue)
                self._found.dialogues += kept
        if texts:
            # What looks like a special token in a text is text.
            encoded = self._tokenizer([document["text"] for document in texts], split_special_tokens=True)["input_ids"]
            end = self._tokenizer.eos_token_id
            for document, tokens in zip(texts, encoded, strict=True):
                ended = tokens if tokens[-1:] == [end] else [*tokens, end]
                kept = yield from self._fit(document, Rendered(ended, 0, document["text"]))
                self._found.texts += kept

    def _fit(self, document: Mapping[str, Any], whole: Rendered) -> Generator[Example, None, bool]:
        length = len(whole.tokens)
        if length > self._max_length and not self._chunks.on:
            self._found.leave_out(LeftOut.TOO_LONG)
            return False
        self._found.longest = max(self._found.longest, length)
        self._found.split += length > self._max_length
        tokens = np.asarray(whole.tokens, np.int32)
        weight = _weight(document)
        # Nothing precedes the first token of a sequence, from which it could be told.
        cut = [(chunk, max(chunk.start + 1, whole.answer, chunk.fresh)) for chunk in self._cut(document, whole)]
        learned = [(chunk, first) for chunk, first in cut if first < chunk.stop]
        scored = sum(chunk.stop - first for chunk, first in learned)
        for chunk, first in learned:
            yield Example(document["id"], tokens[chunk.start : chunk.stop], first - chunk.start, scored, weight)
        return True

    def _cut(self, document: Mapping[str, Any], whole: Rendered) -> list[Chunk]:
        length = len(whole.tokens)
        if length <= self._max_length:
            return [Chunk(0, 0, length)]
        starts: list[int] = []
        for begin, end in pairwise(sorted({0, whole.border, len(whole.text)})):
            encoded = self._tokenizer(
                whole.text[begin:end],
                add_special_tokens=not document["messages"],
                split_special_tokens=not document["messages"],
                return_offsets_mapping=True,
            )
            starts += [begin + start for start, _ in encoded["offset_mapping"]]
        starts += [len(whole.text)] * (length - len(starts))  # what ends a text
        return split(length, self._max_length, self._chunks.overlap, borders(whole.text, starts))


def _calls(answer: str) -> bool:
    try:
        return bool(read_calls(answer))
    except (ValueError, RecursionError):
        return False


def _weight(document: Mapping[str, Any]) -> float:
    given = document["metadata"].get("weight", "1")
    try:
        weight = float(given)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise HeadraceError(f"document {document['id']}: metadata.weight is {given!r}; write a number from 0 up")
    return weight
