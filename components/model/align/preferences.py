"""Preferences as they are trained on: read, sorted out, and split by question."""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from components.common.documents import read_batches
from components.common.errors import HeadraceError
from components.data.excerpt import may_quote
from components.data.feedback import REJECTED
from components.data.prefer.feedback import answers_of, group_of
from components.data.prefer.make import format_of
from components.data.prefer.wordings import SCHEMA
from components.data.reasons import Reason
from components.model.align.options import Align
from components.model.align.rewards import Asked
from components.model.tune.examples import stated
from components.model.tune.render import Renderer

Messages = list[dict[str, str]]
_ASKED_IN_WORDS = json.dumps(SCHEMA, sort_keys=True)
_COLUMNS = ("id", "messages", "language", "metadata", "confidentiality", "pii")


class LeftOut(Reason):
    """Why a preference is not trained on."""

    NO_ANSWER = "no_answer", "It does not end with a question and an answer or rejected answer of words."
    SAME_ANSWERS = "same_answers", "Its chosen and its rejected answer say the same."
    UNPAIRED = "unpaired", "It has one answer, and the method needs a chosen and a rejected one."
    NO_RIGHT_ANSWER = "no_right_answer", "It has a rejected answer only, and the method needs a right one."
    SPECIAL_TOKEN = "special_token", "A message holds a special token of the model, with which it could forge another."
    UNTOLD = "untold", "The chat template has a place of its own for its tools, and its words do not tell of them."
    TOO_LONG = "too_long", "With the chat template it has more tokens than `max_length`."


@dataclass(frozen=True)
class Preference:
    """One preference.

    Attributes:
        id: Id of its document.
        language: Language of the question.
        prompt: Messages before the answers, with what tuning tells of tools and schema.
        chosen: The good answer; '' where there is none.
        rejected: The bad answer; '' where there is none.
        asked: What an answer is judged by.
        group: What must not be split between training and measuring.
        told: Whether the prompt says which tools and schema there are.
        quotable: Whether a report may show it.
    """

    id: str
    language: str
    prompt: Messages
    chosen: str
    rejected: str
    asked: Asked
    group: str
    told: bool
    quotable: bool

    @property
    def paired(self) -> bool:
        """Whether it has both answers."""
        return bool(self.chosen and self.rejected)

    def answered(self, answer: str) -> Messages:
        """The dialogue with an answer."""
        return [*self.prompt, {"role": "assistant", "content": answer}]


@dataclass
class Preferences:
    """What is trained on and what is measured with.

    Attributes:
        training: Preferences to train on.
        held_out: Preferences of other questions, to measure with.
        documents: How many were read.
        dropped: How many were left out, by reason.
    """

    training: list[Preference]
    held_out: list[Preference]
    documents: int
    dropped: dict[str, int] = field(default_factory=dict)


def read_preferences(path: Path, tokenizer: PreTrainedTokenizerBase, options: Align) -> Preferences:
    """Read the preferences that a method can use, and hold some questions out.

    Args:
        path: Dialogues that end with a good answer, a rejected one, or both.
        tokenizer: Says how long they are.
        options: Method, length and the share to hold out.

    Raises:
        HeadraceError: None is left to train or to measure with, or KTO's are all good or all bad.
    """
    usable: list[Preference] = []
    documents = 0
    dropped: Counter[str] = Counter()
    renderer = Renderer(tokenizer)
    for batch in read_batches(path, _COLUMNS):
        for row in batch.to_pylist():
            documents += 1
            found = _preference(row, renderer)
            if reason := _unusable(found, tokenizer, renderer, options):
                dropped[reason] += 1
            else:
                usable.append(found)
    left_out = {str(reason): dropped[reason] for reason in LeftOut if dropped[reason]}
    told = ", ".join(f"{reason}: {count}" for reason, count in left_out.items()) or "there are none"
    if not usable:
        raise HeadraceError(
            f"none of the {documents} preferences can be used by {options.method} ({told}); import feedback with "
            "`headrace import`, or have data/prefer make some"
        )
    usable = _joined(usable)
    training, held_out = split(usable, options)
    if not training or not held_out:
        raise HeadraceError(
            f"{len(usable)} preferences on {len({one.group for one in usable})} questions are too few to hold some out "
            f"({told}); align needs two questions at least"
        )
    if options.method == "kto":
        _check_both_kinds(training)
    return Preferences(training, held_out, documents, left_out)


