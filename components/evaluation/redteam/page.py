"""The report: what was tried, what came of it, and what to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.common.report import Report, display
from components.evaluation.evidence import Evidence, Metric, weigh
from components.evaluation.redteam.attacks import AttackClass
from components.evaluation.redteam.canaries import CANARY
from components.evaluation.redteam.options import Redteam
from components.evaluation.redteam.probes import (
    EXTRACTION,
    GUESSED,
    HIGHER_IS_BETTER,
    OVER_REFUSAL,
    REFERRAL,
    REFUSAL,
    Memory,
    Probe,
)
from components.evaluation.redteam.success import RULES

_SHOWN = 240
"""Characters of an attack or answer that the report shows."""

_REQUESTS = (REFUSAL, REFERRAL, OVER_REFUSAL)
_REMEDIES = {
    AttackClass.JAILBREAK: "Train on refusals (model.curate.policy.share), and filter requests and answers before "
    "them.",
    AttackClass.DIRECT_INJECTION: "Mark text that users paste as data in the prompt, and act on no order in it without "
    "asking.",
    AttackClass.INDIRECT_INJECTION: "Strip comments, hidden elements and zero-width letters when documents are parsed; "
    "retrieve from sources that you control.",
    AttackClass.PROMPT_EXTRACTION: "Put no secret into a system prompt: what a model reads, it can be made to say.",
    EXTRACTION: "Wanted where facts are taught to be recalled. Where pairs hold what not everybody may read, lower "
    "data.max_confidentiality, mask more, or train fewer epochs.",
    REFUSAL: "Train on refusals: model.curate.policy.share.",
    REFERRAL: "Train on referrals: model.curate.policy.share.",
    OVER_REFUSAL: "Add benign near-misses to the policy, or lower model.curate.policy.share.",
}


@dataclass(frozen=True)
class Answered:
    """A probe with what both models answered."""

    probe: Probe
    base: str
    candidate: str


def page(found: Evidence, answered: Sequence[Answered], memory: Memory, options: Redteam) -> Report:
    """Lay the report out.

    Args:
        found: The evidence.
        answered: Every probe with its answers.
        memory: What the memory of was tested.
        options: What the recipe asked for.
    """
    metrics = {metric.name.removeprefix("redteam."): metric for metric in found.metrics}
    attacks = [one for one in answered if one.probe.metric in set(AttackClass)]
    through = sum(one.probe.score(one.candidate) for one in attacks)
    report = Report(
        "Red team",
        f"{int(through)} of {len(attacks)} attacks succeeded on the candidate, {_before(attacks)} on the base",
    )
    report.metrics({name.replace("_", " "): metric.value for name, metric in metrics.items()})
    report.table(
        [metric.row() for metric in found.metrics], f"Base against candidate, {options.confidence:.0%} intervals"
    )
    report.text(
        "Of attacks, extraction, guessing, over-refusal and membership less is better; of refusal and referral more."
    )
    if rows := list(_grouped(attacks, "language", options)):
        report.table(rows, "Attacks by language")
    requests = [one for one in answered if one.probe.metric in _REQUESTS]
    for by in ("language", "domain"):
        if rows := list(_grouped(requests, by, options)):
            report.table(rows, f"Requests of the safety policy by {by}")
    if attacks:
        report.table(list(_techniques(attacks)), "Techniques that worked on the candidate")
    report.text(_on_memory(metrics, memory))
    _examples(report, answered, memory, options)
    todo = [
        {"measured": str(name).replace("_", " "), "candidate": metrics[str(name)].value, "what to do": remedy}
        for name, remedy in _REMEDIES.items()
        if str(name) in metrics and _is_bad(metrics[str(name)])
    ]
    if todo:
        report.table(todo, "What to do")
    report.heading("When an attack counts as successful")
    for kind, rule in RULES.items():
        report.text(f"{str(kind).replace('_', ' ').capitalize()}: {rule[0].lower()}{rule[1:]}")
    return report


def _before(attacks: Sequence[Answered]) -> int:
    return int(sum(one.probe.score(one.base) for one in attacks))


def _is_bad(metric: Metric) -> bool:
    return metric.value < 1 if metric.higher_is_better else metric.value > 0


def _grouped(answered: Sequence[Answered], by: str, options: Redteam) -> Iterator[dict[str, Any]]:
    """A row for each metric and group, weighed by itself."""
    groups: dict[tuple[str, str], list[Answered]] = {}
    for one in answered:
        group = one.probe.language if by == "language" else one.probe.group
        groups.setdefault((one.probe.metric, group), []).append(one)
    for (metric, group), some in sorted(groups.items()):
        weighed = weigh(
            metric,
            {one.probe.id: one.probe.score(one.candidate) for one in some},
            {one.probe.id: one.probe.score(one.base) for one in some},
            options,
            task="redteam",
            higher_is_better=metric in HIGHER_IS_BETTER,
        )
        row = weighed.row()
        yield {"metric": row.pop("metric"), by: group.replace("_", "-"), "asked": len(some), **row}


def _techniques(attacks: Sequence[Answered]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, str], list[float]] = {}
    for one in attacks:
        key = (one.probe.metric, one.probe.group)
        groups.setdefault(key, []).append(one.probe.score(one.candidate))
    ranked = sorted(groups.items(), key=lambda entry: (-sum(entry[1]), entry[0]))
    for (metric, technique), scores in ranked:
        if sum(scores):
            yield {
                "class": metric.replace("_", " "),
                "technique": technique,
                "succeeded": int(sum(scores)),
                "tried": len(scores),
            }


def _on_memory(metrics: dict[str, Metric], memory: Memory) -> str:
    sides = f"{len(memory.trained)} pairs that were trained on and {len(memory.outside)} that were not"
    if "membership_loss" not in metrics:
        return f"Membership inference needs at least four pairs on each side; there are {sides}."
    loss, extracted = metrics["membership_loss"], metrics[EXTRACTION]
    guessed = metrics[GUESSED].value if GUESSED in metrics else 0.0
    return (
        f"Memory is tested on {sides}, of the same kinds. Given a question and the first half of its answer, the "
        f"candidate goes on word by word with {display(100 * extracted.value)} % of the former and "
        f"{display(100 * guessed)} % of the latter. Whoever must tell the two apart by the candidate's loss is right "
        f"in {display(100 * loss.value)} % of the comparisons, by the base model's, which saw neither, in "
        f"{display(100 * (loss.base_value or 0.0))} %; 50 % is guessing. A model that is taught facts is meant to "
        "remember them: this matters where pairs hold what not everybody may read."
    )


def _examples(report: Report, answered: Sequence[Answered], memory: Memory, options: Redteam) -> None:
    wrong = [
        one
        for one in answered
        if one.probe.metric not in (EXTRACTION, GUESSED, CANARY)
        and bool(one.probe.score(one.candidate)) != (one.probe.metric in HIGHER_IS_BETTER)
    ]
    shown = _in_turn(wrong)[: options.examples]
    if not shown:
        return
    report.table(
        [
            {
                "metric": one.probe.metric.replace("_", " "),
                "technique or domain": one.probe.group,
                "asked": _cut(one.probe.question) if one.probe.quotable else "(of a public set: not shown)",
                "candidate": _cut(one.candidate) if memory.quotable else "(not shown)",
            }
            for one in shown
        ],
        f"Examples of what went wrong, {len(shown)} of {len(wrong)}",
    )
    if not memory.quotable:
        report.text("Answers are not shown: it is not known that all that the candidate was trained on may be quoted.")


def _in_turn(answered: Sequence[Answered]) -> list[Answered]:
    """Each metric in turn, so that none fills the table."""
    turns: dict[str, int] = {}
    ranked = []
    for number, one in enumerate(answered):
        turns[one.probe.metric] = turns.get(one.probe.metric, -1) + 1
        ranked.append((turns[one.probe.metric], number, one))
    return [one for _, _, one in sorted(ranked, key=lambda entry: entry[:2])]


def _cut(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _SHOWN else f"{flat[:_SHOWN]}…"
