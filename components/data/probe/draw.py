"""What both sides of a probe are trained on and asked, drawn from two dataset versions with the same luck.

A fact has its place in the draw by what it is. So a fact that both versions hold is drawn for both or for neither, and
the sides differ in what the versions differ in, not in their luck.

Before anything is chosen, some documents are withheld from both sides. Selections are compared by facts of these: asked
about what it chose itself, a selection would be rated by its own taste.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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
"""Of the documents that hold facts, one in so many is withheld at most."""

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
        language: Its language; the question may be in another one.
        quotable: Whether a report may show it.
        trained: Sides that were trained on the fact.
    """

    pair: dict[str, Any]
    evidence: str
    source: str
    kind: str
    language: str
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
        return "both" if self.trained == SIDES else "".join(self.trained) or "neither"


@dataclass(frozen=True)
class Drawn:
    """What a probe trains on, asks and withholds.

    Attributes:
        pairs: Training pairs by side.
        questions: Common questions, in the wording that is held out. Where versions are compared, every fact that a
            side is trained on; where selections are, the withheld facts.
        withheld: A fact of each withheld document, in the same wording. Of these documents no side learns anything.
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
    facts, turns = _choose(surveys, pool, withheld, options.curate, by_lot=same)
    if min(map(len, facts.values())) < options.curate.minimum or len(withheld) < _LEAST_WITHHELD:
        few = ", ".join(f"{len(found)} of the {side} version" for side, found in facts.items())
        raise HeadraceError(
            f"there are too few facts ({few} to train on, and curate.minimum is {options.curate.minimum}; "
            f"{len(withheld)} to withhold); raise curate.facts or curate.answer_words, or lower curate.minimum or "
            "probe.withheld"
        )
    pairs = {side: training_pairs(facts[side], turns[side], options.curate) for side in SIDES}
    trained = {plain(row["messages"][-2]["content"]) for rows in pairs.values() for row in rows}
    of = {side: {found.draw: found for found in some} for side, some in facts.items()}
    asked = withheld if same else list((of["present"] | of["proposed"]).values())
    texts = _texts((present, proposed), {found.document["id"] for found in asked})
    questions = []
    for found in asked:
        sides = tuple(side for side in SIDES if found.draw in of[side])
        questions.append(_asked(found, texts[found.document["id"]], sides, options.curate))
    kept_back = [held_out_pair(found, options.curate) for found in withheld]
    return Drawn(
        pairs,
        sorted(
            (one for one in questions if plain(one.question) not in trained),
            key=lambda one: draw(options.curate.seed, one.pair["id"]),
        ),
        [pair for pair in kept_back if plain(pair["messages"][0]["content"]) not in trained],
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


def _withhold(pool: Mapping[Stratum, list[Found]], options: Probing) -> list[Found]:
    """Draw documents, and a fact of each: many of one document would be one chance, not many."""
    of: dict[str, Found] = {}
    for found in sorted(_all(pool), key=lambda found: found.draw):
        of.setdefault(found.document["id"], found)
    by_lot = sorted(of.values(), key=lambda found: draw(options.curate.seed, f"withheld\x1f{found.said.key}"))
    return by_lot[: min(options.withheld, len(by_lot) // _WITHHELD_SHARE)]


def _choose(
    surveys: Mapping[str, Survey],
    pool: Mapping[Stratum, list[Found]],
    withheld: Sequence[Found],
    options: Curate,
    *,
    by_lot: bool,
) -> tuple[dict[str, list[Found]], dict[str, list[Found]]]:
    """Choose facts and turns for each side, none out of a document that is withheld.

    Versions: once out of both, and each side has what its version holds of the choice. Selections (`by_lot`): twice out
    of one version, by lot for the present side and as the recipe does for the proposed one, as many for both.
    """
    documents = {found.document["id"] for found in withheld}
    known = {side: {found.draw: found for found in _all(seen.facts())} for side, seen in surveys.items()}
    gone = {
        found.draw
        for side, seen in surveys.items()
        for found in (*known[side].values(), *_all(seen.turns()))
        if found.document["id"] in documents
    }
    ways = {"present": options.model_copy(update={"selection": "random"}) if by_lot else options, "proposed": options}
    facts = {
        side: [known[side][found.draw] for found in choose(_without(pool, gone), way) if found.draw in known[side]]
        for side, way in ways.items()
    }
    asked = [*facts["present"], *facts["proposed"], *withheld]
    turns = {side: choose_turns(_without(surveys[side].turns(), gone), asked, way) for side, way in ways.items()}
    return (_as_many(facts), _as_many(turns)) if by_lot else (facts, turns)


def _as_many(chosen: Mapping[str, list[Found]]) -> dict[str, list[Found]]:
    fewest = min(map(len, chosen.values()))
    return {side: found[:fewest] for side, found in chosen.items()}


def _all(candidates: Mapping[Stratum, list[Found]]) -> Iterator[Found]:
    return chain.from_iterable(candidates.values())


def _without(candidates: Mapping[Stratum, list[Found]], gone: Collection[bytes]) -> dict[Stratum, list[Found]]:
    return {stratum: [found for found in some if found.draw not in gone] for stratum, some in candidates.items()}


def _asked(found: Found, text: str, trained: tuple[str, ...], options: Curate) -> Asked:
    document, pair = found.document, held_out_pair(found, options)
    origin = (document["source"], document["kind"], document["language"])
    return Asked(pair, text, *origin, may_quote(document), trained)


def _texts(datasets: Sequence[Path], wanted: Iterable[str]) -> dict[str, str]:
    """Texts of some documents, a dialogue's turns for one that has no text of its own."""
    names, texts = set(wanted), {}
    for dataset in datasets:
        for batch in read_batches(dataset, ["id", "text", "messages"]):
            for name, text, messages in zip(*(batch.column(number).to_pylist() for number in range(3)), strict=True):
                if name in names:
                    texts[name] = "\n".join([text, *(message["content"] for message in messages or ())])
    return texts
