"""What both sides of a probe are trained on and asked, drawn from two dataset versions with the same luck.

A fact has its place in the draw by what it is. So a fact that both versions hold is drawn for both or for neither, and
the sides differ in what the versions differ in, not in their luck.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.documents import read_batches
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import artifact_files
from components.common.step import Context
from components.data.curate.options import Curate
from components.data.curate.pairs import choose_turns, held_out_pair, training_pairs
from components.data.curate.select import choose, plain
from components.data.curate.survey import Found, Stratum, Survey, draw, survey
from components.data.excerpt import may_quote
from components.data.probe.options import Probing

SIDES = ("present", "proposed")
_WITHHELD_SHARE = 4
"""The part of all facts that is withheld at most is one in so many."""

_LEAST_WITHHELD = 2
"""Withheld facts that an interval needs."""


@dataclass(frozen=True)
class Asked:
    """A held-out question with its evidence.

    Attributes:
        pair: The question and its expected answer, as a document.
        evidence: Text of the document that answers it.
        source: Source of that document.
        kind: Its kind.
        quotable: Whether a report may show it.
        trained: Sides that were trained on the fact.
    """

    pair: dict[str, Any]
    evidence: str
    source: str
    kind: str
    quotable: bool
    trained: tuple[str, ...]

    @property
    def question(self) -> str:
        """What is asked."""
        return self.pair["messages"][0]["content"]

    @property
    def expected(self) -> str:
        """What is the right answer."""
        return self.pair["messages"][1]["content"]

    @property
    def held(self) -> str:
        """Which sides were trained on the fact, in a word."""
        return "both" if len(self.trained) == 2 else self.trained[0]


@dataclass(frozen=True)
class Drawn:
    """What a probe trains on, asks and withholds.

    Attributes:
        pairs: Training pairs by side.
        questions: Common questions: every fact that a side is trained on, in the wording that is held out.
        withheld: Facts that no side is trained on, in the same wording.
    """

    pairs: dict[str, list[dict[str, Any]]]
    questions: list[Asked]
    withheld: list[dict[str, Any]]


def draw_sides(present: Path, proposed: Path, options: Probing, context: Context) -> Drawn:
    """Draw what is trained on and asked.

    Args:
        present: The dataset version that is in use.
        proposed: The one with the new data; the same where selections are compared.
        options: How much, chosen how.
        context: The run.

    Raises:
        UsageError: The versions are the same, and versions are compared.
        HeadraceError: They hold too few facts.
    """
    same = artifact_files(present) == artifact_files(proposed)
    if same and options.compare == "versions":
        raise UsageError(
            "both dataset versions are the same; give another one, or compare selections (`headrace probe --ablation`)"
        )
    if not same and options.compare == "selection":
        raise UsageError("selections are compared out of one dataset version, and two were given")
    if same and options.curate.selection == "random":
        raise UsageError("curate.selection is random, which is what a selection is compared with; choose another one")
    surveys = {"present": survey(present, options.curate, context)}
    surveys["proposed"] = surveys["present"] if same else survey(proposed, options.curate, context)
    pool = _pool(surveys["present"], surveys["proposed"], options.curate)
    withheld = _withhold(pool, options)
    kept = {found.draw for found in withheld}
    pool = {stratum: [found for found in some if found.draw not in kept] for stratum, some in pool.items()}
    facts, turns = _by_lot(surveys, pool, options) if same else _by_version(surveys, pool, options)
    if min(map(len, facts.values())) < options.curate.minimum or len(withheld) < _LEAST_WITHHELD:
        few = ", ".join(f"{len(found)} of the {side} version" for side, found in facts.items())
        raise HeadraceError(
            f"there are too few facts ({few} to train on, and curate.minimum is {options.curate.minimum}; "
            f"{len(withheld)} to withhold); raise curate.facts or curate.answer_words, or lower curate.minimum or "
            "probe.withheld"
        )
    pairs = {side: training_pairs(facts[side], turns[side], options.curate) for side in SIDES}
    trained = {plain(row["messages"][-2]["content"]) for rows in pairs.values() for row in rows}
    of = {side: {found.draw: found for found in found_} for side, found_ in facts.items()}
    chosen = {**of["present"], **of["proposed"]}
    texts = _texts((present, proposed), {found.document["id"] for found in chosen.values()})
    questions = []
    for number, found in chosen.items():
        pair = held_out_pair(found, options.curate)
        if plain(pair["messages"][0]["content"]) not in trained:
            held = tuple(side for side in SIDES if number in of[side])
            questions.append(_asked(found, pair, texts[found.document["id"]], held))
    return Drawn(
        pairs,
        sorted(questions, key=lambda asked: draw(options.curate.seed, asked.pair["id"])),
        [held_out_pair(found, options.curate) for found in withheld],
    )


def _pool(first: Survey, second: Survey, options: Curate) -> dict[Stratum, list[Found]]:
    """The facts of both versions; one that both hold is the second's.

    A version keeps the first of each kind in the draw, as many as eight times those wanted. Beyond that nobody knows
    whether it holds a fact, so the pool ends there.
    """
    pool: dict[Stratum, list[Found]] = {}
    for stratum in sorted(first.strata() | second.strata()):
        known = sorted(first.drawn(stratum) | second.drawn(stratum))[: 8 * options.facts]
        usable = {found.draw: found for seen in (first, second) for found in seen.facts().get(stratum, [])}
        pool[stratum] = [usable[number] for number in known if number in usable]
    return pool


def _withhold(pool: dict[Stratum, list[Found]], options: Probing) -> list[Found]:
    every = [found for some in pool.values() for found in some]
    every.sort(key=lambda found: draw(options.curate.seed, f"withheld\x1f{found.said.key}"))
    return every[: min(options.withheld, len(every) // _WITHHELD_SHARE)]


def _by_version(
    surveys: dict[str, Survey], pool: dict[Stratum, list[Found]], options: Probing
) -> tuple[dict[str, list[Found]], dict[str, list[Found]]]:
    """Choose once from both versions; each side is trained on what its version holds of the choice."""
    chosen = choose(pool, options.curate)
    of = {
        side: {found.draw: found for some in seen.facts().values() for found in some} for side, seen in surveys.items()
    }
    facts = {side: [of[side][found.draw] for found in chosen if found.draw in of[side]] for side in SIDES}
    return facts, {side: choose_turns(surveys[side], chosen, options.curate) for side in SIDES}


def _by_lot(
    surveys: dict[str, Survey], pool: dict[Stratum, list[Found]], options: Probing
) -> tuple[dict[str, list[Found]], dict[str, list[Found]]]:
    """Choose twice from one version: by lot, and as the recipe does; as many for both sides."""
    ways = dict(zip(SIDES, (options.curate.model_copy(update={"selection": "random"}), options.curate), strict=True))
    facts = {side: choose(pool, way) for side, way in ways.items()}
    turns = {side: choose_turns(surveys[side], facts[side], way) for side, way in ways.items()}
    return _as_many(facts), _as_many(turns)


def _as_many(chosen: dict[str, list[Found]]) -> dict[str, list[Found]]:
    fewest = min(map(len, chosen.values()))
    return {side: found[:fewest] for side, found in chosen.items()}


def _asked(found: Found, pair: dict[str, Any], text: str, trained: tuple[str, ...]) -> Asked:
    document = found.document
    return Asked(pair, text, document["source"], document["kind"], may_quote(document), trained)


def _texts(datasets: Sequence[Path], wanted: Iterable[str]) -> dict[str, str]:
    """Texts of some documents, a dialogue's turns for one that has no text of its own."""
    names, texts = set(wanted), {}
    for dataset in datasets:
        for batch in read_batches(dataset, ["id", "text", "messages"]):
            for name, text, messages in zip(*(batch.column(number).to_pylist() for number in range(3)), strict=True):
                if name in names:
                    texts[name] = "\n".join([text, *(message["content"] for message in messages or ())])
    return texts
