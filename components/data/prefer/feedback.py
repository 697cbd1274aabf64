"""Feedback of people in a dataset: preferences as they are, and answers to one question paired by their ratings."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from components.common.documents import CONFIDENTIALITY, PII, new_document, read_batches
from components.data.curate.select import plain
from components.data.curate.survey import INHERITED, draw
from components.data.feedback import BAD, GOOD, LABEL, RATING, REJECTED, rating
from components.data.prefer.options import Prefer
from components.data.reasons import Reason

Row = dict[str, Any]
_COLUMNS = ("id", "messages", "language", "metadata", *INHERITED)
_CARRIED = ("schema", "tools", "weight", "answer_format")
"""Keys of the metadata that say how an answer is to be judged."""


class Unused(Reason):
    """Why feedback is not used."""

    CONFIDENTIAL = "confidential", "It is more confidential than the recipe's ceiling."
    HELD_OUT = "held_out", "It asks a question that is held out for evaluation."
    UNDECIDED = "undecided", "Its rating says neither good nor bad, and no other answer to its question is rated apart."
    BEYOND_MOST = "beyond_most", "There is more than `most`."


def gather(dataset: Path, held_out: set[str], options: Prefer) -> tuple[list[Row], int, dict[str, int]]:
    """Take the feedback out of a dataset.

    Args:
        dataset: The dataset version.
        held_out: Plain questions that may not be asked.
        options: The ceiling, the budget and the gap between ratings.

    Returns:
        Preferences in the order of the draw, how many documents of feedback there are, and how many of them are not
        used, by reason.
    """
    dropped: Counter[str] = Counter()
    ready: list[tuple[bytes, Row]] = []
    judged: dict[bytes, list[Row]] = defaultdict(list)
    documents = 0
    ceiling = CONFIDENTIALITY.index(options.max_confidentiality)
    for row in _feedback(dataset):
        documents += 1
        prompt, _ = answers_of(row["messages"])
        if CONFIDENTIALITY.index(row["confidentiality"]) > ceiling:
            dropped[Unused.CONFIDENTIAL] += 1
        elif plain(prompt[-1]["content"]) in held_out:
            dropped[Unused.HELD_OUT] += 1
        elif is_pair(row["messages"]):
            ready.append((draw(options.seed, row["id"]), _written(row, row["messages"], [row])))
        else:
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
    """Pair answers to one question: the best with each that is worse by at least a gap.

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
        if rating(best) - rating(worse) >= gap and good.strip() != bad.strip():
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
    for batch in read_batches(dataset, _COLUMNS):
        for row in batch.to_pylist():
            if len(row["messages"]) < 2:
                continue
            metadata = dict(row["metadata"])
            if row["messages"][-1]["role"] == REJECTED or (
                row["messages"][-1]["role"] == "assistant" and (RATING in metadata or LABEL in metadata)
            ):
                yield row


def _written(row: Row, messages: Sequence[dict[str, str]], parents: Sequence[Row]) -> Row:
    """Write a preference down; it is as confidential and as personal as the worst of its parents."""
    metadata = {name: value for name, value in dict(row["metadata"]).items() if name in (*_CARRIED, RATING, LABEL)}
    prompt, _ = answers_of(messages)
    inherited = {name: row[name] for name in INHERITED}
    inherited["confidentiality"] = max((one["confidentiality"] for one in parents), key=CONFIDENTIALITY.index)
    inherited["pii"] = max((one["pii"] for one in parents), key=PII.index)
    inherited["subjects"] = sorted({subject for one in parents for subject in one["subjects"]})
    return new_document(
        text="\n\n".join(message["content"] for message in messages),
        kind="dialogue",
        messages=list(messages),
        language=row["language"],
        parents=[one["id"] for one in parents],
        metadata={**metadata, "origin": "feedback", "group": group_of(prompt)},
        **inherited,
    )
