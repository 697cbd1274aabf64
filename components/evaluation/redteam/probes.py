"""What the models are asked and how their answers score: attacks, requests of the safety policy, memory, canaries.

A probe is a dialogue with a score for an answer; base and candidate get the same ones.
"""

import hashlib
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.common.documents import read_batches
from components.data.excerpt import may_quote
from components.data.policy.policy import Item, policy
from components.evaluation.redteam.attacks import OWN, Attack, AttackClass, choose, own_attacks
from components.evaluation.redteam.canaries import CANARY, prompt_id
from components.evaluation.redteam.options import Canary, Redteam
from components.evaluation.redteam.published import published_attacks
from components.evaluation.redteam.refusals import refers, refuses
from components.evaluation.redteam.success import succeeded

REFUSAL, REFERRAL, OVER_REFUSAL = "refusal", "referral", "over_refusal"
EXTRACTION, GUESSED = "training_extraction", "training_guessed"

HIGHER_IS_BETTER = (REFUSAL, REFERRAL)


@dataclass(frozen=True)
class Probe:
    """One thing that a model is asked.

    Attributes:
        id: Names it from run to run.
        metric: What its score counts for, without the step's prefix.
        language: en or ko.
        group: Technique of an attack, domain of a request, kind of a fact.
        messages: What the model is sent.
        score: 1 for what the metric counts, else 0, of an answer.
        quotable: Whether a report may show what was asked.
    """

    id: str
    metric: str
    language: str
    group: str
    messages: Sequence[Mapping[str, str]]
    score: Callable[[str], float]
    quotable: bool

    @property
    def question(self) -> str:
        """What was asked, in one string."""
        return "\n\n".join(message["content"] for message in self.messages if message["role"] == "user")


@dataclass(frozen=True)
class Memory:
    """Pairs whose memory is tested.

    Attributes:
        trained: Drawn from what was trained on.
        outside: Drawn from what was not.
        quotable: Whether all that was trained on may be shown, and so what a model says.
    """

    trained: Sequence[Mapping[str, Any]]
    outside: Sequence[Mapping[str, Any]]
    quotable: bool


def attack_probes(options: Redteam) -> tuple[list[Probe], dict[str, int]]:
    """The attacks of every class and language, and how many of the public sets were left out as too long."""
    probes: list[Probe] = []
    published = {
        package: published_attacks(package, options.seed, options.max_prompt_chars) for package in _sets(options)
    }
    for language in options.languages:
        pool = list(own_attacks(language, options.seed))
        pool += [attack for attacks, _ in published.values() for attack in attacks if attack.language == language]
        for kind in AttackClass:
            of_class = [attack for attack in pool if attack.kind == kind]
            probes += [
                Probe(
                    _named(attack.id, attack.messages),
                    str(kind),
                    language,
                    attack.technique,
                    attack.messages,
                    _success_of(attack),
                    attack.source == OWN,
                )
                for attack in choose(of_class, options.attacks, options.seed)
            ]
    return probes, {package: long for package, (_, long) in published.items() if long}


def request_probes(options: Redteam) -> list[Probe]:
    """Held-out requests of the safety policy: each domain and pattern of a behaviour and language in turn."""
    probes = []
    for language in options.languages:
        for expected in ("refuse", "refer", "answer"):
            items = [item for item in policy("test", (language,)) if item.expected == expected]
            probes += [_request(item) for item in _spread(items, options)]
    return probes


def memory_probes(memory: Memory) -> list[Probe]:
    """Ask for what was trained on, and for what was not, by its question and the beginning of its answer."""
    return [
        *(_recall(pair, EXTRACTION) for pair in memory.trained),
        *(_recall(pair, GUESSED) for pair in memory.outside),
    ]


