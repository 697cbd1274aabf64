"""Formats are kept or violated as a program that reads the answer would find, and every break violates its format."""

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.errors import UsageError
from components.model.breaks import broken
from components.model.formats import CODE, FORMATS, detect, violation
from components.model.json_answers import same_calls

PERSON = {
    "type": "object",
    "properties": {"이름": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["이름", "age"],
    "additionalProperties": False,
}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
                "required": ["city"],
            },
        },
    }
]
KEPT = [
    ("json", '{"이름": "김하나", "age": 3}', PERSON),
    ("json", "[1, 2.5, null]", ""),
    ("call", '{"name": "weather", "arguments": {"city": "서울", "days": 2}}', TOOLS),
    ("call", '<tool_call>\n{"name": "weather", "arguments": {"city": "Seoul"}}\n</tool_call>', json.dumps(TOOLS)),
    ("latex", r"넓이는 $\frac{1}{2}ab$ 입니다.", ""),
    ("latex", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}", ""),
    ("latex", r"\left( \frac{a}{b} \right)^2", ""),
    ("table", "| 이름 | 값 |\n| --- | ---: |\n| 가 | 1 |\n| 나 \\| 다 | 2 |", ""),
    ("table", "Here:\n\na | b\n--|--\n1 | 2\n\nand that is all.", ""),
    ("python", "def f(x):\n    return '\\d' + x", ""),
    ("python", "```python\nprint('안녕')\n```", ""),
    ("javascript", "const f = (x) => { return x + 1; };", ""),
    ("rust", "fn main() { let x: u8 = 3; }", ""),
]
VIOLATED = [
    ("json", "", "", "empty"),
    ("json", '{"age": 3', "", "not JSON"),
    ("json", '```json\n{"age": 3}\n```', "", "not JSON"),
    ("json", "NaN", "", "not JSON"),
    ("json", "9" * 5000, "", "not JSON"),
    ("json", "[" * 100_000, "", "nested too deeply"),
    ("json", '{"이름": "김하나"}', PERSON, "required"),
    ("json", '{"이름": "김하나", "age": "3"}', PERSON, "type"),
    ("json", '{"이름": "김하나", "age": 3, "x": 1}', PERSON, "additionalProperties"),
    ("call", '{"name": "wether", "arguments": {"city": "Seoul"}}', TOOLS, "a function that there is not"),
    ("call", '{"name": "weather", "arguments": {"days": 2}}', TOOLS, "arguments: violates the schema (required)"),
    ("call", '{"city": "Seoul"}', TOOLS, "no function is named"),
    ("call", "[]", TOOLS, "nothing is called"),
    ("latex", "the half", "", "no formula"),
    ("latex", r"$\frac{1}{2", "", "unfinished"),
    ("latex", r"\begin{align}x\end{equation}", "", "does not parse"),
    ("latex", r"\left( x", "", "left"),
    ("latex", r"\right) x \left(", "", "left"),
    ("latex", "$" + "{" * 50_000, "", "LaTeX"),
    ("table", "no table | here", "", "no table"),
    ("table", "| a | b |\n|---|---|\n| 1 |", "", "ragged"),
    ("table", "| a | b |\n|---|\n| 1 | 2 |", "", "ragged"),
    ("table", "| a | b |\n|---|---|", "", "no rows"),
    ("python", "def f(x:\n  return", "", "Python"),
    ("python", "x = '\0'", "", "Python"),
    ("python", "(" * 10_000, "", "Python"),
    ("javascript", "const f = (x => {", "", "javascript"),
]


@pytest.mark.parametrize(("format", "text", "schema"), KEPT)
def test_an_answer_that_keeps_its_format(format: str, text: str, schema: Any) -> None:
    assert violation(text, format, schema) == ""


@pytest.mark.parametrize(("format", "text", "schema", "problem"), VIOLATED)
def test_an_answer_that_violates_its_format(format: str, text: str, schema: Any, problem: str) -> None:
    assert problem in violation(text, format, schema)


def test_what_is_wrong_quotes_nothing_of_the_answer() -> None:
    secret = "010-1234-5678"
    for format in FORMATS:
        for text in (f'{{"이름": "{secret}", "age": "{secret}"}}', f"${secret}{{", f"| {secret} |\n|---|---|\n| 1 |"):
            assert secret not in violation(text, format, PERSON if format == "json" else "")