def split(preferences: Sequence[Preference], options: Align) -> tuple[list[Preference], list[Preference]]:
    """Hold a share of the questions out; which ones depends on the seed and the questions alone."""
    groups = sorted({one.group for one in preferences}, key=lambda group: _draw(options.seed, group))
    held_out = set(groups[: max(1, round(options.held_out * len(groups)))])
    return (
        [one for one in preferences if one.group not in held_out],
        [one for one in preferences if one.group in held_out],
    )


def _joined(preferences: Sequence[Preference]) -> list[Preference]:
    """Make one group of those that ask the same, so that no question is on both sides of a split."""
    leaders: dict[str, str] = {}
    asked: dict[str, str] = {}

    def leader(group: str) -> str:
        while leaders.setdefault(group, group) != group:
            group = leaders[group]
        return group

    for one in preferences:
        first, second = sorted((leader(asked.setdefault(_question(one), one.group)), leader(one.group)))
        leaders[second] = first
    return [replace(one, group=leader(one.group)) for one in preferences]


def _question(one: Preference) -> str:
    """The last thing that a person said, whatever its letters' case and spaces."""
    said = [message["content"] for message in one.prompt if message["role"] == "user"] or [one.prompt[-1]["content"]]
    return " ".join(unicodedata.normalize("NFKC", said[-1]).casefold().split())


def questions(preferences: Sequence[Preference]) -> list[Preference]:
    """One preference for each question that has a right answer, in order."""
    found: dict[str, Preference] = {}
    for one in preferences:
        if one.chosen:
            found.setdefault(one.asked.prompt, one)
    return list(found.values())


def _preference(row: dict[str, Any], renderer: Renderer) -> Preference:
    metadata = dict(row["metadata"])
    prompt, answers = answers_of(row["messages"])
    said = {message["role"]: message["content"].strip() for message in answers}
    chosen, rejected = said.get("assistant", ""), said.get(REJECTED, "")
    formal = any(metadata.get(name) for name in ("answer_format", "schema", "tools"))
    form, schema = format_of(chosen or rejected, metadata) if formal else ("", "")
    group = metadata.get("group") or group_of(prompt)
    told = _told(prompt, {**row, "metadata": metadata}, renderer)
    prompt = prompt if told is None else told
    asked = Asked(_text(prompt), chosen, form, schema)
    quotable = may_quote(row)
    return Preference(row["id"], row["language"], prompt, chosen, rejected, asked, group, told is not None, quotable)


def _told(prompt: Messages, row: Mapping[str, Any], renderer: Renderer) -> Messages | None:
    """The prompt with what its words do not say of tools and schema; None where the template has no place for it."""
    said = _text(prompt)
    tools, schema = (
        "" if one == _ASKED_IN_WORDS or one in said else one
        for one in (stated(row, "tools", list), stated(row, "schema", dict))
    )
    if not prompt or not (tools or schema):
        return prompt
    told = renderer.tell(prompt, tools, schema)
    try:
        renderer.render([[*told, {"role": "assistant", "content": "."}]] if told else [])
    except HeadraceError:  # it refuses a system message
        return None
    return told


def _text(messages: Messages) -> str:
    return "\n\n".join(message["content"] for message in messages)


def _unusable(
    one: Preference, tokenizer: PreTrainedTokenizerBase, renderer: Renderer, options: Align
) -> LeftOut | None:
    answers = [answer for answer in (one.chosen, one.rejected) if answer]
    if not answers or not one.prompt or one.prompt[-1]["role"] not in ("user", "tool"):
        return LeftOut.NO_ANSWER
    if one.chosen == one.rejected:
        return LeftOut.SAME_ANSWERS
    if options.method in ("dpo", "orpo", "rlhf") and not one.paired:
        return LeftOut.UNPAIRED
    if options.method == "grpo" and not one.chosen:
        return LeftOut.NO_RIGHT_ANSWER
    said = [*(message["content"] for message in one.prompt), *answers]
    if any(special in text for text in said for special in tokenizer.all_special_tokens):
        return LeftOut.SPECIAL_TOKEN
    if not one.told:
        return LeftOut.UNTOLD
    rendered = renderer.render([one.answered(answer) for answer in answers])
    return LeftOut.TOO_LONG if max(len(whole.tokens) for whole in rendered) > options.max_length else None


def _check_both_kinds(training: Sequence[Preference]) -> None:
    kinds = {kind for one in training for kind in ("good" * bool(one.chosen), "bad" * bool(one.rejected)) if kind}
    if len(kinds) == 1:
        [only] = kinds
        raise HeadraceError(
            f"every answer that kto would train on is {only} ({len(training)} of them); add feedback on "
            f"{'bad' if only == 'good' else 'good'} ones, or take another method"
        )


def _draw(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{key}".encode()).digest()
