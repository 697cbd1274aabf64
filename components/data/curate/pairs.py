"""Make questions and answers out of documents: wordings to train on, and another of each fact to evaluate with."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from components.common.documents import DocumentWriter, count_documents, new_document, read_batches
from components.common.errors import HeadraceError
from components.common.report import Report
from components.common.step import Context, Outcome
from components.data.curate.facts import find_facts, language_of
from components.data.curate.options import Curate
from components.data.curate.wordings import Fact
from components.data.excerpt import may_quote
from components.data.reasons import Reason

_INHERITED = ("source", "url", "retrieved_at", "domain", "license", "confidentiality", "pii", "subjects")
_COLUMNS = ("id", "text", "messages", "kind", "language", "metadata", *_INHERITED)


class Unasked(Reason):
    """Why nothing is asked about a document."""

    NO_FACT = "no_fact", "Nothing in it makes a question with a short answer."
    NOT_CHOSEN = "not_chosen", "Its facts were not among those drawn, or other documents contradict them."


@dataclass(frozen=True)
class Found:
    """A fact, the document it comes from, and its place in the draw."""

    fact: Fact
    document: dict[str, Any]
    draw: bytes


def run(dataset: Path, pairs: Path, questions: Path, options: Curate, context: Context) -> Outcome:
    """Derive question and answer pairs from a dataset version.

    Args:
        dataset: The dataset version.
        pairs: Pairs to train on: every chosen fact in the training wordings.
        questions: Pairs to evaluate with: the same facts in a wording that is held out.
        options: How many facts, asked how.
        context: The run.

    Raises:
        HeadraceError: The documents hold too few facts.
    """
    survey = _survey(dataset, options, context)
    chosen = choose(survey.candidates(), options)
    if len(chosen) < options.minimum:
        raise HeadraceError(_too_few(survey, len(chosen), options))
    rows = [
        (split, _pair(found, question, split))
        for found in chosen
        for training, held_out in [found.fact.wordings(options.wordings)]
        for split, question in [*(("train", wording) for wording in training), ("test", held_out)]
    ]
    training_rows = [row for split, row in rows if split == "train"]
    with DocumentWriter(pairs) as writer:
        writer.write(sorted(training_rows, key=lambda row: _draw(options.seed, row["id"])))
    with DocumentWriter(questions) as writer:
        writer.write([row for split, row in rows if split == "test"])

    used = len({found.document["id"] for found in chosen})
    return Outcome(
        counts_in=survey.documents,
        counts_out=used,
        dropped={Unasked.NO_FACT: survey.without, Unasked.NOT_CHOSEN: survey.documents - survey.without - used},
        metrics={
            "facts_found": float(sum(survey.found.values())),
            "facts": float(len(chosen)),
            "pairs": float(len(training_rows)),
            "questions": float(len(chosen)),
        },
        report=_report(survey, chosen, options),
    )


class _Survey:
    """The facts of a dataset: all of them counted, and of each stratum enough to choose from."""

    def __init__(self, options: Curate) -> None:
        self.documents = 0
        self.without = 0
        self.found: Counter[tuple[str, str]] = Counter()
        self.ambiguous: set[bytes] = set()
        self._room = 8 * options.facts
        self._answers: dict[bytes, bytes] = {}
        self._kept: dict[tuple[str, str], dict[bytes, Found]] = defaultdict(dict)

    def add(self, fact: Fact, document: dict[str, Any], draw: bytes) -> None:
        """Take note of a fact; the same question with another answer makes it ambiguous."""
        answer = hashlib.sha256(fact.answer.casefold().encode()).digest()[:8]
        stratum = (fact.kind.value, fact.language)
        if self._answers.setdefault(draw, answer) != answer:
            self.ambiguous.add(draw)
        kept = self._kept[stratum]
        if draw in kept:
            if document["id"] < kept[draw].document["id"]:
                kept[draw] = Found(fact, document, draw)
            return
        self.found[stratum] += 1
        kept[draw] = Found(fact, document, draw)
        if len(kept) > 2 * self._room:
            for late in sorted(kept)[self._room :]:
                del kept[late]

    def candidates(self) -> dict[tuple[str, str], list[Found]]:
        """The unambiguous facts of each stratum in the order of the draw, varied."""
        return {
            stratum: _varied([kept[draw] for draw in sorted(kept) if draw not in self.ambiguous])
            for stratum, kept in sorted(self._kept.items())
        }


def choose(candidates: dict[tuple[str, str], list[Found]], options: Curate) -> list[Found]:
    """Choose facts in turn from each kind and language, so that a rare one is not drowned by a common one.

    No wording may occur twice: a held-out question that some training pair asks would measure memory of the question.
    """
    chosen: list[Found] = []
    taken: set[str] = set()
    for turn in zip_longest(*candidates.values()):
        for found in filter(None, turn):
            training, held_out = found.fact.wordings(options.wordings)
            wordings = {" ".join(wording.casefold().split()) for wording in (*training, held_out)}
            if len(chosen) < options.facts and len(wordings) == options.wordings + 1 and not wordings & taken:
                taken |= wordings
                chosen.append(found)
    return chosen


def _varied(facts: list[Found]) -> list[Found]:
    """Put further facts of a document last, and repetitions of an answer.

    A model that always says MIT should not look as if it knew, and one long table is not the whole corpus.
    """
    seen = Counter[str]()
    turns = []
    for found in facts:
        turns.append(seen[found.fact.answer] + seen[found.document["id"]])
        seen.update((found.fact.answer, found.document["id"]))
    return [found for _, found in sorted(zip(turns, facts, strict=True), key=lambda pair: pair[0])]


def _survey(dataset: Path, options: Curate, context: Context) -> _Survey:
    total = count_documents(dataset)
    korean = _korean_packages(dataset)
    survey = _Survey(options)
    for row in _rows(dataset):
        package = dict(row["metadata"]).get("package", "")
        language = "ko" if package in korean else language_of(row)
        facts = list(find_facts(row, language, options.answer_words))
        document = {name: row[name] for name in ("id", *_INHERITED)}
        for fact in facts:
            survey.add(fact, document, _draw(options.seed, fact.key))
        survey.documents += 1
        survey.without += not facts
        if survey.documents % 1000 == 0:
            context.progress(survey.documents, total, "looking for facts")
    return survey


def _rows(dataset: Path) -> Iterator[dict[str, Any]]:
    for batch in read_batches(dataset, _COLUMNS):
        yield from batch.to_pylist()


def _korean_packages(dataset: Path) -> set[str]:
    """Packages whose description is Korean: their metadata, though English, is asked about in Korean."""
    found: set[str] = set()
    for batch in read_batches(dataset, ["language", "metadata"]):
        for language, metadata in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            if language.startswith("ko"):
                fields = dict(metadata)
                found |= {fields["package"]} if fields.get("item") == "readme" and "package" in fields else set()
    return found


def _draw(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{key}".encode()).digest()[:16]


def _pair(found: Found, question: str, split: str) -> dict[str, Any]:
    fact, document = found.fact, found.document
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": fact.answer}]
    return new_document(
        text=f"{question}\n\n{fact.answer}",
        kind="dialogue",
        messages=messages,
        language=fact.language,
        parents=[document["id"]],
        metadata={"split": split, "fact": fact.kind.value, "subject": fact.subject},
        **{name: document[name] for name in _INHERITED},
    )


def _too_few(survey: _Survey, usable: int, options: Curate) -> str:
    found = Counter[str]()
    for (kind, _), count in survey.found.items():
        found[kind] += count
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "none"
    return (
        f"{survey.documents:,} documents give {usable} usable facts ({kinds}; {len(survey.ambiguous)} with more than "
        f"one answer), and curate.minimum is {options.minimum}. Facts come from headings followed by a sentence of at "
        f"most {options.answer_words} words, questions with answers (Q:/A: or a heading that ends in '?'), table rows, "
        "dialogues and package metadata: add such documents, raise curate.answer_words or lower curate.minimum"
    )


def _report(survey: _Survey, chosen: list[Found], options: Curate) -> Report:
    report = Report("Questions and answers", f"{len(chosen)} facts from {survey.documents:,} documents")
    report.metrics(
        {
            "facts found": sum(survey.found.values()),
            "facts chosen": len(chosen),
            "training pairs": len(chosen) * options.wordings,
            "held-out questions": len(chosen),
            "ambiguous": len(survey.ambiguous),
        }
    )
    report.text(
        f"A fact is a question that the documents answer in one way, in at most {options.answer_words} words. Each is "
        f"asked in {options.wordings} {'wording' if options.wordings == 1 else 'wordings'} for training and in another "
        "one for evaluation; facts are drawn in turn from each kind and language."
    )
    taken = Counter((found.fact.kind.value, found.fact.language) for found in chosen)
    report.table(
        [
            {"fact": kind, "language": language, "found": count, "chosen": taken[kind, language]}
            for (kind, language), count in sorted(survey.found.items())
        ],
        "Facts by kind",
    )
    report.table(list(_examples(chosen, options)), "Examples", limit=25)
    return report


def _examples(chosen: Iterable[Found], options: Curate) -> Iterator[dict[str, str]]:
    for found in filter(lambda found: may_quote(found.document), chosen):
        training, held_out = found.fact.wordings(options.wordings)
        yield {
            "trained on": training[0],
            "asked in evaluation": held_out,
            "answer": found.fact.answer,
            "from": found.document["url"],
        }
