"""Decide how many tokens each group contributes: pure functions from what there is and what is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from components.common.errors import UsageError

REST = "*"
"""Weight of every group that is not named."""


@dataclass(frozen=True)
class Plan:
    """A mixture to draw.

    Attributes:
        asked: Share each named or present group should have had, absent groups included.
        tokens: Tokens to draw from each group; above what the group has where it is repeated.
        notes: What could not be met, in sentences.
    """

    asked: dict[str, float]
    tokens: dict[str, float]
    notes: list[str] = field(default_factory=list)


def plan(available: Mapping[str, int], weights: Mapping[str, float], tokens: int, repeats: int) -> Plan:
    """Plan a mixture.

    - Without weights every group keeps the share it has.
    - A group that is asked for but absent gives its share to the others, in proportion to their weights.
    - Without a size the weights bind: the mixture is the largest one that meets them, so the group that is scarcest
      for its weight decides the size, and the others are sampled down.
    - With a size the size binds: a group that cannot fill its share, even repeated, gives all it has, and the others
      make up for it as far as they can.

    Args:
        available: Tokens each group has.
        weights: Weight of each group; `*` for each one not named, and empty to keep what there is.
        tokens: Size of the mixture, or 0.
        repeats: Most times a document may appear.

    Raises:
        UsageError: The weights are negative or leave nothing to draw from.
    """
    if any(weight < 0 for weight in weights.values()):
        raise UsageError("mix: a weight below 0 means nothing; use 0 to leave a group out")
    stock = {group: available[group] for group in sorted(available) if available[group] > 0}
    named = {group: weight for group, weight in weights.items() if group != REST}
    wanted = named | {group: weights.get(REST, 0.0) for group in stock if group not in named}
    if not weights:
        wanted = {group: float(amount) for group, amount in stock.items()}
        repeats = repeats if tokens else 1
    whole = sum(wanted.values())
    present = {group: weight for group, weight in sorted(wanted.items()) if weight > 0 and group in stock}
    if stock and not present:
        raise UsageError(
            f"mix: no group with a weight has documents; the data has {', '.join(stock)}, "
            f"the weights name {', '.join(sorted(weights))}"
        )
    asked = {group: weight / whole for group, weight in sorted(wanted.items()) if weight > 0}
    notes = [
        f"{group}: no documents; its share of {asked[group]:.1%} went to the other groups"
        for group in asked
        if group not in stock
    ]
    if not present:
        return Plan(asked, {}, notes)

    room = {group: float(stock[group] * repeats) for group in present}
    size = float(tokens) or min(room[group] / weight for group, weight in present.items()) * sum(present.values())
    drawn = fill(size, present, room)
    share = size / sum(present.values())
    for group, weight in present.items():
        if drawn[group] < weight * share * (1 - 1e-9):
            notes.append(f"{group}: {drawn[group]:,.0f} of {weight * share:,.0f} tokens wanted; it has no more to give")
    if sum(drawn.values()) < size * (1 - 1e-9):
        notes.append(f"all groups together give {sum(drawn.values()):,.0f} of the {size:,.0f} tokens wanted")
    return Plan(asked, drawn, notes)


def temper(available: Mapping[str, float], temperature: float) -> dict[str, float]:
    """Weigh parts by tokens^(1/temperature): 1 keeps the shares they have, more brings them towards equal ones.

    That is the sampling by which multilingual models are trained (Devlin 2018 with 1/temperature = .7, Conneau 2020
    with .3): between the shares of the web and equal ones.
    """
    return {name: amount ** (1 / temperature) for name, amount in available.items() if amount > 0}


def fill(size: float, weights: Mapping[str, float], room: Mapping[str, float]) -> dict[str, float]:
    """Share out `size` by weight; what does not fit in one group goes to those with room."""
    drawn = dict.fromkeys(weights, 0.0)
    open_groups = dict(weights)
    while open_groups and size - sum(drawn.values()) > 1e-6:
        unit = (size - sum(drawn[group] for group in drawn if group not in open_groups)) / sum(open_groups.values())
        full = [group for group, weight in open_groups.items() if weight * unit >= room[group]]
        for group, weight in open_groups.items():
            drawn[group] = min(weight * unit, room[group])
        if not full:
            break
        open_groups = {group: weight for group, weight in open_groups.items() if group not in full}
    return drawn
