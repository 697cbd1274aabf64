"""Short examples share rows, and rows become batches in which none of them sees another."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

from components.common.errors import UsageError
from components.model.context.stretch import has_alibi
from components.model.tune.examples import UNSCORED, Example
from components.model.tune.loss import WEIGHTS
from components.model.tune.prefix import common_prefix, join, tree


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Put examples into as few rows as first-fit-decreasing needs: at most 11/9 of the fewest, and 6/9 of one.

    The longest example first, each into the first row that has room (Johnson 1973; the bound: Dósa 2007). A tree of the
    rooms left finds that row in logarithmic time.

    Args:
        lengths: Tokens of each example, none above the capacity.
        capacity: Tokens of a row.

    Returns:
        For each row the numbers of its examples.
    """
    leaves = 1 << max(0, len(lengths) - 1).bit_length()
    room = [capacity] * (2 * leaves)
    rows: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        node = 1
        while node < leaves:
            node *= 2
            node += room[node] < lengths[number]
        if node - leaves == len(rows):
            rows.append([])
        rows[node - leaves].append(number)
        room[node] -= lengths[number]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return rows


def lay_out(examples: Sequence[Example], capacity: int) -> list[list[Example]]:
    """Pack examples into rows of a capacity in tokens."""
    return [[examples[number] for number in row] for row in pack([len(example) for example in examples], capacity)]


def fill(rows: Any, capacity: int) -> float:
    """Share of the capacity of rows, as `tabulate` lays them out, that is text."""
    return round(sum(map(sum, rows["seq_lengths"])) / (len(rows) * capacity), 4)


def takes_positions(config: PreTrainedConfig) -> bool:
    """Whether an architecture is told where a token stands, and so can keep examples of a row apart."""
    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return not has_alibi(config) and "position_ids" in inspect.signature(network.forward).parameters


def goes_by_mask(config: PreTrainedConfig) -> bool:
    """Whether a token of an architecture is told of others by attention mask and positions alone.

    Not so with layers that look through a window or go on from the token before (convolutions, recurrences), nor with
    experts whose balance is counted by mask.
    """
    text = config.get_text_config()
    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    windows = getattr(text, "sliding_window", None) or getattr(text, "window_size", None)
    layers = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    experts = hasattr(text, "output_router_logits")
    return takes_positions(config) and not (network._is_stateful or windows or layers or experts)


def require_packable(config: PreTrainedConfig) -> None:
    """Refuse to pack for an architecture that takes no positions, and so cannot tell examples of a row apart.

    Raises:
        UsageError: It is one.
    """
    if not takes_positions(config):
        raise UsageError(
            f"{config.model_type} takes no positions, so examples that share a row would see each other; set "
            "model.tune.packing to false"
        )


def tabulate(rows: Sequence[Sequence[Example]]) -> Dataset:
    """Lay out rows of examples as the columns that `Collator` takes."""
    return Dataset.from_dict(
        {
            "input_ids": [np.concatenate([example.tokens for example in row]) for row in rows],
            "labels": [np.concatenate([example.labels for example in row]) for row in rows],
            "seq_lengths": [[len(example) for example in row] for row in rows],
            "weights": [[example.weight for example in row] for row in rows],
            "scored": [[example.scored for example in row] for row in rows],
        }
    )


@dataclass(frozen=True)
class Collator:
    """Makes batches of rows.

    A row is a mapping with `input_ids`, `labels`, and of each example in it `seq_lengths` (its tokens), `weights` and
    `scored` (scored tokens of its document). Where examples share rows, there is no attention mask but `position_ids`
    that begin at 0 with each: from those transformers keeps attention within an example, with a block-diagonal mask in
    its eager, SDPA and flex attention, and with sequences of variable length in flash attention.

    Attributes:
        pad_token_id: What rows are filled up with.
        packed: Whether rows hold more than one example.
        flat: One long row in place of several padded ones: flash attention sees the borders only so.
        shared: Whether what all examples of a batch begin with is computed once.
        weighted: Whether tokens weigh differently.
        length_weight: See `Loss.length_weight`.
    """

    pad_token_id: int
    packed: bool = False
    flat: bool = False
    shared: bool = False
    weighted: bool = False
    length_weight: float = 1.0

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Make a batch of rows × tokens, filled up at the end, or of one row that all examples share."""
        tokens = [torch.as_tensor(row["input_ids"], dtype=torch.long) for row in rows]
        labels = [torch.as_tensor(row["labels"], dtype=torch.long) for row in rows]
        columns = {"input_ids": (tokens, self.pad_token_id), "labels": (labels, UNSCORED)}
        if self.weighted:
            columns[WEIGHTS] = ([self._weights(row) for row in rows], 0)
        if self.shared and (shared := common_prefix(tokens, labels)):
            joined = {name: join(values, shared) for name, (values, _) in columns.items()}
            return joined | tree([len(row) for row in tokens], shared)
        if self.packed:
            columns["position_ids"] = ([self._positions(row["seq_lengths"]) for row in rows], 0)
        else:
            columns["attention_mask"] = ([torch.ones_like(row) for row in tokens], 0)
        if self.flat:
            return {name: torch.cat(values)[None] for name, (values, _) in columns.items()}
        batch = {
            name: pad_sequence(values, batch_first=True, padding_value=filler)
            for name, (values, filler) in columns.items()
        }
        if self.packed:
            self._number_padding(batch["position_ids"], [len(row) for row in tokens])
        return batch

    @staticmethod
    def _positions(lengths: Sequence[int]) -> Tensor:
        return torch.cat([torch.arange(length) for length in lengths])

    @staticmethod
    def _number_padding(positions: Tensor, lengths: Sequence[int]) -> None:
        """What a row is filled up with is one more sequence in it, not one for each token."""
        for row, length in zip(positions, lengths, strict=True):
            row[length:] = torch.arange(len(row) - length)

    def _weights(self, row: Mapping[str, Any]) -> Tensor:
        weights = torch.zeros(len(row["input_ids"]))
        start = 0
        for length, weight, scored in zip(row["seq_lengths"], row["weights"], row["scored"], strict=True):
            weights[start : start + length] = weight * scored ** (self.length_weight - 1)
            start += length
        return weights