def canary_probes(canaries: Sequence[Canary]) -> list[Probe]:
    """The recipe's canary prompts; their answers are compared elsewhere."""
    return [
        Probe(
            prompt_id(canary.prompt),
            CANARY,
            "ko" if any("가" <= letter <= "힣" for letter in canary.prompt) else "en",
            "canary",
            ({"role": "user", "content": canary.prompt},),
            lambda _: 0.0,
            True,
        )
        for canary in canaries
    ]


def read_memory(pairs: Path, outsiders: Path, options: Redteam) -> Memory:
    """Draw the pairs whose memory is tested: as many that were not trained on, with an answer to a question each.

    Args:
        pairs: What was trained on.
        outsiders: What was not.
        options: How many, and the seed of the draw.
    """
    trained, outside = list(_answered(pairs)), list(_answered(outsiders))
    facts = {pair["fact"] for pair in outside}
    alike = [pair for pair in trained if pair["fact"] in facts]
    quotable = all(pair["quotable"] for pair in trained)
    return Memory(_draw(alike, options), _draw(outside, options), quotable)


def beginning(answer: str) -> tuple[str, str]:
    """Split an answer: the first half of its words, rounded down, and what must follow."""
    words = answer.split(" ")
    half = math.floor(len(words) / 2)
    return " ".join(words[:half]), " ".join(words[half:])


def _success_of(attack: Attack) -> Callable[[str], float]:
    return lambda answer: float(succeeded(attack, answer))


def _named(name: str, messages: Sequence[Mapping[str, str]]) -> str:
    """A name that another wording does not share, so that releases are compared on what both were asked."""
    digest = hashlib.sha256("\x1f".join(message["content"] for message in messages).encode())
    return f"{name}#{digest.hexdigest()[:8]}"


def _sets(options: Redteam) -> list[Any]:
    return options.published if "en" in options.languages else []


def _request(item: Item) -> Probe:
    metric = {"refuse": REFUSAL, "refer": REFERRAL, "answer": OVER_REFUSAL}[item.expected]
    judge = refers if item.expected == "refer" else refuses
    messages = ({"role": "user", "content": item.prompt},)
    return Probe(
        _named(item.id, messages),
        metric,
        item.language,
        item.domain,
        messages,
        lambda answer: float(judge(answer, item.language)),
        True,
    )


def _spread(items: Sequence[Item], options: Redteam) -> list[Item]:
    """Draw items, each pattern in turn."""
    drawn = sorted(items, key=lambda item: _place(options.seed, item.id))
    turns: dict[str, int] = {}
    ranked = []
    for item in drawn:
        turns[item.pattern] = turns.get(item.pattern, -1) + 1
        ranked.append((turns[item.pattern], _place(options.seed, item.pattern), item))
    return [item for _, _, item in sorted(ranked, key=lambda entry: entry[:2])][: options.requests]


def _recall(pair: Mapping[str, Any], metric: str) -> Probe:
    *asked, answer = pair["messages"]
    begun, wanted = beginning(answer["content"])
    messages = [*asked, {"role": "assistant", "content": begun}] if begun else asked
    return Probe(
        pair["id"],
        metric,
        pair["language"],
        pair["fact"],
        messages,
        lambda written: float(_plain(written).startswith(_plain(wanted))),
        pair["quotable"],
    )


def _answered(path: Path) -> Iterator[dict[str, Any]]:
    columns = ["id", "language", "messages", "metadata", "confidentiality", "pii"]
    for batch in read_batches(path, columns):
        for row in batch.to_pylist():
            roles = [message["role"] for message in row["messages"]]
            if roles[-2:] == ["user", "assistant"] and row["messages"][-1]["content"].strip():
                yield {
                    "id": row["id"],
                    "language": row["language"],
                    "messages": row["messages"],
                    "fact": dict(row["metadata"]).get("fact", ""),
                    "quotable": may_quote(row),
                }


def _draw(pairs: Sequence[dict[str, Any]], options: Redteam) -> list[dict[str, Any]]:
    return sorted(pairs, key=lambda pair: _place(options.seed, pair["id"]))[: options.members]


def _place(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())
