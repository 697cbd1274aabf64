"""One training of a probe and what comes of it, as numbers.

A trial is kept in the store under the digest of all that goes into it, so that an interrupted probe goes on where it
was, and another seed costs that seed only. It holds no word of a document or an answer.
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from components.common.code import code_digest
from components.common.documents import DocumentWriter
from components.common.ledger import artifact_files, canonical, sha256
from components.common.sealed_store import store_of
from components.common.step import Context
from components.data.probe.draw import Asked
from components.data.probe.measures import hallucinated, in_format
from components.data.probe.options import Probing
from components.evaluation.benchmark.asking import ask
from components.evaluation.benchmark.items import Question
from components.model.answering import Answerer
from components.model.merge.combine import add_up
from components.model.tune.adapt import LIBRARIES
from components.model.tune.adapt import run as tune
from components.model.versions import TRAINING, read_json

KEPT = "probes"
"""Folder of the store that keeps trials."""


@dataclass(frozen=True)
class Trial:
    """What one model came to.

    Attributes:
        losses: Training loss of each step; none of the base model.
        scores: Score of each question, by measure.
        withheld: Sum of token losses, and tokens, of each withheld answer.
    """

    losses: list[float]
    scores: dict[str, list[float]]
    withheld: list[tuple[float, int]]


@dataclass(frozen=True)
class _Part(Context):
    """Reports how far a part of the step is as how far the step is."""

    done: int
    parts: int
    name: str

    def progress(self, done: float, total: float, note: str = "") -> None:
        """Report how far the part is."""
        share = done / total if total else 0.0
        Context(self.stage, self.environment).progress(self.done + share, self.parts, f"{self.name}: {note}")


class Trials:
    """Trains and measures models on what was drawn.

    Args:
        base: Directory of the base model.
        questions: What every model is asked.
        withheld: Facts that none was trained on.
        options: How to train and ask.
        context: The run.
    """

    def __init__(
        self,
        base: Path,
        questions: Sequence[Asked],
        withheld: Sequence[Mapping[str, Any]],
        options: Probing,
        context: Context,
    ) -> None:
        self._base = base
        self._questions = questions
        self._withheld = withheld
        self._options = options
        self._context = context
        self._store = store_of(context.environment)
        self._common = {
            "base": artifact_files(base),
            "questions": [[*_said(asked.pair), asked.evidence] for asked in questions],
            "withheld": [_said(row) for row in withheld],
            "benchmark": options.benchmark.model_dump(mode="json"),
            "answer_words": options.curate.answer_words,
            "code": code_digest(),
            "libraries": {library: version(library) for library in LIBRARIES},
        }
        self.parts = 1 + 2 * options.seeds
        self.resumed = 0
        self._done = 0

    def base(self) -> Trial:
        """Measure the base model."""
        return self._kept({}, "base model", lambda context: self._measure(self._base, [], context))

    def train(self, side: str, pairs: Sequence[Mapping[str, Any]], seed: int) -> Trial:
        """Train a model on a side's pairs and measure it.

        Args:
            side: Name of the side.
            pairs: What to train on.
            seed: Seed of the training.
        """
        # Every pair is trained on to the end: what each side was given is what is compared.
        options = self._options.tune.model_copy(
            update={"seed": seed, "validation": 0.0, "experiment": f"{self._options.tune.experiment}-probe"}
        )

        def work(context: Context) -> Trial:
            with tempfile.TemporaryDirectory() as scratch:
                folders = {name: Path(scratch) / name for name in ("pairs", "adapter", "model")}
                for folder in folders.values():
                    folder.mkdir()
                with DocumentWriter(folders["pairs"]) as writer:
                    writer.write(pairs)
                tune(self._base, folders["pairs"], folders["adapter"], options, context)
                add_up(self._base, folders["adapter"], folders["model"], options.precision)
                losses = read_json(folders["adapter"] / TRAINING)["losses"]
                return self._measure(folders["model"], losses, context)

        given = {
            "pairs": [_said(row) for row in pairs],
            "tune": options.model_dump(mode="json", exclude={"experiment"}),
        }
        return self._kept(given, f"{side}, seed {seed}", work)

    def _measure(self, model: Path, losses: list[float], context: Context) -> Trial:
        options, asked, most = self._options.benchmark, self._questions, len(self._questions)
        answerer = Answerer.load(model, options.precision, options.max_new_tokens)
        likelihoods = answerer.likelihoods([row["messages"] for row in self._withheld], options.batch_size)
        withheld = [(-float(answer.sum()), len(answer)) for answer in likelihoods]
        questions = [Question(one.pair["id"], one.pair["language"], one.question, one.expected) for one in asked]
        answers = ask(model, questions, options, lambda done: context.progress(done, most, "asking"))
        scores: dict[str, list[float]] = {
            name: [answer.scores[name] for answer in answers] for name in answers[0].scores
        }
        scores["hallucination"] = [
            hallucinated(answer.text, f"{one.question}\n{one.expected}\n{one.evidence}")
            for one, answer in zip(asked, answers, strict=True)
        ]
        scores["format"] = [in_format(answer.text, self._options.curate.answer_words) for answer in answers]
        return Trial(losses, scores, withheld)

    def _kept(self, given: Mapping[str, Any], name: str, work: Callable[[Context], Trial]) -> Trial:
        part = _Part(self._context.stage, self._context.environment, self._done, self.parts, name)
        key = f"{KEPT}/{sha256(canonical({**self._common, **given}))}.json"
        if self._store.exists(key):
            kept = json.loads(self._store.read(key))
            trial = Trial(kept["losses"], kept["scores"], [(loss, tokens) for loss, tokens in kept["withheld"]])
            self.resumed += 1
            part.progress(1, 1, "measured before")
        else:
            trial = work(part)
            self._store.write(key, canonical(asdict(trial)))
        self._done += 1
        return trial


def _said(row: Mapping[str, Any]) -> list[str]:
    return [f"{message['role']}: {message['content']}" for message in row["messages"]]
