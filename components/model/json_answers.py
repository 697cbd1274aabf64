"""Whether an answer is JSON of a schema, or calls functions as they may be called."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema_rs

from components.common.errors import UsageError

Schema = Mapping[str, Any] | Sequence[Mapping[str, Any]] | str
"""A JSON schema, or the list of tools that may be called, as values or as JSON; '' for none."""

_CALL = re.compile(r"\A<tool_call>\s*(.*?)\s*</tool_call>\Z", re.DOTALL)


def json_violation(text: str, schema: Schema) -> str:
    """Say why an answer is no JSON of a schema; '' when it is."""
    try:
        value = _loads(text)
    except (ValueError, RecursionError) as error:
        return _not_json(error)
    return _unmet(value, as_schema(schema))


def call_violation(text: str, tools: Schema) -> str:
    """Say why an answer calls no function as it may be called; '' when it does."""
    try:
        calls = read_calls(text)
    except (json.JSONDecodeError, RecursionError) as error:
        return _not_json(error)
    except ValueError as error:
        return str(error)
    known = parameters_of(tools)
    for call in calls:
        if known and call["name"] not in known:
            return "calls a function that there is not"
        if problem := _unmet(call["arguments"], known.get(call["name"], {})):
            return f"arguments: {problem}"
    return ""


def same_calls(text: str, expected: str) -> bool:
    """Tell whether two answers call the same functions with equal arguments, in whatever order.

    Numbers are equal by value, objects whatever the order of their fields.
    """
    try:
        given, wanted = (
            sorted(json.dumps(call, sort_keys=True) for call in read_calls(one)) for one in (text, expected)
        )
    except (ValueError, RecursionError):
        return False
    return given == wanted


def same_json(text: str, expected: str) -> bool:
    """Tell whether two answers are JSON of the same value: 1.0 is 1, but true is not."""
    try:
        given, wanted = (json.dumps(_plain(_loads(one)), sort_keys=True) for one in (text, expected))
    except (ValueError, RecursionError):
        return False
    return given == wanted


def read_calls(text: str) -> list[dict[str, Any]]:
    """Read an answer that calls functions: `{name, arguments}`, a list of those, or one in `<tool_call>` tags.

    Raises:
        ValueError: It is no such answer.
        RecursionError: It is nested too deeply.
    """
    tagged = _CALL.match(text.strip())
    value = _loads(tagged[1] if tagged else text)
    calls = value if isinstance(value, list) else [value]
    for call in calls:
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise ValueError("no function is named")
        if set(call) - {"name", "arguments"} or not isinstance(call.get("arguments", {}), dict):
            raise ValueError("a call has other fields than name and arguments")
    if not calls:
        raise ValueError("nothing is called")
    return [{"name": call["name"], "arguments": _plain(call.get("arguments", {}))} for call in calls]


def as_schema(schema: Schema) -> Any:
    """Read a schema or a list of tools that may be given as JSON.

    Raises:
        UsageError: It is not JSON.
    """
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema) if schema.strip() else {}
    except (ValueError, RecursionError) as error:
        raise UsageError("the schema of an answer is not JSON; write a JSON schema into metadata") from error


def parameters_of(tools: Schema) -> dict[str, Any]:
    """The schema of the arguments of every function that may be called, by its name.

    Raises:
        UsageError: It is no list of tools.
    """
    found = {}
    listed = as_schema(tools)
    for tool in listed if isinstance(listed, list | tuple) else [listed] if listed else []:
        function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise UsageError("a tool has no name; tools are a JSON list of {name, parameters}")
        found[function["name"]] = function.get("parameters") or {}
    return found


def _loads(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _not_json(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return f"not JSON ({error.msg})" if isinstance(error, json.JSONDecodeError) else "not JSON"


def _plain(value: Any) -> Any:
    """The same value with whole numbers written as such, so that 1.0 and 1 are equal."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unmet(value: Any, schema: Any) -> str:
    if not schema:
        return ""
    try:
        problem = next(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value), None)
    except (ValueError, RecursionError, TypeError) as error:
        raise UsageError(f"the schema of an answer is no JSON schema ({str(error).splitlines()[0]})") from error
    if problem is None:
        return ""
    keyword = [str(part) for part in problem.schema_path][-1:]
    return f"violates the schema ({''.join(keyword) or 'false'})"


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    # Nothing is fetched for a reference, and patterns cannot take for ever.
    return jsonschema_rs.validator_for(json.loads(schema), retriever=_refuse_reference)


def _refuse_reference(uri: str) -> Any:
    raise ValueError(f"{uri} is not part of the schema")