@pytest.mark.parametrize(
    ("format", "schema", "problem"),
    [
        ("yaml", "", "is no format"),
        ("json", "{", "is not JSON"),
        ("json", {"type": "nonsense"}, "no JSON schema"),
        ("json", {"$ref": "https://example.org/schema"}, "no JSON schema"),
        ("call", [{"parameters": {}}], "a tool has no name"),
    ],
)
def test_a_wrong_format_or_schema_is_the_users_to_mend(format: str, schema: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        violation('{"name": "weather"}', format, schema)


@pytest.mark.parametrize(("format", "text", "schema"), KEPT)
def test_every_break_violates_the_format_and_is_the_same_every_time(format: str, text: str, schema: Any) -> None:
    found = broken(text, format, schema)
    assert found and text not in found.values()
    assert all(violation(wrong, format, schema) for wrong in found.values())
    assert list(broken(text, format, schema).items()) == list(found.items())


def test_breaks_are_those_that_models_make() -> None:
    assert {"truncated", "wordy", "fenced", "without age", "another type of age", "a field too many"} <= set(
        broken('{"이름": "김하나", "age": 3}', "json", PERSON)
    )
    assert {"another function", "without city", "another type of days"} <= set(
        broken('{"name": "weather", "arguments": {"city": "서울", "days": 2}}', "call", TOOLS)
    )
    assert {"unclosed brace", "unclosed dollar"} <= set(broken(r"$\frac{1}{2}$", "latex"))
    assert {"ragged last row", "no rule"} <= set(broken("| a | b |\n|---|---|\n| 1 | 2 |", "table"))
    assert {"without )", "without :", "truncated at ("} <= set(broken("def f(x):\n    return (x)", "python"))
    assert broken("already {", "json") == {}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
CELL = st.text(
    st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"), blacklist_characters="|\\`"), min_size=1, max_size=8
)


@given(JSON)
def test_whatever_json_writes_is_kept_and_can_be_broken(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert violation(text, "json") == ""
    assert all(violation(wrong, "json") for wrong in broken(text, "json").values())
    assert violation(f"{text} ]", "json")


@given(
    st.integers(1, 5).flatmap(
        lambda width: st.lists(st.lists(CELL, min_size=width, max_size=width), min_size=2, max_size=5)
    )
)
def test_a_table_whose_rows_are_as_long_as_its_header_is_kept(rows: list[list[str]]) -> None:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    assert violation("\n".join(lines), "table") == ""
    lines[-1] = f"{lines[-1]} more |"
    assert violation("\n".join(lines), "table").startswith("ragged")


@given(st.text(max_size=80), st.sampled_from(FORMATS))
def test_any_text_is_judged_without_an_error(text: str, format: str) -> None:
    assert isinstance(violation(text, format), str)
    assert isinstance(detect(text), str)


@given(st.sampled_from(sorted(CODE)))
def test_every_language_rejects_a_stray_bracket(language: str) -> None:
    assert violation(")](", language)


@given(
    st.lists(st.sampled_from(["x = 1", "if x:\n    y = [x, (1, 2)]", "def f(a, b=2):\n    return {a: b}"]), min_size=1)
)
def test_python_that_parses_is_kept(statements: list[str]) -> None:
    text = "\n".join(statements)
    assert ast.parse(text) and violation(text, "python") == ""


@pytest.mark.parametrize(
    ("text", "format"),
    [
        ('{"a": 1}', "json"),
        ("```py\nx = 1\n```", "python"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "table"),
        (r"It is $x^2$.", "latex"),
        ("MIT", ""),
        ("42", ""),
        ("It costs $5.", ""),
        ("가격은 5달러입니다.", ""),
    ],
)
def test_the_format_of_an_answer_is_seen(text: str, format: str) -> None:
    assert detect(text) == format


def test_calls_match_whatever_the_order_of_fields_and_calls() -> None:
    first = '{"name": "weather", "arguments": {"city": "서울", "days": 2}}'
    again = '{"arguments": {"days": 2.0, "city": "서울"}, "name": "weather"}'
    other = '{"name": "weather", "arguments": {"city": "부산"}}'
    assert same_calls(first, again)
    assert same_calls(f"[{first}, {other}]", f"[{other}, {again}]")
    assert not same_calls(first, other)
    assert not same_calls(f"[{first}, {first}]", first)
    assert not same_calls("서울", first)
