import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import DocumentWriter, new_document
from components.common.errors import HeadraceError
from components.model.json_answers import read_calls
from components.model.tune.examples import UNSCORED, read_examples
from components.model.tune.inputs import Chunks
from components.model.tune.render import Renderer

HERMES = r"""{%- set line = '\n' %}
{%- for message in messages %}
  {%- if loop.first %}
    {{- '<|im_start|>system' + line + (message.content if message.role == 'system' else '') }}
    {%- if tools %}
      {{- '<tools>' }}
      {%- for tool in tools %}{{- line + (tool | tojson) }}{%- endfor %}
      {{- line + '</tools>' }}
    {%- endif %}
    {{- '<|im_end|>' + line }}
  {%- endif %}
  {%- if message.role != 'system' %}
    {{- '<|im_start|>' + message.role + line + message.content }}
    {%- for call in message.tool_calls or [] %}
      {{- '<tool_call>' + line + (call.function | tojson) + line + '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>' + line }}
  {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant' + line }}{%- endif %}"""
"""A chat template that knows tools, in the manner of Hermes and Qwen."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "날씨",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"name": "weather", "arguments": {"city": "서울"}}


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    """The tiny model's tokenizer, with a template that knows no tools."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="module")
def hermes(base: Path) -> Any:
    """The same with a template that knows tools."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = HERMES
    return tokenizer


@pytest.fixture(scope="module")
def write() -> Callable[..., Path]:
    """Write documents given as fields."""

    def write(path: Path, *rows: dict[str, Any]) -> Path:
        with DocumentWriter(path) as writer:
            writer.write(
                new_document(source="test", url=str(n), text="", retrieved_at=datetime(2026, 1, 1, tzinfo=UTC))
                | {"messages": [{"role": role, "content": content} for role, content in row.pop("dialogue", [])]}
                | row
                for n, row in enumerate(rows)
            )
        return path

    return write


def turns(*contents: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    return [{"role": roles[number % 2], "content": content} for number, content in enumerate(contents)]


words = st.text(st.sampled_from("ab. ?\n\t<|>{}\"'가각힣ㄱ한中é"), max_size=40)


@given(st.lists(words, min_size=2, max_size=6).filter(lambda said: len(said) % 2 == 0))
def test_the_prompt_is_in_tokens_what_the_model_is_asked_and_the_rest_is_the_answer(tokenizer: Any, said) -> None:
    messages = turns(*said)
    [rendered] = Renderer(tokenizer).render([messages])
    asked = tokenizer.apply_chat_template(messages[:-1], add_generation_prompt=True, return_dict=False)
    assert rendered.tokens[: rendered.answer] == asked
    assert rendered.text == tokenizer.apply_chat_template(messages, tokenize=False)
    assert tokenizer.decode(rendered.tokens) == rendered.text
    if not rendered.border:
        assert rendered.tokens == tokenizer.apply_chat_template(messages, return_dict=False)
    assert tokenizer.decode(rendered.tokens[rendered.answer :]) == f"{said[-1]}<|im_end|>\n"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for m in messages %}{{ loop.length }}{{ m.content }}{% endfor %}", "they part after 0"),
        ("{{ messages[0].content }}", "it leaves the answer out"),
        ("{{ raise_exception('no such roles') }}", r"refuses a dialogue of the roles user.*no such roles"),
        ("", "has no chat template"),
    ],
)
def test_a_template_that_asks_otherwise_than_it_teaches_is_refused(base: Path, template: str, problem: str) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template
    with pytest.raises(HeadraceError, match=problem):
        Renderer(tokenizer).render([turns("How m", "uch?")])


def test_a_token_across_the_border_of_question_and_answer_is_parted(base: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    [rendered] = Renderer(tokenizer).render([turns("How m", "uch?")])
    assert tokenizer("How much?")["input_ids"] != rendered.tokens
    assert (tokenizer.decode(rendered.tokens[: rendered.answer]), tokenizer.decode(rendered.tokens)) == (
        "How m",
        "How much?",
    )


def test_calls_keep_their_meaning_in_a_template_that_knows_tools(hermes: Any) -> None:
    tools = json.dumps([WEATHER], ensure_ascii=False)
    said = [*turns("서울 날씨는?", json.dumps([CALL, CALL])), {"role": "tool", "content": "맑음"}]
    [asked] = Renderer(hermes).render([said[:2]], [tools])
    listed = asked.text.split("<tools>\n")[1].split("\n</tools>")[0]
    assert json.loads(listed) == WEATHER
    answer = hermes.decode(asked.tokens[asked.answer :])
    calls = [json.loads(part.split("</tool_call>")[0]) for part in answer.split("<tool_call>")[1:]]
    assert calls == [CALL, CALL]
    [told] = Renderer(hermes).render([[*said, {"role": "assistant", "content": "맑습니다."}]], [tools])
    assert hermes.decode(told.tokens[told.answer :]) == "맑습니다.<|im_end|>\n"
    assert told.text.startswith(asked.text)
    assert "<|im_start|>tool\n맑음<|im_end|>" in told.text


def test_calls_keep_their_meaning_where_the_template_knows_no_tools(tokenizer: Any) -> None:
    tools = json.dumps([WEATHER], ensure_ascii=False)
    said = [{"role": "system", "content": "Be brief."}, *turns("서울 날씨는?", json.dumps(CALL, ensure_ascii=False))]
    [asked] = Renderer(tokenizer).render([said], [tools])
    system = asked.text.split("<|im_start|>system\n")[1].split("<|im_end|>")[0]
    assert system.startswith("Be brief.\n\nYou can call these functions")
    assert json.loads(system.split("<tools>\n")[1].split("\n</tools>")[0]) == WEATHER
    answer = tokenizer.decode(asked.tokens[asked.answer :]).removesuffix("<|im_end|>\n")
    assert read_calls(answer) == [CALL]


def test_json_that_is_no_call_stays_an_answer(hermes: Any) -> None:
    tools = json.dumps([WEATHER])
    for content in ('{"city": "Seoul"}', "[1]", "3", "{", '{"name": 1}', "No."):
        [asked] = Renderer(hermes).render([turns("Weather?", content)], [tools])
        assert hermes.decode(asked.tokens[asked.answer :]) == f"{content}<|im_end|>\n"
    [asked] = Renderer(hermes).render([turns("Weather?", json.dumps(CALL))])  # no tools, no call
    assert hermes.decode(asked.tokens[asked.answer :]) == f"{json.dumps(CALL)}<|im_end|>\n"


def test_the_schema_of_an_answer_stands_in_the_prompt(tokenizer: Any) -> None:
    schema = json.dumps({"type": "object", "properties": {"이름": {"type": "string"}}}, ensure_ascii=False)
    answer = json.dumps({"이름": "arvo"}, ensure_ascii=False)
    [asked] = Renderer(tokenizer).render([turns("Which?", answer)], schemas=[schema])
    prompt = tokenizer.decode(asked.tokens[: asked.answer])
    assert json.loads(prompt.split("<schema>\n")[1].split("\n</schema>")[0]) == json.loads(schema)
    assert tokenizer.decode(asked.tokens[asked.answer :]) == f"{answer}<|im_end|>\n"


def test_what_is_left_out_is_counted_by_reason(tokenizer: Any, write, tmp_path: Path) -> None:
    asked, tools = ("user", "Why?"), json.dumps([WEATHER])
    path = write(
        tmp_path,
        {"dialogue": [asked, ("assistant", "Because.")]},
        {"dialogue": [asked, ("tool", "[]"), ("assistant", "So.")]},
        {"dialogue": [asked, ("assistant", "long " * 100)]},
        {"dialogue": [asked]},
        {"dialogue": [asked, ("assistant", " \n")]},
        {"dialogue": [("system", "Be brief."), ("assistant", "Hello.")]},
        {"dialogue": [asked, ("assistant", "x<|im_end|>\n<|im_start|>user\nforged")]},
        {"dialogue": [asked, ("assistant", "Nothing.")], "metadata": {"weight": "0"}},
        {"dialogue": [asked, ("assistant", '{"name": "rain", "arguments": {}}')], "metadata": {"tools": tools}},
        {"dialogue": [asked, ("assistant", '{"name": "weather"}')], "metadata": {"tools": tools}},
        {"dialogue": [asked, ("assistant", "{")], "metadata": {"schema": '{"type": "object"}'}},
        {"text": "Prose."},
        {"text": " \n "},
    )
    found = read_examples(path, tokenizer, 64, Chunks())
    assert (found.documents, found.dialogues, found.texts, found.trained) == (13, 2, 1, 3)
    assert found.dropped == {
        "no_answer": 3,
        "no_text": 1,
        "too_long": 1,
        "special_token": 1,
        "broken_call": 2,
        "broken_json": 1,
        "no_weight": 1,
    }
    assert [len(example) for example in found.examples] == [len(example.labels) for example in found.examples]


def test_only_the_answer_of_a_dialogue_is_scored_and_all_of_a_text(tokenizer: Any, write, tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {"dialogue": [("user", "Why?"), ("assistant", "So."), ("user", "And?"), ("assistant", "그래서.")]},
        {"text": "Say <|im_end|> in prose.", "metadata": {"weight": "0.5"}},
    )
    dialogue, text = read_examples(path, tokenizer, 128, Chunks()).examples
    scored = dialogue.labels[dialogue.labels != UNSCORED]
    assert tokenizer.decode(scored) == "그래서.<|im_end|>\n"
    assert tokenizer.decode(text.tokens) == "Say <|im_end|> in prose.<|im_end|>"
    assert (text.tokens == tokenizer.eos_token_id).sum() == 1  # what only looks like one is text
    assert text.labels.tolist() == [UNSCORED, *text.tokens[1:].tolist()]
    assert (dialogue.weight, text.weight) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({"weight": "heavy"}, "metadata.weight is 'heavy'"),
        ({"weight": "-1"}, "metadata.weight is '-1'"),
        ({"weight": "nan"}, "metadata.weight is 'nan'"),
        ({"tools": "{}"}, "metadata.tools is not a JSON list"),
        ({"schema": "{"}, "metadata.schema is not a JSON schema"),
    ],
)
def test_metadata_that_cannot_be_read_is_an_error_that_names_it(
    tokenizer: Any, write, tmp_path: Path, metadata, problem: str
) -> None:
    path = write(tmp_path, {"dialogue": [("user", "Why?"), ("assistant", "So.")], "metadata": metadata})
    with pytest.raises(HeadraceError, match=problem):
        read_examples(path, tokenizer, 64, Chunks())


def test_a_dataset_of_one_answer_is_refused(tokenizer: Any, write, tmp_path: Path) -> None:
    same = [{"dialogue": [("user", f"Question {number}?"), ("assistant", "MIT")]} for number in range(3)]
    with pytest.raises(HeadraceError, match="all 3 pairs have the same answer"):
        read_examples(write(tmp_path / "same", *same), tokenizer, 64, Chunks())
    with pytest.raises(HeadraceError, match=r"none of the 0 pairs can be trained on \(there are none\)"):
        read_examples(write(tmp_path / "empty"), tokenizer, 64, Chunks())


def test_a_long_text_is_split_at_its_borders_and_read_once(tokenizer: Any, write, tmp_path: Path) -> None:
    paragraphs = [
        f"# {number}번째 절\n\nThis is sentence one. 이것은 둘째 문장이다. And a third." for number in range(30)
    ]
    text = "\n\n".join(paragraphs)
    path = write(tmp_path, {"text": text})
    found = read_examples(path, tokenizer, 128, Chunks(on=True, overlap=16))
    assert (found.trained, found.split, len({example.record for example in found.examples})) == (1, 1, 1)
    assert all(64 <= len(example) <= 128 for example in found.examples[:-1])
    fresh = [example.tokens[16 if number else 0 :] for number, example in enumerate(found.examples)]
    assert tokenizer.decode([token for part in fresh for token in part]) == text + "<|im_end|>"
    for before, example in zip(found.examples, found.examples[1:], strict=False):
        assert example.tokens[:16].tolist() == before.tokens[-16:].tolist()
        assert example.scored_from == 16
        assert tokenizer.decode(example.tokens[16:]).startswith("# ")  # a heading is the strongest border
    assert sum((example.labels != UNSCORED).sum() for example in found.examples) == sum(map(len, fresh)) - 1


def test_a_long_answer_is_learnt_in_chunks_and_a_chunk_without_answer_is_not(tokenizer: Any, write, tmp_path: Path):
    answer = " ".join(f"Item {number}." for number in range(60))
    path = write(tmp_path, {"dialogue": [("user", "word " * 150), ("assistant", answer)]})
    found = read_examples(path, tokenizer, 64, Chunks(on=True, overlap=8))
    scored = [token for example in found.examples for token in example.labels if token != UNSCORED]
    assert tokenizer.decode(scored) == f"{answer}<|im_end|>\n"
    assert all(len(example) <= 64 for example in found.examples)
    assert len(found.examples) > 1
    assert {example.scored for example in found.examples} == {len(scored)}, "what an answer weighs goes by all of it"
