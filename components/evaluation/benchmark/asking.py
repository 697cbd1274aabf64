"""Ask a model the held-out questions, with lm-eval and this folder's task."""

import io
import json
import logging
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lm_eval
import torch
import transformers
import yaml
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from components.evaluation.benchmark.options import Benchmark

TASKS = Path(__file__).parent / "tasks"
TASK = "held_out"


@dataclass(frozen=True)
class Question:
    """A question with its expected answer, its document, the kind of fact, and whether a report may show it."""

    id: str
    language: str
    question: str
    answer: str
    kind: str = ""
    quotable: bool = True


@dataclass(frozen=True)
class Answer:
    """What a model answered to a question, with its scores by metric."""

    text: str
    scores: dict[str, float]


def ask(
    model: Path, questions: Sequence[Question], options: Benchmark, progress: Callable[[int], None]
) -> list[Answer]:
    """Have a model answer every question, greedily, with its chat template.

    Args:
        model: Model directory.
        questions: What to ask.
        options: Batch size, answer length and precision.
        progress: Called with the number of questions answered.

    Returns:
        The answers in the order of the questions.
    """
    for noisy in ("lm_eval", "lm-eval", "datasets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads or torch.get_num_threads())
    with tempfile.TemporaryDirectory() as scratch, redirect_stderr(io.StringIO()):  # lm-eval draws its own bars
        asked = _Asked(progress, model, options)
        tasks = TaskManager(include_defaults=False).load(str(_task(questions, options, Path(scratch))))
        measured: Any = lm_eval.evaluate(asked, tasks, apply_chat_template=True, bootstrap_iters=0)
    metrics = [name.partition(",")[0] for name in measured["higher_is_better"][TASK]]
    samples = sorted(measured["samples"][TASK], key=lambda sample: sample["doc_id"])
    return [
        Answer(sample["filtered_resps"][0].strip(), {metric: float(sample[metric]) for metric in metrics})
        for sample in samples
    ]


def _task(questions: Sequence[Question], options: Benchmark, folder: Path) -> Path:
    """Write the questions, and the task that asks these."""
    rows = [json.dumps(asdict(question), ensure_ascii=False) for question in questions]
    file = folder / "questions.jsonl"
    file.write_text("\n".join(rows) + "\n", "utf-8")
    task = {
        "include": str(TASKS / f"{TASK}.yaml"),
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder)},
        "generation_kwargs": {"do_sample": False, "max_gen_toks": options.max_new_tokens, "until": []},
    }
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(task), "utf-8")
    return path


class _Asked(HFLM):
    """lm-eval's Hugging Face model that says how far it is."""

    def __init__(self, progress: Callable[[int], None], model: Path, options: Benchmark) -> None:
        precision = {"bf16": "bfloat16", "fp32": "float32"}[options.precision]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(pretrained=str(model), dtype=precision, batch_size=options.batch_size, device=device)
        self._answered = 0
        self._progress = progress

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        generated = super()._model_generate(context, *args, **kwargs)
        self._answered += len(context)
        self._progress(self._answered)
        return generated
