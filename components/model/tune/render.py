"""Renders dialogues as the tokens a model sees: its own chat template, its tools, and where the answer begins."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from components.common.errors import HeadraceError
from components.model.json_answers import read_calls

Message = Mapping[str, Any]

TOOLS = """You can call these functions, each described by a JSON schema:
<tools>
{tools}
</tools>
To call some, answer with nothing but a JSON list of {{"name": …, "arguments": {{…}}}}."""
"""What the system message says of tools when the chat template has no place for them."""

SCHEMA = """Answer with nothing but JSON that meets this schema:
<schema>
{schema}
</schema>"""
"""What the system message says of an answer's schema: chat templates have no common place for one."""


@dataclass(frozen=True)
class Rendered:
    """A dialogue as tokens.

    Attributes:
        tokens: Ids of the tokens, the answer and what ends it included.
        answer: How many of them come before the answer.
        text: The text they stand for.
        border: Characters before which and after which it is tokenized apart; 0 where it is as a whole.
    """

    tokens: list[int]
    answer: int
    text: str
    border: int = 0


class Renderer:
    """Renders dialogues with the chat template of a tokenizer.

    Args:
        tokenizer: Tokenizer of an instruct model.

    Raises:
        HeadraceError: It has no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if not tokenizer.chat_template:
            raise HeadraceError(
                "the base model's tokenizer has no chat template; choose an instruct model, or put its "
                "chat_template.jinja beside its tokenizer"
            )
        self._tokenizer = tokenizer
        probe = [{"role": "user", "content": "?"}]
        tool = {"type": "function", "function": {"name": "probe", "description": "", "parameters": {}}}
        self._has_tools = self._template(probe, tools=[tool]) != self._template(probe)

    def render(
        self, dialogues: Sequence[Sequence[Message]], tools: Sequence[str] = (), schemas: Sequence[str] = ()
    ) -> list[Rendered]:
        """Render dialogues that end with an answer.

        An assistant's message that is JSON with `name` and `arguments`, or a list of those, is a call where the
        dialogue has tools: it is handed to a template that knows calls as such, and stays JSON in one that does not.

        Args:
            dialogues: Messages of role and content, the last of them the answer.
            tools: For each dialogue a JSON list of the functions that may be called, '' for none.
            schemas: For each dialogue the JSON schema of its answer, '' for none.

        Raises:
            HeadraceError: The template refuses a dialogue, or the rendering of the question is no prefix of that of
                question and answer: what the model would be trained on is not what it is asked later.
        """
        prompts, wholes = [], []
        for number, messages in enumerate(dialogues):
            listed = json.loads(tools[number]) if tools and tools[number] else []
            schema = schemas[number] if schemas else ""
            spoken, given = self._spoken(messages, listed, schema)
            prompts.append(self._template(spoken[:-1], tools=given, add_generation_prompt=True))
            wholes.append(self._template(spoken, tools=given))
        rendered = []
        for prompt, whole, before, tokens in zip(
            prompts, wholes, self._encode(prompts), self._encode(wholes), strict=True
        ):
            if not whole.startswith(prompt) or whole == prompt:
                raise HeadraceError(_mismatch(prompt, whole))
            if tokens[: len(before)] == before:
                rendered.append(Rendered(tokens, len(before), whole))
                continue
            # A token would lie across the border of question and answer, as when an answer begins with a line break.
            # The model is asked with the question's tokens alone, so it learns to go on from those.
            [answer] = self._encode([whole[len(prompt) :]])
            if self._tokenizer.decode([*before, *answer]) != self._tokenizer.decode(tokens):
                raise HeadraceError(_mismatch(prompt, whole))
            rendered.append(Rendered([*before, *answer], len(before), whole, len(prompt)))
        return rendered

    def tell(self, messages: Sequence[Message], tools: str, schema: str) -> list[dict[str, Any]] | None:
        """The messages with tools and schema in the system message, as `render` has them.

        Args:
            messages: Messages of role and content.
            tools: A JSON list of the functions that may be called, '' for none.
            schema: The JSON schema of the answer, '' for none.

        Returns:
            The messages; None where the template has a place of its own for the tools.
        """
        spoken, given = self._spoken(messages, json.loads(tools) if tools else [], schema)
        return None if given else spoken

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize rendered texts: what a template writes is all there is, nothing is added."""
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return ids

    def _spoken(
        self, messages: Sequence[Message], tools: list[Any], schema: str
    ) -> tuple[list[dict[str, Any]], list[Any] | None]:
        """The messages and tools as the template takes them."""
        spoken: list[dict[str, Any]] = [dict(message) for message in messages]
        told = [SCHEMA.format(schema=schema)] if schema else []
        if tools and self._has_tools:
            spoken = [_as_call(message) for message in spoken]
        elif tools:
            told.insert(0, TOOLS.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)))
        if told:
            if spoken[0]["role"] == "system":
                told.insert(0, spoken.pop(0)["content"])
            spoken.insert(0, {"role": "system", "content": "\n\n".join(told)})
        return spoken, tools if tools and self._has_tools else None

    def _template(self, messages: Sequence[Message], **settings: Any) -> str:
        try:
            # The text: nothing is tokenized.
            text: Any = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages], tokenize=False, **settings
            )
        except (TemplateError, TypeError, KeyError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise HeadraceError(
                f"the chat template refuses a dialogue of the roles {roles} ({error}); leave such dialogues out or "
                "choose a base model whose template takes them"
            ) from error
        return str(text)


def _as_call(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] != "assistant":
        return message
    try:
        calls = read_calls(message["content"])
    except (ValueError, RecursionError):
        return message  # it answers in words
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": call} for call in calls],
    }


def _mismatch(prompt: str, whole: str) -> str:
    same = next(
        (number for number, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other),
        min(len(prompt), len(whole)),
    )
    where = f"they part after {same} of the question's {len(prompt)} characters"
    if same == len(prompt):
        where = "their texts agree, but not their tokens" if len(whole) > same else "it leaves the answer out"
    return (
        "the chat template renders a question alone otherwise than the same question before its answer "
        f"({where}); a model trained so would be asked something else than it learnt: correct the base model's "
        "chat_template.jinja"
    )
