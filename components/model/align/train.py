"""Align the tuned model: measure it, train it, measure it again."""

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoTokenizer, Trainer

from components.common.code import code_digest
from components.common.errors import HeadraceError, UsageError
from components.common.ledger import SIDECAR, canonical, entry_of
from components.common.sealed_store import SealedStore, store_of
from components.common.step import Context, Outcome
from components.evaluation.evidence import Metric, weigh
from components.model.align.fit import curves, fit
from components.model.align.measure import Standing, stand
from components.model.align.options import Align
from components.model.align.page import write_report
from components.model.align.preferences import Preferences, read_preferences
from components.model.align.reward_model import RewardModel, build, make_reward_trainer, save_model, weigh_model
from components.model.align.trainers import ADAPTED, REFERENCE, arguments, load_tuned, make_trainer
from components.model.context.stretch import configuration
from components.model.precision import resolve
from components.model.tracking import Log, track
from components.model.tune.attempt import settle
from components.model.tune.checkpoints import Checkpoints, name_training
from components.model.tune.faults import check_model
from components.model.tune.method import save
from components.model.versions import ALIGNMENT, BASE, QUOTABLE, TRAINING, read_json

LIBRARIES = ("torch", "transformers", "peft", "trl")


def train(
    base: Path, adapter: Path, preferences: Path, aligned: Path, reward: Path, options: Align, context: Context
) -> Outcome:
    """Align the tuned model.

    Args:
        base: Model directory that was tuned.
        adapter: The tuned adapter, or whole weights.
        preferences: Dialogues that end with a good answer, a rejected one, or both.
        aligned: The same with aligned weights, and `alignment.json`.
        reward: Folder for the reward model of `rlhf`.
        options: How to align.
        context: The run.

    Raises:
        Preempted: The process was asked to end; the same call goes on from there.
        UsageError: The adapter was tuned on a quantized base, or there is more than one GPU.
        HeadraceError: The adapter is another model's, there is too little to train on, the training diverges,
            memory is full, or the reward model tells nothing.
    """
    settle(options.seed, options.threads)
    name = read_json(base / BASE)["name"]
    training = read_json(adapter / TRAINING)
    refuse_impossible(training, name, torch.cuda.device_count())
    tokenizer = AutoTokenizer.from_pretrained(base)
    check_model(base, name, tokenizer, options.max_length, configuration(base, adapter))
    read = read_preferences(preferences, tokenizer, options)
    settings = {
        **_flat(options.model_dump(mode="json", by_alias=True)),
        "base": name,
        "preferences": len(read.training),
    }
    tags = {
        "base": entry_of(base),
        "tuned": entry_of(adapter),
        "preferences": entry_of(preferences),
        "code": code_digest(),
    }
    inputs = {"base": base, "tuned": adapter, "preferences": preferences}
    precision = resolve(options.precision) if (adapter / ADAPTED).is_file() else "fp32"
    kept = _Kept(store_of(context.environment), inputs, options, precision, context)
    label = f"align-{kept.name()[:12]}"
    run = f"{options.experiment}/{label}"
    recipe = {"model": {"align": options.model_dump(mode="json", by_alias=True)}}
    found: dict[str, Any] = {}
    with ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        log = opened.enter_context(track(context.environment, options.experiment, label, settings, tags, recipe=recipe))
        judge = None
        if options.method == "rlhf":
            model, found["reward_model"] = _reward_model(base, adapter, tokenizer, read, options, kept, log, scratch)
            save_model(model, name, tags["tuned"], found["reward_model"], reward)
            judge = model.judge
        device = "cuda" if torch.cuda.is_available() else "cpu"
        network = load_tuned(base, adapter, options.precision).to(device)
        weights = options.reinforcement.rewards.weights()
        measured = (tokenizer, read.held_out, options.asked, options.reinforcement.max_new_tokens, weights, judge)
        context.progress(0, 1, "measuring the tuned model")
        before = stand(network, *measured)
        trainer = make_trainer(network, tokenizer, read.training, options, judge, scratch / "policy")
        resumed_at = kept.fit(trainer, options.method, log)
        network = trainer.model
        context.progress(1, 1, "measuring the aligned model")
        after = stand(network, *measured)
    shutil.copytree(adapter, aligned, ignore=shutil.ignore_patterns(SIDECAR), dirs_exist_ok=True)
    if isinstance(network, PeftModel) and REFERENCE in network.peft_config:
        network.delete_adapter(REFERENCE)
    save(network, name, aligned)
    metrics = compare(before, after, options)
    record = {
        "method": options.method,
        "base": name,
        "run": run,
        "options": options.model_dump(mode="json", by_alias=True),
        "trained_on": len(read.training),
        "held_out": len(read.held_out),
        QUOTABLE: training.get(QUOTABLE, False) and all(one.quotable for one in read.training),
        "steps": trainer.state.global_step,
        "curves": curves(trainer.state.log_history),
        "metrics": [metric.model_dump(mode="json", exclude_none=True) for metric in metrics],
        "precision": precision,
        "threads": torch.get_num_threads(),
        "versions": {library: version(library) for library in LIBRARIES},
        **found,
    }
    (aligned / ALIGNMENT).write_bytes(canonical(record))
    kept.forget()
    report = write_report(record, metrics, read, before, after, run)
    for sentence in kept.damaged:
        report.text(sentence)
    return Outcome(
        counts_in=read.documents,
        counts_out=len(read.training) + len(read.held_out),
        dropped=read.dropped,
        metrics={**_numbers(metrics, record), "resumed_at_step": float(resumed_at)},
        report=report,
    )


