"""Ask one or two models all tasks of a recipe, the same items each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.common.errors import HeadraceError
from components.evaluation.benchmark.asking import Answer, ask_task, held_out
from components.evaluation.benchmark.items import Asked, Question, read_items
from components.evaluation.benchmark.judges import LABELLED, Agreement, agreement, read_labelled
from components.evaluation.benchmark.metrics.harm import harm
from components.evaluation.benchmark.models import open_model
from components.evaluation.benchmark.options import OWN_TASK, Benchmark, Task
from components.evaluation.benchmark.other_tasks import ask_other, load
from components.evaluation.benchmark.replies import Reply
from components.evaluation.benchmark.sandbox import ensure_confined
from components.evaluation.benchmark.scoring import Scoring
from components.evaluation.benchmark.tasks import measure_of
from components.evaluation.evidence import BASE
from components.model.versions import may_show_answers

Arms = Mapping[str, Path | str]
"""Models by arm: `base` where there is one, then `candidate`."""


@dataclass
class Assessed:
    """A task and what each model answered.

    Attributes:
        name: The task.
        kind: Its kind.
        asked: Its items.
        higher_is_better: By metric.
        shown: Whether what the models say may be shown.
        left_out: Metrics of lm-eval that are not one number for each item.
        answers: Answers in the order of the items, by arm.
    """

    name: str
    kind: str
    asked: Asked
    shown: bool
    higher_is_better: dict[str, bool] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    answers: dict[str, Sequence[Answer]] = field(default_factory=dict)

    def rows(self) -> list[dict[str, Any]]:
        """The items with every model's answer and scores, as `samples.jsonl` has them."""
        return [
            {
                "task": self.name,
                **{name: value for name, value in vars(question).items() if name != "fields"},
                **question.fields,
                "quotable": question.quotable and self.shown,
                **{arm: _said(answers[number]) for arm, answers in self.answers.items()},
            }
            for number, question in enumerate(self.asked.questions)
        ]


@dataclass
class Assessment:
    """All that was asked and answered.

    Attributes:
        tasks: Every task, the held-out questions first.
        replies: How every answer went, by arm.
        truncated: Questions that did not fit into a model's context, by arm.
        agreements: How far the judge agrees with people, where one judged.
    """

    tasks: list[Assessed]
    replies: dict[str, list[Reply]]
    truncated: dict[str, int]
    agreements: list[Agreement]


def assess(
    arms: Arms,
    questions: Asked | None,
    options: Benchmark,
    progress: Callable[[float, float, str], None],
    revisions: Mapping[str, str],
) -> Assessment:
    """Ask every model everything.

    Args:
        arms: The models.
        questions: Held-out questions; None where there are none.
        options: The tasks, and how to ask and score.
        progress: Called with how much is done, of how much, and what is being done.
        revisions: By arm, of those served models that are pinned otherwise than the options say.

    Raises:
        UsageError: A task or its data is not there, or a model cannot be asked for it.
        HeadraceError: There is nothing to ask, or programs cannot be confined.
    """
    own = [(task, read_items(task)) for task in options.tasks if task.kind != "lm_eval"]
    others = [task for task in options.tasks if task.kind == "lm_eval"]
    if questions is not None:
        own.insert(0, (held_out(options), questions))
    if not own and not others:
        raise HeadraceError("there is nothing to ask: give held-out questions, or tasks in evaluation.benchmark.tasks")
    if any(task.kind == "code" for task, _ in own):
        ensure_confined(options.sandbox)  # before a model is loaded
    for task in others:
        load(task)
    shown = all(map(may_show_answers, arms.values()))
    found = [Assessed(task.name, task.kind, asked, shown) for task, asked in own]
    scoring = Scoring.by(options)
    replies, truncated = {}, {}
    parts, done = len(arms) * (len(own) + len(others)), 0
    for arm, where in arms.items():
        model = open_model(where, options, revisions.get(arm, ""))

        what = "the base model" if arm == BASE else f"the {arm}"
        for (task, asked), assessed in zip(own, found, strict=False):
            model.progress = _part(progress, done, parts, what, task)
            assessed.answers[arm] = with_harm(asked.questions, ask_task(model, task, asked.questions, scoring))
            done += 1
        for task in others:
            model.progress = _part(progress, done, parts, what, task)
            for other in ask_other(model, task):
                assessed = next((one for one in found if one.name == other.name), None) or Assessed(
                    other.name, task.kind, other.asked, shown, other.higher_is_better, other.left_out
                )
                if assessed not in found:
                    found.append(assessed)
                assessed.answers[arm] = other.answers
            done += 1
        replies[arm], truncated[arm] = model.replies, model.truncated
        del model
    for assessed in found:
        if assessed.kind != "lm_eval":
            names = {name for answer in next(iter(assessed.answers.values())) for name in answer.scores}
            assessed.higher_is_better = {name: measure_of(name).higher_is_better for name in sorted(names)}
    return Assessment(found, replies, truncated, _agreements([task for task, _ in own], scoring))


def _part(
    progress: Callable[[float, float, str], None], done: int, parts: int, what: str, task: Task
) -> Callable[[int, int], None]:
    """Report how far a part is as how far the whole is."""
    note = f"asking {what}" + ("" if task.name == OWN_TASK else f": {task.name}")
    return lambda now, total: progress(done + now / total, parts, note)


def with_harm(questions: Sequence[Question], answers: Sequence[Answer]) -> list[Answer]:
    """Check every answer for what none should hold."""
    return [
        Answer(answer.text, {**answer.scores, **harm(answer.text, question.question)}, answer.texts)
        for question, answer in zip(questions, answers, strict=True)
    ]


def _agreements(tasks: Sequence[Task], scoring: Scoring) -> list[Agreement]:
    """Hold the judge against people's labels, if it judged anything."""
    if not any(task.kind == "evidence" for task in tasks):
        return []
    options = scoring.options
    path = Path(options.judging.labelled) if options.judging.labelled else LABELLED
    return agreement(scoring.opened.judge, read_labelled(path), options.confidence)


def _said(answer: Answer) -> dict[str, Any]:
    further = {"answers": list(answer.texts)} if answer.texts else {}
    return {"answer": answer.text, **further, **answer.scores}
