"""Attack base and candidate, ask them what the safety policy is about, and test what they remember of training."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.common.documents import count_documents
from components.common.report import Report
from components.common.step import Context, Outcome
from components.evaluation.evidence import BASE, CANDIDATE, SAMPLES, Evidence, Metric, weigh
from components.evaluation.redteam.canaries import ANSWERS, CANARY, UNCHANGED, as_expected, remembered
from components.evaluation.redteam.memory import familiarity, min_k, weigh_membership
from components.evaluation.redteam.options import Redteam
from components.evaluation.redteam.page import Answered, page
from components.evaluation.redteam.probes import (
    HIGHER_IS_BETTER,
    Memory,
    Probe,
    attack_probes,
    canary_probes,
    memory_probes,
    read_memory,
    request_probes,
)
from components.model.answering import Answerer
from components.model.versions import may_show_answers

NAME = "redteam"
_ARMS = (BASE, CANDIDATE)
_FEWEST = 4
"""Pairs on each side without which an area under the curve says nothing."""


@dataclass(frozen=True)
class Heard:
    """What one model had to say.

    Attributes:
        answers: To every probe, in order.
        trained: Log-likelihoods of the tokens of what was trained on, pair by pair.
        outside: The same of what was not.
    """

    answers: Sequence[str]
    trained: Sequence[np.ndarray]
    outside: Sequence[np.ndarray]


def run(
    base: Path, candidate: Path, pairs: Path, outsiders: Path, evidence: Path, options: Redteam, context: Context
) -> Outcome:
    """Measure both models.

    Args:
        base: The model before tuning.
        candidate: The model that may be released.
        pairs: What the candidate was trained on.
        outsiders: Pairs of the same kinds that nothing was trained on.
        evidence: `evidence.json`, `scores.json` and `samples.jsonl`.
        options: Which attacks, how many, and how to ask.
        context: The run.

    Raises:
        HeadraceError: A public attack set that the recipe asks for is not installed.
    """
    if options.mode == "off":
        Evidence(options.confidence, [], off={NAME: "evaluation.redteam.mode is off"}).write(evidence)
        (evidence / SAMPLES).write_text("", "utf-8")
        return Outcome(0, 0, Report("Red team", "Switched off by evaluation.redteam.mode: nothing was attacked."))
    torch.set_num_threads(options.threads or torch.get_num_threads())
    attacks, long = attack_probes(options)
    memory = read_memory(pairs, outsiders, options)
    memory = replace(memory, quotable=memory.quotable and may_show_answers(candidate))
    probes = [*attacks, *request_probes(options), *memory_probes(memory), *canary_probes(options.canaries)]
    total = 2 * len(probes)
    heard = {
        BASE: _hear(base, probes, memory, options, lambda done: context.progress(done, total, "the base model")),
        CANDIDATE: _hear(
            candidate,
            probes,
            memory,
            options,
            lambda done: context.progress(len(probes) + done, total, "the candidate"),
        ),
    }
    found = judge(probes, heard, options)
    found.write(evidence)
    answered = [
        Answered(probe, *(heard[arm].answers[number].strip() for arm in _ARMS)) for number, probe in enumerate(probes)
    ]
    (evidence / SAMPLES).write_text("".join(_sample(one, memory) for one in answered), "utf-8")
    return Outcome(
        counts_in=count_documents(pairs),
        counts_out=len(probes),
        dropped={f"{package}_too_long": count for package, count in long.items()},
        metrics={
            name.replace(".", "_"): value
            for metric in found.metrics
            for name, value in ((metric.name, metric.value), (f"{metric.name}_base", metric.base_value or 0.0))
        },
        report=page(found, answered, memory, options),
    )


def judge(probes: Sequence[Probe], heard: Mapping[str, Heard], options: Redteam) -> Evidence:
    """Turn what two models said into evidence.

    Args:
        probes: What they were asked.
        heard: What they said, by arm.
        options: Canaries, and the level of the intervals.
    """
    scores: dict[str, dict[str, dict[str, float]]] = {arm: {} for arm in heard}
    canaries = [number for number, probe in enumerate(probes) if probe.metric == CANARY]
    for arm, said in heard.items():
        for probe, answer in zip(probes, said.answers, strict=True):
            if probe.metric != CANARY:
                scores[arm].setdefault(f"{NAME}.{probe.metric}", {})[probe.id] = probe.score(answer)
        answers = [said.answers[number] for number in canaries]
        if expected := as_expected(options.canaries, answers):
            scores[arm][UNCHANGED] = expected
    metrics = [
        weigh(
            name,
            scores[CANDIDATE][name],
            scores[BASE][name],
            options,
            task=NAME,
            higher_is_better=name == UNCHANGED or name.removeprefix(f"{NAME}.") in HIGHER_IS_BETTER,
        )
        for name in scores[CANDIDATE]
    ]
    for arm, said in heard.items():
        if canaries:
            scores[arm][ANSWERS] = remembered(options.canaries, [said.answers[number] for number in canaries])
    return Evidence(options.confidence, [*metrics, *_membership(heard, options)], scores)


def _membership(heard: Mapping[str, Heard], options: Redteam) -> list[Metric]:
    if min(len(heard[CANDIDATE].trained), len(heard[CANDIDATE].outside)) < _FEWEST:
        return []

    def scored(attack: Callable[[np.ndarray], float], arm: str) -> tuple[list[float], list[float]]:
        return [attack(tokens) for tokens in heard[arm].trained], [attack(tokens) for tokens in heard[arm].outside]

    attacks: dict[str, Callable[[np.ndarray], float]] = {
        "membership_loss": familiarity,
        "membership_min_k": lambda tokens: min_k(tokens, options.min_k),
    }
    return [
        weigh_membership(f"{NAME}.{name}", scored(attack, CANDIDATE), scored(attack, BASE), options.confidence)
        for name, attack in attacks.items()
    ]


def _hear(
    model: Path, probes: Sequence[Probe], memory: Memory, options: Redteam, progress: Callable[[int], None]
) -> Heard:
    answerer = Answerer.load(model, options.precision, options.max_new_tokens)
    replies = answerer.answer([probe.messages for probe in probes], options.batch_size, progress)
    trained, outside = (
        answerer.likelihoods([pair["messages"] for pair in side], options.batch_size)
        for side in (memory.trained, memory.outside)
    )
    return Heard([reply.text for reply in replies], trained, outside)


def _sample(answered: Answered, memory: Memory) -> str:
    probe = answered.probe
    row: dict[str, Any] = {
        "id": probe.id,
        "metric": probe.metric,
        "language": probe.language,
        "group": probe.group,
        "question": probe.question,
        "quotable": probe.quotable and memory.quotable,
        BASE: {"answer": answered.base, "score": probe.score(answered.base)},
        CANDIDATE: {"answer": answered.candidate, "score": probe.score(answered.candidate)},
    }
    return f"{json.dumps(row, ensure_ascii=False, sort_keys=True)}\n"
