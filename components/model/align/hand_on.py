"""Hand the tuned model on, aligned or as it is; nothing heavy is imported for the latter."""

import shutil
from pathlib import Path

from components.common.ledger import SIDECAR
from components.common.report import Report
from components.common.step import Context, Outcome
from components.model.align.options import Align


def run(
    base: Path, adapter: Path, preferences: Path, aligned: Path, reward: Path, options: Align, context: Context
) -> Outcome:
    """Align the tuned model if the options say so.

    Args:
        base: Model directory the adapter was trained on.
        adapter: The tuned adapter, or whole weights.
        preferences: Dialogues that end with a good answer, a rejected one, or both.
        aligned: The aligned adapter or weights.
        reward: The reward model of `rlhf`.
        options: How to align.
        context: The run.
    """
    if options.method != "none":
        from components.model.align.train import train

        return train(base, adapter, preferences, aligned, reward, options, context)
    shutil.copytree(adapter, aligned, ignore=shutil.ignore_patterns(SIDECAR), dirs_exist_ok=True)
    report = Report("Alignment", "The tuned model is handed on as it is")
    report.text("The recipe sets `model.align.method` to none. With dpo, orpo, kto, grpo or rlhf it is aligned here.")
    return Outcome(counts_in=1, counts_out=1, report=report)
