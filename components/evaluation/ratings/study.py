"""A rating study: which answers are rated, by whom and in which order, blind to the model that gave them.

A folder holds `study.json`, which raters may see; `key.json`, which says whose answers these are and stays with whoever
runs the study; and `ratings/<rater>.csv`, what has been rated so far.
"""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.common.errors import HeadraceError, UsageError
from components.common.ledger import canonical, sha256
from components.common.options import describe_validation
from components.evaluation.evidence import BASE, CANDIDATE, SAMPLES
from components.evaluation.incumbent.identity import measured_of
from components.model.versions import read_json

STUDY, KEY, RATED = "study.json", "key.json", "ratings"
_RATER = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Answer(BaseModel):
    """An answer to be rated, without its model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    answer: str
    language: str = ""


class Origin(BaseModel):
    """Whose answer it is, and to which item."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item: str
    arm: str


class Study(BaseModel):
    """What is rated, and by whom.

    Attributes:
        answers: What is rated, by the name under which raters know it.
        orders: For each rater, the answers in the order in which they are shown.
        candidate: Digest of the candidate; empty where the evidence does not say.
        left_out: Items that may not be shown to people.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answers: dict[str, Answer] = Field(min_length=1)
    orders: dict[str, list[str]] = Field(min_length=1)
    candidate: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Made:
    """A study with its key."""

    study: Study
    key: dict[str, Origin]


def plan(
    samples: Sequence[dict[str, Any]], raters: Sequence[str], per_item: int, limit: int, seed: int, candidate: str = ""
) -> Made:
    """Lay out a study.

    Every item goes to `per_item` raters, the same for both of its answers: those who have least to do so far, by lot
    among equals, so that raters meet each other in many pairs. Each sees the answers in an order of their own.

    Args:
        samples: Rows of `samples.jsonl`.
        raters: Who rates.
        per_item: Raters of each item.
        limit: Most items, drawn by lot; 0 for all.
        seed: Seed of the draw, the names and the orders.
        candidate: Digest of the candidate.

    Raises:
        UsageError: Raters are too few, named twice or not as a name may be, or nothing may be shown.
    """
    _check_raters(raters, per_item)
    shown = sorted((row for row in samples if row.get("quotable", False)), key=lambda row: row["id"])
    if not shown:
        raise UsageError(
            "no item of the evidence may be shown to people: the questions, or what a model was trained on, are "
            "confidential or hold personal data"
        )
    lot = random.Random(seed)
    lot.shuffle(shown)
    shown = shown[: limit or None]
    answers, key = {}, {}
    orders: dict[str, list[str]] = {rater: [] for rater in raters}
    for row in shown:
        ties = {rater: lot.random() for rater in raters}
        chosen = sorted(raters, key=lambda rater: (len(orders[rater]), ties[rater]))[:per_item]
        for arm in (CANDIDATE, BASE):
            name = sha256(canonical([seed, row["id"], arm]))[:12]
            answers[name] = Answer(
                question=row["question"], answer=row[arm]["answer"], language=row.get("language", "")
            )
            key[name] = Origin(item=row["id"], arm=arm)
            for rater in chosen:
                orders[rater].append(name)
    for rater in raters:
        random.Random(f"{seed} {rater}").shuffle(orders[rater])
    return Made(Study(answers=answers, orders=orders, candidate=candidate, left_out=len(samples) - len(shown)), key)


def make(evidence: Path, folder: Path, raters: Sequence[str], per_item: int, limit: int, seed: int) -> Study:
    """Make a study of the answers in the evidence of a benchmark.

    Args:
        evidence: An artifact with `samples.jsonl`.
        folder: Where to put the study; must be new or empty.
        raters: Who rates.
        per_item: Raters of each item.
        limit: Most items, drawn by lot; 0 for all.
        seed: Seed of the draw and the orders.

    Raises:
        UsageError: The folder holds something, or the study cannot be laid out so.
        HeadraceError: The evidence holds no answers.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty; choose a new folder, so that no rating is lost")
    made = plan(read_samples(evidence), raters, per_item, limit, seed, measured_of(evidence, CANDIDATE))
    (folder / RATED).mkdir(parents=True)
    (folder / STUDY).write_bytes(canonical(made.study.model_dump()))
    (folder / KEY).write_bytes(canonical({name: origin.model_dump() for name, origin in made.key.items()}))
    return made.study


def read_samples(evidence: Path) -> list[dict[str, Any]]:
    """Read the items of an evaluation with both models' answers.

    Raises:
        HeadraceError: There are none, or a line lacks what a rater must see.
    """
    path = evidence / SAMPLES
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise HeadraceError(f"{path}: {error.strerror}; give the evidence of evaluation/benchmark") from error
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            row["id"], row["question"], row[CANDIDATE]["answer"], row[BASE]["answer"]
        except (ValueError, TypeError, KeyError) as error:
            raise HeadraceError(
                f"{path}: line {number} lacks id, question, candidate.answer or base.answer; run the benchmark again"
            ) from error
        rows.append(row)
    return rows


def read_study(folder: Path) -> Study:
    """Read a study, without its key.

    Raises:
        HeadraceError: There is none, or it is not of that form.
    """
    try:
        return Study.model_validate(read_json(folder / STUDY))
    except ValidationError as error:
        raise HeadraceError(f"{folder / STUDY}: {describe_validation(error)}; make the study again") from error


def read_key(folder: Path) -> dict[str, Origin]:
    """Read whose answers a study is about.

    Raises:
        HeadraceError: The key is not there, or is not of that form.
    """
    try:
        return {name: Origin.model_validate(origin) for name, origin in read_json(folder / KEY).items()}
    except (ValidationError, AttributeError) as error:
        raise HeadraceError(f"{folder / KEY} is no key of a study; put back the one that was made with it") from error


def _check_raters(raters: Sequence[str], per_item: int) -> None:
    wrong = [rater for rater in raters if not _RATER.fullmatch(rater)]
    if wrong:
        raise UsageError(f"{wrong[0]!r} is no name for a rater: small letters, digits and hyphens, 31 at most")
    if len(set(raters)) < len(raters):
        raise UsageError("a rater is named twice")
    if not 1 <= per_item <= len(raters):
        raise UsageError(f"{per_item} raters for each item, of {len(raters)}: name as many raters at least")
