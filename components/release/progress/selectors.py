"""PromQL series selectors, understood by Prometheus and, here, on what one process exposes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Template

_SELECTOR = re.compile(r"\s*([a-zA-Z_:][\w:]*)\s*(?:\{(.*)\})?\s*", re.DOTALL)
_MATCHER = re.compile(r'\s*([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')

_TESTS: dict[str, Callable[[str, str], bool]] = {
    "=": lambda seen, wanted: seen == wanted,
    "!=": lambda seen, wanted: seen != wanted,
    "=~": lambda seen, wanted: re.fullmatch(wanted, seen) is not None,
    "!~": lambda seen, wanted: re.fullmatch(wanted, seen) is None,
}


@dataclass(frozen=True)
class Selector:
    """A metric's name and what its labels must be."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]

    def selects(self, name: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a series is meant; a label that it lacks is empty, as in Prometheus."""
        return name == self.name and all(
            _TESTS[operator](labels.get(label, ""), value) for label, operator, value in self.matchers
        )


def fill(text: str, namespace: str, service: str, revision: str) -> str:
    """Put what is meant in the place of `$namespace`, `$service` and `$revision`."""
    return Template(text).safe_substitute(namespace=namespace, service=service, revision=revision)


def parse_selector(text: str) -> Selector:
    """Read a selector.

    Raises:
        ValueError: It is none, or more than one: rates and sums hide restarts, which are told apart here.
    """
    found = _SELECTOR.fullmatch(text)
    matchers: list[tuple[str, str, str]] = []
    rest = (found[2] or "").strip() if found else ""
    while found and rest:
        matcher = _MATCHER.match(rest)
        if not matcher:
            found = None
            break
        label, operator, value = matcher.groups()
        value = re.sub(r"\\(.)", r"\1", value)
        if "~" in operator:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{text!r}: {value!r} is no regular expression ({error})") from error
        matchers.append((label, operator, value))
        rest = rest[matcher.end() :].strip()
    if not found:
        raise ValueError(f'{text!r} is no series selector; write name{{label="value"}}, without functions around it')
    return Selector(found[1], tuple(matchers))