def refuse_impossible(training: Mapping[str, Any], name: str, gpus: int) -> None:
    """Refuse what cannot be aligned here.

    Args:
        training: What `training.json` says of the tuned model.
        name: Name of the base model.
        gpus: How many this process sees.

    Raises:
        UsageError: It was tuned on a quantized base, or there is more than one GPU; the message says what to set.
        HeadraceError: It was tuned on another base model.
    """
    if training["base"] != name:
        raise HeadraceError(f"the adapter was trained on {training['base']}, not on {name}; tune it again")
    if training.get("options", {}).get("method") == "qlora":
        raise UsageError(
            "the adapter was tuned on a quantized base (model.tune.method qlora), and align loads the base whole; set "
            "model.tune.method to lora, or model.align.method to none"
        )
    if gpus > 1:
        raise UsageError(
            f"align trains on one GPU and sees {gpus}, over which batches would silently grow; set "
            "sizes.align.accelerators of the environment to 1, or CUDA_VISIBLE_DEVICES to one of them"
        )


def compare(before: Standing, after: Standing, options: Align) -> list[Metric]:
    """Weigh what was measured before and after, item by item."""
    return [
        weigh(name, after.scores[name], scores, options, task="held-out preferences")
        for name, scores in before.scores.items()
    ]


class _Kept:
    """The trainings of a run, each with checkpoints of its own."""

    def __init__(
        self, store: SealedStore, inputs: Mapping[str, Path], options: Align, precision: str, context: Context
    ) -> None:
        self._store = store
        self._inputs = inputs
        self._options = options
        self._precision = precision
        self._context = context
        self._all: dict[str, Checkpoints] = {}

    @property
    def damaged(self) -> list[str]:
        """A sentence on each damaged checkpoint, which has been removed."""
        return [
            f"The checkpoint of step {step:,} ({phase}) was damaged and has been removed."
            for phase, checkpoints in self._all.items()
            for step in checkpoints.damaged
        ]

    def name(self, phase: str = "") -> str:
        """Digest of all that goes into the run, or into a phase of it."""
        stage = f"{self._context.stage}{phase}"
        return name_training(stage, self._inputs, self._options, self._precision, LIBRARIES)

    def fit(self, trainer: Trainer, phase: str, log: Log) -> int:
        """Train, from where an earlier attempt was interrupted; returns the step that it had come to."""
        checkpoints = Checkpoints(self._store, self.name(f" {phase}"), self._options.keep_checkpoints)
        self._all[phase] = checkpoints
        return fit(trainer, self._options, checkpoints, phase, self._context, log)

    def forget(self) -> None:
        """Remove their checkpoints: they have ended well."""
        for checkpoints in self._all.values():
            checkpoints.forget()


def _reward_model(
    base: Path, tuned: Path, tokenizer: Any, read: Preferences, options: Align, kept: _Kept, log: Log, scratch: Path
) -> tuple[RewardModel, dict[str, Any]]:
    network = build(base, tuned, tokenizer, options)
    trainer = make_reward_trainer(network, tokenizer, read.training, options, arguments(options, scratch / "reward"))

    def log_apart(metrics: dict[str, float], step: int) -> None:
        log({f"reward_model_{name}": value for name, value in metrics.items()}, step)

    kept.fit(trainer, "reward model", log_apart)
    model = RewardModel(trainer.model, tokenizer)
    found = weigh_model(model, read.held_out, options)
    return model, {**found, "steps": trainer.state.global_step, "curves": curves(trainer.state.log_history)}


def _numbers(metrics: list[Metric], record: Mapping[str, Any]) -> dict[str, float]:
    found = {"steps": float(record["steps"])}
    for metric in metrics:
        found[metric.name] = metric.value
        found[f"{metric.name}_before"] = metric.base_value or 0.0
    if "reward_model" in record:
        found["reward_model_accuracy"] = record["reward_model"]["accuracy"]
    if kl := record["curves"].get("kl"):
        found["kl"] = kl[-1]
    return found


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options as dotted names, as the tracking server takes them."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
