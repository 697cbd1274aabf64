"""OpenAI's requests, errors and responses, as far as they are served here.

A parameter that would change the answer and is not supported is refused, never ignored.
"""

import json
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import jsonschema_rs
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from serving.predictor.engine import Completion, Message, Sampling


class APIError(Exception):
    """An answer other than 200, shaped as OpenAI's clients expect."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: int = 0
    ) -> None:
        """Say what is wrong, and with which parameter."""
        super().__init__(message)
        self.status = status
        self.headers = {"retry-after": str(retry_after)} if retry_after else {}
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _null_means_absent(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: item for name, item in value.items() if item is not None}
        return value


class _Text(_Request):
    type: Literal["text"]
    text: str


def _parts(content: Any) -> Any:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Turn(_Request):
    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[_Text], BeforeValidator(_parts)]

    def message(self) -> Message:
        text = "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class _JsonSchema(_Request):
    name: str = ""
    description: str = ""
    strict: bool = True
    schema_: dict[str, Any] = Field(alias="schema")


class _Format(_Request):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_given(self) -> "_Format":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("type json_schema goes with a json_schema, and only that type")
        return self


class _StreamOptions(_Request):
    include_usage: bool = False


Stop = Annotated[str, Field(min_length=1)]


class _Generation(_Request):
    """What chat and text completions have in common."""

    operation: ClassVar[str]
    model: str
    stream: bool = False
    stream_options: _StreamOptions = _StreamOptions()
    max_tokens: int = Field(0, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    stop: Annotated[list[Stop], BeforeValidator(_listed), Field(max_length=4)] = []
    seed: int | None = Field(None, ge=0, lt=2**32)
    n: Literal[1] = 1
    presence_penalty: Literal[0] = 0
    frequency_penalty: Literal[0] = 0
    user: str = ""

    def is_met_by(self, text: str) -> bool | None:
        """Tell whether a finished answer has the form that was demanded; None if none was."""
        return None

    def sampling(self) -> Sampling:
        """The engine's view of the request."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=tuple(self.stop),
            seed=self.seed,
        )


class ChatRequest(_Generation):
    """Body of `POST /openai/v1/chat/completions`."""

    operation = "chat"
    messages: list[_Turn] = Field(min_length=1)
    max_completion_tokens: int = Field(0, ge=1)
    response_format: _Format = _Format(type="text")
    logprobs: Literal[False] = False

    def prompt(self) -> list[Message]:
        """The conversation."""
        return [turn.message() for turn in self.messages]

    def is_met_by(self, text: str) -> bool | None:
        """Tell whether a finished answer is the JSON that was demanded; None if none was."""
        chosen = self.response_format
        return (
            None if chosen.type == "text" else conforms(text, chosen.json_schema.schema_ if chosen.json_schema else {})
        )

    def sampling(self) -> Sampling:
        """The engine's view of the request."""
        chosen = self.response_format
        wanted = {} if chosen.type == "text" else chosen.model_dump(by_alias=True, exclude_none=True)
        most = self.max_completion_tokens or self.max_tokens
        return replace(super().sampling(), max_tokens=most, response_format=wanted)


class CompletionRequest(_Generation):
    """Body of `POST /openai/v1/completions`."""

    operation = "text_completion"
    prompt_: Annotated[list[str], BeforeValidator(_listed)] = Field(alias="prompt", min_length=1, max_length=1)

    def prompt(self) -> str:
        """The text to continue."""
        return self.prompt_[0]


def conforms(text: str, schema: dict[str, Any]) -> bool | None:
    """Tell whether a text is JSON of a schema, an object if the schema is empty; None if the schema is none itself.

    Nothing is fetched for a schema's references, and its patterns cannot take for ever.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    try:
        return jsonschema_rs.validator_for(schema or {"type": "object"}, retriever=_refuse_reference).is_valid(value)
    except (ValueError, RecursionError):
        return None


def _refuse_reference(uri: str) -> dict[str, Any]:
    raise ValueError(f"{uri} is not part of the request")


Schema = TypeVar("Schema", bound=BaseModel)


def parse(schema: type[Schema], body: bytes) -> Schema:
    """Read a request body.

    Args:
        schema: What it should be.
        body: What the client sent.

    Raises:
        APIError: Names the first parameter at fault.
    """
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        param = ".".join(str(part) for part in first["loc"]) or None
        codes = {"extra_forbidden": "unsupported_parameter", "missing": "missing_required_parameter"}
        message = "This parameter is not supported." if first["type"] == "extra_forbidden" else first["msg"]
        raise APIError(
            400,
            f"{param}: {message}" if param else message,
            param=param,
            code=codes.get(first["type"], "invalid_value"),
        ) from None


@dataclass(frozen=True)
class Answer:
    """Writes one answer in OpenAI's shapes, whole or in chunks."""

    chat: bool
    model: str
    revision: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, text: str, completion: Completion) -> dict[str, Any]:
        """The answer to a request that does not stream."""
        said = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": completion.finish_reason}
        return {**self._head(chunk=False), "choices": [choice], "usage": _usage(completion)}

    def opening(self) -> dict[str, Any]:
        """The first chunk of a chat: who speaks."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None)

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk({"delta": {"content": text}} if self.chat else {"text": text}, None)

    def closing(self, completion: Completion) -> dict[str, Any]:
        """The chunk that says why the text ended."""
        return self._chunk({"delta": {}} if self.chat else {"text": ""}, completion.finish_reason)

    def usage(self, completion: Completion) -> dict[str, Any]:
        """The last chunk, for those who asked for it."""
        return {**self._head(chunk=True), "choices": [], "usage": _usage(completion)}

    def _head(self, chunk: bool) -> dict[str, Any]:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self.chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.revision,
        }

    def _chunk(self, said: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head(chunk=True), "choices": [choice]}


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }
