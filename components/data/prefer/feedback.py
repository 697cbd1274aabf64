"""Feedback of people in a dataset: preferences as they are, and answers to one question paired by their ratings."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from components.common.documents import CONFIDENTIALITY, DocumentWriter, new_document, read_batches, read_table
from components.common.step import Context
from components.data.curate.select import plain
from components.data.curate.survey import draw
from components.data.feedback import BAD, GOOD, LABEL, RATING, REJECTED, rating
from components.data.prefer.options import Prefer
from components.data.prefer.provenance import inherit
from components.data.reasons import Reason

Row = dict[str, Any]
_CARRIED = ("schema", "tools", "weight", "answer_format")
"""Keys of the metadata that say how an answer is to be judged."""


class Unused(Reason):
    """Why feedback is not used."""

    CONFIDENTIAL = "confidential", "It is more confidential than the recipe's ceiling."
    NO_PROMPT = "no_prompt", "Nothing is asked before the answer."
    HELD_OUT = "held_out", "It asks a question that is held out for evaluation."
    UNDECIDED = "undecided", "Its rating says neither good nor bad, and no other answer to its question is rated apart."
    BEYOND_MOST = "beyond_most", "There is more than `most`."
    MADE_BEYOND_MOST = "made_beyond_most", "It is made, and with the feedback there is more than `most`."


def gather(dataset: Path, questions: Path, options: Prefer, context: Context) -> tuple[list[Row], int, dict[str, int]]:
    """Take the feedback out of a dataset.

    Args:
        dataset: The dataset version.
        questions: Held-out questions, which may be neither asked nor given away.
        options: The ceiling, the budget and the gap between ratings.
        context: The run.

    Returns:
        Preferences in the order of the draw, how many documents of feedback there are, and how many of them are not
        used, by reason.
    """
    asked = read_table(questions, ["messages"]).column("messages").to_pylist()
    held_out = {plain(messages[-2]["content"]) for messages in asked if len(messages) > 1}
    dropped: Counter[str] = Counter()
    usable = []
    documents = 0
    for row in _feedback(dataset):
        documents += 1
        if reason := _unusable(row, held_out, options):
            dropped[reason] += 1
        else:
            usable.append(row)
    ready: list[tuple[bytes, Row]] = []
    judged: dict[bytes, list[Row]] = defaultdict(list)
    clean, given_away = _decontaminated(usable, questions, options, context)
    dropped.update(given_away)
    for row in clean:
        if is_pair(row["messages"]):
            ready.append((draw(options.seed, row["id"]), _written(row, row["messages"], [row])))
        else:
            prompt, _ = answers_of(row["messages"])
            judged[draw(options.seed, f"{row['source']}\x1f{_key(prompt)}")].append(row)
    for place, rows in judged.items():
        paired, alone, undecided = pair(rows, options.rating_gap)
        dropped[Unused.UNDECIDED] += undecided
        ready += [(place, row) for row in (*paired, *alone)]
    ready.sort(key=lambda found: (found[0], found[1]["id"]))
    dropped[Unused.BEYOND_MOST] += max(0, len(ready) - options.most)
    kept = [row for _, row in ready[: options.most]]
    return kept, documents, {str(reason): count for reason, count in dropped.items() if count}


def pair(rows: Sequence[Row], gap: int) -> tuple[list[Row], list[Row], int]:
    """Pair answers to one question: the best, unless it is bad, with each that is worse by at least a gap.

    Args:
        rows: Documents with one judged answer each, to the same question.
        gap: Least difference of ratings.

    Returns:
        Pairs, answers that stay alone because they are plainly good or bad, and how many are neither.
    """
    ordered = sorted(rows, key=lambda row: (-rating(row), row["id"]))
    best, others = ordered[0], ordered[1:]
    paired = []
    used: set[str] = set()
    for worse in others:
        good, bad = (row["messages"][-1]["content"] for row in (best, worse))
        if rating(best) > BAD and rating(best) - rating(worse) >= gap and good.strip() != bad.strip():
            prompt = best["messages"][:-1]
            messages = [*prompt, {"role": "assistant", "content": good}, {"role": REJECTED, "content": bad}]
            paired.append(_written(best, messages, [best, worse]))
            used |= {best["id"], worse["id"]}
    left = [row for row in ordered if row["id"] not in used]
    decided = [row for row in left if not BAD < rating(row) < GOOD]
    alone = []
    for row in decided:
        role = "assistant" if rating(row) >= GOOD else REJECTED
        messages = [*row["messages"][:-1], {"role": role, "content": row["messages"][-1]["content"]}]
        alone.append(_written(row, messages, [row]))
    return paired, alone, len(left) - len(decided)


def answers_of(messages: Sequence[dict[str, str]]) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Cut a dialogue of feedback into what was said before, and the answers that are judged."""
    last = 2 if is_pair(messages) else 1
    return list(messages[:-last]), list(messages[-last:])


