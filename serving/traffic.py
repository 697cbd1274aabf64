"""Real chat requests against the gateway, without a pause, while the weights behind it change."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from components.common.errors import HeadraceError

REVISION_HEADER = "x-headrace-revision"
_LONGEST_ANSWER_SECONDS = 120


@dataclass(frozen=True)
class Sample:
    """One request: when it was sent (seconds since the load began), how long it took, who answered, and how."""

    sent: float
    seconds: float
    revision: str
    ok: bool


class Load:
    """A steady load of chat requests from a few clients, for as long as the context lasts.

    Args:
        gateway: Base URL of the gateway.
        model: Name of the served model.
        questions: What to ask, in an order drawn from `seed`.
        concurrency: Requests in flight.
        max_tokens: Longest answer asked for.
        seed: Seed of the order.
    """

    def __init__(
        self, gateway: str, model: str, questions: Sequence[str], concurrency: int, max_tokens: int, seed: int
    ) -> None:
        self._gateway = gateway
        self._model = model
        self._questions = questions
        self._max_tokens = max_tokens
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._samples: list[Sample] = []
        self._began = time.perf_counter()
        self._clients = [threading.Thread(target=self._ask, daemon=True) for _ in range(concurrency)]

    def __enter__(self) -> Self:
        """Begin to ask."""
        self._began = time.perf_counter()
        for client in self._clients:
            client.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the answers in flight, unless something went wrong."""
        self._stop.set()
        for client in self._clients:
            client.join(0 if kind else _LONGEST_ANSWER_SECONDS)

    @property
    def now(self) -> float:
        """Seconds since the load began."""
        return time.perf_counter() - self._began

    @property
    def samples(self) -> list[Sample]:
        """The requests answered so far, in order of sending."""
        with self._changed:
            return sorted(self._samples, key=lambda sample: sample.sent)

    def wait_for(self, requests: int, since: float, progress: Callable[[int], None]) -> None:
        """Wait until so many requests that were sent after a moment have been answered.

        Raises:
            HeadraceError: No answer came for minutes.
        """
        with self._changed:
            while (count := sum(sample.sent >= since for sample in self._samples)) < requests:
                progress(count)
                if not self._changed.wait(_LONGEST_ANSWER_SECONDS):
                    raise HeadraceError(f"{self._gateway} did not answer for {_LONGEST_ANSWER_SECONDS} s")
            progress(requests)

    def _ask(self) -> None:
        with httpx.Client(base_url=self._gateway, timeout=_LONGEST_ANSWER_SECONDS) as client:
            while not self._stop.is_set():
                sample = self._request(client)
                with self._changed:
                    self._samples.append(sample)
                    self._changed.notify_all()

    def _request(self, client: httpx.Client) -> Sample:
        request = {
            "model": self._model,
            "messages": [{"role": "user", "content": self._random.choice(self._questions)}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }
        sent = self.now
        try:
            response = client.post("/openai/v1/chat/completions", json=request)
            ok = response.status_code == 200 and bool(response.json()["choices"])
            revision = response.headers.get(REVISION_HEADER, "unknown")
        except (httpx.HTTPError, ValueError, KeyError):
            ok, revision = False, "unknown"
            time.sleep(0.05)
        return Sample(sent, self.now - sent, revision, ok)
