"""Training pairs: dialogues as prompt and completion."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from components.common.documents import read_batches
from components.data.reasons import Reason


class LeftOut(Reason):
    """Why a pair is not trained on."""

    NO_ANSWER = "no_answer", "It does not end with an answer to a question."
    TOO_LONG = "too_long", "With the chat template it has more tokens than `max_length`."


@dataclass(frozen=True)
class Pairs:
    """Pairs in trl's conversational prompt-completion form.

    Attributes:
        rows: Each with `prompt` and `completion`, lists of messages.
        records: For each row the id of its document.
        documents: How many documents they were read from.
        dropped: How many were left out, by reason.
        longest: Tokens of the longest pair.
    """

    rows: list[dict[str, Any]]
    records: list[str]
    documents: int
    dropped: dict[str, int]
    longest: int


def read_pairs(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Pairs:
    """Read the dialogues that can be trained on, in order.

    Args:
        path: Documents with messages.
        tokenizer: Says how long a pair is.
        max_length: Most tokens of a pair, chat template included.
    """
    rows, records, documents, longest = [], [], 0, 0
    dropped = dict.fromkeys((str(reason) for reason in LeftOut), 0)
    for batch in read_batches(path, ["id", "messages"]):
        for record, messages in zip(*(batch.column(name).to_pylist() for name in ("id", "messages")), strict=True):
            documents += 1
            if not is_answered(messages):
                dropped[LeftOut.NO_ANSWER] += 1
                continue
            tokens = len(tokenizer.apply_chat_template(messages, return_dict=False))
            if tokens > max_length:
                dropped[LeftOut.TOO_LONG] += 1
                continue
            longest = max(longest, tokens)
            rows.append({"prompt": messages[:-1], "completion": messages[-1:]})
            records.append(record)
    return Pairs(rows, records, documents, {reason: count for reason, count in dropped.items() if count}, longest)


def is_answered(messages: Sequence[dict[str, str]]) -> bool:
    """Tell whether a dialogue ends with an answer that has words, given to somebody."""
    return (
        len(messages) > 1
        and messages[-1]["role"] == "assistant"
        and bool(messages[-1]["content"].strip())
        and messages[-2]["role"] == "user"
    )
