"""Make training pairs out of documents and dialogues, and other wordings of the same facts to evaluate with."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter, new_document
from components.common.errors import HeadraceError
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.curate.options import Curate
from components.data.curate.outside import outsiders as choose_outsiders
from components.data.curate.outside import policy_examples
from components.data.curate.select import choose, difficulty, plain, quality, ranked
from components.data.curate.survey import INHERITED, Found, Stratum, Survey, draw, survey
from components.data.curate.turns import TURN
from components.data.curate.wordings import Fact
from components.data.excerpt import may_quote
from components.data.reasons import Reason

_SELECTIONS = {
    "random": "drawn by lot",
    "varied": "drawn by lot in turn from each kind and language, new answers and documents first",
    "scored": "taken in turn from each kind and language by quality, difficulty and diversity",
}


class Unasked(Reason):
    """Why nothing is asked about a document."""

    NO_FACT = "no_fact", "Nothing in it makes a question with a short answer, and it is no dialogue to learn from."
    CONFIDENTIAL = "confidential", "It is more confidential than the recipe's ceiling."
    RATED_LOW = "rated_low", "People rated its answer below 4, or labelled it as bad."
    NOT_CHOSEN = "not_chosen", "Its facts were not among those chosen, or other documents contradict them."


def run(dataset: Path, pairs: Path, questions: Path, outsiders: Path, options: Curate, context: Context) -> Outcome:
    """Derive question and answer pairs from a dataset version.

    Args:
        dataset: The dataset version.
        pairs: Pairs to train on: every chosen fact in the training wordings, and the chosen turns of dialogues.
        questions: Pairs to evaluate with: the same facts in a wording that is held out.
        outsiders: Pairs of other facts, which nothing is trained on.
        options: How many facts and turns, asked and chosen how.
        context: The run.

    Raises:
        HeadraceError: The documents hold too few facts.
    """
    seen = survey(dataset, options, context)
    facts = choose(seen.facts(), options)
    if len(facts) < options.minimum:
        raise HeadraceError(_too_few(seen, len(facts), options))
    turns = choose_turns(seen.turns(), facts, options)
    trained = training_pairs(facts, turns, options)
    outside = choose_outsiders(seen.facts(), facts, options)
    with DocumentWriter(pairs) as writer:
        writer.write(trained)
    with DocumentWriter(questions) as writer:
        writer.write(held_out_pair(found, options) for found in facts)
    with DocumentWriter(outsiders) as writer:
        writer.write(_outside_pair(found, options) for found in outside)

    used = len({found.document["id"] for found in (*facts, *turns)})
    return Outcome(
        counts_in=seen.documents,
        counts_out=used,
        dropped={
            Unasked.NO_FACT: seen.without,
            Unasked.NOT_CHOSEN: seen.documents - seen.without - seen.confidential - seen.rated_low - used,
            **({Unasked.CONFIDENTIAL: seen.confidential} if seen.confidential else {}),
            **({Unasked.RATED_LOW: seen.rated_low} if seen.rated_low else {}),
        },
        metrics={
            "facts_found": float(sum(count for (kind, _), count in seen.found.items() if kind != TURN)),
            "facts": float(len(facts)),
            "turns": float(len(turns)),
            "pairs": float(len(trained)),
            "questions": float(len(facts)),
            "outsiders": float(len(outside)),
        },
        report=_report(seen, facts, turns, trained, options),
    )


def choose_turns(candidates: Mapping[Stratum, list[Found]], facts: Sequence[Found], options: Curate) -> list[Found]:
    """Choose turns of dialogues within `options.turns`; none asks what a chosen fact is asked in.

    Args:
        candidates: Turns of each language, in the order of the draw.
        facts: The facts that were chosen.
        options: How many, chosen how.
    """
    asked = {plain(wording) for found in facts for wording in _every_wording(found, options)}
    wanted = (found for found in ranked(candidates, options, options.turns) if plain(found.said.asked) not in asked)
    return [found for found, _ in zip(wanted, range(options.turns), strict=False)]


def training_pairs(facts: Iterable[Found], turns: Iterable[Found], options: Curate) -> list[dict[str, Any]]:
    """Write down what is trained on: facts in their training wordings, turns, and examples of the safety policy.

    The order is drawn by the seed.
    """
    rows = [
        _pair(found, [("user", wording), ("assistant", found.said.answer)], "train")
        for found in facts
        for wording in _every_wording(found, options)[:-1]
    ]
    rows += [_pair(found, found.said.messages, "train") for found in turns if not isinstance(found.said, Fact)]
    rows += policy_examples(len(rows), options)
    return sorted(rows, key=lambda row: draw(options.seed, row["id"]))


def held_out_pair(found: Found, options: Curate) -> dict[str, Any]:
    """Write down a fact in the wording that is held out."""
    return _pair(found, [("user", _every_wording(found, options)[-1]), ("assistant", found.said.answer)], "test")


def _outside_pair(found: Found, options: Curate) -> dict[str, Any]:
    """Write down a fact that nothing is trained on in the first training wording."""
    return _pair(found, [("user", _every_wording(found, options)[0]), ("assistant", found.said.answer)], "outside")


def _every_wording(found: Found, options: Curate) -> list[str]:
    """The training wordings of a fact, and the held-out one."""
    assert isinstance(found.said, Fact)
    training, held_out = found.said.wordings(options.wordings)
    return [*training, held_out]


def _pair(found: Found, messages: Sequence[tuple[str, str]], split: str) -> dict[str, Any]:
    said, document = found.said, found.document
    return new_document(
        text="\n\n".join(content for _, content in messages),
        kind="dialogue",
        messages=[{"role": role, "content": content} for role, content in messages],
        language=said.language,
        parents=[document["id"]],
        metadata={"split": split, "fact": str(said.kind), "subject": said.subject if isinstance(said, Fact) else ""},
        **{name: document[name] for name in INHERITED},
    )


def _too_few(seen: Survey, usable: int, options: Curate) -> str:
    found = Counter[str]()
    for (kind, _), count in seen.found.items():
        found[kind] += count
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "none"
    return (
        f"{seen.documents:,} documents give {usable} usable facts ({kinds}; {len(seen.ambiguous)} with more than "
        f"one answer), and curate.minimum is {options.minimum}. Facts come from headings followed by a sentence of at "
        f"most {options.answer_words} words, questions with answers (Q:/A: or a heading that ends in '?'), table rows, "
        "dialogues and package metadata: add such documents, raise curate.answer_words or lower curate.minimum"
    )


def _report(
    seen: Survey, facts: list[Found], turns: list[Found], trained: list[dict[str, Any]], options: Curate
) -> Report:
    report = Report("Questions and answers", f"{len(facts)} facts from {seen.documents:,} documents")
    report.metrics(
        {
            "facts and turns found": sum(seen.found.values()),
            "facts chosen": len(facts),
            "turns chosen": len(turns),
            "training pairs": len(trained),
            "held-out questions": len(facts),
            "ambiguous": len(seen.ambiguous),
        }
    )
    report.text(
        f"A fact is a question that the documents answer in one way, in at most {options.answer_words} words. Each is "
        f"asked in {options.wordings} {'wording' if options.wordings == 1 else 'wordings'} for training and in another "
        f"one for evaluation. A turn is an answer of at most {options.turn_words} words in a dialogue, trained on with "
        f"what was said before. Both are {_SELECTIONS[options.selection]}."
    )
    report.table(list(_by_kind(seen, facts, turns)), "Found and chosen")
    report.table(list(_examples(facts, options)), "Examples", limit=25)
    if quoted := [found for found in turns if may_quote(found.document)]:
        report.table(
            [
                {"asked": found.said.asked, "answered": found.said.answer, "from": found.document["url"]}
                for found in quoted
            ],
            "Turns of dialogues",
            limit=10,
        )
    return report


def _by_kind(seen: Survey, facts: list[Found], turns: list[Found]) -> Iterator[dict[str, Any]]:
    for (kind, language), candidates in sorted({**seen.facts(), **seen.turns()}.items()):
        hard = dict(zip((found.draw for found in candidates), difficulty(candidates), strict=True))
        chosen = [
            found for found in (*facts, *turns) if (str(found.said.kind), found.said.language) == (kind, language)
        ]
        scores = {
            "quality of all": [quality(found) for found in candidates],
            "chosen": [quality(found) for found in chosen],
            "difficulty of all": list(hard.values()),
            "of the chosen": [hard[found.draw] for found in chosen],
        }
        means = {name: round(sum(values) / len(values), 2) if values else "" for name, values in scores.items()}
        found = {"kind": kind, "language": language, "found": seen.found[kind, language], "taken": len(chosen)}
        yield {**found, **means}


def _examples(facts: Iterable[Found], options: Curate) -> Iterator[dict[str, str]]:
    for found in filter(lambda found: may_quote(found.document), facts):
        *training, held_out = _every_wording(found, options)
        yield {
            "trained on": training[0],
            "asked in evaluation": held_out,
            "answer": found.said.answer,
            "from": found.document["url"],
        }
