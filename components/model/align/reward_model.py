"""The reward model: a head on the tuned model that learns which of two answers people prefer.

Bradley-Terry on pairs, as in InstructGPT (Ouyang et al. 2022, arXiv 2203.02155), with trl's trainer. The reward of an
answer is the sigmoid of its score, so that it lies between 0 and 1 as computed rewards do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase
from trl import RewardConfig, RewardTrainer

from components.common.errors import HeadraceError
from components.common.ledger import canonical
from components.evaluation.intervals import wilson
from components.model.align.options import Align
from components.model.align.preferences import Messages, Preference
from components.model.align.trainers import load_tuned

REWARD = "reward.json"
"""Beside a reward model: what it was trained on and how well it tells held-out answers apart."""

BATCH = 16


class RewardModel:
    """Judges answers.

    Args:
        network: Sequence classifier with one output.
        tokenizer: Its tokenizer.
    """

    def __init__(self, network: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        self.network = network
        self._tokenizer = tokenizer

    def score(self, dialogues: Sequence[Messages]) -> list[float]:
        """How good the last answer of each dialogue is; unbounded, and the same number added to all says the same."""
        scores: list[float] = []
        self.network.eval()
        for start in range(0, len(dialogues), BATCH):
            rows: list[Any] = [
                self._tokenizer.apply_chat_template(list(dialogue), return_dict=False)
                for dialogue in dialogues[start : start + BATCH]
            ]
            width, pad = max(map(len, rows)), self.network.config.pad_token_id
            ids = torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows], device=self.network.device)
            mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=ids.device)
            with torch.no_grad():
                scores += self.network(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist()
        return scores

    def judge(self, dialogues: Sequence[Messages]) -> list[float]:
        """How good the last answer of each dialogue is, from 0 to 1."""
        return torch.sigmoid(torch.tensor(self.score(dialogues))).tolist()


def build(base: Path, tuned: Path, tokenizer: PreTrainedTokenizerBase, options: Align) -> Any:
    """Put a head on the tuned model, and an adapter that will learn with it.

    Args:
        base: Model directory.
        tuned: The tuned adapter, or whole weights.
        tokenizer: The base model's tokenizer.
        options: Seed of the head and rank of the adapter.

    Raises:
        HeadraceError: The model's architecture has no sequence classifier that takes its weights.
    """
    torch.manual_seed(options.seed)
    adapter = LoraConfig(
        task_type="SEQ_CLS",
        r=options.reward_model.rank,
        lora_alpha=2 * options.reward_model.rank,
        target_modules="all-linear",
        modules_to_save=["score"],
    )
    return get_peft_model(_headed(base, tuned, tokenizer), adapter)


def _headed(base: Path, tuned: Path, tokenizer: PreTrainedTokenizerBase) -> Any:
    causal = load_tuned(base, tuned, "fp32", learns=False)
    if isinstance(causal, PeftModel):
        causal = causal.merge_and_unload()
    causal.config.num_labels = 1
    network = AutoModelForSequenceClassification.from_config(causal.config)
    missing = network.load_state_dict(causal.state_dict(), strict=False).missing_keys
    if missing != ["score.weight"]:
        raise HeadraceError(
            f"{type(network).__name__} does not take the tuned model's weights ({', '.join(missing[:3])}); take grpo, "
            "or a base model whose architecture has a sequence classifier"
        )
    network.config.pad_token_id = tokenizer.pad_token_id
    return network


def make_reward_trainer(
    network: Any, tokenizer: PreTrainedTokenizerBase, training: Sequence[Preference], options: Align, common: Any
) -> RewardTrainer:
    """Make the trainer of a reward model.

    Args:
        network: What `build` made.
        tokenizer: Its tokenizer.
        training: Pairs to train on.
        options: How the steps go.
        common: Arguments that all trainers share.
    """
    wanted = options.reward_model
    rows = [
        {"prompt": one.prompt, **{name: [{"role": "assistant", "content": text}] for name, text in _answers(one)}}
        for one in training
    ]
    config = RewardConfig(
        **{**common, "learning_rate": wanted.learning_rate},
        num_train_epochs=wanted.epochs,
        max_length=options.max_length,
        center_rewards_coefficient=0.01,  # keeps scores around 0, where the sigmoid tells them apart
    )
    return RewardTrainer(model=network, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)


def weigh_model(model: RewardModel, held_out: Sequence[Preference], options: Align) -> dict[str, Any]:
    """Say how often a reward model finds the chosen answer of a held-out pair better, with Wilson's interval.

    Raises:
        HeadraceError: No better than by chance, unless the options allow that.
    """
    pairs = [one for one in held_out if one.paired]
    chosen = model.score([one.answered(one.chosen) for one in pairs])
    rejected = model.score([one.answered(one.rejected) for one in pairs])
    right = sum(a > b for a, b in zip(chosen, rejected, strict=True))
    low, high = wilson(right, len(pairs), options.confidence)
    if low <= 0.5 and options.reward_model.require_above_chance:
        raise HeadraceError(
            f"the reward model finds the chosen answer better in {right} of {len(pairs)} held-out pairs, which may be "
            f"chance ({options.confidence:.0%} interval {low:.2f} to {high:.2f}); give it more or clearer preferences, "
            "raise reward_model.epochs, or set reward_model.require_above_chance to false"
        )
    return {
        "held_out": len(pairs),
        "accuracy": round(right / len(pairs), 6),
        "interval": [round(low, 6), round(high, 6)],
    }


def save_model(model: RewardModel, name: str, tuned: str, found: dict[str, Any], path: Path) -> None:
    """Write adapter and head as safetensors, with `reward.json`.

    Args:
        model: The reward model.
        name: Name of its base model.
        tuned: Ledger entry of the tuned model that it stands on.
        found: What `weigh_model` found.
        path: Directory to write to.
    """
    described = model.network.peft_config["default"]
    described.base_model_name_or_path = name
    for field in ("target_modules", "exclude_modules"):
        if isinstance(value := getattr(described, field, None), set):
            setattr(described, field, sorted(value))
    model.network.save_pretrained(str(path), save_embedding_layers=False)
    (path / "README.md").unlink()  # peft's empty model card
    (path / REWARD).write_bytes(canonical({"base": name, "tuned": tuned, **found}))


def load_model(base: Path, tuned: Path, reward: Path, tokenizer: PreTrainedTokenizerBase) -> RewardModel:
    """Load a reward model on the tuned model that it was trained on.

    Args:
        base: Model directory.
        tuned: The tuned adapter, or whole weights.
        reward: What `save_model` wrote.
        tokenizer: The base model's tokenizer.
    """
    network = PeftModel.from_pretrained(_headed(base, tuned, tokenizer), str(reward))
    return RewardModel(network, tokenizer)


def _answers(one: Preference) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("chosen", one.chosen), ("rejected", one.rejected)
