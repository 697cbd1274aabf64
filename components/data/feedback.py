"""Feedback on answers, in the layouts in which it is exchanged, as dialogues.

| record | dialogue |
| --- | --- |
| `prompt`, `chosen`, `rejected` | …, user, assistant, rejected |
| `prompt`, `completion`, `label` (true or false) | …, user, assistant if it is true, else …, user, rejected |
| `prompt`, `completion`, `rating` (1 to 5) | …, user, assistant from 3 on, else …, user, rejected |

A prompt, an answer or both may be text or a list of messages. Without a prompt it is what chosen and rejected begin
with.
"""

from collections.abc import Mapping
from typing import Any

from components.common.errors import HeadraceError

REJECTED = "rejected"
"""Role of an answer that should not be given; it stands last in its dialogue."""

RATING, LABEL = "rating", "label"
"""Keys of the metadata: how good an answer is from 1 to 5, and whether it is good at all."""

GOOD, BAD = 4, 2
"""Ratings from which on an answer is good, and up to which it is bad. What lies between says neither."""

_MEANS = {RATING: {str(value): value for value in range(1, 6)}, LABEL: {"true": 5, "false": 1}}

LAYOUT = ("prompt", "chosen", "rejected", "completion", LABEL, RATING)

Messages = list[dict[str, str]]


class FeedbackError(ValueError):
    """A record is no feedback; carries the field and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


def is_feedback(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is in one of the layouts of feedback rather than a document."""
    return "text" not in record and any(name in record for name in ("chosen", "rejected", "completion"))


def as_dialogue(record: Mapping[str, Any]) -> dict[str, Any]:
    """Write feedback as the fields of a document: text, messages and metadata; other fields stay.

    Raises:
        FeedbackError: A field of its layout is missing, unknown or wrong.
    """
    others = {name: value for name, value in record.items() if name not in LAYOUT}
    if "messages" in others:
        raise FeedbackError("messages", "stands beside feedback; leave it out, chosen or completion says it")
    if not isinstance(metadata := others.get("metadata", {}), dict):
        raise FeedbackError("metadata", "must be an object whose values are strings")
    if "completion" in record:
        messages, said = _judged(record)
    else:
        messages, said = _compared(record), {}
    text = "\n\n".join(message["content"] for message in messages)
    return {**others, "text": text, "messages": messages, "metadata": {**metadata, **said}}


def rating(row: Mapping[str, Any]) -> int:
    """How good the answer of a dialogue is, from 1 to 5: its rating, or what its label or role says.

    Raises:
        HeadraceError: Its rating or label cannot be read; the message names the document.
    """
    stated = {name: value for name, value in dict(row["metadata"]).items() if name in _MEANS}
    for name, value in stated.items():
        if value not in _MEANS[name]:
            raise HeadraceError(
                f"document {row['id']} of {row['source']}: metadata.{name} is {value!r}, none of "
                f"{', '.join(_MEANS[name])}; correct it in the source, or give it another name if it is no feedback"
            )
    if RATING in stated:
        return _MEANS[RATING][stated[RATING]]
    if row["messages"][-1]["role"] == REJECTED:
        return _MEANS[LABEL]["false"]
    return _MEANS[LABEL][stated.get(LABEL, "true")]


def _compared(record: Mapping[str, Any]) -> Messages:
    for name in ("chosen", "rejected"):
        if name not in record:
            raise FeedbackError(name, "is missing; a preference has prompt, chosen and rejected")
    for name in (LABEL, RATING):
        if name in record:
            raise FeedbackError(name, "goes with prompt and completion, not with chosen and rejected")
    chosen, rejected = (_messages(record[name], name, "assistant") for name in ("chosen", "rejected"))
    if "prompt" in record:
        prompt = _messages(record["prompt"], "prompt", "user")
    else:
        prompt = chosen[:-1]
        if not prompt or rejected[:-1] != prompt:
            raise FeedbackError("prompt", "is missing; give it, or messages that both answers begin with")
    answers = [_answer(answer, name, prompt) for answer, name in ((chosen, "chosen"), (rejected, "rejected"))]
    if answers[0].strip() == answers[1].strip():
        raise FeedbackError("rejected", "says the same as chosen")
    return [*prompt, {"role": "assistant", "content": answers[0]}, {"role": REJECTED, "content": answers[1]}]


def _judged(record: Mapping[str, Any]) -> tuple[Messages, dict[str, str]]:
    if "prompt" not in record:
        raise FeedbackError("prompt", "is missing")
    for name in ("chosen", "rejected"):
        if name in record:
            raise FeedbackError(name, "goes with prompt alone, not with completion")
    if (LABEL in record) == (RATING in record):
        raise FeedbackError(LABEL, "is missing; a completion has a label (true or false) or a rating (1 to 5)")
    prompt = _messages(record["prompt"], "prompt", "user")
    answer = _answer(_messages(record["completion"], "completion", "assistant"), "completion", prompt)
    if LABEL in record:
        if record[LABEL] not in (True, False):
            raise FeedbackError(LABEL, "is neither true nor false")
        good, said = bool(record[LABEL]), {LABEL: str(bool(record[LABEL])).lower()}
    else:
        rating = record[RATING]
        if isinstance(rating, bool) or not isinstance(rating, int | float) or rating not in range(1, 6):
            raise FeedbackError(RATING, "is no whole number from 1 to 5")
        good, said = rating > BAD, {RATING: str(int(rating))}
    return [*prompt, {"role": "assistant" if good else REJECTED, "content": answer}], said


def _messages(value: Any, field: str, role: str) -> Messages:
    if isinstance(value, str):
        value = [{"role": role, "content": value}]
    if not isinstance(value, list) or not value:
        raise FeedbackError(field, "must be text or a list of messages")
    for message in value:
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise FeedbackError(field, "must be text or a list of objects with role and content")
        if not all(isinstance(part, str) for part in message.values()):
            raise FeedbackError(field, "has a role or content that is no string")
    if not value[-1]["content"].strip():
        raise FeedbackError(field, "is empty")
    return [dict(message) for message in value]


def _answer(messages: Messages, field: str, prompt: Messages) -> str:
    """The one answer after the prompt, which messages may begin with."""
    rest = messages[len(prompt) :] if messages[: len(prompt)] == prompt else messages
    if len(rest) != 1 or rest[0]["role"] != "assistant":
        raise FeedbackError(field, "must be one answer of the assistant after the prompt")
    if prompt[-1]["role"] not in ("user", "tool"):
        raise FeedbackError("prompt", "must end with what the user or a tool said")
    return rest[0]["content"]
