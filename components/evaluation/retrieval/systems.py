"""Ask both models the same questions without a context, with what was found, and with the right one."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from components.evaluation.benchmark.items import evenly
from components.evaluation.benchmark.metrics.answers import exact_match, token_f1
from components.evaluation.evidence import BASE, CANDIDATE
from components.evaluation.retrieval.choice import System
from components.evaluation.retrieval.corpus import holds
from components.evaluation.retrieval.items import Item
from components.evaluation.retrieval.latency import Pace, measure_pace
from components.evaluation.retrieval.options import Retrieval
from components.model.answering import Answerer, Dialogue, Reply

_PLACE = re.compile(r"\{(context|question)\}")


class Given(StrEnum):
    """What a model is given with a question."""

    NOTHING = "without_context"
    FOUND = "with_context"
    GOLD = "with_gold"


SYSTEMS = {
    System.BASE: (BASE, Given.NOTHING),
    System.TUNED: (CANDIDATE, Given.NOTHING),
    System.BASE_RETRIEVAL: (BASE, Given.FOUND),
    System.TUNED_RETRIEVAL: (CANDIDATE, Given.FOUND),
}
"""Which model each system asks, and how."""

CORRECTNESS: Mapping[str, Callable[[str, str], float]] = {
    "inclusion": lambda answer, expected: float(holds(answer, expected)),
    "exact_match": exact_match,
    "token_f1": token_f1,
}
"""How an answer is compared with the expected one."""


@dataclass(frozen=True)
class Contexts:
    """What is handed to the models with a question: chunks as text, the first found first."""

    found: Sequence[str]
    gold: Sequence[str]

    def of(self, given: Given) -> Sequence[str]:
        """The chunks that are given."""
        return {Given.NOTHING: (), Given.FOUND: self.found, Given.GOLD: self.gold}[given]


@dataclass(frozen=True)
class Asked:
    """What both models answered.

    Attributes:
        replies: By model (`base`, `candidate`), by what was given, by question.
        paces: How fast each model is.
    """

    replies: Mapping[str, Mapping[Given, Mapping[str, Reply]]]
    paces: Mapping[str, Pace]

    def scores(self, arm: str, given: Given, items: Sequence[Item], correctness: str) -> dict[str, float]:
        """Score a model's answers."""
        judge = CORRECTNESS[correctness]
        return {item.id: judge(self.replies[arm][given][item.id].text, item.answer) for item in items}


def ask(
    models: Mapping[str, Path],
    items: Sequence[Item],
    contexts: Mapping[str, Contexts],
    options: Retrieval,
    progress: Callable[[int, int, str], None],
) -> Asked:
    """Ask every model every question in every way, and time a few requests alone.

    Args:
        models: Model directories by arm.
        items: The questions.
        contexts: What was found for each question, and what should have been.
        options: Prompts, lengths, precision.
        progress: Called with the number of answers, how many there will be, and a note.
    """
    kinds = [(item, given) for given in Given for item in items]

    def posed(item: Item, given: Given) -> Dialogue:
        return [{"role": "user", "content": prompt_for(item, contexts[item.id].of(given), options.prompts)}]

    dialogues = [posed(item, given) for item, given in kinds]
    timed = [posed(item, given) for item in evenly(items, options.timed) for given in (Given.NOTHING, Given.FOUND)]
    total = len(models) * len(dialogues)
    replies: dict[str, dict[Given, dict[str, Reply]]] = {}
    paces = {}
    for number, (arm, model) in enumerate(models.items()):
        answerer = Answerer.load(model, options.precision, options.max_new_tokens)
        before, note = number * len(dialogues), f"asking the {arm}"

        def report(done: int, before: int = before, note: str = note) -> None:
            progress(before + done, total, note)

        answers = answerer.answer(dialogues, options.batch_size, report)
        replies[arm] = {given: {} for given in Given}
        for (item, given), reply in zip(kinds, answers, strict=True):
            replies[arm][given][item.id] = replace(reply, text=reply.text.strip())
        paces[arm] = measure_pace([answerer.time(dialogue) for dialogue in timed])
    return Asked(replies, paces)


def prompt_for(item: Item, chunks: Sequence[str], prompts: Mapping[str, str]) -> str:
    """Put a question below its context; as it is where there is none."""
    if not chunks:
        return item.question
    places = {"context": "\n\n".join(chunks), "question": item.question}
    return _PLACE.sub(lambda place: places[place[1]], prompts.get(item.language, prompts["en"]))
