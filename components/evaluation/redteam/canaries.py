"""Canary prompts: answers that must not change from release to release, remembered as hashes.

An item of the metric `redteam.canary_answers` is named by the hashes of prompt and answer. Two releases therefore have
an item in common exactly where both answered alike, and no text is kept.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.evaluation.benchmark.metrics.answers import normalize
from components.evaluation.evidence import CANDIDATE, SAMPLES, ArmScores, Evidence
from components.evaluation.redteam.options import SAME, Canary

CANARY = "canary"
"""Of a sample: it is a canary's."""

ANSWERS = "redteam.canary_answers"
UNCHANGED = "redteam.canaries_unchanged"
AS_SERVING = "redteam.canaries_as_serving"
"""Of the comparison with the serving release: share of the canaries that both answer alike."""


def remembered(canaries: Sequence[Canary], answers: Sequence[str]) -> dict[str, float]:
    """What `scores.json` keeps of the answers: an item for each canary, named by prompt and answer.

    Args:
        canaries: The prompts.
        answers: What a model answered, in the same order.
    """
    return {
        f"{prompt_id(canary.prompt)}:{_hash(normalize(answer))}": 1.0
        for canary, answer in zip(canaries, answers, strict=True)
    }


def as_expected(canaries: Sequence[Canary], answers: Sequence[str]) -> dict[str, float]:
    """Score canaries whose answer the recipe names: 1 for that answer, else 0, by the prompt's id."""
    return {
        prompt_id(canary.prompt): float(normalize(answer) == normalize(canary.expected))
        for canary, answer in zip(canaries, answers, strict=True)
        if canary.expected != SAME
    }


def unchanged(present: ArmScores, serving: ArmScores) -> dict[str, float]:
    """Compare a candidate's canaries with those of the release that serves.

    Args:
        present: Scores of the candidate's evidence.
        serving: Scores of the serving release's evidence.

    Returns:
        1 for an answer that is the same and 0 for one that changed, by the prompt's id; only prompts that both were
        asked.
    """
    now, before = _answers(present), _answers(serving)
    return {prompt: float(now[prompt] == before[prompt]) for prompt in sorted(now.keys() & before.keys())}


def changed_prompts(compared: Evidence, redteam: Path) -> list[str]:
    """Name the canary prompts that the candidate answers otherwise than the serving release.

    Args:
        compared: The comparison of the two.
        redteam: The candidate's evidence, whose samples hold the prompts.
    """
    same = compared.scores.get(CANDIDATE, {}).get(AS_SERVING, {})
    changed = {prompt for prompt, score in same.items() if not score}
    if not changed:
        return []
    rows = [json.loads(line) for line in (redteam / SAMPLES).read_text("utf-8").splitlines()]
    return [row["question"] for row in rows if row["metric"] == CANARY and row["id"] in changed]


def prompt_id(prompt: str) -> str:
    """Name a prompt by its hash."""
    return _hash(prompt)


def _answers(scores: ArmScores) -> Mapping[str, str]:
    items = scores.get(CANDIDATE, {}).get(ANSWERS, {})
    return dict(sorted(item.split(":", 1) for item in items if ":" in item))  # type: ignore[arg-type]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
