"""What Kubeflow Pipelines does to the values of parameters, and how it is kept from doing it."""

from collections.abc import Iterator, Mapping
from typing import Any

from components.common.errors import UsageError

UNSAFE = ("python3", "{{$.")
"""Strings that KFP rewrites inside parameter values."""


def refuse_rewritten(values: Any, where: str) -> None:
    """Refuse values that would not arrive as they were sent.

    Args:
        values: A parameter: mappings, lists and plain values.
        where: What to call its origin in the message: a file, an option.

    Raises:
        UsageError: A string holds what KFP rewrites.
    """
    for field, text in _strings(values):
        for unsafe in UNSAFE:
            if unsafe in text:
                raise UsageError(f"{where}: {field}: KFP rewrites {unsafe!r} inside parameters; write it differently")


def _strings(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _strings(str(key), field)
            yield from _strings(item, f"{field}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _strings(item, f"{field}.{number}")
