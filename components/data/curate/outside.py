"""What is trained on beside the facts of documents, and what is deliberately not trained on."""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Any

from components.common.documents import new_document
from components.data.curate.options import Curate
from components.data.curate.select import choose
from components.data.curate.survey import Found, Stratum
from components.data.policy.policy import LICENSE, Item, policy

POLICY = "policy"
"""The kind of fact that an example of the safety policy counts as."""

_WRITTEN = datetime(2026, 11, 29, tzinfo=UTC)


def outsiders(candidates: Mapping[Stratum, list[Found]], chosen: Sequence[Found], options: Curate) -> list[Found]:
    """Choose facts that are not trained on, as those that are were chosen, from other documents.

    Args:
        candidates: All facts of each kind and language, in the order of the draw.
        chosen: Those that are trained on.
        options: How many, and how facts are chosen.
    """
    if not options.outsiders:
        return []
    documents = {found.document["id"] for found in chosen}
    rest = {
        stratum: [found for found in some if found.document["id"] not in documents]
        for stratum, some in candidates.items()
    }
    return choose(rest, options.model_copy(update={"facts": options.outsiders}))


def policy_examples(pairs: int, options: Curate) -> list[dict[str, Any]]:
    """Write down the examples of the safety policy that are trained on: each language and behaviour in turn, by lot.

    Args:
        pairs: How many other pairs there are.
        options: The share of examples, and the seed of the lot.
    """
    wanted = math.ceil(options.policy.share / (1 - options.policy.share) * pairs)
    return [_example(item) for item, _ in zip(_in_turn(options), range(wanted), strict=False)]


def _in_turn(options: Curate) -> Iterator[Item]:
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in policy("train", tuple(options.policy.languages)):
        groups.setdefault((item.expected, item.language), []).append(item)
    drawn = [sorted(some, key=lambda item: _place(options.seed, item.id)) for _, some in sorted(groups.items())]
    return (item for turn in zip_longest(*drawn) for item in turn if item is not None)


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()


def _example(item: Item) -> dict[str, Any]:
    return new_document(
        source="headrace",
        url=f"components/data/policy/policy.{item.language}.yaml#{item.pattern}",
        text=f"{item.prompt}\n\n{item.answer}",
        retrieved_at=_WRITTEN,
        kind="dialogue",
        messages=[{"role": "user", "content": item.prompt}, {"role": "assistant", "content": item.answer}],
        language=item.language,
        domain=item.domain,
        license=LICENSE,
        confidentiality="public",
        pii="none",
        metadata={"split": "train", "fact": POLICY, "subject": item.pattern, "expected": item.expected},
    )
