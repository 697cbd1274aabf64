"""llama.cpp on the version's GGUF file: the engine for CPUs."""

import secrets
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xllamacpp

from components.common.errors import HeadraceError
from serving.predictor.engine import Completion, Emit, Message, RequestRefused, Sampling, require_files, too_long

WEIGHTS = "model-*.gguf"
"""The weights, whatever their quantization."""
PREFILL_BATCH = 512
"""Prompt tokens between two looks at whether the client is still there: about two seconds on one thread."""


class LlamaCpp:
    """A model in llama.cpp's batching server, called in process."""

    def __init__(self, directory: Path, threads: int, slots: int, max_model_len: int) -> None:
        """Load the model.

        Args:
            directory: The model version.
            threads: CPU threads; more than the free cores makes every token slower.
            slots: Requests decoded together.
            max_model_len: Context length of each slot, in tokens.

        Raises:
            HeadraceError: The weights are missing or unreadable.
        """
        require_files(directory, "config.json", "tokenizer*", WEIGHTS)
        self.slots = slots
        params = xllamacpp.CommonParams()
        weights = next(directory.glob(WEIGHTS))
        params.model.path = str(weights)
        params.n_parallel = slots
        params.n_ctx = slots * max_model_len
        params.n_batch = PREFILL_BATCH
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.cache_ram_mib = 0  # the default keeps up to 8 GiB of old prompts
        params.fit_params = params.warmup = False
        # An answer is what the model said after the conversation: nothing is parsed out of it or put in its mouth.
        params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        params.prefill_assistant = False
        params.verbosity = -1
        # llama.cpp insists on a loopback port of its own; nobody else is to use it.
        params.api_keys = [secrets.token_hex()]
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise HeadraceError(f"{weights}: llama.cpp cannot load it; make the version again") from error
        _restore_signal_handlers()

    def generate(self, prompt: str | Sequence[Message], sampling: Sampling, emit: Emit) -> Completion:
        """See `Engine.generate`."""
        chat = not isinstance(prompt, str)
        call = self._server.handle_chat_completions if chat else self._server.handle_completions
        reading = _Reading(emit)
        try:
            call(_request(prompt, sampling), reading)
        except ValueError as error:
            raise RequestRefused(str(error), "response_format") from None
        if reading.error:
            raise _refusal(prompt, reading.error)
        return reading.completion()

    def close(self) -> None:
        """See `Engine.close`."""
        del self._server


def _restore_signal_handlers() -> None:
    """Undo llama.cpp's: with them a signal would stop its loop and leave the process waiting for an answer."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.getsignal(number))


def _request(prompt: str | Sequence[Message], sampling: Sampling) -> dict[str, Any]:
    request: dict[str, Any] = {
        "max_tokens": sampling.max_tokens or -1,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "stop": list(sampling.stop),
        "stream": True,
        "timings_per_token": True,
        "return_progress": True,
    }
    request |= {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
    if sampling.seed is not None:
        request["seed"] = sampling.seed
    if sampling.response_format:
        request["response_format"] = sampling.response_format
    return request


class _Reading:
    """Follows llama.cpp's stream; called with each chunk, answers True to stop it."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._finish_reason: Any = None
        self._timings: dict[str, Any] = {}
        self.error: dict[str, Any] = {}

    def __call__(self, chunk: dict[str, Any]) -> bool:
        if "error" in chunk:
            self.error = chunk["error"]
            return True
        self._timings = chunk.get("timings") or self._timings
        piece = ""
        for choice in chunk["choices"]:
            piece = choice.get("text") or choice.get("delta", {}).get("content") or ""
            self._finish_reason = choice["finish_reason"] or self._finish_reason
        return not self._emit(piece)

    def completion(self) -> Completion:
        timings = self._timings
        return Completion(
            finish_reason=self._finish_reason or "cancelled",
            prompt_tokens=timings.get("cache_n", 0) + timings.get("prompt_n", 0),
            completion_tokens=timings.get("predicted_n", 0),
        )


def _refusal(prompt: str | Sequence[Message], error: dict[str, Any]) -> Exception:
    if error.get("type") == "exceed_context_size_error":
        return too_long(prompt, error["n_prompt_tokens"], error["n_ctx"])
    if error.get("code") == 400:
        return RequestRefused(error["message"])
    return RuntimeError(f"llama.cpp: {error['message']}")
