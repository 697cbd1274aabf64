"""A model behind an OpenAI-compatible URL, such as the serving plane's gateway."""

import json
import os
import re
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import httpx
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.api_models import JsonChatStr

from components.common.errors import HeadraceError, UsageError
from components.evaluation.benchmark.options import Served
from components.evaluation.benchmark.replies import Progress, Reply

PIN = "x-headrace-revision"
"""Header that names the revision that is to answer, and in the answer the one that did."""
KEY = "OPENAI_API_KEY"
"""Environment variable of the API's key, as every OpenAI client reads it; unset: none is sent."""
TRIES = 5
"""How often a request is sent while the server says that it is busy."""
_BUSY = (429, 502, 503, 504)
_LONGEST_WAIT = 10.0
_STOPS = 4
"""Stop sequences that OpenAI's API takes; further ones are applied here."""


def is_url(where: str | Path) -> bool:
    """Tell a URL from a directory."""
    return str(where).startswith(("http://", "https://"))


class ServedModel(LM):
    """A served model, asked over OpenAI's API with a few requests in flight.

    Args:
        url: Base URL, up to and with `/v1`.
        options: Its name, the revision that must answer, requests in flight.
        seed: Seed of sampled answers.

    Raises:
        HeadraceError: The server cannot be reached, or does not serve the model.
        UsageError: It serves several models and none was named.
    """

    scores_text = False
    """No OpenAI chat API scores text that it is given, so no log-likelihood and no multiple choice."""

    def __init__(self, url: str, options: Served, seed: int) -> None:
        super().__init__()
        self.progress: Progress = lambda done, total: None
        self.replies: list[Reply] = []
        self.truncated = 0
        self._url, self._options, self._seed = url.rstrip("/"), options, seed
        self._lock = threading.Lock()
        headers = {PIN: options.revision} if options.revision else {}
        if key := os.environ.get(KEY, ""):
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.Client(headers=headers, timeout=options.timeout)
        self._name = self._find_name(options.name)

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval keeps prepared requests apart by."""
        return self._url

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> Any:
        """Keep the messages as they are: the server applies its own template."""
        return JsonChatStr(json.dumps(chat_history, ensure_ascii=False))

    def loglikelihood(self, requests: list[Instance]) -> NoReturn:
        """Refuse; see `scores_text`."""
        raise UsageError(f"{self._url} cannot score text that it is given; ask a model directory instead")

    def loglikelihood_rolling(self, requests: list[Instance]) -> NoReturn:
        """Refuse; see `scores_text`."""
        self.loglikelihood(requests)

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer each request, in order; a request that is given several times is sampled with several seeds."""
        again = Counter[int]()
        jobs = []
        for request in requests:
            jobs.append((request, self._seed + again[id(request)]))
            again[id(request)] += 1
        done = 0

        def answer(job: tuple[Instance, int]) -> tuple[str, Reply]:
            nonlocal done
            request, seed = job
            context, keywords = request.args
            text, seconds, usage = self._ask(context, keywords, seed)
            with self._lock:
                done += 1
                self.progress(done, len(jobs))
            tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
            return text, Reply(request.task_name or "", request.doc_id or 0, seconds, 0.0, *tokens)

        began = time.perf_counter()
        with ThreadPoolExecutor(self._options.concurrency) as threads:
            answered = list(threads.map(answer, jobs))
        # Requests in flight share the server: each is charged for its part of the whole time.
        waited = sum(reply.seconds for _, reply in answered) or 1.0
        share = (time.perf_counter() - began) / waited
        self.replies += [replace(reply, busy=reply.seconds * share) for _, reply in answered]
        return [text for text, _ in answered]

    def _find_name(self, wanted: str) -> str:
        answer = self._send("GET", "/models", None)
        listed = [str(model.get("id", "")) for model in answer.json().get("data", [])]
        if wanted and wanted not in listed:
            raise HeadraceError(f"{self._url} does not serve {wanted}; it serves {', '.join(listed) or 'nothing'}")
        if not wanted and len(listed) != 1:
            raise UsageError(f"{self._url} serves {', '.join(listed) or 'nothing'}; name one as served.name")
        return wanted or listed[0]

    def _ask(self, context: Any, keywords: dict[str, Any], seed: int) -> tuple[str, float, dict[str, Any]]:
        until = keywords.get("until") or []
        until = [until] if isinstance(until, str) else list(until)
        payload: dict[str, Any] = {
            "model": self._name,
            "max_tokens": int(keywords.get("max_gen_toks") or keywords.get("max_tokens") or 256),
            "temperature": float(keywords.get("temperature") or 0.0) if keywords.get("do_sample", True) else 0.0,
            "seed": seed,
        }
        if until:
            payload["stop"] = until[:_STOPS]
        chat = isinstance(context, JsonChatStr)
        payload |= {"messages": json.loads(context.prompt)} if chat else {"prompt": str(context)}
        began = time.perf_counter()
        answer = self._send("POST", "/chat/completions" if chat else "/completions", payload)
        seconds = time.perf_counter() - began
        try:
            body = answer.json()
            choice = body["choices"][0]
            text = (choice["message"]["content"] if chat else choice["text"]) or ""
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise HeadraceError(f"{self._url} answered with something else than OpenAI's API does") from error
        cut = min((place for stop in until if stop and (place := text.find(stop)) >= 0), default=len(text))
        return text[:cut], seconds, body.get("usage") or {}

    def _send(self, method: str, path: str, payload: dict[str, Any] | None) -> httpx.Response:
        for attempt in range(TRIES):
            try:
                answer = self._client.request(method, self._url + path, json=payload)
            except httpx.HTTPError as error:
                raise HeadraceError(
                    f"{self._url} cannot be reached ({type(error).__name__}); is the model served, and the URL the "
                    "base of its API, such as http://127.0.0.1:8080/openai/v1?"
                ) from error
            if answer.status_code not in _BUSY or attempt == TRIES - 1:
                break
            wait = 2.0**attempt
            with suppress(ValueError):
                wait = float(answer.headers.get("retry-after", wait))
            time.sleep(min(wait, _LONGEST_WAIT))
        if answer.status_code != 200:
            said = re.sub(r"\s+", " ", answer.text)[:200]
            raise HeadraceError(f"{self._url}{path} answered {answer.status_code}: {said}")
        self._ensure_revision(answer)
        return answer

    def _ensure_revision(self, answer: httpx.Response) -> None:
        wanted, met = self._options.revision, answer.headers.get(PIN, "")
        if wanted and met != wanted:
            raise HeadraceError(
                f"{self._url} let {met or 'a revision that it does not name'} answer, not {wanted}; `headrace rollout "
                "status` names the revisions that are served"
            )