def is_pair(messages: Sequence[dict[str, str]]) -> bool:
    """Tell whether a dialogue ends with an answer and a rejected one."""
    return [message["role"] for message in messages[-2:]] == ["assistant", REJECTED]


def group_of(prompt: Sequence[dict[str, str]]) -> str:
    """Name what must not be split between training and measuring: here the question."""
    return hashlib.sha256(_key(prompt).encode()).hexdigest()[:16]


def _key(prompt: Sequence[dict[str, str]]) -> str:
    return "\x1f".join(f"{message['role']}\x1e{message['content'].strip()}" for message in prompt)


def _feedback(dataset: Path) -> Iterable[Row]:
    """Dialogues that say how good their last answer is."""
    for batch in read_batches(dataset):
        for row in batch.to_pylist():
            if not row["messages"]:
                continue
            metadata = dict(row["metadata"])
            if row["messages"][-1]["role"] == REJECTED or (
                row["messages"][-1]["role"] == "assistant" and (RATING in metadata or LABEL in metadata)
            ):
                yield row


def _unusable(row: Row, held_out: set[str], options: Prefer) -> Unused | None:
    prompt, _ = answers_of(row["messages"])
    if CONFIDENTIALITY.index(row["confidentiality"]) > CONFIDENTIALITY.index(options.max_confidentiality):
        return Unused.CONFIDENTIAL
    if not prompt:
        return Unused.NO_PROMPT
    return Unused.HELD_OUT if plain(prompt[-1]["content"]) in held_out else None


def _decontaminated(
    rows: Sequence[Row], questions: Path, options: Prefer, context: Context
) -> tuple[list[Row], dict[str, int]]:
    """Leave out what data/decontaminate would leave out of training pairs; how many, by its reasons."""
    from components.data.decontaminate.clean import run_pairs  # compiled: no part of the image of model/align

    if not rows:
        return [], {}
    with TemporaryDirectory() as folder:
        feedback, clean = Path(folder, "feedback"), Path(folder, "clean")
        with DocumentWriter(feedback) as writer:
            writer.write({**row, "metadata": dict(row["metadata"])} for row in rows)
        clean.mkdir()
        outcome = run_pairs(feedback, questions, clean, options.decontaminate, context)
        return read_table(clean).to_pylist(), outcome.dropped


def _written(row: Row, messages: Sequence[dict[str, str]], parents: Sequence[Row]) -> Row:
    """Write a preference down."""
    metadata = {name: value for name, value in dict(row["metadata"]).items() if name in (*_CARRIED, RATING, LABEL)}
    prompt, _ = answers_of(messages)
    return new_document(
        text="\n\n".join(message["content"] for message in messages),
        kind="dialogue",
        messages=list(messages),
        language=row["language"],
        parents=[one["id"] for one in parents],
        metadata={**metadata, "origin": "feedback", "group": group_of(prompt)},
        **inherit(parents),
    )
