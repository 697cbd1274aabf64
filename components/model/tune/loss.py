"""The loss of supervised fine-tuning: weighted cross-entropy over the scored tokens, computed only where there are any.

The loss of an optimizer step is Σ wₜ·ℓₜ / Σ wₜ over all scored tokens of all its batches, however many they are
accumulated in and on however many processes. ℓₜ is the token's cross-entropy, smoothed when asked for, and wₜ the
weight of its document times n^(length_weight - 1), where n is the number of scored tokens of its answer. Without
weights it is trl's loss.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from trl import SFTTrainer

WEIGHTS = "loss_weights"
"""Name in a batch of the weight of each token, beside `labels` and of their shape; absent where all weigh the same."""


class CompletionTrainer(SFTTrainer):
    """Scores answers by weight, and projects onto the vocabulary only where one is scored.

    Off the GPU, trl projects every position and masks afterwards. Where prompts are longer than answers that is a
    third of a step: 2.0 against 1.3 seconds for 8 pairs of 47 tokens on a model of 135M parameters and two cores.

    Args:
        label_smoothing: Share of each target spread evenly over the vocabulary.
    """

    def __init__(self, *args: Any, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        self._label_smoothing = label_smoothing
        super().__init__(*args, **kwargs)
        # The loss below is normalised over the whole optimizer step, whatever the model's own forward takes.
        self.model_accepts_loss_kwargs = True

    def compute_loss(
        self,
        model: Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Weighted mean cross-entropy over the scored tokens.

        Args:
            model: The model, wrapped or not.
            inputs: A batch: tensors of rows × tokens, with `labels` (-100 where nothing is scored).
            return_outputs: Whether the model's outputs are returned too; trl computes them.
            num_items_in_batch: Sum of the weights of the whole optimizer step; of this batch's when None.
        """
        weights = inputs.get(WEIGHTS)
        fused = self.args.device.type != "cpu" and not self._label_smoothing
        if return_outputs or (fused and weights is None):
            plain = {name: value for name, value in inputs.items() if name != WEIGHTS}
            return super().compute_loss(model, plain, return_outputs, num_items_in_batch)
        context: dict[str, Any] = {name: value for name, value in inputs.items() if name != WEIGHTS}
        if self.aux_loss_enabled:
            context["output_router_logits"] = True
        following = inputs["labels"][:, 1:]
        scored = following != -100
        if fused:
            outputs = model(**context, fused_lm_head=True)
            losses = -outputs.log_probs[scored]
        else:
            del context["labels"]
            columns = scored.any(dim=0).nonzero().squeeze(1)
            outputs = model(**context, use_cache=False, logits_to_keep=columns)
            chosen, targets = scored[:, columns], following[:, columns]
            logits = outputs.logits[chosen].float()
            losses = cross_entropy(logits, targets[chosen], reduction="none", label_smoothing=self._label_smoothing)
        counted = torch.ones_like(losses) if weights is None else weights[:, 1:][scored].to(losses)
        total = counted.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (losses * counted).sum() / torch.as_tensor(total).to(losses).clamp(min=torch.finfo(losses.dtype).tiny)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * (self.accelerator.num_processes // self.get_tp_size())  # gradients are averaged over them
        if self.aux_loss_enabled:
            steps = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / steps
        return loss

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """Take the batches of an optimizer step, and sum the weights of what is scored in them, on all processes."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if count is None or WEIGHTS not in batches[0]:
            return batches, count
        total = sum(batch[WEIGHTS][:, 1:][batch["labels"][:, 1:] != -100].double().sum() for batch in batches)
        gathered = torch.as_tensor(total, dtype=torch.float32, device=device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            gathered = self.accelerator.gather(gathered).sum()
        return batches, gathered / (self.get_tp_size() * self.get_cp_size() * self.get_sp_size())
