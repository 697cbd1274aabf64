"""Tasks that lm-eval brings or a person wrote as its YAML, measured item by item."""

import difflib
import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from components.common.errors import HeadraceError, UsageError
from components.evaluation.benchmark.asking import Answer, evaluate
from components.evaluation.benchmark.items import Asked, Question, content_ids, evenly, left_out_of
from components.evaluation.benchmark.models import Model
from components.evaluation.benchmark.options import Task

_UNFILTERED = "none"


@dataclass(frozen=True)
class Other:
    """One leaf task of lm-eval: its items and answers, and which way its metrics are good.

    Attributes:
        name: Its name.
        asked: Its items.
        answers: The answers, in their order.
        higher_is_better: By metric.
        left_out: Metrics that are not one number for each item, so that nothing can be paired.
    """

    name: str
    asked: Asked
    answers: Sequence[Answer]
    higher_is_better: dict[str, bool] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def load(task: Task) -> Any:
    """Load a task, group or tag of lm-eval by its name.

    Raises:
        UsageError: There is none of that name, or its data cannot be reached.
    """
    where = f"evaluation.benchmark.tasks: {task.name}"
    if task.location and not Path(task.location).is_dir():
        raise UsageError(f"{where}: there is no folder {task.location}; name the one that has the task's YAML")
    manager = TaskManager(include_path=task.location or None)
    if task.name not in manager.all_tasks:
        near = difflib.get_close_matches(task.name, manager.all_tasks, n=3, cutoff=0.4)
        raise UsageError(
            f"{where}: lm-eval has no task of this name" + (f"; did you mean {' or '.join(near)}?" if near else "")
        )
    try:
        with redirect_stderr(io.StringIO()):
            return manager.load(task.name)
    except HeadraceError:
        raise
    except Exception as error:  # whatever a data set's loader may raise
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"{where}: its data cannot be loaded here ({type(error).__name__}: {said}); make it reachable "
            "(HF_HUB_OFFLINE=0 where there is a network), or write a task YAML over files of your own "
            "and name its folder as location"
        ) from error


def ask_other(model: Model, task: Task) -> list[Other]:
    """Have a model do a task of lm-eval.

    Raises:
        UsageError: The task is not there, wants what a served model cannot do, or runs programs unconfined.
    """
    loaded = load(task)
    where = f"evaluation.benchmark.tasks: {task.name}"
    for name, one in loaded["tasks"].items():
        if one.OUTPUT_TYPE != "generate_until" and not model.scores_text:
            raise UsageError(
                f"{where}: {name} is of type {one.OUTPUT_TYPE}, which takes log-likelihoods, and a chat API has none; "
                "ask a model directory, or a variant of the task that generates its answer"
            )
        if getattr(one, "UNSAFE_CODE", False) or getattr(one.config, "unsafe_code", False):
            raise UsageError(f"{where}: {name} runs programs unconfined; use a task of kind code, which has a sandbox")
    chosen = {name: evenly(range(len(one.eval_docs)), task.limit) for name, one in loaded["tasks"].items()}
    with redirect_stderr(io.StringIO()):
        samples = evaluate(model, loaded, task, chosen)
    return [_measured(name, loaded["tasks"][name], rows, task.quote) for name, rows in samples.items()]


def _measured(name: str, task: Any, rows: Sequence[dict[str, Any]], quote: bool) -> Other:
    directions = task.higher_is_better()
    scores: defaultdict[int, dict[str, float]] = defaultdict(dict)
    better: dict[str, bool] = {}
    left_out: set[str] = set()
    questions: dict[int, Question] = {}
    texts: dict[int, str] = {}
    choices: dict[int, list[str]] = {}
    for row in rows:
        number = row["doc_id"]
        for metric in row["metrics"]:
            named = metric if row["filter"] == _UNFILTERED else f"{metric}.{row['filter']}"
            if isinstance(row[metric], bool | int | float):
                scores[number][named] = float(row[metric])
                better[named] = bool(directions.get(metric, True))
            else:
                left_out.add(named)
        texts.setdefault(number, _said(row))
        asked = Question("", "und", str(task.doc_to_text(row["doc"])), str(row["target"]), quotable=quote)
        questions.setdefault(number, asked)
        choices.setdefault(number, _choices(task, row))
    numbers = sorted(questions)
    ids = content_ids([questions[number].question, questions[number].answer, *choices[number]] for number in numbers)
    whole = [metric for metric in better if all(metric in scores[number] for number in numbers)]
    return Other(
        name,
        Asked(
            [replace(questions[number], id=name) for number, name in zip(numbers, ids, strict=True)],
            len(task.eval_docs),
            left_out_of(beyond_limit=len(task.eval_docs) - len(numbers)),
        ),
        [Answer(texts[number], {metric: scores[number][metric] for metric in whole}) for number in numbers],
        {metric: better[metric] for metric in whole},
        tuple(sorted(left_out | (set(better) - set(whole)))),
    )


def _choices(task: Any, row: dict[str, Any]) -> list[str]:
    """What can be chosen from; nothing where the answer is generated."""
    if task.OUTPUT_TYPE == "generate_until":
        return []
    return [str(part) for argument in row["arguments"] for part in argument[1:]]


def _said(row: dict[str, Any]) -> str:
    """What the model answered, or of several choices the likeliest."""
    first = row["resps"][0][0]
    if isinstance(first, str):
        return first.strip()
    choices = [
        (responses[0][0], arguments[1]) for responses, arguments in zip(row["resps"], row["arguments"], strict=True)
    ]
    return str(max(choices)[1]).strip() if len(choices) > 1 else ""
