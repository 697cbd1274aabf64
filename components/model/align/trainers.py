"""trl's trainers for each method, on the tuned model.

DPO: Rafailov et al. 2023 (arXiv 2305.18290); ORPO: Hong et al. 2024 (2403.07691); KTO: Ethayarajh et al. 2024
(2402.01306); GRPO: Shao et al. 2024 (2402.03300).

The reference of DPO, KTO and GRPO is the tuned model, not the bare base: given a trained adapter, trl keeps a frozen
copy of it under the name `ref` and computes the reference with that; given whole weights, it loads them once more.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase, Trainer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, KTOConfig, KTOTrainer

from components.common.errors import HeadraceError
from components.model.align.options import Align
from components.model.align.preferences import Messages, Preference, questions
from components.model.align.rewards import REWARDS, Asked, gated, violated
from components.model.context.stretch import configuration
from components.model.precision import attention, weight_type
from components.model.tune import attempt

ADAPTED = "adapter_config.json"
"""What a directory holds when it is an adapter rather than whole weights."""
REFERENCE = "ref"
"""Name under which trl keeps the frozen copy of the adapter."""

Judge = Callable[[Sequence[Messages]], list[float]]
"""Says of dialogues how good their last answers are, from 0 to 1."""
Maker = Callable[..., Trainer]
"""Makes a trainer of a model and its tokenizer."""


def load_tuned(base: Path, tuned: Path, precision: str, learns: bool = True) -> Any:
    """Load the tuned model, ready to be trained on.

    Args:
        base: Model directory the adapter was trained on.
        tuned: The adapter, or whole weights.
        precision: Precision of weights that do not learn.
        learns: Whether it will be trained.
    """
    if not (tuned / ADAPTED).is_file():
        return AutoModelForCausalLM.from_pretrained(tuned, dtype=torch.float32, attn_implementation=attention())
    network = AutoModelForCausalLM.from_pretrained(
        base, config=configuration(base, tuned), dtype=weight_type(precision), attn_implementation=attention()
    )
    return PeftModel.from_pretrained(network, str(tuned), is_trainable=learns)


def make_trainer(
    network: Any,
    tokenizer: PreTrainedTokenizerBase,
    training: Sequence[Preference],
    options: Align,
    judge: Judge | None,
    scratch: Path,
) -> Trainer:
    """Make the trainer of a method.

    Args:
        network: The tuned model.
        tokenizer: Its tokenizer.
        training: Preferences to train on.
        options: Method and how the steps go.
        judge: The reward model of `rlhf`.
        scratch: Folder for what the trainer writes.

    Raises:
        HeadraceError: A step would ask more questions than there are.
    """
    make = _MAKERS[options.method](training, options, arguments(options, scratch), judge)
    return make(model=network, processing_class=tokenizer)


def _dpo(training: Sequence[Preference], options: Align, common: Any, _: Judge | None) -> Maker:
    losses = {"sigmoid": 1.0, **({"sft": options.anchor} if options.anchor else {})}
    config = DPOConfig(
        **common,
        num_train_epochs=options.epochs,
        beta=options.beta,
        loss_type=list(losses),
        loss_weights=list(losses.values()),
        max_length=options.max_length,
    )
    return partial(DPOTrainer, args=config, train_dataset=_pairs(training))


def _orpo(training: Sequence[Preference], options: Align, common: Any, _: Judge | None) -> Maker:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    config = ORPOConfig(
        **common,
        num_train_epochs=options.epochs,
        beta=options.beta,
        max_length=options.max_length,
        remove_unused_columns=False,
    )
    return partial(ORPOTrainer, args=config, train_dataset=_pairs(training))


def _kto(training: Sequence[Preference], options: Align, common: Any, _: Judge | None) -> Maker:
    rows = [
        {"prompt": one.prompt, "completion": _said(answer), "label": good}
        for one in training
        for answer, good in ((one.chosen, True), (one.rejected, False))
        if answer
    ]
    good = sum(bool(one.chosen) for one in training)
    # The paper's bounds: weighed by their number, good and bad answers should count between 1:1 and 4:3.
    config = KTOConfig(
        **common,
        num_train_epochs=options.epochs,
        beta=options.beta,
        max_length=options.max_length,
        desirable_weight=max(1.0, (len(rows) - good) / good),
        undesirable_weight=max(1.0, good / (len(rows) - good)),
    )
    return partial(KTOTrainer, args=config, train_dataset=Dataset.from_list(rows))


def _reinforce(training: Sequence[Preference], options: Align, common: Any, judge: Judge | None) -> Maker:
    wanted, posed = options.reinforcement, questions(training)
    if wanted.prompts > len(posed):
        raise HeadraceError(
            f"reinforcement.prompts is {wanted.prompts}, and there are {len(posed)} questions to train on; set it to "
            f"{len(posed)} or less"
        )
    weights = {name: weight for name, weight in wanted.rewards.weights().items() if weight}
    functions: list[Any] = [_judged(judge)] if judge else [_computed(name) for name in weights]
    together = wanted.prompts * wanted.answers
    config = GRPOConfig(
        **{**common, "per_device_train_batch_size": together},
        max_steps=wanted.steps,
        num_generations=wanted.answers,
        max_completion_length=wanted.max_new_tokens,
        temperature=wanted.temperature,
        beta=wanted.kl,
        reward_weights=None if judge else list(weights.values()),
    )
    rows = [
        {
            "prompt": one.prompt,
            "prompt_text": one.asked.prompt,
            "expected": one.asked.expected,
            "format": one.asked.format,
            "schema": one.asked.schema,
        }
        for one in posed
    ]
    return partial(GRPOTrainer, reward_funcs=functions, args=config, train_dataset=Dataset.from_list(rows))


_MAKERS = {"dpo": _dpo, "orpo": _orpo, "kto": _kto, "grpo": _reinforce, "rlhf": _reinforce}


def _computed(name: str) -> Callable[..., list[float]]:
    """A reward as trl calls it: the answers to a batch of questions, and the columns of its rows."""
    reward = gated(REWARDS[name])

    def rewarded(completions: Sequence[Messages], **columns: Sequence[str]) -> list[float]:
        return [reward(said, asked) for said, asked in zip(_texts(completions), _asked(columns), strict=True)]

    rewarded.__name__ = name
    return rewarded


def _judged(judge: Judge) -> Callable[..., list[float]]:
    """A reward model as trl calls it; an answer that violates the format asked for gets nothing."""

    def rewarded(prompts: Sequence[Messages], completions: Sequence[Messages], **columns: Sequence[str]) -> list[float]:
        said = _texts(completions)
        dialogues = [[*prompt, *_said(text)] for prompt, text in zip(prompts, said, strict=True)]
        return [
            0.0 if violated(text, asked) else value
            for text, asked, value in zip(said, _asked(columns), judge(dialogues), strict=True)
        ]

    rewarded.__name__ = "preferred"
    return rewarded


def _texts(completions: Sequence[Messages]) -> list[str]:
    return [messages[-1]["content"].strip() for messages in completions]


def _asked(columns: Mapping[str, Sequence[str]]) -> list[Asked]:
    names = ("prompt_text", "expected", "format", "schema")
    return [Asked(*row) for row in zip(*(columns[name] for name in names), strict=True)]


def _pairs(training: Sequence[Preference]) -> Dataset:
    return Dataset.from_list(
        [{"prompt": one.prompt, "chosen": _said(one.chosen), "rejected": _said(one.rejected)} for one in training]
    )


def _said(text: str) -> Messages:
    return [{"role": "assistant", "content": text}]


def arguments(options: Align, scratch: Path) -> dict[str, Any]:
    """The arguments of a trainer, as the options have them."""
    common = attempt.arguments(
        scratch,
        batch_size=options.batch_size,
        learning_rate=options.rate(),
        schedule=options.schedule,
        warmup=options.warmup,
        seed=options.seed,
    )
    return {**common, "gradient_checkpointing": False, "bf16": False}
