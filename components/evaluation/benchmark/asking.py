"""Ask a model through lm-eval: the tasks of this folder, and whatever task lm-eval knows or a person wrote."""

import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from lm_eval.tasks import TaskManager

from components.evaluation.benchmark.items import Question
from components.evaluation.benchmark.models import Model, open_model
from components.evaluation.benchmark.options import OWN_TASK, Benchmark, Task
from components.evaluation.benchmark.scoring import Scoring
from components.evaluation.benchmark.tasks import FOLDER, score_of


@dataclass(frozen=True)
class Answer:
    """What a model answered to a question, with its scores by metric.

    Attributes:
        text: The first answer.
        scores: Scores by metric.
        texts: All answers, where several were drawn.
    """

    text: str
    scores: dict[str, float]
    texts: tuple[str, ...] = ()


def ask(
    model: Path | str, questions: Sequence[Question], options: Benchmark, progress: Callable[[int], None]
) -> list[Answer]:
    """Have a model answer held-out questions, greedily, with its chat template.

    Args:
        model: Model directory, or the base URL of an OpenAI-compatible API.
        questions: What to ask.
        options: Batch size, answer length and precision.
        progress: Called with the number of questions answered.

    Returns:
        The answers in the order of the questions.
    """
    opened = open_model(model, options)
    opened.progress = lambda done, total: progress(done)
    return ask_task(opened, held_out(options), questions, Scoring.by(options))


def held_out(options: Benchmark) -> Task:
    """The task of the line's own held-out questions."""
    return Task.model_construct(name=OWN_TASK, kind="qa", max_new_tokens=options.max_new_tokens)


def ask_task(model: Model, task: Task, questions: Sequence[Question], scoring: Scoring) -> list[Answer]:
    """Have a model answer the items of a task and score the answers.

    Args:
        model: The model.
        task: Its kind, and how it is asked.
        questions: Its items.
        scoring: How answers are scored.

    Returns:
        The answers in the order of the items.
    """
    with tempfile.TemporaryDirectory() as scratch, redirect_stderr(io.StringIO()):  # lm-eval draws its own bars
        loaded = TaskManager(include_defaults=False).load(str(_write_task(task, questions, Path(scratch))))
        for one in loaded["tasks"].values():
            one.override_metric("bypass")  # scored below, so that several answers and the judge are at hand
        samples = evaluate(model, loaded, task)[task.name]
    score = score_of(task.kind)
    answers = []
    for question, sample in zip(questions, samples, strict=True):
        texts = tuple(text.strip("\n") if task.kind == "code" else text.strip() for text in sample["resps"][0])
        scores = score(question.row(), texts, scoring.of(task.passes))
        answers.append(Answer(texts[0].strip(), scores, texts if len(texts) > 1 else ()))
    return answers


def evaluate(model: Model, loaded: Any, task: Task, samples: Mapping[str, Sequence[int]] | None = None) -> Any:
    """Run lm-eval and return every task's samples in the order of its items."""
    measured: Any = lm_eval.evaluate(
        model,  # type: ignore[arg-type]
        loaded,
        samples={name: list(numbers) for name, numbers in samples.items()} if samples else None,
        system_instruction=task.system or None,
        apply_chat_template=task.chat_template,
        bootstrap_iters=0,
    )
    return {name: sorted(rows, key=lambda row: row["doc_id"]) for name, rows in measured["samples"].items()}


def _write_task(task: Task, questions: Sequence[Question], folder: Path) -> Path:
    """Write the items, and the task that asks these."""
    rows = [json.dumps(question.row(), ensure_ascii=False) for question in questions]
    file = folder / "questions.jsonl"
    file.write_text("\n".join(rows) + "\n", "utf-8")
    kind = FOLDER / f"{OWN_TASK if task.name == OWN_TASK else task.kind}.yaml"
    usual = yaml.load(kind.read_text("utf-8"), _Plain).get("generation_kwargs", {})
    sampled = {"do_sample": True, "temperature": task.temperature} if task.temperature else {"do_sample": False}
    written: dict[str, Any] = {
        "include": str(kind),
        "task": task.name,
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder)},
        "repeats": task.samples,
        "generation_kwargs": {
            **sampled,
            "max_gen_toks": task.max_new_tokens or usual["max_gen_toks"],
            "until": [],
        },
    }
    if task.prompt:
        written["doc_to_text"] = task.prompt
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(written, allow_unicode=True), "utf-8")
    return path


class _Plain(yaml.SafeLoader):
    """Reads a task without importing the functions that it names."""


_Plain.add_constructor("!function", lambda loader, node: node.value)
