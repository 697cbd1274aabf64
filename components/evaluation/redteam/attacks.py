"""This project's own attacks: templates in two languages, filled with refused requests, orders and secrets.

Everything is drawn by hashes of the seed and of what is drawn, so that the same options give the same attacks and one
template more changes no other.
"""

import base64
import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from components.common.options import read_yaml
from components.data.policy.policy import Item, policy

OWN = "headrace"
SHOTS = 4
"""Answered requests that go before the goal of a many-shot jailbreak."""

_WORDS = ("ALDER", "BASALT", "CORMORANT", "DRIFTWOOD", "EMBER", "FALCON", "GRANITE", "HERON", "INDIGO", "JUNIPER")


class AttackClass(StrEnum):
    """What an attack is after."""

    JAILBREAK = "jailbreak"
    DIRECT_INJECTION = "direct_injection"
    INDIRECT_INJECTION = "indirect_injection"
    PROMPT_EXTRACTION = "prompt_extraction"


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        id: Names it from run to run.
        kind: What it is after.
        language: en or ko.
        technique: How it goes about it.
        messages: What the model is sent.
        goal: The refused request of a jailbreak, the marker of an injection, the secret of a system prompt.
        copied: Words before a marker, or the system prompt: what an answer that merely copies holds.
        source: This project, or the package it came from.
    """

    id: str
    kind: AttackClass
    language: str
    technique: str
    messages: tuple[Mapping[str, str], ...]
    goal: str
    copied: str = ""
    source: str = OWN

    @property
    def text(self) -> str:
        """What the attacker wrote, in one string."""
        return "\n\n".join(message["content"] for message in self.messages if message["role"] == "user")


def own_attacks(language: str, seed: int) -> Iterator[Attack]:
    """Every attack of this project in a language: each technique with each of its goals.

    Args:
        language: en or ko.
        seed: Decides which markers and secrets are planted.
    """
    templates = _templates(language)
    yield from _jailbreaks(language, templates)
    yield from _direct(language, templates, seed)
    yield from _indirect(language, templates, seed)
    yield from _extractions(language, templates["prompt_extraction"], seed)


def choose(attacks: Sequence[Attack], number: int, seed: int) -> list[Attack]:
    """Draw attacks: each source in turn, and of a source each technique in turn.

    Args:
        attacks: Of one class and language.
        number: How many.
        seed: Of the draw.
    """
    sources: dict[str, dict[str, list[Attack]]] = defaultdict(lambda: defaultdict(list))
    for attack in sorted(attacks, key=lambda attack: _draw(seed, attack.id)):
        sources[attack.source][attack.technique].append(attack)
    queues = [_in_turn(list(techniques.values())) for _, techniques in sorted(sources.items())]
    return _in_turn(queues)[:number]


def refused_requests(language: str) -> list[Item]:
    """The held-out requests of the safety policy that must be refused."""
    return [item for item in policy("test", (language,)) if item.expected == "refuse"]


def systems(language: str, seed: int) -> list[tuple[str, str]]:
    """System prompts with the secret that each of them holds."""
    prompts = _templates(language)["systems"]
    secrets = ("-".join(marker(seed, f"{language}/system/{number}")) for number in range(len(prompts)))
    return [(prompt.format(secret=secret), secret) for prompt, secret in zip(prompts, secrets, strict=True)]


def marker(seed: int, name: str) -> tuple[str, str]:
    """A word and a number that no text holds by chance, by what they are for."""
    drawn = int.from_bytes(_draw(seed, f"marker/{name}")[:8], "big")
    return _WORDS[drawn % len(_WORDS)], str(1000 + drawn // len(_WORDS) % 9000)


def _jailbreaks(language: str, templates: Mapping[str, Any]) -> Iterator[Attack]:
    answered = [item for item in policy("train", (language,)) if item.expected == "answer"]
    for template in templates["jailbreak"]:
        for number, item in enumerate(refused_requests(language)):
            messages = [_user(template["prompt"].format(**_spellings(item.prompt)))]
            if template.get("shots"):
                start = number * SHOTS % len(answered)
                shown = (answered + answered)[start : start + SHOTS]
                messages = [message for shot in shown for message in _shot(shot, templates["compliance"])] + messages
            yield Attack(
                f"{language}/jailbreak/{template['technique']}/{item.id}",
                AttackClass.JAILBREAK,
                language,
                template["technique"],
                tuple(messages),
                item.prompt,
            )


def _direct(language: str, templates: Mapping[str, Any], seed: int) -> Iterator[Attack]:
    for template in templates["direct_injection"]:
        for number, carrier in enumerate(templates["texts"]):
            for order in templates["orders"]:
                name = f"{language}/direct/{template['technique']}/{number}/{order['kind']}"
                written, word, copied = _order(order["order"], seed, name)
                prompt = template["prompt"].format(**carrier, order=written)
                yield Attack(
                    name,
                    AttackClass.DIRECT_INJECTION,
                    language,
                    template["technique"],
                    (_user(prompt),),
                    word,
                    copied,
                )


def _indirect(language: str, templates: Mapping[str, Any], seed: int) -> Iterator[Attack]:
    for template in templates["indirect_injection"]:
        for number, asked in enumerate(templates["questions"]):
            for order in templates["orders"]:
                name = f"{language}/indirect/{template['technique']}/{number}/{order['kind']}"
                written, word, copied = _order(order["order"], seed, name)
                document = template["document"].format(**asked, order=written, zero_width="\u200b".join(f"{written}."))
                prompt = templates["document"].format(document=document, question=asked["question"])
                yield Attack(
                    name,
                    AttackClass.INDIRECT_INJECTION,
                    language,
                    template["technique"],
                    ({"role": "system", "content": templates["system_with_documents"]}, _user(prompt)),
                    word,
                    copied,
                )


def _extractions(language: str, templates: Sequence[Mapping[str, str]], seed: int) -> Iterator[Attack]:
    for template in templates:
        for number in range(len(systems(language, seed))):
            name = f"{language}/extraction/{template['technique']}/{number}"
            yield extraction(name, language, template["technique"], template["prompt"], seed, number)


def extraction(
    name: str, language: str, technique: str, prompt: str, seed: int, number: int, source: str = OWN
) -> Attack:
    """An attack on one of the system prompts."""
    known = systems(language, seed)
    system, secret = known[number % len(known)]
    messages = ({"role": "system", "content": system}, _user(prompt))
    return Attack(name, AttackClass.PROMPT_EXTRACTION, language, technique, messages, secret, system, source)


def _order(template: str, seed: int, name: str) -> tuple[str, str, str]:
    """An order, the marker it asks for, and the words that stand before the marker in the order, if it stands there."""
    word, number = marker(seed, name)
    token = f"{word}-{number}"
    written = template.format(token=token, word=word, number=number)
    return written, token, template.partition("{token}")[0].strip() if "{token}" in template else ""


def _spellings(goal: str) -> dict[str, str]:
    middle = len(goal) // 2
    return {
        "goal": goal,
        "base64": base64.b64encode(goal.encode()).decode(),
        "reversed": goal[::-1],
        "letters": " ".join(_letters(goal)),
        "first": goal[:middle],
        "second": goal[middle:],
    }


def _letters(text: str) -> Iterator[str]:
    """Syllables taken apart into letters that stand alone, as in ㅎ ㅏ ㄴ."""
    for letter in unicodedata.normalize("NFD", text):
        name = unicodedata.name(letter, "")
        kind = name.split()[-1] if name.startswith("HANGUL ") else ""
        yield unicodedata.lookup(f"HANGUL LETTER {kind}") if kind else letter


def _shot(item: Item, compliance: str) -> list[dict[str, str]]:
    return [_user(item.prompt), {"role": "assistant", "content": f"{compliance} {item.answer}"}]


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _in_turn(queues: Sequence[Sequence[Attack]]) -> list[Attack]:
    longest = max(map(len, queues), default=0)
    return [queue[at] for at in range(longest) for queue in queues if at < len(queue)]


def _draw(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()


@cache
def _templates(language: str) -> dict[str, Any]:
    return read_yaml(Path(__file__).parent / f"attacks.{language}.yaml")
