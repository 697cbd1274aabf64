"""The OpenAI routes, and the KServe model server around them."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from kserve import ModelServer
from kserve.model import BaseKServeModel
from kserve.model_server import app
from kserve.protocol.rest.server import RESTServer
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from components.common.errors import HeadraceError
from serving.predictor.engine import Completion, Engine, RequestRefused
from serving.predictor.metrics import Metrics
from serving.predictor.protocol import Answer, APIError, ChatRequest, CompletionRequest, event, parse

KSERVE_APP = "kserve.model_server:app"
OPENAI = "/openai"
REVISION_HEADER = "x-headrace-revision"
LARGEST_BODY = 4 << 20
"""Bytes of a request body; far above what any served context holds."""
CLIENT_LEFT = 499
"""The status, in metrics only, of a request whose client did not wait for the end (nginx's number)."""

Pieces = AsyncGenerator[str | Completion, None]
Result = TypeVar("Result")


class ServedModel(BaseKServeModel):
    """One revision of a model: an engine, the requests it runs and the requests that wait for it."""

    def __init__(self, name: str, revision: str, engine: Engine, queue: int, metrics: Metrics) -> None:
        """Put an engine behind a bounded queue.

        Args:
            name: What clients call the model.
            revision: Which version of it answers.
            engine: The loaded model.
            queue: How many requests may wait for a free slot of the engine.
            metrics: Where to count.
        """
        super().__init__(name)
        self.revision = revision
        self.metrics = metrics
        self._engine = engine
        self._room = engine.slots + queue
        self._threads = ThreadPoolExecutor(engine.slots, thread_name_prefix="generate")
        self.ready = True

    async def generate(self, request: ChatRequest | CompletionRequest) -> Pieces:
        """Yield the pieces of an answer, then how it ended; closing the iterator cancels the work.

        Raises:
            APIError: Too many requests are waiting.
            RequestRefused: The request is at fault.
        """
        if not self._room:
            raise APIError(503, "All slots are busy and the queue is full.", code="overloaded", retry_after=1)
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        left = threading.Event()

        def emit(piece: str) -> bool:
            if left.is_set():
                return False
            loop.call_soon_threadsafe(pieces.put_nowait, piece)
            return True

        def finished(work: Future[Completion]) -> None:
            self._room += 1
            pieces.put_nowait(None)
            if not work.cancelled() and not work.exception():
                since_first = time.perf_counter() - first if first else 0.0
                self.metrics.generated(request.operation, work.result(), since_first)

        def report(work: Future[Completion]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is gone once the grace period has run out
                loop.call_soon_threadsafe(finished, work)

        started, first, text = time.perf_counter(), 0.0, ""
        self._room -= 1
        work = self._threads.submit(self._engine.generate, request.prompt(), request.sampling(), emit)
        work.add_done_callback(report)
        try:
            while (piece := await pieces.get()) is not None:
                if not piece:
                    continue
                if not first:
                    first = time.perf_counter()
                    self.metrics.first_token(request.operation, first - started)
                text += piece
                yield piece
            completion = work.result()
            if (valid := request.is_met_by(text)) is not None:
                self.metrics.structured(request.operation, valid)
            yield completion
        finally:
            left.set()
            work.cancel()

    def stop(self) -> None:
        """Let the running requests end, then free the engine."""
        super().stop()
        self._threads.shutdown()
        self._engine.close()


def openai_app(model: ServedModel) -> ASGIApp:
    """Build the application to mount at `/openai`."""
    routes = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @routes.get("/v1/models")
    async def models() -> dict[str, Any]:
        card = {"id": model.name, "object": "model", "created": 0, "owned_by": "headrace", "root": model.revision}
        return {"object": "list", "data": [card]}

    @routes.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        return await _answer(model, request, parse(ChatRequest, await _body(request)))

    @routes.post("/v1/completions")
    async def completions(request: Request) -> Response:
        return await _answer(model, request, parse(CompletionRequest, await _body(request)))

    @routes.exception_handler(APIError)
    async def refuse(_: Request, error: APIError) -> JSONResponse:
        return JSONResponse(error.body, error.status, error.headers)

    @routes.exception_handler(RequestRefused)
    async def refuse_request(request: Request, error: RequestRefused) -> JSONResponse:
        return await refuse(request, APIError(400, str(error), param=error.param, code=error.code))

    @routes.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        return await refuse(request, APIError(error.status_code, f"{request.url.path}: {error.detail}"))

    @routes.exception_handler(ClientDisconnect)
    async def nobody_listens(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=CLIENT_LEFT)

    @routes.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        return await refuse(request, APIError(500, "The model failed; the server's log says why."))

    return _Observed(routes, model)


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise APIError(413, f"The body is larger than {LARGEST_BODY} bytes.", code="request_too_large")
    return bytes(body)


async def _answer(model: ServedModel, request: Request, wanted: ChatRequest | CompletionRequest) -> Response:
    if wanted.model != model.name:
        message = f"The model {wanted.model!r} does not exist; this server has {model.name!r}."
        raise APIError(404, message, param="model", code="model_not_found")
    answer = Answer(wanted.operation == "chat", model.name, model.revision)
    pieces = model.generate(wanted)
    if not wanted.stream:
        return JSONResponse(await _unless_client_leaves(request, _whole(answer, pieces)))
    # Until there is a first piece the request may still be refused, with a status of its own.
    first = await _unless_client_leaves(request, anext(pieces))
    events = _events(answer, first, pieces, wanted.stream_options.include_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})


async def _whole(answer: Answer, pieces: Pieces) -> dict[str, Any]:
    text = ""
    async with contextlib.aclosing(pieces):
        while isinstance(piece := await anext(pieces), str):
            text += piece
    return answer.whole(text, piece)


async def _events(answer: Answer, piece: str | Completion, rest: Pieces, include_usage: bool) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        if answer.chat:
            yield event(answer.opening())
        while isinstance(piece, str):
            yield event(answer.piece(piece))
            piece = await anext(rest)
        yield event(answer.closing(piece))
        if include_usage:
            yield event(answer.usage(piece))
        yield b"data: [DONE]\n\n"


async def _unless_client_leaves(request: Request, work: Awaitable[Result]) -> Result:
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_client_leaves(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _client_leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Observed:
    """Says on every response which revision answered, and counts the completions asked for."""

    OPERATIONS: ClassVar = {
        f"{OPENAI}/v1/chat/completions": ChatRequest.operation,
        f"{OPENAI}/v1/completions": CompletionRequest.operation,
    }

    def __init__(self, app: ASGIApp, model: ServedModel) -> None:
        self._app = app
        self._model = model

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        operation = self.OPERATIONS.get(scope["path"])
        sent, status = 0, CLIENT_LEFT

        async def observe(message: Message) -> None:
            nonlocal sent, status
            if message["type"] == "http.response.start":
                sent = message["status"]
                MutableHeaders(scope=message)[REVISION_HEADER] = self._model.revision
            elif not message.get("more_body"):
                status = sent
            await send(message)

        if not operation:
            await self._app(scope, receive, observe)
            return
        started = time.perf_counter()
        self._model.metrics.began(operation)
        try:
            await self._app(scope, receive, observe)
        except Exception:
            status = 500
            raise
        finally:
            self._model.metrics.ended(operation, status, time.perf_counter() - started)


def listen(host: str, port: int) -> socket.socket:
    """Take the port before the model is loaded, so that a busy one is found at once.

    Raises:
        HeadraceError: The address is taken or not of this machine.
    """
    try:
        listener = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", error)
        raise HeadraceError(f"cannot listen on {host}:{port}: {reason}; choose another --http_port") from error
    # Accepted sockets inherit it; asyncio sets it by itself only on sockets made with IPPROTO_TCP.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(model: ServedModel, listener: socket.socket, grace_seconds: int) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is running and return.

    Args:
        model: What to serve.
        listener: Where to serve it.
        grace_seconds: How long running requests may take to end.
    """
    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's app is made with it
    server = ModelServer(enable_grpc=False)
    # KServe logs each request twice; the gateway's access log and the metrics already have them.
    logging.getLogger("kserve.trace").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    server.register_model(model)
    app.mount(OPENAI, openai_app(model))
    # Without its repository extension no client can unload the model; KServe's route for it answers with an error.
    rest = RESTServer(KSERVE_APP, server.dataplane, None, listener.getsockname()[1], grace_period=grace_seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn drains and then raises the signal again, for this handler.
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        rest.run(sockets=[listener])
    finally:
        model.stop()
