"""Answers that violate a format on purpose: what preference training has to reject.

Each is a right answer with one thing wrong that language models do get wrong. Every break is checked: what `broken`
returns violates its format by `components.model.formats.violation`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from components.model.formats import Format, unfenced, violation
from components.model.json_answers import Schema, as_schema, parameters_of, read_calls

Broken = dict[str, str]
"""Broken answers by what is wrong with them."""


def broken(text: str, format: str, schema: Schema = "") -> Broken:
    """Break an answer in every way that its format knows.

    Args:
        text: An answer that keeps the format.
        format: One of `formats.FORMATS`.
        schema: What `violation` checks it against.

    Returns:
        Answers that violate the format, by the name of the break, always in the same order; {} for an answer that
        violates it already.

    Raises:
        UsageError: The format is unknown, or the schema is none.
    """
    if violation(text, format, schema):
        return {}
    breaks = _BREAKS.get(format, _code)
    found: Broken = {}
    for name, wrong in breaks(text.strip(), schema):
        if wrong != text and wrong not in found.values() and violation(wrong, format, schema):
            found[name] = wrong
    return found


def _json(text: str, schema: Schema) -> Iterator[tuple[str, str]]:
    value, wanted = json.loads(text), as_schema(schema)
    yield "truncated", _truncated(text)
    yield "wordy", f"Here is the answer: {text}"
    yield "fenced", f"```json\n{text}\n```"
    if text.endswith(("}", "]")):
        yield "trailing comma", f"{text[:-1].rstrip()},{text[-1]}"
    if '"' in text:
        yield "single quotes", text.replace('"', "'")
    if isinstance(value, dict):
        for name, item in value.items():
            yield f"without {name}", _dump({key: other for key, other in value.items() if key != name})
            yield f"another type of {name}", _dump({**value, name: _another_type(item)})
        if isinstance(wanted, Mapping) and wanted.get("additionalProperties") is False:
            yield "a field too many", _dump({**value, "note": "extra"})
        yield "a list of it", _dump([value])


def _call(text: str, tools: Schema) -> Iterator[tuple[str, str]]:
    first, *others = read_calls(text)
    yield "truncated", _truncated(text)
    yield "wordy", f"I will call {first['name']}: {text}"
    yield "unnamed", _dump({"arguments": first["arguments"]})
    yield "another function", _dump([{**first, "name": f"{first['name']}_all"}, *others])
    for name in parameters_of(tools).get(first["name"], {}).get("required", ()):
        arguments = {key: item for key, item in first["arguments"].items() if key != name}
        yield f"without {name}", _dump({**first, "arguments": arguments})
    for name, item in first["arguments"].items():
        arguments = {**first["arguments"], name: _another_type(item)}
        yield f"another type of {name}", _dump({**first, "arguments": arguments})


def _latex(text: str, _: Schema) -> Iterator[tuple[str, str]]:
    for name, mark in (
        ("brace", "}"),
        ("dollar", "$"),
        ("environment", "\\end{"),
        ("bracket", "\\]"),
        ("side", "\\right"),
    ):
        if (at := text.rfind(mark)) >= 0:
            yield f"unclosed {name}", text[:at] + (text[at + len(mark) :] if len(mark) == 1 else "")
    yield "truncated", _truncated(text)


def _table(text: str, _: Schema) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()
    rows = [number for number, line in enumerate(lines) if line.count("|") > 1]
    for name, number in (("ragged last row", rows[-1]), ("ragged header", rows[0])) if rows else ():
        start, _, _ = lines[number].rstrip().removesuffix("|").rpartition("|")
        yield name, "\n".join([*lines[:number], f"{start}|", *lines[number + 1 :]])
    if rows:
        yield (
            "a cell too many",
            "\n".join([*lines[: rows[-1]], f"{lines[rows[-1]].rstrip()} – |", *lines[rows[-1] + 1 :]]),
        )
    yield "no rule", "\n".join(line for line in lines if set(line.strip()) - set("|:- ") or "-" not in line)
    yield "separated by commas", "\n".join(line.strip().strip("|").replace("|", ",") for line in lines)


def _code(text: str, _: Schema) -> Iterator[tuple[str, str]]:
    code = unfenced(text)
    for mark in ")]}:":
        if (at := code.rfind(mark)) >= 0:
            yield f"without {mark}", text.replace(code, code[:at] + code[at + 1 :])
    for mark in "([{":
        if (at := code.find(mark)) >= 0:
            yield f"truncated at {mark}", text.replace(code, code[: at + 1])
    yield "wordy", f"Sure, here it is:\n{text}"


_BREAKS: dict[str, Callable[[str, Schema], Iterator[tuple[str, str]]]] = {
    Format.JSON: _json,
    Format.CALL: _call,
    Format.LATEX: _latex,
    Format.TABLE: _table,
}


def _truncated(text: str) -> str:
    """The first two thirds: an answer that ran into its token limit."""
    return text[: max(1, 2 * len(text) // 3)].rstrip()


def _another_type(value: Any) -> Any:
    """The same said in another type: a number as a string, words as a list."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return str(value)
    return [value] if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
