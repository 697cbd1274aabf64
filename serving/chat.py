"""Chat with a served model in the terminal."""

import json
from collections.abc import Iterator

import httpx
from rich.console import Console
from rich.markup import escape

from components.common.errors import HeadraceError, UsageError

REVISION_HEADER = "x-headrace-revision"


def chat(
    base_url: str,
    model: str,
    prompt: str = "",
    system: str = "",
    temperature: float = 0.0,
    max_tokens: int = 512,
    console: Console | None = None,
) -> None:
    """Hold a conversation, or get one answer when a prompt is given.

    Args:
        base_url: Where the OpenAI routes are, up to and including `/openai/v1`.
        model: What to ask for.
        prompt: Ask only this, and return.
        system: What the model is told before the conversation.
        temperature: 0 gives the same answer each time.
        max_tokens: Length of an answer at most.
        console: Where to write; the terminal by default.

    Raises:
        HeadraceError: Nothing is served there, or the server failed.
        UsageError: The server refused the request.
    """
    console = console or Console()
    opening = [{"role": "system", "content": system}] if system else []
    sampling = {"temperature": temperature, "max_tokens": max_tokens}
    with httpx.Client(base_url=base_url, timeout=httpx.Timeout(10, read=300)) as client:
        if prompt:
            turn = {"role": "user", "content": prompt}
            _say(console, client, {"model": model, "messages": [*opening, turn], **sampling})
            return
        console.print(f"[dim]{model} at {base_url}; an empty line or Ctrl-D ends, Ctrl-C stops an answer.[/dim]")
        history = list(opening)
        while asked := _ask(console):
            history.append({"role": "user", "content": asked})
            try:
                said = _say(console, client, {"model": model, "messages": history, **sampling})
            except UsageError as error:
                console.print(f"[red]{escape(str(error))}[/red] Starting afresh.")
                history = list(opening)
            else:
                history.append({"role": "assistant", "content": said})


def _ask(console: Console) -> str:
    try:
        return console.input("[bold cyan]> [/bold cyan]").strip()
    except (EOFError, KeyboardInterrupt):
        console.print()
        return ""


def _say(console: Console, client: httpx.Client, request: dict[str, object]) -> str:
    """Write the answer as it comes; Ctrl-C ends it there."""
    said = revision = ""
    try:
        for answered_by, piece in _stream(client, request):
            revision, said = answered_by, said + piece
            console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print(" …", end="")
    console.print()
    if console.is_terminal:
        console.print(f"[dim]{revision}[/dim]")
    return said


def _stream(client: httpx.Client, request: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the answering revision with each piece of text."""
    try:
        with client.stream("POST", "/chat/completions", json={**request, "stream": True}) as response:
            if response.status_code != httpx.codes.OK:
                response.read()
                raise _refusal(client, response)
            revision = response.headers.get(REVISION_HEADER, "")
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    for choice in json.loads(line[len("data: ") :])["choices"]:
                        yield revision, choice["delta"].get("content") or ""
    except httpx.ConnectError as error:
        raise HeadraceError(f"nothing is served at {client.base_url}; start it with `headrace serve up`") from error
    except httpx.HTTPError as error:
        raise HeadraceError(f"{client.base_url} broke off ({error}); see `headrace serve status`") from error


def _refusal(client: httpx.Client, response: httpx.Response) -> HeadraceError:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text.strip() or response.reason_phrase
    if response.is_client_error:
        return UsageError(f"{client.base_url} refused: {message}")
    return HeadraceError(f"{client.base_url} answered {response.status_code}: {message}; see `headrace serve status`")
