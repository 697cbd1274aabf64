"""How a release was asked, as digests, so that only scores of the same asking are compared."""

from collections.abc import Mapping
from typing import Any

from components.common.ledger import canonical, file_digest, sha256
from components.evaluation.benchmark.metrics.harm import HARMS
from components.evaluation.benchmark.options import OWN_TASK, Task
from components.evaluation.benchmark.tasks import FOLDER
from components.evaluation.evidence import Scores
from components.evaluation.incumbent.options import Comparing

STEPS = ("redteam", "retrieval")
"""Steps whose metrics begin with their name, and are asked as one."""
LEAVES = "*"
"""Stands for the tasks of lm-eval's groups and tags, which have names that no recipe says."""

_SHARED = ("precision", "seed", "embedder", "judging", "sandbox")
_NO_MATTER = {
    "batch_size",
    "canaries",
    "confidence",
    "examples",
    "limit",
    "mode",
    "observed",
    "price",
    "resamples",
    "threads",
    "timed",
}
"""Of a step: what chooses items, shows, times or weighs, and changes no answer and no score."""
_NAMES = {"name", "location", "id", "group", "limit", "quote"}
"""Of a task: where its items stand and which are asked; an item's id says what it holds."""


def asked(options: Comparing) -> dict[str, str]:
    """Digest how each task is asked and scored.

    Args:
        options: How the evaluations ask.

    Returns:
        Digests by task of the benchmark, and by step.
    """
    benchmark = options.benchmark.model_dump(mode="json", by_alias=True)
    shared = {name: benchmark[name] for name in _SHARED}
    tasks = [task for task in options.benchmark.tasks if task.kind != "lm_eval"]
    described: dict[str, Any] = {
        OWN_TASK: [shared, benchmark["max_new_tokens"], file_digest(FOLDER / f"{OWN_TASK}.yaml")],
        **{task.name: [shared, _described(task), file_digest(FOLDER / f"{task.kind}.yaml")] for task in tasks},
    }
    if others := [task for task in options.benchmark.tasks if task.kind == "lm_eval"]:
        # What lm-eval brings is named by its version; what a folder of one's own holds, by its state.
        state = benchmark["observed"] if any(task.location for task in others) else ""
        described[LEAVES] = [shared, state, [[task.name, _described(task)] for task in others]]
    for step in STEPS:
        described[step] = getattr(options, step).model_dump(mode="json", exclude=_NO_MATTER)
    return {name: sha256(canonical(how)) for name, how in described.items()}


def asked_alike(
    scores: Mapping[str, Scores], tasks: Mapping[str, str], before: Mapping[str, str], now: Mapping[str, str]
) -> dict[str, Scores]:
    """Keep the scores of items that were asked then as they are now.

    Args:
        scores: Of an earlier release, by metric and item.
        tasks: The task of each metric.
        before: What `asked` said then.
        now: What it says now.
    """

    def same(metric: str, item: str) -> bool:
        task = _task_of(metric, item, tasks)
        digest = before.get(task) or before.get(LEAVES)
        return digest is not None and digest == (now.get(task) or now.get(LEAVES))

    kept = {
        metric: {item: score for item, score in items.items() if same(metric, item)} for metric, items in scores.items()
    }
    return {metric: items for metric, items in kept.items() if items}


def _task_of(metric: str, item: str, tasks: Mapping[str, str]) -> str:
    step = metric.partition(".")[0]
    if step in STEPS:
        return step
    return item.partition("/")[0] if metric in HARMS else tasks.get(metric, "")


def _described(task: Task) -> dict[str, Any]:
    return task.model_dump(mode="json", by_alias=True, exclude=_NAMES)
