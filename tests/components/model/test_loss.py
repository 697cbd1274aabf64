from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.model.tune.examples import Example
from components.model.tune.loss import WEIGHTS, CompletionTrainer
from components.model.tune.packing import Collator, tabulate

LENGTHS = ((12, 7), (5, 4), (9, 2), (16, 1), (6, 3), (11, 10), (7, 7), (8, 5))
"""Tokens of a question and of its answer."""


def examples(weights: Sequence[float] = (1,)) -> list[Example]:
    generator = np.random.default_rng(0)
    return [
        Example(
            str(n), generator.integers(100, 900, asked + said).astype(np.int32), asked, said, weights[n % len(weights)]
        )
        for n, (asked, said) in enumerate(LENGTHS)
    ]


@pytest.fixture(scope="module")
def train(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., CompletionTrainer]:
    """Make a trainer of the tiny model over eight examples."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig

    tokenizer = AutoTokenizer.from_pretrained(base)

    def make(
        weights: Sequence[float] = (1,), length_weight: float = 1.0, batch: int = 8, steps: int = 1, **settings: Any
    ) -> CompletionTrainer:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return CompletionTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=tabulate([[example] for example in examples(weights)]),
            data_collator=Collator(0, weighted=set(weights) != {1} or length_weight != 1, length_weight=length_weight),
            args=SFTConfig(
                output_dir=str(tmp_path_factory.mktemp("trainer")),
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=steps,
                max_steps=1,
                learning_rate=0.0,
                max_grad_norm=0.0,
                gradient_checkpointing=False,
                remove_unused_columns=False,
                dataset_kwargs={"skip_prepare_dataset": True},
                save_strategy="no",
                report_to="none",
                bf16=False,
                use_cpu=True,
                disable_tqdm=True,
            ),
            **settings,
        )

    return make


def batch_of(trainer: CompletionTrainer) -> dict[str, Any]:
    return dict(trainer.data_collator(list(trainer.train_dataset)))


def answer_means(trainer: CompletionTrainer) -> Any:
    """Mean cross-entropy of each answer, computed the long way."""
    import torch
    from torch.nn.functional import cross_entropy

    means = []
    for example in examples():
        tokens = torch.as_tensor(example.tokens, dtype=torch.long)
        logits = trainer.model(tokens[None]).logits[0, :-1]
        means.append(cross_entropy(logits, tokens[1:], reduction="none")[example.scored_from - 1 :].mean())
    return torch.stack(means)


def test_without_weights_it_is_trls_loss(train: Callable[..., CompletionTrainer]) -> None:
    from trl import SFTTrainer

    trainer = train()
    batch = batch_of(trainer)
    assert WEIGHTS not in batch
    ours = trainer.compute_loss(trainer.model, dict(batch))
    assert ours.item() == pytest.approx(SFTTrainer.compute_loss(trainer, trainer.model, dict(batch)).item(), rel=1e-6)
    scored = sum(said for _, said in LENGTHS)
    halved = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=2 * scored)
    assert halved.item() == pytest.approx(ours.item() / 2, rel=1e-6)


def test_smoothing_is_that_of_transformers(train: Callable[..., CompletionTrainer]) -> None:
    from transformers.trainer_pt_utils import LabelSmoother

    trainer = train(label_smoothing=0.1)
    batch = batch_of(trainer)
    outputs = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    theirs = LabelSmoother(epsilon=0.1)(outputs, batch["labels"], shift_labels=True)
    assert trainer.compute_loss(trainer.model, dict(batch)).item() == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize(("length_weight", "power"), [(1.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_answers_weigh_by_document_and_by_a_power_of_their_length(train, length_weight: float, power: float) -> None:
    import torch

    weights = (1.0, 3.0, 0.5)
    trainer = train(weights, length_weight)
    counted = torch.tensor([weights[n % 3] * said**power for n, (_, said) in enumerate(LENGTHS)])
    wanted = (answer_means(trainer) * counted).sum() / counted.sum()
    assert trainer.compute_loss(trainer.model, batch_of(trainer)).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_what_the_accelerator_computes_is_the_same(train, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    trainer = train((1.0, 3.0), 0.5)
    batch = batch_of(trainer)
    here = trainer.compute_loss(trainer.model, dict(batch))
    monkeypatch.setattr(type(trainer.args), "device", torch.device("meta"))  # any but the CPU
    fused = trainer.compute_loss(trainer.model, dict(batch))
    assert fused.item() == pytest.approx(here.item(), rel=1e-6)


@pytest.mark.parametrize(("weights", "length_weight", "smoothing"), [((1,), 1.0, 0.0), ((1.0, 3.0, 0.5), 0.5, 0.1)])
def test_accumulated_batches_give_the_gradients_of_the_whole_batch(train, weights, length_weight, smoothing) -> None:
    import torch
    from transformers import TrainerCallback

    class Gradients(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **_: Any) -> None:
            self.seen = {name: value.grad.clone() for name, value in model.named_parameters()}

    seen = []
    for batch, steps in ((8, 1), (4, 2)):
        trainer = train(weights, length_weight, batch, steps, label_smoothing=smoothing)
        gradients = Gradients()
        trainer.add_callback(gradients)
        trainer.train()
        seen.append(torch.cat([gradient.flatten() for gradient in gradients.seen.values()]))
    assert (seen[0] - seen[1]).norm() < 1e-5 * seen[0].norm()
