"""The models that are asked: a directory, or an OpenAI-compatible URL, both as lm-eval knows models.

Each remembers how every answer went (`replies`): seconds until it was there, its share of the time the model was busy,
and tokens.
"""

import logging
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from components.common.errors import UsageError
from components.evaluation.benchmark.options import Benchmark
from components.evaluation.benchmark.replies import Progress, Reply
from components.evaluation.benchmark.served import ServedModel, is_url
from components.model.precision import weight_type


class Model(Protocol):
    """A model that can be asked; beside these, what lm-eval's `LM` does."""

    replies: list[Reply]
    progress: Progress
    truncated: int
    scores_text: bool

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer each request."""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> Any:
        """Write a conversation as the model is given it."""


def open_model(where: str | Path, options: Benchmark, revision: str = "") -> Model:
    """Open a model directory or a served model.

    Args:
        where: A directory, or the base URL of an OpenAI-compatible API.
        options: How to ask.
        revision: Which of a served model must answer; empty: the one that the options name.

    Raises:
        UsageError: It is neither.
        HeadraceError: The server cannot be reached, or has not the model or revision.
    """
    if is_url(where):
        served = options.served.model_copy(update={"revision": revision or options.served.revision})
        return ServedModel(str(where), served, options.seed)
    path = Path(where)
    if not (path / "config.json").is_file():
        raise UsageError(f"{where} is no model: give a directory with config.json, or the base URL of an OpenAI API")
    return DirectoryModel(path, options)


def complete(model: Model, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """Have a model answer prompts, greedily, each as a chat of one message."""
    keywords = {"do_sample": False, "max_gen_toks": max_new_tokens, "until": []}
    requests = [
        Instance(
            "generate_until",
            {},
            (model.apply_chat_template([{"role": "user", "content": prompt}]), dict(keywords)),
            0,
            ("complete", number, 1),
        )
        for number, prompt in enumerate(prompts)
    ]
    return model.generate_until(requests)


class DirectoryModel(HFLM):
    """A model directory, asked in batches."""

    scores_text = True

    def __init__(self, model: Path, options: Benchmark) -> None:
        for noisy in ("lm_eval", "lm-eval", "datasets"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        transformers.utils.logging.disable_progress_bar()
        torch.set_num_threads(options.threads or torch.get_num_threads())
        torch.manual_seed(options.seed)
        precision = weight_type(options.precision)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(pretrained=str(model), dtype=precision, batch_size=options.batch_size, device=device)
        self.progress: Progress = lambda done, total: None
        self.replies: list[Reply] = []
        self.truncated = 0
        self._total = self._done = 0
        self._batch: list[str] = []
        self._measured: defaultdict[str, deque[Reply]] = defaultdict(deque)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """See `LM.generate_until`."""
        self._total, self._done = len(requests), 0
        answers = super().generate_until(requests, disable_tqdm=True)
        for request in requests:
            reply = self._measured[request.args[0]].popleft()
            self.replies.append(replace(reply, task=request.task_name or "", item=request.doc_id or 0))
        return answers

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """See `LM.loglikelihood`."""
        self._total, self._done = len(requests), 0
        return super().loglikelihood(requests, disable_tqdm=True)

    def tok_batch_encode(self, strings: Any, *args: Any, **keywords: Any) -> Any:
        """Remember which questions are in the batch, and count those that do not fit into the context."""
        self._batch = list(strings)
        if most := keywords.get("left_truncate_len"):
            self.truncated += sum(len(self.tok_encode(one)) > most for one in strings)
        return super().tok_batch_encode(strings, *args, **keywords)

    def _model_generate(self, context: torch.Tensor, *args: Any, **keywords: Any) -> torch.Tensor:
        began = perf_counter()
        generated: torch.Tensor = super()._model_generate(context, *args, **keywords)
        seconds = perf_counter() - began
        asked = keywords["attention_mask"].sum(dim=1).tolist()
        answers = generated[:, context.shape[1] :].tolist()
        for text, prompt_tokens, answer in zip(self._batch, asked, answers, strict=True):
            length = len(answer)
            with suppress(ValueError):
                length = answer.index(self.eot_token_id) + 1
            self._measured[text].append(Reply("", 0, seconds, seconds / len(answers), prompt_tokens, length))
        self._advance(len(answers))
        return generated

    def _model_call(self, inps: torch.Tensor, *args: Any, **keywords: Any) -> torch.Tensor:
        scored: torch.Tensor = super()._model_call(inps, *args, **keywords)
        self._advance(len(inps))
        return scored

    def _advance(self, count: int) -> None:
        self._done = min(self._total, self._done + count)
        self.progress(self._done, self._total)
