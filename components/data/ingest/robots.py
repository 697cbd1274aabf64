"""What a site allows a crawler: robots.txt by RFC 9309, and what pages and servers say beside it.

Everything here is a pure function of what a site said, and names the line that decided. Protego, the library that
Scrapy uses, gives no lines and lets three things pass that the RFC forbids: `User-agent: head` is taken to mean
`Headrace`, `User-agent: Headrace/2.1` not to mean it, and a `Crawl-delay` between two names to end their group.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

BYTES = 500 * 1024
"""How much of a robots.txt is read, as RFC 9309 asks of crawlers (2.5)."""
_LINE_END = re.compile(r"\r\n|\r|\n")
_RECORD = re.compile(r"([A-Za-z][A-Za-z-]*)(?:\s*:|\s)\s*(.*)")
_PRODUCT = re.compile(r"[A-Za-z_-]+|\*(?=\s|$)")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_NOT_ASCII = re.compile(r"[^\x21-\x7e]")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@dataclass(frozen=True)
class Rule:
    """A line that allows or forbids addresses; of those that match the one of most octets decides."""

    line: int
    allows: bool
    pattern: str
    said: str
    octets: int = 0

    def matches(self, path: str) -> bool:
        """Tell whether it is about a path that `normal_path` has written; `*` is anything, a final `$` the end."""
        *parts, last = self.pattern.removesuffix("$").split("*")
        if not parts:
            return path == last if self.pattern.endswith("$") else path.startswith(last)
        if not path.startswith(parts[0]):
            return False
        place = len(parts[0])
        for part in parts[1:]:
            found = path.find(part, place)
            if found < 0:
                return False
            place = found + len(part)
        return path.endswith(last, place) if self.pattern.endswith("$") else path.find(last, place) >= 0


@dataclass(frozen=True)
class Robots:
    """A robots.txt as it applies to one crawler; the rules are in the order in which the first that matches decides."""

    rules: tuple[Rule, ...] = ()
    delay: float = 0.0
    sitemaps: tuple[str, ...] = ()

    def refuses(self, path: str) -> str:
        """Name the line that forbids a path with its query, '' if none does."""
        path = normal_path(path)
        decides = next((rule for rule in self.rules if rule.matches(path)), None)
        forbidden = decides is not None and not decides.allows and path != "/robots.txt"
        return f"robots.txt, line {decides.line}: {decides.said}" if decides and forbidden else ""


def read_robots(text: str, product: str) -> Robots:
    """Read a robots.txt.

    Args:
        text: The file.
        product: Name of the crawler; the groups for it apply, together, and only if there are none those for `*`.
    """
    wanted = {product.lower(), "*"}
    groups: dict[str, list[Rule]] = {}
    delays: dict[str, float] = {}
    sitemaps: list[str] = []
    agents: set[str] = set()
    naming = False
    for number, line in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), 1):
        record = _RECORD.match(line.partition("#")[0].strip())
        name, value = (record[1].lower(), record[2]) if record else ("", "")
        if name == "user-agent":
            agents = agents if naming else set()
            naming = True
            token = _PRODUCT.match(value)
            agents |= wanted & {token[0].lower()} if token else set()
            for agent in agents:
                groups.setdefault(agent, [])
        elif name in ("allow", "disallow"):
            naming = False
            if value:
                octets = len(_normal(value))
                rule = Rule(number, name == "allow", _normal_pattern(value), line.strip()[:200], octets)
                for agent in agents:
                    groups[agent].append(rule)
        elif name == "crawl-delay":
            for agent in agents:
                delays[agent] = max(_seconds(value), delays.get(agent, 0.0))
        elif name == "sitemap":
            sitemaps.append(value)
    agent = product.lower() if product.lower() in groups else "*"
    rules = sorted(groups.get(agent, []), key=lambda rule: (-rule.octets, not rule.allows))
    return Robots(tuple(rules), delays.get(agent, 0.0), tuple(sitemaps))


def read_reservations(data: bytes) -> tuple[Rule, ...]:
    """Read a TDM reservation file (`/.well-known/tdmrep.json`); nothing for what is none.

    Returns:
        Rules in the order of the file, of which the first that matches decides.
    """
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    return tuple(
        Rule(number, entry["tdm-reservation"] != 1, _normal_pattern(entry["location"]), _entry(entry))
        for number, entry in enumerate(entries if isinstance(entries, list) else [], 1)
        if isinstance(entry, dict) and isinstance(entry.get("location"), str) and "tdm-reservation" in entry
    )


def reserves(rules: Sequence[Rule], path: str) -> str:
    """Name the entry of a TDM reservation file that reserves a path, '' if none does."""
    decides = next((rule for rule in rules if rule.matches(normal_path(path))), None)
    return f"tdmrep.json, entry {decides.line}: {decides.said}" if decides and not decides.allows else ""


def directives(values: Iterable[str], product: str) -> frozenset[str]:
    """Give what values of `X-Robots-Tag` or a robots meta element ask of a crawler.

    `googlebot: noindex` is for another one; `none` is both `noindex` and `nofollow`.
    """
    found: set[str] = set()
    for value in values:
        for_us = True
        for part in value.lower().split(","):
            name, colon, rest = (piece.strip() for piece in part.partition(":"))
            if colon and re.fullmatch(r"[a-z_-]+", name) and name not in _WITH_VALUES:
                for_us, name = name == product.lower(), rest
            if for_us:
                found |= {"noindex", "nofollow"} if name == "none" else {name}
    return frozenset(found & {"noindex", "nofollow", "noai"})


_WITH_VALUES = {"max-image-preview", "max-snippet", "max-video-preview", "unavailable_after"}


def normal_path(path: str) -> str:
    """Write a path with its query in the one way in which paths are compared (RFC 9309, 2.2.2 and 2.2.3)."""
    return _normal(path).replace("*", "%2A").replace("$", "%24")


def plain_escapes(text: str) -> str:
    """Percent-encode what no address may hold as it is, decode what need not be, and write the rest in capitals."""
    text = _NOT_ASCII.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "replace")), text)
    return _ESCAPE.sub(_plain, text)


def _plain(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _normal(path: str) -> str:
    """In a query a slash and a colon may be encoded or not, which means the same."""
    path, mark, query = plain_escapes(path).partition("?")
    return path + mark + query.replace("%2F", "/").replace("%3A", ":")


def _normal_pattern(value: str) -> str:
    anchored = value.endswith("$")
    pattern = re.sub(r"\*+", "*", _normal(value.removesuffix("$")).replace("$", "%24"))
    return pattern + "$" * anchored


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and seconds > 0 else 0.0


def _entry(entry: dict[str, Any]) -> str:
    policy = entry.get("tdm-policy")
    return f"{entry['location']} is reserved{f' under {policy}' if isinstance(policy, str) else ''}"[:200]
