"""How surprised a model is by given answers: their log-losses, from which perplexity follows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from components.model.precision import weight_type
from components.model.tune.render import Renderer

Messages = Sequence[Mapping[str, str]]


def answer_losses(
    model: Path,
    dialogues: Sequence[Messages],
    *,
    batch_size: int,
    precision: str,
    progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[float, int]]:
    """Measure how surprising the last message of each dialogue is to a model, given those before.

    Args:
        model: Model directory.
        dialogues: Dialogues that end with an answer.
        batch_size: Dialogues computed at a time.
        precision: Precision of the weights: `auto`, `bf16` or `fp32`.
        progress: Called with the number of dialogues measured.

    Returns:
        For each dialogue the sum of its answer's token losses in nats, and how many tokens it has, the end included.
        The perplexity of several is the exponential of all losses over all tokens.
    """
    transformers.utils.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=weight_type(precision))
    network = loaded.to(device).eval()
    encoded = [(one.tokens, one.answer) for one in Renderer(tokenizer).render(dialogues)]
    order = sorted(range(len(encoded)), key=lambda number: len(encoded[number][0]))  # what is padded is computed
    found: dict[int, tuple[float, int]] = {}
    for start in range(0, len(order), batch_size):
        numbers = order[start : start + batch_size]
        longest = max(len(encoded[number][0]) for number in numbers)
        tokens = torch.zeros(len(numbers), longest, dtype=torch.long)
        present = torch.zeros_like(tokens)
        labels = torch.full_like(tokens, -100)
        for row, number in enumerate(numbers):
            whole, prompt = encoded[number]
            tokens[row, : len(whole)] = torch.tensor(whole)
            present[row, : len(whole)] = 1
            labels[row, prompt : len(whole)] = torch.tensor(whole[prompt:])
        columns = (labels[:, 1:] != -100).any(dim=0).nonzero().squeeze(1)  # the vocabulary is large
        following = labels[:, 1:][:, columns].to(device)
        with torch.inference_mode():
            seen = {"input_ids": tokens.to(device), "attention_mask": present.to(device)}
            logits = network(**seen, use_cache=False, logits_to_keep=columns.to(device)).logits
        losses = cross_entropy(logits.float().transpose(1, 2), following, reduction="none").sum(dim=1)
        for number, loss, count in zip(numbers, losses.tolist(), (following != -100).sum(dim=1).tolist(), strict=True):
            found[number] = (loss, count)
        progress(len(found))
    return [found[number] for number in range(len(dialogues))]
